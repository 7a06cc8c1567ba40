"""How many forwards does an imagined step need if its scalars are guessed together, and are they the same?

Held-out states of trained models, and those that random shooting goes on to reach from them: at every step
both ways start from the same rows, draw the same numbers, and their tokens are compared. The rows of a group
are decoded together, as a planner's candidates are, and all of them have to settle. One checkpoint and its
data after the other:

    python benchmarks/parallel_decoding.py --checkpoints cartpole-swingup --data runs/make_checkpoint/data

Different tokens have to come from near ties, which are counted: a draw within 1e-5 of a boundary of the
cumulative distribution (sample), two best logits within 1e-5 (mode, mean), or a mean within 1e-6 of an edge
between two tokens (relative to its magnitude, where that is more than 1).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from tdm_agents.agent.agent_files import load_model, resolve
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.data.windows import starts
from tdm_agents.evaluation.report import provenance
from tdm_agents.protocols import History
from tdm_agents.storage import read_json, write_json
from tdm_agents.world_models.transformer.decoding.options import Read
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_planners.random_shooting import RandomShooting

DECODINGS: tuple[Read, ...] = ("sample", "mode", "mean")
TIE = 1e-5
EDGE = 1e-6


@dataclass(frozen=True)
class Settings:
    """Which models, and from where they imagine."""

    checkpoints: tuple[str, ...] = ("cartpole-swingup",)
    """Transformers, by name or folder."""
    data: tuple[Path, ...] = (Path("runs/make_checkpoint/data"),)
    """What each was trained on."""
    held_out_fraction: float = 0.05
    """Of the episodes, as in training."""
    data_seed: int = 0
    """Of the held-out choice, as in training."""
    states: int = 1000
    """Held-out states of each model."""
    history_steps: int = 8
    """Steps of history of each, the present one included, where the model sees as many."""
    horizon: int = 5
    """Steps imagined from each, with random shooting's actions."""
    rows: int = 125
    """Rows that are decoded together."""
    threads: int = 1
    """PyTorch's threads."""
    out: Path = Path("benchmarks/results/parallel_decoding.json")
    """Where to write the result; other checkpoints' rows in it are kept."""


def load_transformer(name: str) -> tuple[TransformerWorldModel, Path]:
    """A transformer by name or folder, and its folder."""
    folder = resolve(name)
    model = load_model(folder, "cpu")
    if not isinstance(model, TransformerWorldModel):
        raise SystemExit(f"{name} is a {type(model).__name__}; expected a transformer of one environment")
    return model, folder


def held_out_states(
    model: TransformerWorldModel, data: Path, *, fraction: float, seed: int, states: int, history_steps: int
) -> History:
    """Distinct moments of episodes that the model was not trained on.

    Args:
        model: Whose.
        data: What it was trained on.
        fraction: Of the episodes, held out.
        seed: Of that choice.
        states: How many.
        history_steps: Of each, the present one included, where the model sees as many.
    """
    trajectories = Trajectories.from_minari(data, action_repeat=model.spec.action_repeat)
    _, held_out = trajectories.split(fraction, seed)
    steps = min(history_steps, model.spec.history_steps)
    found = starts(held_out, count=states, steps=steps, seed=0)
    return History(found.observation, found.reward, found.action[:, :-1], torch.full((states,), steps))


def shooting_actions(model: TransformerWorldModel, *, rows: int, horizon: int) -> Tensor:
    """Random shooting's, ``[rows, horizon, m]``."""
    noise = RandomShooting(horizon=horizon)
    shape = (rows, horizon, model.spec.action_dim)
    walks = noise.plain_noise(shape, torch.Generator().manual_seed(0), torch.float32)
    return (noise.noise_scale * walks).clamp(-1.0, 1.0)


def part_of(history: History, rows: slice) -> History:
    """Some of its rows."""
    return History(
        history.observation[rows], history.reward[rows], history.action[rows], history.length[rows]
    )


@contextmanager
def heard(model: TransformerWorldModel) -> Iterator[tuple[list[Tensor], list[int]]]:
    """Logits ``[N, bins]`` as they are read one by one, and a 1 for every forward."""
    logits: list[Tensor] = []
    forwards: list[int] = []
    hooks = [
        model.network.head.register_forward_hook(lambda _, __, found: logits.append(found.flatten(0, -2))),
        model.network.norm.register_forward_hook(lambda *_: forwards.append(1)),
    ]
    try:
        yield logits, forwards
    finally:
        for hook in hooks:
            hook.remove()


def near_ties(model: TransformerWorldModel, logits: list[Tensor], seed: int, values: Tensor) -> Tensor:
    """Which scalars ``[N, n + 1]`` could as well have become another token.

    Args:
        model: Whose decoding.
        logits: ``n + 1`` times ``[N, bins]``: observation scalars, then the reward.
        seed: Of the step's draws.
        values: ``[N, n + 1]``, what was read.
    """
    if model.config.decoding.read == "sample":
        draws = torch.rand((len(logits) + 1, len(values)), generator=torch.Generator().manual_seed(seed))
        close = []
        for i, scalar in enumerate(logits):
            cumulative = scalar.softmax(dim=-1).cumsum(dim=-1)
            gap = (cumulative - draws[i][:, None] * cumulative[:, -1:]).abs().amin(dim=1)
            close.append(gap < TIE)
        return torch.stack(close, dim=1)
    best = [scalar.topk(2, dim=-1).values for scalar in logits]
    ties = torch.stack([top[:, 0] - top[:, 1] < TIE for top in best], dim=1)
    if model.config.decoding.read == "mean":
        reach = EDGE * values.abs().clamp(min=1.0)
        ties |= tokens_of(model, values - reach) != tokens_of(model, values + reach)
    return ties


