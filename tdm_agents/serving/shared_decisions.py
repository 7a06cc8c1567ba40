"""One decision of one model for many sessions, each as if the agent acted for it alone.

A session's random numbers are its own (:mod:`tdm_agents.serving.own_draws`). What is left of its company is
rounding: products of other numbers of rows may round differently. Batches that are filled up to the same
number of rows round alike, whoever is in them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy.typing as npt
import torch
from torch import Tensor

from tdm_agents.agent import TDMAgent
from tdm_agents.agent.deciding import plan_due
from tdm_agents.agent.feedback import Feedback
from tdm_agents.agent.memory import AgentMemory, gather
from tdm_agents.agent.predict import PredictState, for_determinism
from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import Planner
from tdm_agents.remarks import remark
from tdm_agents.serving.own_draws import Draw, DrawsDifferError, OwnDraws, RecordedDraws

V = TypeVar("V")


@dataclass(frozen=True)
class Question:
    """One environment step of a session.

    Attributes:
        state: What is remembered of its ``b`` environments, those that begin forgotten already.
        observation: ``[b, n]``.
        feedback: What came with it.
        deterministic: As for :meth:`tdm_agents.TDMAgent.predict`; None = what the planner's settings say.
        batched: Whether the client has a vector of environments.
    """

    state: PredictState
    observation: Tensor
    feedback: Feedback
    deterministic: bool | None
    batched: bool

    @property
    def rows(self) -> int:
        """Environments ``b``."""
        return self.state.memory.batch

    def due(self) -> int:
        """Environments for which a plan is to be made now; the others hold an action or follow a plan."""
        memory = self.state.memory
        active = torch.from_numpy(self.feedback.active).to(memory.countdown.device)
        return int((active & (memory.countdown == 0) & plan_due(memory)).sum())


@dataclass(frozen=True)
class Answer:
    """An action in the environment's units, and the next state."""

    action: npt.NDArray[Any]
    state: PredictState


