"""The contract that every learned model keeps, checked on recorded episodes of a closed-form model."""

from __future__ import annotations

import copy
import dataclasses
import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tdm_agents.data.decisions import Decisions
from tdm_agents.data.mixture import MixtureSampler
from tdm_agents.data.returns import as_read_by
from tdm_agents.data.trajectories import Trajectories, TrajectoryInfo
from tdm_agents.data.windows import WindowSampler
from tdm_agents.protocols import (
    Divides,
    History,
    MicroBatches,
    NotFiniteError,
    Preset,
    TrainableModel,
    UpdateSettings,
    WorldModel,
)
from tdm_agents.testing.linear_quadratic import LinearQuadraticModel

_STEPS, _BATCH = 6, 8


def check_trainable_model(
    kind: type[TrainableModel],
    *,
    config: Any = None,
    data: Mapping[str, Trajectories] | None = None,
    updates: int = 30,
    learning_rate: float = 1e-2,
    learns: bool = True,
) -> None:
    """Assert that a class keeps the contract of :class:`tdm_agents.protocols.TrainableModel`.

    These are checked: its settings are a frozen dataclass of JSON values in which everything has a default,
    and so are those of its presets; the same seed gives the same weights; nothing draws from torch's global
    randomness; the loss is a finite scalar that depends on the batch and the generator alone; an update
    changes the weights, and ``updates`` of them lower the held-out loss; updates that stop and go on in a new
    process (from saved weights and optimizers) end with the same bits; a loss of NaN is refused before any
    weight changes; what is saved is what is loaded; a model that starts from another has its weights; the
    world models of all environments share them; a model of one environment refuses several. A model that
    :class:`~tdm_agents.protocols.Divides` is also checked to have the same gradient from micro-batches as
    from the whole batch.

    Args:
        kind: The class.
        config: Settings for the checks, for example small ones; by default those of the first preset.
        data: Episodes by environment; by default one environment, of :func:`recorded_episodes`.
        updates: Number of updates in all, at least 4.
        learning_rate: Learning rate of the updates.
        learns: False for a model that updates cannot improve once it is fitted.

    Raises:
        AssertionError: If the contract is broken; the message says where.
    """
    _check_form(kind)
    checks = _Checks(kind, config, data or {"linear": recorded_episodes()}, updates, learning_rate)
    before = torch.get_rng_state()
    checks.seeds()
    checks.loss()
    checks.updates(learns)
    if issubclass(kind, Divides):
        checks.divided()
    checks.resumed()
    checks.not_finite()
    checks.files()
    checks.source()
    checks.environments()
    assert torch.equal(torch.get_rng_state(), before), (
        f"{kind.__name__} draws from torch's global randomness; draw from the generator, and seed a copy for "
        "initialisers (torch.random.fork_rng)"
    )


def recorded_episodes(
    episodes: int = 12, steps: int = 20, *, seed: int = 0, model: LinearQuadraticModel | None = None
) -> Trajectories:
    """Episodes of random actions in the linear-quadratic model, in memory.

    Args:
        episodes: Number of episodes.
        steps: Steps per episode, its last observation included.
        seed: Seed of starts and actions.
        model: The model, by default of one point mass.
    """
    world = LinearQuadraticModel() if model is None else model
    generator = torch.Generator("cpu").manual_seed(seed)
    m, n = world.spec.action_dim, world.spec.observation_dim
    made: dict[str, Any] = {"device": "cpu", "dtype": torch.float32}
    observation = torch.rand((episodes, n), generator=generator, **made) * 2 - 1
    if world.spec.action_kind == "discrete":
        action = torch.randint(
            world.spec.action_choices[0], (episodes, steps, m), generator=generator, device="cpu"
        )
    else:
        action = torch.rand((episodes, steps, m), generator=generator, **made) * 2 - 1
    action[:, -1] = 0
    history = History.of_observation(observation, action_dim=m, discrete=world.spec.action_kind == "discrete")
    state = world.start(history, horizon=steps)
    observations, rewards = [observation], [torch.full((episodes,), torch.nan, **made)]
    for t in range(steps - 1):
        state, step = world.step(state, action[:, t])
        assert step.observation is not None
        observations.append(step.observation)
        rewards.append(step.reward)
    flat = Decisions(
        torch.stack(observations, dim=1).flatten(0, 1).numpy(),
        torch.stack(rewards, dim=1).flatten().numpy(),
        action.flatten(0, 1).numpy(),
        np.ones(episodes * steps, bool),
    )
    info = TrajectoryInfo("", world.spec.observation_space, world.spec.action_space, 1, ("recorded",))
    return Trajectories.from_arrays(flat, offsets=np.arange(episodes + 1) * steps, info=info)


