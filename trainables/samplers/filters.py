"""Filters: pure functions from a probe's result to the samples worth training on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class ProbeResult:
    """What a forward pass without gradients says of the probed samples."""

    logits: Float[Tensor, "n classes"]
    labels: Int64[Tensor, " n"]

    @classmethod
    def join(cls, results: Sequence[ProbeResult]) -> ProbeResult:
        """Several results as one, in order."""
        if len(results) == 1:
            return results[0]
        return cls(torch.cat([result.logits for result in results]), torch.cat([result.labels for result in results]))

    def split(self, size: int) -> Iterator[ProbeResult]:
        """Consecutive pieces of ``size``, the last one possibly smaller."""
        return map(ProbeResult, self.logits.split(size), self.labels.split(size))

    @property
    def losses(self) -> Float[Tensor, " n"]:
        """Each sample's cross-entropy in nats."""
        return torch.nn.functional.cross_entropy(self.logits, self.labels, reduction="none")

    @property
    def wrong(self) -> Bool[Tensor, " n"]:
        """Whether the model misclassifies the sample."""
        return self.logits.argmax(1) != self.labels


@dataclass(frozen=True)
class Judgement:
    """What a filter says: ``candidates`` are offered to the selector, ``marginal`` samples are trained on in any
    case; None where the filter knows no such.
    """

    candidates: Bool[Tensor, " n"]
    marginal: Bool[Tensor, " n"] | None = None

    def split(self, size: int) -> Iterator[Judgement]:
        """Consecutive pieces of ``size``, the last one possibly smaller."""
        candidates = self.candidates.split(size)
        return map(Judgement, candidates, repeat(None) if self.marginal is None else self.marginal.split(size))


Filter = Callable[[ProbeResult], Judgement]
"""It judges each sample for itself: of several units at once it says what it says of each."""


def everything(result: ProbeResult) -> Judgement:
    """No filter: every sample is a candidate."""
    return Judgement(torch.ones_like(result.labels, dtype=torch.bool))


def hard(result: ProbeResult) -> Judgement:
    """Hard accuracy filter (Alg. 7): what the model gets wrong."""
    return Judgement(result.wrong)


def soft(margin: float) -> Filter:
    """Soft accuracy filter (Alg. 6): what the model gets wrong; and, past any selector, what it barely gets right.

    Barely: its two highest beliefs, which sum to 1 over all classes, differ by at most ``margin``.
    """

    def judge(result: ProbeResult) -> Judgement:
        highest, wrong = result.logits.softmax(1).topk(2).values, result.wrong
        return Judgement(wrong, ~wrong & (highest[:, 0] - highest[:, 1] <= margin))

    return judge
