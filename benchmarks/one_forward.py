"""Is a transformer that predicts all scalars of the next observation at once as good as ours?

Ours reads one scalar of the next observation after the other. The other one (as in TrajWorld, 2502.01366)
feeds a whole step at once: its tokens see each other, and the token of scalar i predicts scalar i of the next
observation; the separator predicts the reward. So an imagined step is one forward. It has no policy.

Both have the same weights, tokens, data, windows and updates. Compared are errors on held-out episodes and
what a step costs: of ours as it is, of the other one by feeding as many tokens at once to our cache. (The
other one imagines here without a cache, which is slow.)

    python benchmarks/one_forward.py --body cartpole  # and walker-stand, walker-tree-16
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

import keep
from larger_models import BODIES, CONTEXT_STEPS, DATA_SEED, HELD_OUT_FRACTION
from tdm_agents.actors.behaviour import PlannerPolicy, RandomPolicy
from tdm_agents.collection.collecting import collect
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.data.windows import WindowSampler
from tdm_agents.environments import EnvRef
from tdm_agents.protocols import Batch, History, Rollout, Step, looped_rollout
from tdm_agents.training.prediction import prediction_error
from tdm_agents.training.train_config import TrainConfig
from tdm_agents.training.trainer import train
from tdm_agents.world_models.transformer.loss import drop_rewards, step_tokens
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.network import Block
from tdm_agents.world_models.transformer.presets import CONFIGS

CARTPOLE = DatasetSpec(
    env=EnvRef("dm_control/cartpole-swingup-v0"),
    mix=((RandomPolicy(), 60), (PlannerPolicy(settings={"iterations": 1, "num_samples": 24}), 20)),
    action_repeat=4,
    max_steps=1000,
)
DATA = {"cartpole": CARTPOLE, **{name: body.dataset for name, body in BODIES.items()}}
TRAINING = {
    "cartpole": TrainConfig(steps=6000, batch_size=48, window_steps=8, learning_rate=3e-3, bf16=True),
    "walker-stand": TrainConfig(steps=3000, batch_size=12, window_steps=8, learning_rate=3e-3, bf16=True),
    "walker-tree-16": TrainConfig(steps=2500, batch_size=6, window_steps=8, learning_rate=3e-3, bf16=True),
}
ROWS = 64


@dataclass(frozen=True)
class Settings:
    """What is trained, and where it is kept."""

    body: str = "cartpole"
    """cartpole, walker-stand or walker-tree-16."""
    work: Path = Path("runs/one_forward")
    """Data and models; an interrupted run goes on from there."""
    out: Path = Path("benchmarks/results/one_forward.json")
    """The result."""


@dataclass(slots=True)
class _Rows:
    """The last steps of ``N`` rows."""

    tokens: Tensor  # [N, T, n + m + 2], the last step without its action
    valid: Tensor  # [N, T]
    observation: Tensor  # [N, n]


class StepAtOnce(TransformerWorldModel):
    """A transformer whose steps are fed, and predicted, at once."""

    def hidden(self, tokens: Tensor, valid: Tensor) -> Tensor:
        """Hidden states ``[B, T, S, d]`` of steps ``[B, T, S]``, which see themselves and those before."""
        steps, size = tokens.shape[1:]
        step = torch.arange(steps, device=tokens.device).repeat_interleave(size)
        apart = step[:, None] - step
        seen = (apart >= 0) & (apart < self.context_steps)
        mask = (seen & (valid.repeat_interleave(size, dim=1)[:, None] | (apart == 0)))[:, None]
        network = self.network
        x = network.embed(tokens.flatten(1), self.layout.positions(tokens.device).repeat(steps))
        rotation = network.rotation(step)
        for block in network.blocks:
            assert isinstance(block, Block)
            query, key, value = block.project(x, rotation)
            heads = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            x = block.finish(x, heads.transpose(1, 2).flatten(2))
        normed: Tensor = network.norm(x)
        return normed.unflatten(1, (steps, size))

    def forward(
        self, batch: Batch, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean negative log-likelihood per predicted token."""
        reward = batch.reward
        if generator is not None:
            reward = drop_rewards(reward, self.config.reward_dropout, generator)
        n, tokenizer = self.layout.observation_dim, self.tokenizer
        tokens = step_tokens(tokenizer, batch.observation, reward, batch.action)
        hidden = self.hidden(tokens, batch.valid)[:, :-1]
        moved = batch.valid[:, 1:] & batch.acted[:, :-1]
        target = tokenizer.encode_target(batch.observation[:, :-1], batch.observation[:, 1:])
        target = target.masked_fill(~moved[..., None], -100)
        known = moved & ~batch.reward[:, 1:].isnan()
        rewards = tokenizer.encode_reward(batch.reward[:, 1:]).masked_fill(~known, -100)
        targets = torch.cat([target, rewards[..., None]], dim=2)
        read = torch.cat([hidden[:, :, :n], hidden[:, :, n + 1 : n + 2]], dim=2)
        logits = self.network.logits(read)
        nll = F.cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=-100, reduction="none")
        nll = nll.view_as(targets)
        loss = nll.sum() / (targets != -100).sum().clamp(min=1)
        observed = nll[..., :n].sum() / (target != -100).sum().clamp(min=1)
        return loss, {"nll_observation": observed.detach()}

    def start(self, history: History, *, horizon: int) -> Any:
        """The last steps of a history."""
        steps = min(history.observation.shape[1], self.context_steps)
        action = torch.cat(
            [history.action, torch.zeros_like(history.observation[:, :1, : self.layout.action_dim])], dim=1
        )
        tokens = step_tokens(self.tokenizer, history.observation, history.reward, action)[:, -steps:]
        valid = torch.arange(steps) >= steps - history.length.clamp(max=steps)[:, None]
        return _Rows(tokens, valid, history.observation[:, -1])

    def take(self, state: Any, rows: Tensor) -> Any:
        """Copies of rows."""
        return _Rows(state.tokens[rows], state.valid[rows], state.observation[rows])

    @torch.no_grad()
    def step(
        self, state: Any, action: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[Any, Step]:
        """One forward over all that is seen."""
        n, tokenizer, decoder = self.layout.observation_dim, self.tokenizer, self.decoder
        tokens = state.tokens.clone()
        tokens[:, -1, n + 2 :] = tokenizer.encode_action(action)
        hidden = self.hidden(tokens, state.valid)[:, -1]
        centres = torch.stack([tokenizer.target_centres(i) for i in range(n)])
        read = decoder.read(hidden[:, :n], centres, None)
        observation = read if tokenizer.change is None else state.observation + read
        reward = decoder.read(hidden[:, n + 1], tokenizer.reward_centres(), None)
        nothing = torch.zeros_like(action)
        new = step_tokens(tokenizer, observation[:, None], reward[:, None], nothing[:, None])
        tokens = torch.cat([tokens, new], dim=1)[:, -self.context_steps :]
        valid = torch.cat([state.valid, torch.ones_like(state.valid[:, :1])], dim=1)[:, -self.context_steps :]
        return _Rows(tokens, valid, observation), Step(
            observation, reward, torch.ones(len(reward), dtype=torch.bool)
        )

    def rollout(self, state: Any, actions: Tensor, *, generator: torch.Generator | None = None) -> Rollout:
        """Step by step."""
        return looped_rollout(self, state, actions, generator=generator)


OURS, ONCE = "one scalar after the other", "at once"
WAYS: Mapping[str, type[TransformerWorldModel]] = {OURS: TransformerWorldModel, ONCE: StepAtOnce}


def milliseconds(model: TransformerWorldModel, start: History) -> dict[str, float]:
    """Of a step of some rows: ours, and as many tokens fed at once; medians of turns."""
    n, m = model.layout.observation_dim, model.layout.action_dim
    horizon = 8
    found: dict[str, list[float]] = {OURS: [], ONCE: []}
    rows = torch.arange(ROWS) % start.batch
    actions = torch.zeros(ROWS, horizon, m)
    decoder = model.decoder
    tokens = torch.zeros(ROWS, model.layout.tokens, dtype=torch.int64)
    with torch.no_grad():
        for turn in range(12):
            state = model.take(model.start(start, horizon=horizon), rows)
            began = time.perf_counter()
            model.rollout(state, actions)
            ours = time.perf_counter() - began
            state = model.take(model.start(start, horizon=horizon), rows).consume()
            decoder.extend(state, tokens[:, : m + 2], offset=n)  # what is known after the present observation
            state.advance()
            began = time.perf_counter()
            for _ in range(horizon - 1):
                hidden = decoder.extend(state, tokens, offset=0, outputs=n + 1)
                decoder.read(hidden, state.centres, None)
                state.advance()
            once = time.perf_counter() - began
            if turn > 1:
                found[OURS].append(1e3 * ours / horizon)
                found[ONCE].append(1e3 * once / (horizon - 1))
    return {way: statistics.median(times) for way, times in found.items()}


def measured(settings: Settings, way: str) -> dict[str, Any]:
    """Train one way on one body: its errors on held-out episodes, and the seconds."""
    spec, config = DATA[settings.body], TRAINING[settings.body]
    console = Console(stderr=True)
    path = collect(spec, settings.work / "data" / settings.body)
    data = Trajectories.from_minari(path, action_repeat=spec.action_repeat)
    kept, held_out = data.split(HELD_OUT_FRACTION, DATA_SEED)
    tokens = kept.spec.observation_dim + kept.spec.action_dim + 2
    model_config = replace(CONFIGS["small"], context=CONTEXT_STEPS * tokens, action_weight=0.0)
    model = WAYS[way].build({data.info.env_id: kept.spec}, model_config, seed=config.seed)
    model.fit({data.info.env_id: kept})
    sampler = WindowSampler(kept, steps=config.window_steps, batch_size=config.batch_size, seed=DATA_SEED)
    folder = settings.work / settings.body / ("ours" if way == OURS else "at_once")
    began = time.process_time()
    result = train(model, sampler, held_out, config, folder, console=console)
    if result.interrupted:
        raise SystemExit(130)
    seconds = time.process_time() - began
    errors = prediction_error(
        model.eval(), held_out, horizons=(1, 5, 10, 25), starts=128, context_steps=CONTEXT_STEPS
    )
    found: dict[str, Any] = {"cpu_seconds": seconds, "errors": errors, "decisions": kept.num_decisions}
    if way == OURS:
        first = held_out.episode(0)
        history = History.of_observation(
            torch.as_tensor(first.observation[:1]), action_dim=kept.spec.action_dim
        )
        found["milliseconds_per_step"] = milliseconds(model, history)
    return found


def main(settings: Settings) -> None:
    """Measure both ways on a body; print and keep all bodies that were measured."""
    torch.set_num_threads(1)
    bodies: dict[str, Any] = {}
    for body in DATA:
        for way in WAYS:
            path = settings.work / f"{body}-{'ours' if way == OURS else 'at-once'}.json"
            if body == settings.body or path.exists():
                made = {"training": asdict(TRAINING[body]), "data": DATA[body].settings(), "way": way}
                bodies.setdefault(body, {})[way] = keep.part(path, made, partial(measured, settings, way))
    table = Table("", "CPU seconds", "median error after 1", "5", "10", "25 decisions", "ms per step")
    for body, ways in bodies.items():
        times = ways[OURS]["milliseconds_per_step"]
        for way, found in ways.items():
            errors = [f"{found['errors'][f'median@{h}']:.3f}" for h in (1, 5, 10, 25)]
            table.add_row(f"{body}, {way}", f"{found['cpu_seconds']:.0f}", *errors, f"{times[way]:.1f}")
    Console().print(table)
    keep.result(settings.out, settings, bodies=bodies)


if __name__ == "__main__":
    main(tyro.cli(Settings))
