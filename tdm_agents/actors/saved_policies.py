"""Policies that Stable-Baselines3 saved: the zip tells the algorithm.

SB3's zips, and the statistics of ``VecNormalize`` beside them, hold pickles. A pickle is code that runs when
it is read: load only files that you made or whose makers you trust.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gymnasium.spaces import flatdim

from tdm_agents.actors.sb3_policies import Predictor
from tdm_agents.errors import PathMissingError, WrongValueError
from tdm_agents.json_text import parse_json

# a setting that each of SB3's algorithms writes into "data"; the first that is there decides
_SIGNS = {
    "PPO": "clip_range",
    "SAC": "target_entropy",
    "DQN": "exploration_fraction",
    "TD3": "policy_delay",
    "A2C": "vf_coef",
}
# parts that acting never uses, but that loading a zip would unpickle, allocate or build: schedules,
# buffers (hindsight replay asks for an environment), noise, and what the last rollout left
_UNUSED: dict[str, Any] = {
    "learning_rate": 0.0,
    "lr_schedule": float,
    "clip_range": float,
    "clip_range_vf": None,
    "exploration_schedule": float,
    "buffer_size": 1,
    "replay_buffer_class": None,
    "replay_buffer_kwargs": {},
    "rollout_buffer_class": None,
    "rollout_buffer_kwargs": {},
    "optimize_memory_usage": False,
    "n_steps": 1,
    "action_noise": None,
    "ep_info_buffer": None,
    "ep_success_buffer": None,
    "_last_obs": None,
    "_last_original_obs": None,
    "_last_episode_starts": None,
}


@dataclass(frozen=True, slots=True)
class SavedPolicy:
    """The contents of a zip of Stable-Baselines3.

    Attributes:
        algorithm: ``"PPO"``, ``"A2C"``, ``"SAC"``, ``"TD3"``, ``"DDPG"`` or ``"DQN"``.
        zip: The file.
        statistics: The file of ``VecNormalize``, or None.
    """

    algorithm: str
    zip: Path
    statistics: Path | None


def find_policy(path: Path, statistics: Path | None = None) -> SavedPolicy:
    """Look into a zip without running anything in it, and for statistics of ``VecNormalize`` beside it.

    The statistics are looked for as ``vecnormalize.pkl``, ``vec_normalize.pkl``,
    ``<name>_vecnormalize.pkl``, and as SB3's ``CheckpointCallback`` names them.

    Args:
        path: The zip that ``model.save`` wrote.
        statistics: The file of the statistics, where it is elsewhere.

    Raises:
        FileNotFoundError: If one of the files is not there.
        ValueError: If the zip is of no algorithm of Stable-Baselines3.
    """
    for file in (path, statistics):
        if file is not None and not file.is_file():
            raise PathMissingError(f"no file {file}; expected what Stable-Baselines3's save() wrote")
    try:
        with zipfile.ZipFile(path) as archive:
            data = parse_json(archive.read("data"), str(path))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise WrongValueError(
            f"{path} is not a zip of Stable-Baselines3 ({error}); expected what model.save(...) wrote"
        ) from error
    beside = [path.with_name(n) for n in _statistics_names(path.stem)]
    return SavedPolicy(
        _algorithm(path, data), path, statistics or next((b for b in beside if b.is_file()), None)
    )


def load_policy(
    saved: SavedPolicy, *, deterministic: bool = True, action_repeat: int = 1, device: str = "cpu"
) -> Predictor:
    """The policy, ready to be evaluated. This runs the code in its pickles.

    Args:
        saved: The saved policy.
        deterministic: See :class:`Predictor`.
        action_repeat: See :class:`Predictor`.
        device: Where it computes.

    Raises:
        ValueError: If the zip cannot be loaded, the statistics are not those of ``VecNormalize`` or of other
            observations than the policy's, or ``action_repeat`` is below 1.
    """
    import stable_baselines3
    from stable_baselines3.common.vec_env import VecNormalize

    if action_repeat < 1:
        raise WrongValueError(f"action_repeat is {action_repeat}; expected at least 1")
    kind: Any = getattr(stable_baselines3, saved.algorithm)
    with _refusals_told(saved.zip):
        policy = kind.load(saved.zip, device=device, custom_objects=_UNUSED)
    normalize = None
    if saved.statistics is not None:
        with _refusals_told(saved.statistics), saved.statistics.open("rb") as file:
            statistics = pickle.load(file)
        if not isinstance(statistics, VecNormalize):
            raise WrongValueError(
                f"{saved.statistics} holds a {type(statistics).__name__}; expected what VecNormalize.save "
                "wrote"
            )
        sizes = [flatdim(one.observation_space) for one in (statistics, policy)]
        if sizes[0] != sizes[1]:
            raise WrongValueError(
                f"{saved.statistics} normalizes observations of {sizes[0]} scalars, {saved.zip} reads "
                f"{sizes[1]}; expected the statistics that were saved with this policy"
            )
        normalize = statistics.normalize_obs
    return Predictor(policy, deterministic, action_repeat, normalize)


@contextmanager
def _refusals_told(file: Path) -> Iterator[None]:
    """Turn whatever goes wrong while a library reads ``file`` into an error about the file."""
    try:
        yield
    except Exception as error:  # a pickle may raise anything, and Stable-Baselines3 asserts
        raise WrongValueError(
            f"{file} cannot be loaded ({type(error).__name__}: {error}); it is damaged, or was saved by "
            "another version or with classes that are not installed here"
        ) from error


def _algorithm(path: Path, data: dict[str, Any]) -> str:
    policy = data.get("policy_class")
    module = str(policy.get("__module__", "")) if isinstance(policy, dict) else ""
    found = next((name for name, sign in _SIGNS.items() if sign in data), None)
    if found is None or module.startswith("sb3_contrib"):
        raise WrongValueError(
            f"{path} is of none of {', '.join(_SIGNS)} and DDPG (its policy is of {module or 'no module'}); "
            "load it yourself and pass the model to tdm_agents.evaluate"
        )
    # DDPG is TD3 with other settings, in its zips too
    ddpg = found == "TD3" and data["policy_delay"] == 1 and data.get("target_noise_clip") == 0.0
    return "DDPG" if ddpg else found


def _statistics_names(stem: str) -> list[str]:
    names = [f"{stem}_vecnormalize.pkl", "vecnormalize.pkl", "vec_normalize.pkl"]
    prefix, steps, last = (*stem.rsplit("_", 2), "", "")[:3]
    if last == "steps":  # CheckpointCallback's ppo_1000_steps.zip
        names.insert(0, f"{prefix}_vecnormalize_{steps}_steps.pkl")
    return names