class SharedDecisions:
    """Decides for several sessions at once.

    Args:
        agent: The agent; its own memory and generator are left alone.
        rows: Environments that are planned for at once, at most.
        filled: Whether every batch is filled up to ``rows`` environments with copies, so that a decision does
            not depend on its company, not even in the last bit, where the processor's products of one size
            always round alike.
    """

    def __init__(self, agent: TDMAgent, rows: int, *, filled: bool = False) -> None:
        self.agent, self.rows, self.filled = agent, rows, filled
        device = agent.model.spec.device
        self._shared = torch.Generator(device=device)  # draws only where there is a deadline
        self._shared.seed()
        self._draws: dict[bool | None, list[Draw]] = {}
        self._alone = False

    def question(
        self,
        observation: Any,
        *,
        state: PredictState | None,
        begin: bool = False,
        seed: int = 0,
        reward: Any = None,
        start: Any = None,
        active: Any = None,
        deterministic: bool | None = None,
    ) -> Question:
        """What a client asks, checked.

        Raises:
            ValueError: If the observation is not of the space, or an argument of another number of
                environments than it or the session, or there are more than :attr:`rows`.
        """
        agent = self.agent
        batch = agent.observation_codec.batch_of(observation)
        rows = 1 if batch is None else batch
        if rows > self.rows:
            raise WrongValueError(
                f"the observation is of {rows} environments; expected at most {self.rows} per session "
                "(--batch of the server)"
            )
        feedback = Feedback.checked(rows, reward, start, active)
        if state is None:
            state = PredictState(agent.initial_memory(rows), self._seeded(seed).get_state())
        elif begin or (state.memory.batch != rows and feedback.start.all()):
            state = replace(state, memory=agent.initial_memory(rows))
        elif state.memory.batch != rows:
            raise WrongValueError(
                f"the observation is of {rows} environments, the session of {state.memory.batch}; call "
                "reset() to begin in another number of environments"
            )
        device = agent.model.spec.device
        forgotten = state.memory.forget(torch.from_numpy(feedback.start).to(device))
        flat = agent.observations(observation, feedback.active)
        return Question(
            replace(state, memory=forgotten), flat, feedback, deterministic, batched=batch is not None
        )

    def warm_up(self) -> None:
        """Decide for nobody, alone and together, so that no session waits for what is compiled."""
        space = copy.deepcopy(self.agent.model.spec.observation_space)
        space.seed(0)
        question = self.question(space.sample(), state=None)
        for questions in ([question], [question] * min(2, self.rows)):
            self.decide(questions)  # whether this observation makes sense does not matter

    def decide(self, questions: Sequence[Question]) -> list[Answer | Exception]:
        """The answers to questions with one value of ``deterministic``, of as many rows as there may be.

        Where an answer to all together fails, every session is answered alone, so that a failure is that of
        the session that caused it.
        """
        if len(questions) > 1 and not self._alone:
            try:
                return [*self._together(questions)]
            except DrawsDifferError as error:
                self._alone = True
                remark(f"sessions are decided for one by one, since the planner's draws are shared: {error}")
            except Exception:  # whose it is, is found out below
                pass
        return [self._one(question) for question in questions]

    def _one(self, question: Question) -> Answer | Exception:
        try:
            if self.filled and not self._alone and question.due():
                return self._together([question])[0]
            return self._by_itself(question)
        except Exception as error:
            return error

    def _by_itself(self, question: Question) -> Answer:
        generator = self._generator(question)
        memory, action = self._decided(
            question.state.memory, question.observation, [question], generator, self._planner(question)
        )
        return self._answer(question, memory, action, generator)

    def _together(self, questions: Sequence[Question]) -> list[Answer]:
        """Answers by one plan for all of them.

        Raises:
            DrawsDifferError: If the planner's draws cannot be made in parts.
        """
        due = [question.due() for question in questions]
        if not sum(due):
            return [self._by_itself(question) for question in questions]
        planner = self._planner(questions[0])
        memories = [question.state.memory for question in questions]
        observations = [question.observation for question in questions]
        generators = [self._generator(question) for question in questions]
        parts = [(generator, rows) for generator, rows in zip(generators, due, strict=True) if rows]
        fill = self.rows - sum(due) if self.filled else 0
        if fill:
            spare, row = self._spare(questions)
            memories.append(gather(spare.state.memory, row.expand(fill)))
            observations.append(spare.observation[row.expand(fill)])
            parts.append((self._seeded(0), fill))
        memory, observation = _joined(memories), torch.cat(observations)
        if self.agent.deadline is not None:
            # what is drawn then depends on the machine's speed, so that nothing is repeated anyway
            memory, action = self._decided(memory, observation, questions, self._shared, planner, fill)
        elif sum(rows for _, rows in parts) < 2:
            return [self._by_itself(question) for question in questions]
        else:
            idle = self._seeded(0)
            with OwnDraws(idle, parts, self._recorded(questions, planner)) as draws:
                memory, action = self._decided(memory, observation, questions, idle, planner, fill)
            draws.check_done()
        answers, place = [], 0
        for question, generator in zip(questions, generators, strict=True):
            own = torch.arange(place, place + question.rows, device=memory.length.device)
            answers.append(self._answer(question, gather(memory, own), action[own], generator))
            place += question.rows
        return answers

    def _decided(
        self,
        memory: AgentMemory,
        observation: Tensor,
        questions: Sequence[Question],
        generator: torch.Generator,
        planner: Planner,
        fill: int = 0,
    ) -> tuple[AgentMemory, Tensor]:
        device = observation.device
        reward = torch.cat([torch.from_numpy(q.feedback.reward) for q in questions])
        active = torch.cat([torch.from_numpy(q.feedback.active) for q in questions])
        return self.agent.decide(
            memory,
            observation,
            reward=torch.nn.functional.pad(reward, (0, fill), value=torch.nan).to(
                device, memory.pending.dtype
            ),
            active=torch.nn.functional.pad(active, (0, fill), value=True).to(device),
            planner=planner,
            generator=generator,
        )

    def _recorded(self, questions: Sequence[Question], planner: Planner) -> list[Draw]:
        """What is drawn for one environment, found out with a decision that nobody gets."""
        kind = questions[0].deterministic
        known = self._draws.get(kind)
        if known is None:
            spare, row = self._spare(questions)
            generator = self._seeded(0)
            with RecordedDraws(generator) as recorded:
                self.agent.decide(
                    gather(spare.state.memory, row),
                    spare.observation[row],
                    planner=planner,
                    generator=generator,
                )
            known = self._draws[kind] = recorded.draws
        return known

    def _spare(self, questions: Sequence[Question]) -> tuple[Question, Tensor]:
        """An environment for which a plan is due, and its row ``[1]``, made to begin an episode."""
        for question in questions:
            active = torch.from_numpy(question.feedback.active).nonzero()[:1, 0]
            if len(active):
                memory = question.state.memory
                begun = memory.forget(torch.ones_like(memory.length, dtype=torch.bool))
                return replace(question, state=replace(question.state, memory=begun)), active.to(
                    memory.length.device
                )
        raise AssertionError("no environment is due")  # whoever asks has counted them

    def _answer(
        self, question: Question, memory: AgentMemory, action: Tensor, generator: torch.Generator
    ) -> Answer:
        played = self.agent.environment_action(action)
        return Answer(played if question.batched else played[0], PredictState(memory, generator.get_state()))

    def _generator(self, question: Question) -> torch.Generator:
        generator = torch.Generator(device=self.agent.model.spec.device)
        generator.set_state(question.state.random)
        return generator

    def _seeded(self, seed: int) -> torch.Generator:
        return torch.Generator(device=self.agent.model.spec.device).manual_seed(seed)

    def _planner(self, question: Question) -> Planner:
        if question.deterministic is None:
            return self.agent.planner
        return for_determinism(self.agent.planner, question.deterministic)


def _joined(values: Sequence[V]) -> V:
    """The rows of several memories, one after the other."""
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(list(values))  # type: ignore[arg-type,return-value]
    if first is None:
        return first
    assert is_dataclass(first) and not isinstance(first, type)
    return replace(
        first, **{f.name: _joined([getattr(value, f.name) for value in values]) for f in fields(first)}
    )
