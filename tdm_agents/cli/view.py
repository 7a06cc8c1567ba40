"""``tdm view``: a page in the browser on which an agent is watched while it thinks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from tdm_agents.cli.checks import at_least, output_folder, require_viewer, usable_device
from tdm_agents.cli.config_file import keep_config
from tdm_agents.cli.imports import Modules, import_modules
from tdm_agents.errors import WrongValueError

DEFAULT_ENTRY = "cartpole-swingup"


@dataclass(frozen=True)
class View:
    """Watch an agent think: a page in the browser with its body, its imagined futures and its settings."""

    env_id: str | None = None
    """Environment to watch, with its arguments if it takes some: `"tdm/WalkerTree-v0 dof=12 body=3"`; the
    first entry's own if not given."""
    entry: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A player to choose from, as in `tdm compare`: a checkpoint, `simulator planner=cem`, `expert`, a policy
    of Stable-Baselines3, or `random`; repeat the option for several. The first plays. The shipped checkpoint
    if none is given."""
    reward: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A reward to choose from, as `module:function`, besides those that are known; repeat the option for
    several."""
    env_seed: int = 0
    """Seed of the first episode; the next ones count on."""
    seed: int = 0
    """Seed of the player."""
    max_steps: int | None = None
    """Environment steps after which an episode is cut."""
    host: str = "127.0.0.1"
    """Address to listen at. Where others than this machine reach it, the page asks for a token, which is part
    of the address that is printed."""
    port: int = 8080
    """Port to listen at; the next free one if it is taken."""
    fps: float = 30.0
    """Pictures per second, at most; a slow line gets fewer by itself."""
    device: str = "cpu"
    """Where the model computes."""
    threads: int = 1
    """Threads of torch and of the simulator; more threads than idle cores are many times slower."""
    out: Path = Path("runs/view")
    """Folder of recordings, and of tdm-view.yaml, the options."""
    import_: Modules = ()


def run(arguments: View) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        ImportError: If the extra ``view`` is not installed.
        TDMError: If the environment or the first entry cannot be made, or a setting makes no sense.
    """
    _check(arguments)
    require_viewer("tdm view")
    from rich.console import Console

    from tdm_agents import registry
    from tdm_agents.actors.enter import environment_of
    from tdm_agents.actors.entries import parse_entry
    from tdm_agents.environments import EnvRef
    from tdm_agents.guard import is_this_machine, new_token
    from tdm_agents.remarks import remark, remarks
    from tdm_agents.view.guarded_server import GuardedServer, PageGuard
    from tdm_agents.view.live_episode import Watched
    from tdm_agents.view.live_page import LivePage
    from tdm_agents.view.planning_process import PlanningProcess

    usable_device(arguments.device)
    import_modules(arguments.import_)
    entries = arguments.entry or (DEFAULT_ENTRY,)
    env = EnvRef.parse(arguments.env_id) if arguments.env_id else environment_of(parse_entry(entries[0]))
    if env is None:
        raise WrongValueError("no environment: pass --env-id (the first entry names none)")
    for planner in (str(parse_entry(entry).options.get("planner")) for entry in entries):
        if ":" in planner:
            registry.load(registry.PLANNERS, planner)  # for the page, too, which shows its settings
    token = None if is_this_machine(arguments.host) else new_token()
    watched = Watched(
        env,
        entries,
        rewards=arguments.reward,
        env_seed=arguments.env_seed,
        seed=arguments.seed,
        device=arguments.device,
        threads=arguments.threads,
        max_steps=arguments.max_steps,
    )
    try:
        with remarks().status("starting the process that plans"):
            process = PlanningProcess(watched, arguments.import_, arguments.fps)
        server = GuardedServer(
            arguments.host, arguments.port, PageGuard(arguments.host, token), f"tdm view: {env}"
        )
        page = LivePage(server, process, entries, arguments.out)
        shown = f"http://{arguments.host}:{server.get_port()}/" + (f"?token={token}" if token else "")
        keep_config(arguments, "view", arguments.out)
        Console().print(f"{env}: open {shown} (Ctrl-C ends)", soft_wrap=True, markup=False, highlight=False)
        try:
            page.run()
        finally:
            process.close()
            server.stop()
    except KeyboardInterrupt:
        remark("the view is closed")


def _check(arguments: View) -> None:
    at_least(1, max_steps=arguments.max_steps, threads=arguments.threads)
    at_least(0, env_seed=arguments.env_seed, port=arguments.port)
    if not 0 < arguments.fps <= 120:
        raise WrongValueError(f"--fps is {arguments.fps}; expected more than 0 and at most 120")
    output_folder(arguments.out)
