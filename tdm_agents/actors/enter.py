"""From an entry to its contestant: reads checkpoints and zips, chooses planners, records what was read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tdm_agents import registry
from tdm_agents.actors.agents import AgentFactory
from tdm_agents.actors.contestant import Contestant
from tdm_agents.actors.entries import EXPERT, Entry
from tdm_agents.actors.functions import UniformActions
from tdm_agents.actors.prompts import best_episode, data_of
from tdm_agents.actors.saved_policies import find_policy, load_policy
from tdm_agents.actors.simulators import true_dynamics
from tdm_agents.actors.tuned import expert_for
from tdm_agents.actors.waypoints import WaypointController, files_of
from tdm_agents.agent import PREDICTED, TDMAgent, agent_files
from tdm_agents.agent.discounts import discounted
from tdm_agents.agent.reward_choice import vet_reward
from tdm_agents.data.minari_io import content_hash
from tdm_agents.data.readable import DataError
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.environments import Env, EnvRef
from tdm_agents.errors import WrongTypeError, WrongValueError
from tdm_agents.protocols import Planner, WorldModel
from tdm_agents.remarks import remark
from tdm_agents.world_models.model_files import MODEL_FILE
from tdm_agents.wrappers import RecordedStates, WithoutAlive, WithProposal, WithSupport, WithValue
from tdm_agents.wrappers.given_models import ProposingModel, ValuingModel

WEIGHTS_FILE = "weights.safetensors"


@dataclass(frozen=True, slots=True)
class Entered:
    """An entry that is ready to play.

    Attributes:
        name: Who plays, in words.
        contestant: The contestant, as :func:`tdm_agents.evaluation.episodes.evaluate` takes it.
        settings: Everything that was chosen, defaults included.
        files: The files that were read, weights first; their hashes are part of the settings.
    """

    name: str
    contestant: Contestant
    settings: Mapping[str, Any]
    files: tuple[Path, ...] = ()


def enter(entry: Entry, env: EnvRef, *, seed: int = 0, device: str = "cpu", threads: int = 1) -> Entered:
    """Make an entry ready to play in an environment.

    Args:
        entry: The entry.
        env: The environment.
        seed: Seed of its randomness; an evaluation sets another one.
        device: Where learned models and policies compute.
        threads: Threads of the simulator.

    Raises:
        LookupError: If there is no such checkpoint, planner or reward function.
        CheckpointError: If a file of a checkpoint is missing, truncated or altered.
        TypeError: If the planner has no such setting, or a checkpoint that is to propose does not.
        ValueError: If a setting makes no sense.
    """
    entry = entry.in_environment(env)
    if entry.kind == "random":
        made = env.make()
        space = made.action_space
        made.close()
        return Entered("random policy", UniformActions(space, seed), {"policy": "random"})
    if entry.kind == "waypoints":
        made = env.make()
        files = files_of(made)
        made.close()
        wander = _flag(entry, "wander", False, "true to go to random places instead of the goal")
        settings = {"policy": "waypoints", **({"wander": True} if wander else {})}
        name = "wandering waypoint controller" if wander else "waypoint controller"
        return Entered(name, WaypointController(wander), settings, files)
    if entry.kind == "policy":
        return _policy(entry, device)
    if entry.kind == "simulator":
        return _simulator(entry, env, threads)
    return _checkpoint(entry, env, seed, device)


def environment_of(entry: Entry) -> EnvRef | None:
    """The environment that the entry's checkpoint names; None where it names none or there is none."""
    named = entry.source if entry.kind == "checkpoint" else entry.options.get("like")
    if named is None:
        return None
    folder = agent_files.resolve(named)
    text = agent_files.read_settings(folder).env_id
    return None if text is None else EnvRef.parse(text, source=str(folder / agent_files.AGENT_FILE))


def _checkpoint(entry: Entry, env: EnvRef, seed: int, device: str) -> Entered:
    folder = agent_files.resolve(entry.source)
    options = entry.options
    unseen = _flag(entry, "unseen", False, "true where a generalist was not trained")
    made = env.make() if unseen else None
    try:
        agent = TDMAgent.load(
            folder,
            options.get("planner"),
            seed,
            device,
            env_id=str(env),
            env=made,
            reward_function=options.get("reward_function"),
            replan_every=options.get("replan_every"),
            deadline=options.get("deadline"),
            **entry.planner_settings,
        )
    finally:
        if made is not None:
            made.close()
    model = _in_words(agent.base_model)
    alive = _flag(entry, "alive", True, "false to plan as if no episode ended")
    given = _given(entry, agent.planner, env, device)
    support = _support(entry, agent.planner, env, action_repeat=agent.model.spec.action_repeat)
    if given or support or not alive:
        planned = _wrapped(agent.base_model if alive else WithoutAlive(agent.base_model), given)
        if support:
            planned = WithSupport(planned, support.states, support.penalty)
        agent = TDMAgent(
            planned,
            _discounted(entry, agent.planner, given),
            seed,
            env_id=str(env),
            reward_function=agent.reward_function,
            replan_every=agent.replan_every,
            deadline=agent.deadline,
        )
    name = agent_files.planner_name(agent.planner)
    repeat = agent.model.spec.action_repeat
    settings = {
        "model": entry.source,
        "action_repeat": repeat,
        "planner": name,
        "planner_settings": agent.planner,
        "replan_every": agent.replan_every,
        "reward_function": agent.reward_function,
        "alive": alive,
    }
    if agent.deadline is not None:
        settings["deadline"] = agent.deadline
    files = [file for file in (folder / WEIGHTS_FILE, folder / MODEL_FILE) if file.exists()]
    settings |= {one.use: one.source for one in given}
    files += [file for one in given for file in one.files]
    if support:
        assert isinstance(agent.base_model, WithSupport)
        settings |= {"support": list(support.hashes), "support_penalty": agent.base_model.penalty}
    if unseen:
        settings["unseen"] = True
    if (source := options.get("prompt")) is not None:
        prompt, data = best_episode(str(source), env, action_repeat=repeat)
        agent.reset(history=prompt)
        settings["prompt"] = content_hash(data)
    return Entered(
        f"{name} on {model}" + (_NEAR if support else "") + ("" if alive else " without alive"),
        agent,
        settings,
        tuple(file for file in files if file.exists()),
    )


