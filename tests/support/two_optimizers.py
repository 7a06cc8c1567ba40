"""A learned model with two optimizers, a target network and a running scale, without our base class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tdm_agents.protocols import Batch, History, ModelSpec, NotFiniteError, Preset, Step
from tdm_agents.world_models.model_files import read_model, write_model


@dataclass(frozen=True)
class TwoConfig:
    """Sizes, and the rate at which the target follows."""

    hidden: int = 16
    tau: float = 0.1
    value_rate: float = 3e-3


class TwoOptimizers(nn.Module):
    """A model of changes and rewards (SGD with momentum), and of values (Adam) against a target network.

    The target of a value is the reward plus half of the target network's value; errors are divided by a
    running scale. Both are part of the state: a run that forgets one of them ends with other weights.
    """

    config_type: ClassVar[type[TwoConfig]] = TwoConfig

    def __init__(self, spec: ModelSpec, config: TwoConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self._spec = replace(spec, history_steps=1)
        n, m = spec.observation_dim, spec.action_dim
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.dynamics = nn.Sequential(
                nn.Linear(n + m, config.hidden), nn.Tanh(), nn.Linear(config.hidden, n + 1)
            )
            self.values = nn.Sequential(nn.Linear(n, config.hidden), nn.Tanh(), nn.Linear(config.hidden, 1))
            self.target = nn.Sequential(nn.Linear(n, config.hidden), nn.Tanh(), nn.Linear(config.hidden, 1))
        self.target.load_state_dict(self.values.state_dict())
        self.target.requires_grad_(False)
        self.register_buffer("scale", torch.ones(()))

    @classmethod
    def presets(cls) -> Mapping[str, Preset]:
        return {"default": Preset(TwoConfig(), action_repeat=1)}

    @classmethod
    def build(cls, specs, config, *, seed, source=None):
        if len(specs) != 1:
            raise ValueError(f"one environment only, not {', '.join(specs)}")
        model = cls(next(iter(specs.values())), config, seed)
        if source is not None:
            model.load_state_dict(source.state_dict())
        return model

    def environment(self, name: str | None) -> TwoOptimizers:
        return self

    def fit(self, data: Mapping[str, Any]) -> None:
        """Do nothing: no part needs data."""

    @property
    def spec(self) -> ModelSpec:
        return replace(self._spec, device=self.scale.device)

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        real = batch.acted[:, :-1] & batch.valid[:, 1:]
        now, after = batch.observation[:, :-1][real], batch.observation[:, 1:][real]
        reward = batch.reward[:, 1:][real]
        predicted = self.dynamics(torch.cat([now, batch.action[:, :-1][real]], dim=-1))
        dynamics = (predicted - torch.cat([after - now, reward[:, None]], dim=-1)).square().mean()
        target = reward + 0.5 * self.target(after)[:, 0]
        return dynamics, ((self.values(now)[:, 0] - target) / self.scale).square().mean()

    def forward(self, batch, *, generator=None):
        dynamics, values = self._losses(batch)
        return dynamics + values, {"dynamics": dynamics.detach(), "values": values.detach()}

    def optimizers(self, settings):
        return {
            "dynamics": torch.optim.SGD(
                self.dynamics.parameters(), lr=settings.learning_rate, momentum=0.9, foreach=False
            ),
            "values": torch.optim.Adam(self.values.parameters(), lr=self.config.value_rate),
        }

    def update(self, batch, optimizers, *, step, settings, generator):
        losses = dict(zip(("loss_dynamics", "loss_values"), self._losses(batch), strict=True))
        numbers = {name: float(loss) for name, loss in losses.items()}
        for name, value in numbers.items():
            if not abs(value) < float("inf"):
                raise NotFiniteError(name, value)
        for optimizer, loss in zip(optimizers.values(), losses.values(), strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(self.target.parameters(), self.values.parameters(), strict=True):
                slow.lerp_(fast, self.config.tau)
            self.scale.lerp_(batch.reward[batch.reward.isfinite()].std() + 0.1, 0.05)
        return {"loss": sum(numbers.values()), **numbers}

    def summary(self) -> str:
        return "two small networks"

    def start(self, history: History, *, horizon: int) -> list[Tensor]:
        return [history.observation[:, -1]]

    @torch.no_grad()
    def step(self, state, action, *, generator=None):
        if not state:
            raise RuntimeError("this state was consumed")
        now = state.pop()
        outputs = self.dynamics(torch.cat([now, action], dim=-1))
        after, reward = now + outputs[:, :-1], outputs[:, -1]
        return [after], Step(after, reward, torch.ones_like(reward, dtype=torch.bool))

    def take(self, state, rows):
        if not state:
            raise RuntimeError("this state was consumed")
        return [state[0][rows]]

    def save(self, folder: Path) -> None:
        write_model(folder, "two_optimizers", self, spec=self._spec, config=self.config)

    @classmethod
    def load(cls, folder, *, device="cpu"):
        return read_model(
            folder, "two_optimizers", lambda spec, config: cls(spec, TwoConfig(**config)), device=device
        )
