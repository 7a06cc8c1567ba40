"""The procedural walker universe: bodies of capsules and hinges, grown from a seed, to walk at 1 m/s.

Schubert et al. 2023, "A Generalist Dynamics Model for Control", section 4.3.2; the authors' generator was
never released, so :mod:`tdm_envs.walkers.families` says how we read each sentence. It needs only mujoco,
numpy and gymnasium (:mod:`tdm_envs.walkers.task`, which scores predictions, also needs torch).
"""

from tdm_envs.walkers.body import Body, BodyKey, Limb, Link
from tdm_envs.walkers.env import PhysicsDivergedError, WalkerEnv
from tdm_envs.walkers.families import FAMILIES, MAX_DOF, MIN_DOF, build_body
from tdm_envs.walkers.manifest import Manifest, ManifestError, read_manifest, write_manifest
from tdm_envs.walkers.spec import build_spec
from tdm_envs.walkers.universe import ExhaustedError, sample_bodies, split_of

__all__ = [
    "FAMILIES",
    "MAX_DOF",
    "MIN_DOF",
    "Body",
    "BodyKey",
    "ExhaustedError",
    "Limb",
    "Link",
    "Manifest",
    "ManifestError",
    "PhysicsDivergedError",
    "WalkerEnv",
    "build_body",
    "build_spec",
    "read_manifest",
    "sample_bodies",
    "split_of",
    "write_manifest",
]