def _flag(entry: Entry, name: str, default: bool, meaning: str) -> bool:
    value = entry.options.get(name, default)
    if not isinstance(value, bool):
        raise WrongValueError(f"{name} is {value!r}; expected {str(default).lower()}, or {meaning}")
    return value


def _simulator(entry: Entry, env: EnvRef, threads: int) -> Entered:
    # options that are not given are the checkpoint's, or else the simplest
    options = entry.options
    chosen: dict[str, Any] = {"reward_function": None, "replan_every": 1, "action_repeat": 1}
    guide = 0.0
    if options.get("planner") == EXPERT:
        if "like" in options:
            raise WrongValueError("planner=expert has settings of its own; leave out like=")
        expert = expert_for(env)
        planner = registry.make_planner(expert.planner, **{**expert.settings, **entry.planner_settings})
        guide = expert.guide
        chosen["action_repeat"] = expert.action_repeat
    elif (like := options.get("like")) is not None:
        folder = agent_files.resolve(like)
        saved = agent_files.read_settings(folder)
        planner = agent_files.choose_planner(saved, options.get("planner"), entry.planner_settings)
        chosen |= {"reward_function": saved.reward_function, "replan_every": saved.replan_every}
        if "reward_function" not in options:
            vet_reward(saved.reward_function, str(folder / agent_files.AGENT_FILE))
        if "action_repeat" not in options:
            model = agent_files.load_model(folder, env_id=str(env))
            chosen["action_repeat"] = model.spec.action_repeat
    else:
        planner = registry.make_planner(options["planner"], **entry.planner_settings)
    chosen |= {name: options[name] for name in chosen if name in options}
    repeat, reward = chosen["action_repeat"], chosen["reward_function"]
    make_model: Callable[[list[Env]], WorldModel[Any]]
    make_model = true_dynamics(action_repeat=repeat, threads=threads, guide=guide)
    given = _given(entry, planner, env, "cpu")
    if given:
        make_model = partial(_made_and_wrapped, make_model, given)
        planner = _discounted(entry, planner, given)
    factory = AgentFactory(
        make_model,
        planner,
        None if reward == PREDICTED else reward,
        chosen["replan_every"],
        options.get("deadline"),
    )
    name = agent_files.planner_name(planner)
    settings = {
        "model": "simulator",
        "guide": guide,
        "action_repeat": repeat,
        "planner": name,
        "planner_settings": planner,
        "replan_every": factory.replan_every,
        "reward_function": factory.reward_function,
    }
    if factory.deadline is not None:
        settings["deadline"] = factory.deadline
    settings |= {one.use: one.source for one in given}
    files = tuple(file for one in given for file in one.files)
    return Entered(f"{name} on the true simulator", factory, settings, files)


_USES: Mapping[str, tuple[Any, str]] = {
    "proposal": (
        ProposingModel,
        "has no propose(); expected a model that proposes: `tdm distill` and `tdm train --model iql` make "
        "one, and the transformer does",
    ),
    "value": (
        ValuingModel,
        "has no value(); expected a model that knows what a state is worth: `tdm train --model iql` "
        "makes one",
    ),
}
"""What another checkpoint can do for a planner, by the option that names it."""


@dataclass(frozen=True, slots=True)
class _Given:
    """Another checkpoint, whose policy or value serves the planner."""

    use: str
    model: Any
    source: str
    files: tuple[Path, ...]


