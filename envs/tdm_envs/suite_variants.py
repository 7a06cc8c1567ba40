"""Variants: tasks of dm_control's suite with other physical constants, drawn from a seed.

A variant is one body: its seed, the scale and the groups rebuild it anywhere, and all tasks of a domain share
it. Each group of constants has its own random stream, so leaving one out does not change the others.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import mujoco
import numpy as np

from tdm_envs.mistakes import EnvsTypeError, EnvsValueError
from tdm_envs.suite_lengths import LENGTH_DOMAINS, lengthened_model

Factors = dict[str, dict[str, float]]
"""Factors by group and element (a body, joint, tendon or actuator of the model)."""

GROUPS: Final = ("mass", "inertia", "damping", "armature", "stiffness", "gear", "friction", "length")
"""Groups of constants that can be scaled: ``mass`` of each body, and its inertia with it, as with a denser
material; ``inertia`` on its own, as if the mass were nearer to or farther from the centre; ``damping``,
``armature`` and ``stiffness`` of each joint and tendon; ``gear`` of each actuator; ``friction`` of all
surfaces by one factor (a contact has the larger of two, so single factors would often change nothing) and of
each joint; ``length`` of each limb (:data:`~tdm_envs.suite_lengths.LENGTH_DOMAINS`)."""

MAX_VARIANT: Final = 2**31 - 1


class _Constant(NamedTuple):
    group: str
    field: str
    kind: mujoco.mjtObj | None  # the kind of element of each row; None: all rows share a factor


_BODY, _JOINT, _DOF = mujoco.mjtObj.mjOBJ_BODY, mujoco.mjtObj.mjOBJ_JOINT, mujoco.mjtObj.mjOBJ_DOF
_TENDON, _ACTUATOR = mujoco.mjtObj.mjOBJ_TENDON, mujoco.mjtObj.mjOBJ_ACTUATOR
_CONSTANTS = (
    _Constant("mass", "body_mass", _BODY),
    _Constant("mass", "body_inertia", _BODY),
    _Constant("inertia", "body_inertia", _BODY),
    _Constant("damping", "dof_damping", _DOF),
    _Constant("damping", "tendon_damping", _TENDON),
    _Constant("armature", "dof_armature", _DOF),
    _Constant("stiffness", "jnt_stiffness", _JOINT),
    _Constant("stiffness", "tendon_stiffness", _TENDON),
    _Constant("gear", "actuator_gear", _ACTUATOR),
    _Constant("friction", "geom_friction", None),
    _Constant("friction", "dof_frictionloss", _DOF),
)
_SURFACES = "surfaces"
# constants that the task itself writes at every reset: a factor would be drawn and have no effect
_WRITTEN_BY_TASK = {("finger", "spin", "damping"): frozenset({"hinge"})}


def variant_groups(domain: str, groups: Sequence[str] | None) -> tuple[str, ...]:
    """The groups to draw, in the order of :data:`GROUPS`; None means all that the domain has.

    Raises:
        ValueError: If a name is not a group, or the lengths of the domain cannot change.
    """
    available = tuple(group for group in GROUPS if group != "length" or domain in LENGTH_DOMAINS)
    if groups is None:
        return available
    if isinstance(groups, str) or (unknown := [group for group in groups if group not in GROUPS]):
        wrong = groups if isinstance(groups, str) else unknown[0]
        raise EnvsValueError(f"groups has {wrong!r}; expected a sequence of {', '.join(GROUPS)}")
    if missing := [group for group in groups if group not in available]:
        raise EnvsValueError(
            f"{domain} has no {missing[0]} to scale; expected groups among {', '.join(available)} (limbs can "
            f"be lengthened in {', '.join(sorted(LENGTH_DOMAINS))})"
        )
    return tuple(group for group in GROUPS if group in groups)


def draw_factors(
    nominal: Any, domain: str, task: str, variant: int, *, scale: float, groups: Sequence[str]
) -> Factors:
    """Factors, log-uniform in ``[1 / scale, scale]``, for every constant of a model that is not 0.

    They are rounded to 6 decimals, so that machines whose ``exp`` differs in the last bit agree.

    Args:
        nominal: dm_control's own ``mujoco.MjModel`` of the task.
        domain: A domain of the suite.
        task: A task of that domain.
        variant: Seed, 0 to :data:`MAX_VARIANT`.
        scale: Largest factor, at least 1; 1 changes nothing.
        groups: Groups from :func:`variant_groups`.

    Raises:
        ValueError: If ``variant`` or ``scale`` is out of range.
        TypeError: If ``variant`` is not an integer.
    """
    if isinstance(variant, bool) or not isinstance(variant, int | np.integer):
        raise EnvsTypeError(f"variant is {variant!r}; expected an integer, the seed of the variant")
    if not 0 <= variant <= MAX_VARIANT:
        raise EnvsValueError(f"variant is {variant}; expected 0 to {MAX_VARIANT}")
    if not (np.isfinite(scale) and scale >= 1.0):
        raise EnvsValueError(f"scale is {scale}; expected at least 1: factors lie in [1 / scale, scale]")
    factors: Factors = {}
    for group in groups:
        names = _elements(nominal, domain, group)
        seeds = [zlib.crc32(domain.encode()), variant, GROUPS.index(group)]
        drawn = np.float64(scale) ** np.random.default_rng(seeds).uniform(-1.0, 1.0, len(names))
        without_effect = _WRITTEN_BY_TASK.get((domain, task, group), ())
        chosen = {n: round(float(f), 6) for n, f in zip(names, drawn, strict=True) if n not in without_effect}
        if chosen:
            factors[group] = chosen
    return factors


def varied_model(nominal: Any, domain: str, task: str, factors: Factors) -> Any:
    """A new ``mujoco.MjModel`` with multiplied constants; ``nominal`` is not changed.

    Args:
        nominal: dm_control's own ``mujoco.MjModel`` of the task.
        domain: A domain of the suite.
        task: A task of that domain.
        factors: Factors from :func:`draw_factors`.
    """
    lengths = factors.get("length")
    model = lengthened_model(domain, task, lengths) if lengths else copy.copy(nominal)
    for constant in _CONSTANTS:
        if drawn := factors.get(constant.group):
            values = getattr(model, constant.field)
            for row, name in enumerate(_rows(model, constant)):
                values[row] *= drawn.get(name, 1.0)
    mujoco.mj_setConst(model, mujoco.MjData(model))  # recomputes derived constants
    return model


def _elements(model: Any, domain: str, group: str) -> list[str]:
    """The elements of a group that can be scaled, in the model's order."""
    if group == "length":
        present = {model.body(i).name for i in range(model.nbody)}
        return [name for name in LENGTH_DOMAINS[domain] if name in present]
    names: dict[str, None] = {}
    for constant in _CONSTANTS:
        if constant.group == group:
            values = getattr(model, constant.field)
            rows = zip(_rows(model, constant), values, strict=True)
            names.update((name, None) for name, value in rows if np.any(value))
    return list(names)


def _rows(model: Any, constant: _Constant) -> list[str]:
    """The element that each row of a field belongs to; joints with several axes share a factor."""
    count = len(getattr(model, constant.field))
    if constant.kind is None:
        return [_SURFACES] * count
    if constant.kind is _DOF:
        return [_name(model, _JOINT, joint) for joint in model.dof_jntid]
    return [_name(model, constant.kind, row) for row in range(count)]


def _name(model: Any, kind: mujoco.mjtObj, index: int) -> str:
    found: str | None = mujoco.mj_id2name(model, kind, int(index))
    return found or f"{kind.name.removeprefix('mjOBJ_').lower()}{index}"