def tokens_of(model: TransformerWorldModel, values: Tensor) -> Tensor:
    """Tokens ``[N, n + 1]`` that observation and reward become."""
    tokenizer = model.tokenizer
    reward = tokenizer.encode_reward(values[:, -1])
    return torch.cat([tokenizer.encode_observation(values[:, :-1]), reward[:, None]], dim=1)


def compared(
    model: TransformerWorldModel, history: History, actions: Tensor, first_seed: int
) -> tuple[list[int], Tensor, Tensor]:
    """Both ways for one group of rows.

    Returns:
        Forwards of each step in parallel; whether tokens are equal ``[H, N]``, and whether any scalar of the
        step was a near tie ``[H, N]``.
    """
    together = model.with_decoding(parallel=True)
    every = torch.arange(history.batch)
    state = model.start(history, horizon=actions.shape[1])
    forwards, equal, ties = [], [], []
    for time in range(actions.shape[1]):
        seed = first_seed + time
        other = model.take(state, every)
        with heard(model) as (logits, _):
            state, one = model.step(state, actions[:, time], generator=torch.Generator().manual_seed(seed))
        with heard(model) as (_, fed):
            _, two = together.step(other, actions[:, time], generator=torch.Generator().manual_seed(seed))
        values, others = (torch.cat([s.observation, s.reward[:, None]], dim=1) for s in (one, two))
        forwards.append(len(fed))
        equal.append((tokens_of(model, values) == tokens_of(model, others)).all(dim=1))
        ties.append(near_ties(model, logits[: values.shape[1]], seed, values).any(dim=1))
    return forwards, torch.stack(equal), torch.stack(ties)


def measured(settings: Settings, model: TransformerWorldModel, history: History) -> dict[str, Any]:
    """One decoding of one model on all states."""
    actions = shooting_actions(model, rows=settings.states, horizon=settings.horizon)
    forwards: list[int] = []
    equal: list[Tensor] = []
    ties: list[Tensor] = []
    for first in range(0, settings.states, settings.rows):
        part = slice(first, first + settings.rows)
        found = compared(model, part_of(history, part), actions[part], first_seed=first * settings.horizon)
        forwards += found[0]
        equal.append(found[1])
        ties.append(found[2])
    same, near = torch.cat(equal, dim=1), torch.cat(ties, dim=1)  # [H, states]
    return {
        "forwards_one_by_one": 1 + model.spec.observation_dim,
        "mean_forwards_together": statistics.mean(forwards),
        "forwards_together": forwards,
        "held_out_states_equal": int(same[0].sum()),
        "states": settings.states,
        "steps_equal": int(same.sum()),
        "steps": same.numel(),
        "near_ties": int(near.sum()),
        "different_without_a_near_tie": int((~same & ~near).sum()),
    }


def main(settings: Settings) -> None:
    """Measure every checkpoint with every decoding, print, and keep."""
    if len(settings.checkpoints) != len(settings.data):
        raise SystemExit(f"{len(settings.checkpoints)} checkpoints, {len(settings.data)} data; one each")
    torch.set_num_threads(settings.threads)
    rows: dict[str, Any] = read_json(settings.out, schema=1)["rows"] if settings.out.exists() else {}
    stated = {k: v for k, v in asdict(settings).items() if k not in ("out", "checkpoints", "data")}
    for name, data in zip(settings.checkpoints, settings.data, strict=True):
        model, folder = load_transformer(name)
        history = held_out_states(
            model,
            data,
            fraction=settings.held_out_fraction,
            seed=settings.data_seed,
            states=settings.states,
            history_steps=settings.history_steps,
        )
        found = {
            decoding: measured(settings, model.with_decoding(read=decoding, parallel=False), history)
            for decoding in DECODINGS
        }
        rows[folder.name] = {
            "settings": stated | {"data": str(data)},
            "observation_dim": model.spec.observation_dim,
            "decodings": found,
            "provenance": provenance(folder / "weights.safetensors"),
        }
        write_json(settings.out, {"schema": 1, "rows": rows})
        for decoding, row in found.items():
            print(
                f"{folder.name}, {decoding}: {row['mean_forwards_together']:.2f} forwards a step instead of "
                f"{row['forwards_one_by_one']}; equal in {row['held_out_states_equal']} of {row['states']} "
                f"held-out states and {row['steps_equal']} of {row['steps']} steps; {row['near_ties']} near "
                f"ties, {row['different_without_a_near_tie']} differences without one"
            )
    print(f"kept in {settings.out}")


if __name__ == "__main__":
    main(tyro.cli(Settings))
