"""Does a CPU gain from bfloat16 in the attention of a training update?

Windows of a walker's length, as the generalists read them: forward and gradient of attention alone, in
float32 and in bfloat16, in turns. Seconds are the CPU's, and medians count.

    python benchmarks/bf16_attention.py
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro

import keep


@dataclass(frozen=True)
class Settings:
    """Sizes and repeats."""

    windows: int = 24
    """Windows per update."""
    heads: int = 6
    """Attention heads."""
    head_dim: int = 32
    """Their width."""
    tokens: tuple[int, ...] = (96, 192, 432)
    """Lengths of windows."""
    repeats: int = 9
    """Turns, after one that does not count."""
    out: Path = Path("benchmarks/results/bf16_attention.json")
    """Where to keep the result."""


def main(settings: Settings) -> None:
    """Measure, print and keep."""
    torch.set_num_threads(1)
    rows = {}
    for tokens in settings.tokens:
        taken: dict[str, dict[str, list[float]]] = {}
        for turn in range(settings.repeats + 1):
            for dtype in (torch.float32, torch.bfloat16):
                for what, seconds in once(settings, tokens, dtype).items():
                    if turn:
                        of = taken.setdefault(str(dtype).removeprefix("torch."), {})
                        of.setdefault(what, []).append(seconds)
        medians = {
            name: {what: statistics.median(one) for what, one in of.items()} for name, of in taken.items()
        }
        ratio = {w: medians["bfloat16"][w] / medians["float32"][w] for w in ("forward", "gradient")}
        rows[str(tokens)] = {"cpu_seconds": medians, "bfloat16_over_float32": ratio}
        print(f"{tokens} tokens: bfloat16 takes {ratio['forward']:.2f} times as long as float32 forward, "
              f"and {ratio['gradient']:.2f} times for the gradient")  # fmt: skip
    keep.result(settings.out, settings, torch=torch.__version__, rows=rows)


def once(settings: Settings, tokens: int, dtype: torch.dtype) -> dict[str, float]:
    """CPU seconds of causal attention and of its gradient."""
    shape = (settings.windows, settings.heads, tokens, settings.head_dim)
    generator = torch.Generator("cpu").manual_seed(0)
    query, key, value = (
        torch.randn(shape, generator=generator).to(dtype).requires_grad_(True) for _ in range(3)
    )
    began = time.process_time()
    attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    between = time.process_time()
    torch.autograd.backward(attended, attended.detach())
    return {"forward": between - began, "gradient": time.process_time() - between}


if __name__ == "__main__":
    main(tyro.cli(Settings))
