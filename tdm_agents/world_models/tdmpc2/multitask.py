"""TD-MPC2 of several environments: one set of weights, and a learned vector for each (2310.16828, 3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from tdm_agents.environments import known_name
from tdm_agents.errors import UnknownNameError, WrongValueError
from tdm_agents.protocols import Batch, MixedBatch, ModelSpec, Optimizers, Preset, UpdateSettings
from tdm_agents.spaces.spec_json import spec_from_json, spec_to_json
from tdm_agents.world_models.learned import LearnedModel, differences, does_not_fit, identity
from tdm_agents.world_models.model_files import read_described, write_described
from tdm_agents.world_models.tdmpc2 import updating
from tdm_agents.world_models.tdmpc2.latent_networks import LatentNetworks
from tdm_agents.world_models.tdmpc2.latent_world import RoundedNetworks
from tdm_agents.world_models.tdmpc2.objectives import model_loss
from tdm_agents.world_models.tdmpc2.pieces import Pieces, cut
from tdm_agents.world_models.tdmpc2.sizes import PRESETS, TDMPC2Config
from tdm_agents.world_models.tdmpc2.task_embeddings import TaskEmbeddings
from tdm_agents.world_models.tdmpc2.task_world import TaskWorld

if TYPE_CHECKING:
    from tdm_agents.data.trajectories import Trajectories
    from tdm_agents.protocols import TrainableModel

KIND = "tdmpc2-multitask"


@dataclass(frozen=True, slots=True)
class MultitaskConfig(TDMPC2Config):
    """Sizes and training of a :class:`MultitaskTDMPC2`: those of one task, and what tells tasks apart.

    Attributes:
        task_size: Scalars of the vector of each task; at least 1.
        max_observation: Observation scalars that the networks read, the rest being 0; None: those of the
            largest environment. More leaves room for environments that are learned later.
        max_action: Action scalars that the networks read; None: those of the largest environment.

    Raises:
        ValueError: If a setting makes no sense.
    """

    task_size: int = 96
    max_observation: int | None = None
    max_action: int | None = None

    def __post_init__(self) -> None:
        TDMPC2Config.__post_init__(self)
        for name in ("task_size", "max_observation", "max_action"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise WrongValueError(f"MultitaskConfig.{name} is {value}; expected at least 1")


class MultitaskTDMPC2(LearnedModel):
    """A TD-MPC2 that models several environments; :meth:`environment` has the world model of each.

    Args:
        specs: Spec of each environment, by name.
        config: Settings; maxima that are None become those of the largest environment.
        seed: Of the initial weights.

    Raises:
        ValueError: If there is no environment, one is larger than the settings say, or their actions are of
            several kinds.

    Attributes:
        config: The settings, with both maxima.
        networks: The weights.
        discount: ``[K]``, factor per decision on later rewards of each task.
    """

    config_type: ClassVar[type[MultitaskConfig]] = MultitaskConfig
    config: MultitaskConfig

    def __init__(
        self, specs: Mapping[str, ModelSpec], config: MultitaskConfig | None = None, *, seed: int = 0
    ) -> None:
        super().__init__()
        config = config if config is not None else MultitaskConfig()
        _refuse_unlike(specs)
        self.config = replace(
            config,
            max_observation=config.max_observation or max(s.observation_dim for s in specs.values()),
            max_action=config.max_action or max(s.action_dim for s in specs.values()),
        )
        own = {
            name: replace(spec, history_steps=1, dtype=torch.float32, imagines_observations=False)
            for name, spec in specs.items()
        }
        self._joint = _joint(own, self.config)
        generator = torch.Generator("cpu").manual_seed(int(seed))
        tasks = TaskEmbeddings(
            _masks(self._joint, own), tasks=len(own), size=self.config.task_size, generator=generator
        )
        self.networks = LatentNetworks(self._joint, self.config, tasks=tasks, generator=generator)
        known = 0.99 if config.discount is None else config.discount
        self.discount: Tensor
        discounts = torch.full((len(own),), known, device="cpu", dtype=torch.float32)
        self.register_buffer("discount", discounts)
        imagining = RoundedNetworks(self.networks, self.config)
        # a plain dictionary, so that they are no parts of the module, which would list its weights again
        self._worlds = {
            name: TaskWorld(self, number, spec, imagining) for number, (name, spec) in enumerate(own.items())
        }

    @classmethod
    def presets(cls) -> Mapping[str, Preset]:
        """The paper's sizes and planner, ``5m`` by default."""
        return {
            name: replace(preset, config=MultitaskConfig(**asdict(preset.config)))
            for name, preset in PRESETS.items()
        }

    @classmethod
    def build(
        cls, specs: Mapping[str, ModelSpec], config: Any, *, seed: int, source: TrainableModel | None = None
    ) -> Self:
        """A new model; see :meth:`tdm_agents.protocols.TrainableModel.build`.

        Args:
            specs: Spec of each environment, by name.
            config: Settings.
            seed: Seed of the initial weights.
            source: A model of this class to start from. It need not have seen the environments: those it has
                seen keep their vectors, others begin with new ones.

        Raises:
            ValueError: If the settings do not fit the environments.
            CheckpointError: If ``source`` is of another class or size.
        """
        if source is None:
            return cls(specs, config, seed=seed)
        if not isinstance(source, MultitaskTDMPC2):
            raise does_not_fit(f"it is a {type(source).__name__}, not a {cls.__name__}")
        theirs = source.config
        room = {"max_observation": theirs.max_observation, "max_action": theirs.max_action}
        model = cls(specs, replace(config, **room), seed=seed)
        model._begin_with(source)
        return model

    def _begin_with(self, source: MultitaskTDMPC2) -> None:
        there, here = (
            {"config": identity(m.config), "actions": _actions(m._joint), "terminates": m._joint.terminates}
            for m in (source, self)
        )
        if found := differences(there, here):
            raise does_not_fit(found[0])
        assert self.networks.tasks is not None and source.networks.tasks is not None
        weights, own = dict(source.state_dict()), self.state_dict()
        weights |= {name: own[name] for name in ("discount", "networks.tasks.vectors")}
        self.load_state_dict(weights)
        for name, world in self._worlds.items():
            if (known := known_name(name, source.environments)) is not None:
                number, theirs = world.number, source._worlds[known].number
                with torch.no_grad():
                    self.networks.tasks.vectors[number] = source.networks.tasks.vectors[theirs]
                    self.discount[number] = source.discount[theirs]

    @property
    def environments(self) -> tuple[str, ...]:
        """Names of the environments."""
        return tuple(self._worlds)

    def environment(self, name: str | None) -> TaskWorld:
        """The world model of one of :attr:`environments`, which shares the weights.

        Raises:
            LookupError: If there is no such environment; the message lists those that exist.
        """
        known = known_name(name, self._worlds)
        if known is None:
            raise UnknownNameError(
                f"env_id is {name!r}; expected one of the environments that this model has learned, "
                f"{', '.join(self._worlds)[:2000]}"
            )
        return self._worlds[known]

    def fit(self, data: Mapping[str, Trajectories]) -> None:
        """Set each discount from the longest episode, unless the settings say what it is."""
        for name, trajectories in data.items():
            self.environment(name).expect(int(trajectories.episodes[:, 2].max()) - 1)

    def forward(
        self, batch: Batch | MixedBatch, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The model's loss; the policy has another, which :meth:`update` lowers too.

        Args:
            batch: Windows of one or more of the environments; a plain batch where there is one.
            generator: Of the targets and of the dropout; None: nothing is random.

        Raises:
            ValueError: If the batch holds no transition.
        """
        return self.loss_of(self._numbered(batch), generator=generator)

    def loss_of(
        self, parts: Mapping[int, Batch], *, generator: torch.Generator | None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The model's loss on windows by the number of their task."""
        loss = model_loss(
            self.networks,
            self._pieces(parts),
            self.config,
            self._joint,
            discount=self.discount,
            generator=generator,
        )
        return loss.total, loss.parts

    def optimizers(self, settings: UpdateSettings) -> Optimizers:
        """See :func:`~tdm_agents.world_models.tdmpc2.updating.optimizers_of`."""
        return updating.optimizers_of(self.networks, self.config, settings)

    def update(
        self,
        batch: Batch | MixedBatch,
        optimizers: Optimizers,
        *,
        step: int,
        settings: UpdateSettings,
        generator: torch.Generator,
    ) -> Mapping[str, float]:
        """See :func:`~tdm_agents.world_models.tdmpc2.updating.update`.

        Raises:
            NotFiniteError: If a loss or a gradient is not finite.
            ValueError: If the batch holds no transition.
        """
        return updating.update(
            self.networks,
            self._pieces(self._numbered(batch)),
            optimizers,
            self.config,
            self._joint,
            discount=self.discount,
            step=step,
            settings=settings,
            generator=generator,
        )

    def _numbered(self, batch: Batch | MixedBatch) -> dict[int, Batch]:
        if isinstance(batch, Batch):
            (only,) = self._worlds.values()
            return {only.number: batch}
        return {self._worlds[name].number: part for name, part in batch.parts.items()}

    def _pieces(self, parts: Mapping[int, Batch]) -> Pieces:
        """The windows of all tasks in one batch, filled up with zeros to the largest."""
        widths = self.networks.observation_dim, self.networks.action_dim
        joined = [_filled(part, *widths) for part in parts.values()]
        task = torch.cat(
            [torch.full_like(part.valid[:, 0], number, dtype=torch.int64) for number, part in parts.items()]
        )
        return cut(Batch.joined(joined), self.config.horizon, task)

    def summary(self) -> str:
        """The weights that are trained, and those that follow them."""
        return f"{self.networks.summary()}; {len(self._worlds)} environments"

    def save(self, folder: Path | str) -> None:
        """Write ``weights.safetensors``, then ``model.json``, which holds the hash of the weights."""
        specs = {name: spec_to_json(world.spec) for name, world in self._worlds.items()}
        write_described(folder, KIND, self, {"environments": specs, "config": asdict(self.config)})

    @classmethod
    def load(cls, folder: Path | str, *, device: torch.device | str = "cpu") -> MultitaskTDMPC2:
        """The model that :meth:`save` wrote, on ``device``, ready to plan with.

        Raises:
            CheckpointError: If a file is missing, altered, of another type or does not fit its JSON.
        """

        def build(value: Mapping[str, Any]) -> MultitaskTDMPC2:
            specs = {name: spec_from_json(spec, device) for name, spec in value["environments"].items()}
            return cls(specs, MultitaskConfig(**value["config"]))

        return read_described(folder, KIND, build, device=device)


def _refuse_unlike(specs: Mapping[str, ModelSpec]) -> None:
    """Refuse no environments, and those whose actions are of several kinds."""
    if not specs:
        raise WrongValueError("specs is empty; a model of several tasks needs at least one environment")
    first_name, first = next(iter(specs.items()))
    for name, spec in specs.items():
        if _actions(spec) != _actions(first):
            raise WrongValueError(
                f"{name} has {_actions(spec)} actions and {first_name} {_actions(first)}; one TD-MPC2 models "
                "continuous actions of any number, or the same choices in all environments: train one per "
                "environment"
            )


def _actions(spec: ModelSpec) -> str:
    return "continuous" if spec.action_kind == "continuous" else f"discrete {spec.action_choices}"


def _joint(specs: Mapping[str, ModelSpec], config: MultitaskConfig) -> ModelSpec:
    """A spec in the sizes that the networks have."""
    assert config.max_observation is not None and config.max_action is not None
    first = next(iter(specs.values()))
    if first.action_kind == "discrete" and config.max_action != first.action_dim:
        raise WrongValueError(
            f"max_action is {config.max_action}, but choices have no room for more: all environments have "
            f"the same {first.action_dim}; leave it out"
        )
    for what, most in (("observation", config.max_observation), ("action", config.max_action)):
        for name, spec in specs.items():
            if (scalars := getattr(spec, f"{what}_dim")) > most:
                raise WrongValueError(
                    f"{name} has {scalars} {what} scalars, the model room for {most}: raise max_{what} "
                    "(--model-settings) where training begins anew"
                )
    return replace(
        first,
        observation_dim=config.max_observation,
        action_dim=config.max_action,
        terminates=any(spec.terminates for spec in specs.values()),
        observation_names=(),
    )


def _masks(joint: ModelSpec, specs: Mapping[str, ModelSpec]) -> Tensor | None:
    """``[K, m]``, which action scalars each task has."""
    if joint.action_kind == "discrete":
        return None
    dims = torch.tensor([spec.action_dim for spec in specs.values()], device="cpu", dtype=torch.int64)
    scalar = torch.arange(joint.action_dim, device="cpu", dtype=torch.int64)
    return (scalar < dims[:, None]).float()


def _filled(batch: Batch, observation: int, action: int) -> Batch:
    """A batch whose observations and actions are filled up with zeros."""
    return replace(
        batch,
        observation=F.pad(batch.observation, (0, observation - batch.observation.shape[-1])),
        action=F.pad(batch.action, (0, action - batch.action.shape[-1])),
    )
