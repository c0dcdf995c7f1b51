"""Filters: which samples are worth training on, as a probe's result says. Each judges every sample for itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from trainables.methods.selection import Options, ProbeResult


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


class Filter(Options):
    """A filter. Subclass it, declare the options as fields, and define :meth:`judge`.

    Class attributes:
        samplewise: whether a sample is judged by its own logits and label alone, so that several raw batches may be
            judged at once, ahead of need.
        adds: whether there can be marginal samples, which are trained on past any selector.
        passes_all: whether every sample is a candidate, so that no probe is needed for it.
    """

    samplewise: ClassVar[bool] = False
    adds: ClassVar[bool] = False
    passes_all: ClassVar[bool] = False

    def judge(self, result: ProbeResult) -> Judgement:
        """Which samples are candidates, and which are trained on in any case."""
        raise NotImplementedError


class NoFilter(Filter):
    """No filter: every sample is a candidate."""

    samplewise: ClassVar[bool] = True
    passes_all: ClassVar[bool] = True

    name: Literal["none"] = "none"

    def judge(self, result: ProbeResult) -> Judgement:
        """All are candidates."""
        return Judgement(torch.ones_like(result.labels, dtype=torch.bool))


class Hard(Filter):
    """Hard accuracy filter (Alg. 7): what the model gets wrong."""

    samplewise: ClassVar[bool] = True

    name: Literal["hard"] = "hard"

    def judge(self, result: ProbeResult) -> Judgement:
        """The misclassified samples are candidates."""
        return Judgement(result.wrong)


class Soft(Filter):
    """Soft accuracy filter (Alg. 6): what the model gets wrong; and, past any selector, what it barely gets right.

    Barely: its two highest class probabilities differ by at most ``margin``.
    """

    samplewise: ClassVar[bool] = True
    adds: ClassVar[bool] = True

    name: Literal["soft"] = "soft"
    margin: float = Field(0.1, gt=0, lt=1, description="α: a difference of class probabilities")

    def judge(self, result: ProbeResult) -> Judgement:
        """The misclassified samples are candidates, the barely right ones marginal."""
        highest, wrong = result.logits.softmax(1).topk(2).values, result.wrong
        return Judgement(wrong, ~wrong & (highest[:, 0] - highest[:, 1] <= self.margin))
