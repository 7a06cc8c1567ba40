"""Token-level search without a cache, as the Trajectory Transformer's own code does it.

The whole sequence of every beam is read again for every token.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from speed.caches import history_tokens
from tdm_agents.protocols import History, ModelSpec, Step
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.packing import Windows, pack


@dataclass(frozen=True, slots=True)
class Seen:
    """``N`` sequences of ``L`` tokens, up to an observation whose reward is not read yet.

    Attributes:
        tokens: ``[N, L]`` int64.
        observation: ``[N, n]``, the last one.
        reward: ``[N]`` int64, the token of the reward that came with it.
    """

    tokens: Tensor
    observation: Tensor
    reward: Tensor


class UncachedSearch:
    """What a search over tokens needs of a world model, with a transformer's weights and no cache.

    Args:
        model: The transformer, without ends of episodes and with absolute targets.

    Raises:
        ValueError: If the model's targets are changes, or its episodes end.
    """

    def __init__(self, model: TransformerWorldModel) -> None:
        if model.tokenizer.change is not None or model.spec.terminates:
            raise ValueError("expected absolute targets and no ends of episodes")
        self.model = model

    @property
    def spec(self) -> ModelSpec:
        """That of the transformer."""
        return self.model.spec

    def start(self, history: History, *, horizon: int) -> Seen:
        """The tokens of the histories; ``horizon`` is not used."""
        tokens = history_tokens(self.model, history)
        reward = self.model.tokenizer.encode_reward(history.reward[:, -1].float())
        return Seen(tokens, history.observation[:, -1], reward)

    def take(self, state: Seen, rows: Tensor) -> Seen:
        """Copies of the given rows."""
        return Seen(state.tokens[rows], state.observation[rows], state.reward[rows])

    def step(
        self, state: Seen, action: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[Seen, Step]:
        """Not there: only searches over tokens are compared."""
        raise NotImplementedError("search with level='token'")

    def draft(self, state: Seen) -> UncachedDraft:
        """Transitions that are written token by token."""
        separator = torch.full_like(state.reward, self.model.tokenizer.separator)
        known = torch.stack([state.reward, separator], dim=1)
        empty = state.reward.new_zeros((len(known), 0))
        return UncachedDraft(self, state, empty).fed(known)


@dataclass(frozen=True, slots=True)
class UncachedDraft:
    """``N`` transitions whose first tokens are chosen; see :class:`tdm_agents.protocols.Draft`."""

    search: UncachedSearch
    state: Seen
    chosen: Tensor  # [N, t]
    hidden: Tensor | None = None  # [N, d]

    def fed(self, tokens: Tensor) -> UncachedDraft:
        """The same with tokens ``[N, c]`` at the end of what was seen, all of which is read again."""
        model, layout = self.search.model, self.search.model.layout
        seen = torch.cat([self.state.tokens, tokens], dim=1)
        # whole steps leave the band at the left; the missing rest of the last step is seen by nothing
        missing = -seen.shape[1] % layout.tokens
        whole = F.pad(seen, (0, missing)).view(len(seen), -1, layout.tokens)[:, -model.context_steps :]
        hidden = model.network(pack([Windows(whole, layout, model.context_steps)]))
        hidden = hidden.view(len(whole), -1, hidden.shape[-1])[:, -1 - missing]
        return replace(self, state=replace(self.state, tokens=seen), hidden=hidden)

    def log_probs(self) -> Tensor:
        """Log-probabilities ``[N, bins]`` of the next token."""
        assert self.hidden is not None
        return self.search.model.network.logits(self.hidden).log_softmax(dim=-1)

    def push(self, token: Tensor) -> UncachedDraft:
        """The drafts with one more token ``[N]`` each; the reward, the last, is read with the next action."""
        spec, after = self.search.spec, self.chosen.shape[1]
        longer = replace(self, chosen=torch.cat([self.chosen, token[:, None]], dim=1))
        return longer.fed(token[:, None]) if after < spec.action_dim + spec.observation_dim else longer

    def take(self, rows: Tensor) -> UncachedDraft:
        """Copies of the given rows."""
        assert self.hidden is not None
        state = self.search.take(self.state, rows)
        return replace(self, state=state, chosen=self.chosen[rows], hidden=self.hidden[rows])

    def finish(self) -> tuple[Seen, Tensor, Step]:
        """The states after the transitions, the actions ``[N, m]`` and the steps."""
        tokenizer, m = self.search.model.tokenizer, self.search.spec.action_dim
        action = tokenizer.decode_action(self.chosen[:, :m])
        observation = tokenizer.decode_observation(self.chosen[:, m:-1])
        reward = self.chosen[:, -1]
        alive = torch.ones_like(reward, dtype=torch.bool)
        step = Step(observation, tokenizer.decode_reward(reward), alive)
        return Seen(self.state.tokens, observation, reward), action, step