def _check_form(kind: type[TrainableModel]) -> None:
    name, config_type = kind.__name__, kind.config_type
    params = getattr(config_type, "__dataclass_params__", None)
    assert params is not None and params.frozen, f"{name}.config_type is not a frozen dataclass"
    for field in dataclasses.fields(config_type):
        has_default = (field.default, field.default_factory) != (dataclasses.MISSING,) * 2
        assert has_default, f"{name}.config_type.{field.name} has no default"
    presets = kind.presets()
    assert presets, f"{name}.presets() is empty; expected at least the defaults"
    for preset_name, preset in presets.items():
        assert isinstance(preset, Preset) and isinstance(preset.config, config_type), (
            f"{name}.presets()[{preset_name!r}] is {preset!r}; expected a Preset of a {config_type.__name__}"
        )
        json.dumps(dataclasses.asdict(preset.config))


class _OneProcess:
    """A process that trains alone; see :class:`tdm_agents.protocols.Processes`."""

    def sum(self, value: Tensor) -> Tensor:
        return value

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        pass


class _Checks:
    def __init__(
        self,
        kind: type[TrainableModel],
        config: Any,
        data: Mapping[str, Trajectories],
        updates: int,
        learning_rate: float,
    ) -> None:
        self.kind: Any = kind
        self.config = next(iter(kind.presets().values())).config if config is None else config
        self.specs = {name: trajectories.spec for name, trajectories in data.items()}
        self.data = data = as_read_by(self.kind.build(self.specs, self.config, seed=0), data)
        self.settings = UpdateSettings(steps=updates, learning_rate=learning_rate, warmup_steps=0)
        shape: dict[str, Any] = {"steps": _STEPS, "batch_size": _BATCH, "seed": 0}
        only = next(iter(data.values()))
        self.sampler = WindowSampler(only, **shape) if len(data) == 1 else MixtureSampler(data, **shape)

    @property
    def name(self) -> str:
        return str(self.kind.__name__)

    def built(self, seed: int = 0) -> Any:
        model = self.kind.build(self.specs, self.config, seed=seed)
        model.fit(self.data)
        return model

    def update(self, model: Any, optimizers: Any, first: int, last: int) -> list[float]:
        losses = []
        for step in range(first, last):
            numbers = model.update(
                self.sampler.batch(step),
                optimizers,
                step=step,
                settings=self.settings,
                generator=torch.Generator("cpu").manual_seed(step),
            )
            assert all(isinstance(value, float) for value in numbers.values()), (
                f"{self.name}.update returns {numbers!r}; expected numbers by name"
            )
            assert "loss" in numbers, f"{self.name}.update says {sorted(numbers)}; expected a loss among them"
            losses.append(numbers["loss"])
        return losses

    def held_out(self, model: Any) -> float:
        with torch.no_grad():
            losses = [model(self.sampler.batch(10_000 + i), generator=None)[0] for i in range(4)]
        return float(torch.stack(losses).mean())

    def seeds(self) -> None:
        same = "the same seed gives other weights"
        _assert_same(self.built().state_dict(), self.built().state_dict(), f"{self.name}: {same}")

    def loss(self) -> None:
        model, batch = self.built(), self.sampler.batch(0)
        loss, metrics = model(batch, generator=torch.Generator("cpu").manual_seed(1))
        assert loss.shape == () and bool(loss.isfinite()), (
            f"{self.name}: the loss is {loss}; expected a number"
        )
        assert loss.requires_grad, f"{self.name}: the loss has no gradient"
        for metric, value in metrics.items():
            assert not value.requires_grad and value.numel() == 1, (
                f"{self.name}: metric {metric!r} is not a detached scalar"
            )
        again, _ = model(batch, generator=torch.Generator("cpu").manual_seed(1))
        assert torch.equal(loss, again), f"{self.name}: the same generator gives another loss"
        plain = [model(batch, generator=None)[0] for _ in range(2)]
        assert torch.equal(*plain), f"{self.name}: without a generator the loss is random"

    def updates(self, learns: bool) -> None:
        model = self.built()
        before, held_out = _copied(model), self.held_out(model)
        self.update(model, model.optimizers(self.settings), 0, self.settings.steps)
        changed = any(not torch.equal(before[n], value) for n, value in model.state_dict().items())
        assert changed, f"{self.name}: updates change no weight"
        if learns:
            after = self.held_out(model)
            assert after < held_out, (
                f"{self.name}: {self.settings.steps} updates raise the held-out loss from {held_out} to "
                f"{after}"
            )

    def divided(self) -> None:
        parts: list[Any] = [self.sampler.batch(0, part=part, parts=3) for part in range(3)]
        model = self.built()
        counts = torch.stack([model.counts(part) for part in parts]).sum(0)
        micro = MicroBatches([dataclasses.replace(part, counts=counts) for part in parts], _OneProcess())
        found = []
        for batch in (self.sampler.batch(0), micro):
            model = self.built()
            numbers = model.update(
                batch,
                model.optimizers(self.settings),
                step=0,
                settings=self.settings,
                generator=torch.Generator("cpu").manual_seed(0),
            )
            gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
            found.append((numbers, gradients))
        (whole, first), (divided, second) = found
        for name, value in whole.items():
            assert abs(divided[name] - value) <= 1e-4 * max(1.0, abs(value)), (
                f"{self.name}: {name} of a batch is {value}, that of its micro-batches {divided[name]}; "
                "divide sums by batch.counts, and take batch.rows of noise that is drawn for the whole batch"
            )
        scale = max(float(gradient.abs().max()) for gradient in first.values())
        for name, gradient in first.items():
            apart = float((second[name] - gradient).abs().max())
            assert apart <= 1e-4 * scale, (
                f"{self.name}: micro-batches give {name} a gradient that differs by {apart} from the batch's"
            )

    def resumed(self) -> None:
        half, whole = self.settings.steps // 2, self.settings.steps
        model = self.built()
        optimizers = model.optimizers(self.settings)
        self.update(model, optimizers, 0, half)
        weights = _copied(model)
        states = {name: copy.deepcopy(o.state_dict()) for name, o in optimizers.items()}
        self.update(model, optimizers, half, whole)
        other = self.built(seed=1)
        other.load_state_dict(weights)
        others = other.optimizers(self.settings)
        assert others.keys() == states.keys(), f"{self.name}: optimizers have other names every time"
        for name, optimizer in others.items():
            optimizer.load_state_dict(states[name])
        self.update(other, others, half, whole)
        _assert_same(
            model.state_dict(),
            other.state_dict(),
            f"{self.name}: updates that go on from saved weights and optimizers give other weights; keep "
            "everything "
            "that an update changes in state_dict() or in an optimizer",
        )

    def not_finite(self) -> None:
        model = self.built()
        with torch.no_grad():
            next(p for _, p in model.named_parameters() if p.requires_grad).fill_(torch.nan)
        before = _copied(model)
        try:
            model.update(
                self.sampler.batch(0),
                model.optimizers(self.settings),
                step=0,
                settings=self.settings,
                generator=torch.Generator("cpu").manual_seed(0),
            )
        except NotFiniteError:
            _assert_same(before, model.state_dict(), f"{self.name}: a non-finite loss changes weights")
            return
        raise AssertionError(
            f"{self.name}.update takes a loss of NaN; expected a NotFiniteError before the weights change"
        )

    def files(self) -> None:
        model = self.built().eval()
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder))
            kind = json.loads((Path(folder) / "model.json").read_text()).get("type")
            assert isinstance(kind, str), f'{self.name}.save writes no "type" into model.json'
            loaded = self.kind.load(Path(folder), device="cpu")
        _assert_same(
            model.state_dict(), loaded.state_dict(), f"{self.name}: what is loaded is not what was saved"
        )
        assert loaded.config == model.config, f"{self.name}: the settings loaded are not those saved"
        assert self.held_out(model) == self.held_out(loaded), (
            f"{self.name}: the loaded model has another loss"
        )

    def source(self) -> None:
        source = self.built()
        model = self.kind.build(self.specs, self.config, seed=1, source=source)
        _assert_same(source.state_dict(), model.state_dict(), f"{self.name}: source= gives other weights")
        twice = {**self.specs, **{f"{name}-again": spec for name, spec in self.specs.items()}}
        try:
            several = self.kind.build(twice, self.config, seed=0)
        except ValueError as error:
            assert all(name in str(error) for name in twice), (
                f"{self.name}.build refuses several environments without naming them: {error}"
            )
        else:
            for name in twice:
                several.environment(name)

    def environments(self) -> None:
        model = self.built().eval()
        weights = {p.data_ptr() for _, p in model.named_parameters()}
        for name, trajectories in self.data.items():
            world: Any = model.environment(name)
            assert isinstance(model.environment(name), WorldModel), (
                f"{self.name}.environment({name!r}) is not a world model"
            )
            assert {p.data_ptr() for p in world.parameters()} <= weights, (
                f"{self.name}.environment({name!r}) has weights of its own"
            )
            sampler = WindowSampler(trajectories, steps=_STEPS, batch_size=_BATCH, seed=0)
            with torch.no_grad():
                loss, _ = world(sampler.batch(0), generator=None)
            assert bool(loss.isfinite()), f"{self.name}.environment({name!r}) has a loss of {loss}"


def _copied(model: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def _assert_same(one: Mapping[str, Tensor], other: Mapping[str, Tensor], message: str) -> None:
    wrong = [name for name in {*one, *other} if name not in one or name not in other]
    wrong += [n for n in one if n in other and not torch.allclose(one[n], other[n], 0, 0, equal_nan=True)]
    assert not wrong, f"{message} (first: {sorted(wrong)[0]})"
