"""Transitions written token by token, for searches inside a transition.

Other strategies choose the tokens of a transition themselves. Here a search chooses them, and forks rows
between any two tokens. The histories stay shared, as everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tdm_agents.protocols import Step
from tdm_agents.world_models.transformer.decoding.decoder import Decoder
from tdm_agents.world_models.transformer.decoding.state import TransformerState


@dataclass(slots=True)
class TransformerDraft:
    """``N`` transitions whose first tokens are chosen; see :class:`tdm_agents.protocols.Draft`.

    Attributes:
        decoder: The decoder that reads and feeds the tokens.
        state: State of the rows, owned. Its observation is the one at which the action is taken.
        hidden: ``[N, d]``, the output from which the next token is read.
        tokens: ``[N, t]`` int64, chosen so far, as output bins (which may cover changes of observations).
        consumed: Whether ``push`` or ``finish`` has taken over the buffers.
    """

    decoder: Decoder
    state: TransformerState
    hidden: Tensor
    tokens: Tensor
    consumed: bool = False

    @staticmethod
    @torch.no_grad()
    def begin(decoder: Decoder, state: TransformerState) -> TransformerDraft:
        """A draft without tokens; reward and separator are fed, as before a proposal. Consumes ``state``.

        Raises:
            RuntimeError: If ``state`` was consumed, or stands at its horizon.
        """
        state.check_horizon()
        state = state.consume()
        known = decoder.before_action(state)
        hidden = decoder.extend(state, known, offset=decoder.layout.observation_dim)[:, 0]
        return TransformerDraft(decoder, state, hidden, known[:, :0])

    @torch.no_grad()
    def log_probs(self) -> Tensor:
        """Log-probabilities ``[N, V]`` float32 of a discrete action's choices, or of another scalar's bins.

        Raises:
            RuntimeError: If the draft was consumed, or its transitions are complete.
        """
        self._check(complete=False)
        logits = self.decoder.network.logits(self.hidden)
        written, choices = self.tokens.shape[1], self.decoder.tokenizer.action_choices
        if written < len(choices):
            logits = logits[:, : choices[written]]
        return logits.log_softmax(dim=-1)

    @torch.no_grad()
    def push(self, token: Tensor) -> TransformerDraft:
        """The drafts with one more token ``[N]`` each. Consumes this one.

        Raises:
            RuntimeError: If the draft was consumed, or its transitions are complete.
        """
        self._check(complete=False)
        state, layout = self.state, self.decoder.layout
        index = self.tokens.shape[1] - layout.action_dim  # of the observation scalar; negative for the action
        hidden = self.hidden
        if index < 0:
            hidden = self._fed(token, offset=layout.tokens + index)
            state.time += index == -1
        elif index < layout.observation_dim:
            value = state.centres[index][token][:, None]
            before, here = state.observation[:, index : index + 1], slice(index, index + 1)
            if self.decoder.tokenizer.change is not None:
                value = before + value
            value = self.decoder.with_goal(before, value, here)[:, 0]
            hidden = self._fed(self.decoder.tokenizer.encode_observation_scalar(index, value), offset=index)
        self.consumed = True
        # the reward comes last: it is read after the last observation scalar, and fed with the next action
        return TransformerDraft(self.decoder, state, hidden, torch.cat([self.tokens, token[:, None]], dim=1))

    def take(self, rows: Tensor) -> TransformerDraft:
        """Copies of the given rows (int64 ``[N']``, repeats allowed); this draft stays usable.

        Raises:
            RuntimeError: If the draft was consumed.
        """
        self._check()
        return replace(self, state=self.state.take(rows), hidden=self.hidden[rows], tokens=self.tokens[rows])

    @torch.no_grad()
    def finish(self) -> tuple[TransformerState, Tensor, Step]:
        """The states after the transitions, the actions ``[N, m]`` and the steps. Consumes the draft.

        A goal stays as it is, and the reward is read as elsewhere (by its mean, by default), whatever tokens
        were chosen for them. Where the model ends episodes, a row is alive if that is likelier than not, and
        what is still to come is that of an episode that goes on.

        Raises:
            RuntimeError: If the draft was consumed, or its transitions are not complete.
        """
        self._check(complete=True)
        state, tokenizer, layout = self.state, self.decoder.tokenizer, self.decoder.layout
        action, outcome = self.tokens[:, : layout.action_dim], self.tokens[:, layout.action_dim : -1]
        self.consumed = True
        imagined = tokenizer.decode_target(state.observation, outcome)
        state.observation = self.decoder.with_goal(
            state.observation, imagined, slice(0, layout.observation_dim)
        )
        state.reward = self.tokens[:, -1]
        survival = self.decoder.read_survival(self.hidden)
        state.to_go = self.decoder.read_to_go(self.hidden, state.centres, survival)
        reward = tokenizer.decode_reward(state.reward)
        if self.decoder.options.read == "mean":
            reward = self.decoder.read_reward(self.hidden, state.centres, None)
        alive = self.decoder.alive(survival, None, like=reward)
        return state, tokenizer.decode_action(action), Step(state.observation, reward, alive, survival)

    def _fed(self, token: Tensor, *, offset: int) -> Tensor:
        return self.decoder.extend(self.state, token[:, None], offset=offset)[:, 0]

    def _check(self, *, complete: bool | None = None) -> None:
        if self.consumed:
            raise RuntimeError(
                "this draft was consumed by push or finish, which reuse its buffers; call take(rows) "
                "first to keep a copy"
            )
        written = self.tokens.shape[1]
        wanted = self.decoder.layout.action_dim + self.decoder.layout.observation_dim + 1
        if complete is not None and complete != (written == wanted):
            remedy = "call finish()" if written == wanted else "push the others first"
            raise RuntimeError(f"{written} of {wanted} tokens of a transition are chosen: {remedy}")
