"""The updates of an online run: when they are due, and what they read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from tdm_agents.errors import WrongValueError
from tdm_agents.online.acting import batch_rng
from tdm_agents.online.online_config import OnlineConfig
from tdm_agents.online.online_state import OnlineState
from tdm_agents.online.recorded import recorded
from tdm_agents.online.turns import Task
from tdm_agents.protocols import NotFiniteError, SuitsDiscount
from tdm_agents.training.train_config import noise_seed
from tdm_agents.training.trainer import TrainingError
from tdm_agents.world_models.learned import check_finite


class Learner:
    """Updates of the model, as many as decisions ask for.

    Args:
        state: The run; its model, optimizers and counts change.
        config: Settings of the run.
        tasks: The environments.
        trained: Whether the model was trained before the run.
    """

    def __init__(
        self, state: OnlineState, config: OnlineConfig, tasks: Sequence[Task], *, trained: bool
    ) -> None:
        self._state, self._config = state, config
        self._tasks, self._trained = tasks, trained
        self.seed_decisions = decisions_before_learning(config, tasks, given=state.counts.given > 0)
        """Decisions before the first update."""

    @property
    def begun(self) -> bool:
        """Whether there have been enough decisions to learn from."""
        return self._state.counts.decisions >= self.seed_decisions

    def due(self) -> int:
        """The number of updates that should have been made by now."""
        config, counts = self._config, self._state.counts
        offline = config.offline_updates
        if offline is None:
            offline = int(config.updates_per_decision * counts.given)
        return offline + int(config.updates_per_decision * counts.decisions)

    def catch_up(self, updated: Callable[[Mapping[str, float]], None]) -> None:
        """Make the updates that are due.

        Args:
            updated: Called after each with its metrics; what it raises ends this.

        Raises:
            TrainingError: If a loss or gradient is not finite; the weights are those before.
        """
        model, counts, due = self._state.model, self._state.counts, self.due()
        if counts.updates >= due:
            return
        if counts.updates == 0 and not self._trained:
            self._fit()
        model.train()
        try:
            while counts.updates < due:
                updated(self._update())
        finally:
            model.eval()

    def _update(self) -> Mapping[str, float]:
        state, config = self._state, self._config
        device = state.model.environment(self._tasks[0].name).spec.device
        updates = state.counts.updates
        generator = torch.Generator(device=device).manual_seed(noise_seed(config.seed, updates))
        batch = state.batch(batch_rng(config, updates))
        try:
            numbers: Mapping[str, float] = state.model.update(
                batch.to(device), state.optimizers, step=updates, settings=config.update, generator=generator
            )
            check_finite(numbers)
        except NotFiniteError as error:
            raise TrainingError(
                f"{error} at update {updates:,}; the last checkpoint in {state.folder} is from before. Lower "
                "the learning rate, turn bf16 off, or look for broken observations and rewards; then begin "
                "in another folder"
            ) from error
        state.counts.updates += 1
        return numbers

    def _fit(self) -> None:
        """Fit what needs no gradient to the episodes so far."""
        model, replays = self._state.model, self._state.replays
        model.fit(
            {
                task.name: recorded(replays[task.name], task.env, task.spec)
                for task in self._tasks
                if replays[task.name].episodes
            }
        )
        for task in self._tasks:
            if isinstance(world := model.environment(task.name), SuitsDiscount):
                world.expect(task.longest)  # the episodes so far may be shorter than those to come


def decisions_before_learning(config: OnlineConfig, tasks: Sequence[Task], *, given: bool) -> int:
    """The decisions before the first update, as the settings say or by default.

    Args:
        config: Settings of the run.
        tasks: The environments.
        given: Whether there are data to begin with.
    """
    if config.seed_decisions is not None:
        return config.seed_decisions
    return 0 if given else sum(max(1000, 5 * task.longest) for task in tasks)


def refuse_only_random(config: OnlineConfig, tasks: Sequence[Task]) -> None:
    """Refuse a run that begins without data, and would end before its model has learned anything.

    Raises:
        ValueError: If it would.
    """
    first, repeat = decisions_before_learning(config, tasks, given=False), tasks[0].spec.action_repeat
    if first * repeat >= config.steps:
        raise WrongValueError(
            f"steps is {config.steps:,} environment steps, and the first {first:,} decisions of {repeat} "
            "each come before the first update: nothing would be learned. Raise --steps, or lower "
            "--seed-decisions"
        )
