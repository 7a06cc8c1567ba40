"""``tdm serve``: answers ``act`` over a socket, for many robots or environments at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tdm_agents.cli.checks import at_least, output_folder, usable_device
from tdm_agents.cli.imports import Modules, import_modules
from tdm_agents.errors import PathError, WrongValueError
from tdm_agents.settings_text import parse_settings


@dataclass(frozen=True)
class Serve:
    """Decide for many robots or environments over a socket, with one model and shared batches."""

    checkpoint: str | None = None
    """Name of a bundled checkpoint, or a folder."""
    env_id: str | None = None
    """Which environment, where the checkpoint is of several."""
    planner: str | None = None
    """Name of a planner (see `tdm planners`); the checkpoint's own if not given."""
    planner_settings: dict[str, str] = field(default_factory=dict)
    """The planner's settings, as pairs of name and value: `num-samples 64 horizon 25`."""
    replan_every: int | None = None
    """Decisions per plan; if not given the checkpoint's own, or 1."""
    deadline: float | None = None
    """Seconds that the decision of a batch may take; if not given the checkpoint's own, or as long as it
    takes."""
    reward: str | None = None
    """Reward to plan for instead of the checkpoint's: `my_rewards:slow`, or a name that a package
    provides."""
    host: str = "127.0.0.1"
    """Address to listen at. Where others than this machine reach it, clients need the token that the folder
    --out holds."""
    port: int = 8765
    """Port to listen at; any free one for 0."""
    batch: int = 32
    """Environments that are planned for at once, and of one session, at most."""
    exact: bool = False
    """Fill every batch up to --batch environments, so that a decision depends on its session alone, to the
    last bit, and not on who else is waiting. Costs a full batch for every decision."""
    gather: float = 0.002
    """Seconds for which a batch waits for more sessions, at most."""
    connections: int = 1024
    """Connections at once; more are told to come back later."""
    wait: float = 20.0
    """Seconds that a question may wait; then its client is told to ask again."""
    idle: float = 300.0
    """Seconds without a whole question, or with an answer that is not read, after which a connection is
    closed; its session is not lost."""
    device: str = "cpu"
    """Where the model computes."""
    threads: int = 1
    """Threads of torch; more threads than idle cores are many times slower."""
    out: Path = Path("runs/serve")
    """Folder of the server's secrets: the key that seals sessions, and the token. A server that is started
    with the same folder goes on with the sessions of the one before."""
    import_: Modules = ()


def run(arguments: Serve) -> None:
    """Print the address on stdout and serve until Ctrl-C or SIGTERM.

    Raises:
        ImportError: If the extra ``serve`` is not installed.
        TDMError: If the agent cannot be loaded, the address is taken, or a setting makes no sense.
    """
    checkpoint = _checked(arguments)
    import asyncio
    import signal

    import torch

    import tdm_agents.serving  # noqa: F401  # says what to install
    from tdm_agents.agent import TDMAgent
    from tdm_agents.guard import Guard, is_this_machine
    from tdm_agents.remarks import announced, remark
    from tdm_agents.serving.kept_secrets import TOKEN_FILE, kept_key, kept_token
    from tdm_agents.serving.policy_server import Limits, PolicyServer

    usable_device(arguments.device)
    torch.set_num_threads(arguments.threads)
    import_modules(arguments.import_)
    with announced("loading the agent"):
        agent = TDMAgent.load(
            checkpoint,
            arguments.planner,
            device=arguments.device,
            env_id=arguments.env_id,
            reward_function=arguments.reward,
            replan_every=arguments.replan_every,
            deadline=arguments.deadline,
            **parse_settings(arguments.planner_settings),
        )
    token = None if is_this_machine(arguments.host) else kept_token(arguments.out)
    limits = Limits(
        rows=arguments.batch,
        filled=arguments.exact,
        gather=arguments.gather,
        sessions=arguments.connections,
        wait=arguments.wait,
        idle=arguments.idle,
    )
    guard = Guard(arguments.host, token, "tdm serve")
    with announced("trying the agent out"):
        server = PolicyServer(agent, kept_key(arguments.out), guard, limits)

    def listening(port: int) -> None:
        print(f"ws://{arguments.host}:{port}", flush=True)
        asked = "" if token is None else f"; clients need the token in {arguments.out / TOKEN_FILE}"
        remark(f"serving {checkpoint} for {agent.env_id or 'its environment'}{asked} (Ctrl-C ends)")

    async def serve() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await server.run(arguments.host, arguments.port, stop, listening)

    try:
        asyncio.run(serve())
    except OSError as error:
        raise PathError(
            f"{arguments.host}:{arguments.port} cannot be listened at ({error.strerror}); choose another "
            "--port (0: any free one) or --host"
        ) from error
    remark("the server has ended; its sessions go on with the next one")


def _checked(arguments: Serve) -> str:
    """The checkpoint; refuses options that make no sense."""
    if arguments.checkpoint is None:
        raise WrongValueError("nothing to serve: pass --checkpoint NAME, or a folder")
    at_least(
        1,
        threads=arguments.threads,
        batch=arguments.batch,
        connections=arguments.connections,
        replan_every=arguments.replan_every,
    )
    at_least(0, port=arguments.port)
    if arguments.port > 65535:
        raise WrongValueError(f"--port is {arguments.port}; expected at most 65535")
    if not 0 <= arguments.gather <= 10:
        raise WrongValueError(f"--gather is {arguments.gather}; expected seconds, from 0 to 10")
    for name, value in (("wait", arguments.wait), ("idle", arguments.idle)):
        if not 0 < value < float("inf"):
            raise WrongValueError(f"--{name} is {value}; expected seconds, more than 0")
    output_folder(arguments.out)
    return arguments.checkpoint