def _given(entry: Entry, planner: Planner, env: EnvRef, device: str) -> tuple[_Given, ...]:
    """The checkpoints that the options ``proposal`` and ``value`` name.

    Raises:
        TypeError: If a model does not propose, or has no value.
        ValueError: If the planner follows no proposal, or asks for no value.
    """
    found = []
    for use, (needed, refusal) in _USES.items():
        source = entry.options.get(use)
        if source is None:
            continue
        name = agent_files.planner_name(planner)
        if use == "proposal" and getattr(planner, "num_given", 1) == 0:
            raise WrongValueError(
                f"proposal is {source}, but {name} follows none as it is set; expected num_policy=4 or "
                "another number with cem and mppi, planner=proposal_shooting, or beam_search of whole actions"
            )
        if use == "value" and name == "policy":
            raise WrongValueError(
                f"value is {source}, but the planner policy compares nothing; expected one that does, such "
                "as mppi or beam_search"
            )
        if use == "value" and getattr(planner, "objective", "reward") == "likelihood":
            raise WrongValueError(
                f"value is {source}, but objective is 'likelihood', which reads no values; expected "
                "objective=reward, or no value"
            )
        folder = agent_files.resolve(str(source))
        trained_for = agent_files.read_settings(folder).env_id
        if trained_for not in (None, str(env)):
            remark(f"{use} is {source}, which was trained for {trained_for} and is used in {env}")
        model = agent_files.load_model(folder, device, env_id=str(env))
        if not isinstance(model, needed):
            raise WrongTypeError(f"{use} is {source}, whose {type(model).__name__} {refusal}")
        files = tuple(file for file in (folder / WEIGHTS_FILE, folder / MODEL_FILE) if file.exists())
        found.append(_Given(use, model, str(source), files))
    return tuple(found)


def _discounted(entry: Entry, planner: Planner, given: tuple[_Given, ...]) -> Planner:
    """The planner with the discount of a value that is given, unless the entry has one."""
    values = [one.model for one in given if one.use == "value"]
    return discounted(planner, values[0]) if values and "discount" not in entry.planner_settings else planner


@dataclass(frozen=True, slots=True)
class _Support:
    """Recorded observations near which plans are kept."""

    states: RecordedStates
    penalty: float | None
    hashes: tuple[str, ...]


def _support(entry: Entry, planner: Planner, env: EnvRef, *, action_repeat: int) -> _Support | None:
    """The data that the option ``support`` names, several separated by commas.

    Raises:
        DataError: If there are no such data.
        ValueError: If an option makes no sense.
    """
    source, penalty = entry.options.get("support"), entry.options.get("support_penalty")
    if source is None:
        if penalty is not None:
            raise WrongValueError(
                f"support_penalty is {penalty}, but there is no support=; expected the data near which plans "
                "are to be kept"
            )
        return None
    if agent_files.planner_name(planner) == "policy":
        raise WrongValueError(
            f"support is {source}, but the planner policy compares nothing; expected one that does, such as "
            "mppi or beam_search"
        )
    if getattr(planner, "objective", "reward") == "likelihood":
        raise WrongValueError(
            f"support is {source}, but objective is 'likelihood', which reads no rewards; expected "
            "objective=reward, or no support"
        )
    if penalty is not None and (isinstance(penalty, bool) or not isinstance(penalty, int | float)):
        raise WrongValueError(f"support_penalty is {penalty!r}; expected a number in units of the reward")
    folders = [data_of(Path(one).expanduser(), env, "support") for one in str(source).split(",")]
    try:
        states = RecordedStates.of(Trajectories.each_from_minari(folders, action_repeat=action_repeat))
    except DataError as error:
        raise DataError(
            f"support is {source}, whose observations are to be those of decisions of {action_repeat} "
            f"environment steps: {error}"
        ) from error
    return _Support(states, penalty, tuple(content_hash(folder) for folder in folders))


_NEAR = " near recorded data"
_ADDED: Mapping[type, str] = {
    WithProposal: " with a proposal",
    WithValue: " with a value",
    WithSupport: _NEAR,
}


def _in_words(model: WorldModel[Any]) -> str:
    """The class of a model, and what other models add to it."""
    words = ""
    while isinstance(model, WithProposal | WithValue | WithSupport):
        words = next(said for kind, said in _ADDED.items() if isinstance(model, kind)) + words
        model = model.model
    return type(model).__name__ + words


def _wrapped(model: WorldModel[Any], given: tuple[_Given, ...]) -> WorldModel[Any]:
    for one in given:
        model = WithProposal(model, one.model) if one.use == "proposal" else WithValue(model, one.model)
    return model


def _made_and_wrapped(
    make_model: Callable[[list[Env]], WorldModel[Any]], given: tuple[_Given, ...], envs: list[Env]
) -> WorldModel[Any]:
    return _wrapped(make_model(envs), given)


def _policy(entry: Entry, device: str) -> Entered:
    statistics = entry.options.get("vec_normalize")
    saved = find_policy(
        Path(entry.source).expanduser(), None if statistics is None else Path(statistics).expanduser()
    )
    predictor = load_policy(
        saved,
        deterministic=entry.options.get("deterministic", True),
        action_repeat=entry.options.get("action_repeat", 1),
        device=device,
    )
    settings = {
        "policy": entry.source,
        "algorithm": saved.algorithm,
        "deterministic": predictor.deterministic,
        "action_repeat": predictor.action_repeat,
        "vec_normalize": None if saved.statistics is None else saved.statistics.name,
    }
    files = (saved.zip,) if saved.statistics is None else (saved.zip, saved.statistics)
    return Entered(f"{saved.algorithm} of Stable-Baselines3", predictor, settings, files)
