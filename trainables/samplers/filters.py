"""Filters: pure functions from a probe's result to the samples worth training on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class ProbeResult:
    """What a forward pass without gradients says of the probed samples."""

    logits: Float[Tensor, "n classes"]
    labels: Int64[Tensor, " n"]


Filter = Callable[[ProbeResult], Bool[Tensor, " n"]]


def wrong(result: ProbeResult) -> Bool[Tensor, " n"]:
    """Hard accuracy filter (Alg. 7): keep what the model gets wrong."""
    return result.logits.argmax(1) != result.labels
