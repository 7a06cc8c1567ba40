"""Settings of decoding, for reading and computing imagined scalars; not part of a model's identity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from tdm_agents.errors import WrongValueError

Read = Literal["sample", "mode", "mean"]
Capture = Literal["no", "eager", "compiled"]
Attention = Literal["fused", "products"]


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """The way in which imagined scalars are read and computed, with the same weights.

    Attributes:
        read: How a scalar is read from its distribution: drawn (``"sample"``), the most likely bin
            (``"mode"``), or the mean of the bins around that one (``"mean"``).
        mean_window: Bins on either side of the most likely one that ``read="mean"`` averages over.
        reward_window: The same of a reward. None averages over all bins, which is the expected reward: often
            0 is most likely, and plans differ in how likely more is. Files of versions without this setting
            have that of ``mean_window``.
        action_window: The same of the likeliest continuous action (``deterministic``) with ``read="mean"``.
            None is a quarter of the bins: actions of recorded policies are noisy, and of hundreds of tokens
            the likeliest says little. 0 is that token; so it is in files of versions without this setting.
        parallel: Whether the observation scalars of an imagined step are guessed all at once until nothing
            changes, with the same result as one after another; see
            :mod:`tdm_agents.world_models.transformer.decoding.together`. None chooses: at once for a single
            row on a CPU only, where it was faster for two of three trained models
            (``benchmarks/parallel_seconds.py``).
        capture: Whether rollouts replay one imagined step in buffers of fixed shape. On a GPU it is captured
            as a CUDA graph, with or without compiled blocks. On a CPU it is the same work uncaptured, which
            gains nothing; ``"compiled"`` needs a C++ compiler there.
        attention: How imagined rows attend on a CPU in float32: ``"fused"``, as one loop that numba compiles
            (:mod:`tdm_agents.world_models.transformer.cpu`), or ``"products"``, by PyTorch. Everywhere
            else, with ``capture``, and with several threads where PyTorch does not use GNU's OpenMP, it is
            always by PyTorch.
        bf16: Whether imagined rows multiply with weights in bfloat16 on a CPU
            (:mod:`tdm_agents.world_models.transformer.cpu.layers_loop`); sums, attention and norms stay
            float32. It needs a processor with AMX, and attention that is fused. None chooses: where possible,
            since decisions are twice as fast and returns the same (``benchmarks/bf16_imagination.py``).

    Raises:
        ValueError: If a setting makes no sense.
    """

    read: Read = "mean"
    mean_window: int = 16
    reward_window: int | None = None
    action_window: int | None = None
    parallel: bool | None = None
    capture: Capture = "no"
    attention: Attention = "fused"
    bf16: bool | None = None

    def __post_init__(self) -> None:
        for name, known in (("read", Read), ("capture", Capture), ("attention", Attention)):
            if getattr(self, name) not in get_args(known):
                raise WrongValueError(
                    f"{name} is {getattr(self, name)!r}; expected one of {', '.join(get_args(known))}"
                )
        if self.bf16 and (self.attention != "fused" or self.capture != "no"):
            raise WrongValueError(
                f"bf16 is True, with attention={self.attention!r} and capture={self.capture!r}; it needs "
                "attention='fused' and capture='no'"
            )
        for name in ("mean_window", "reward_window", "action_window"):
            if (window := getattr(self, name)) is not None and window < 0:
                raise WrongValueError(f"{name} is {window}; expected at least 0")
