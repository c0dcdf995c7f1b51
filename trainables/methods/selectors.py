"""Selectors: which of a filter's candidates to train on, by their losses (section 3.2.1).

A loss that is not a number counts as infinite. Where there are fewer candidates than are to be selected, all are.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float, Int64
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from trainables.methods.filtering import FilteredSelection
from trainables.methods.filters import Filter
from trainables.methods.selection import Choosing, Selection

Losses = Float[Tensor, " n"]
Positions = Int64[Tensor, " m"]


class Selector(Choosing):
    """A selector. Subclass it, declare the options as fields, and define :meth:`select`."""

    @property
    def alone(self) -> bool:
        """It is not: it selects from what a filter lets through."""
        return False

    @property
    def takes_all(self) -> bool:
        """Whether it selects every candidate in the order drawn, so that no loss is needed."""
        return False

    def over(self, filter: Filter, fallback: int) -> Selection:
        """The filter and this selector as one."""
        return FilteredSelection(filter=filter, selector=self, fallback=fallback)

    def select(self, losses: Losses, generator: torch.Generator) -> Positions:
        """Positions in the losses, in the order of training; ``generator`` is on the CPU."""
        raise NotImplementedError


class All(Selector):
    """Every candidate, in the order in which they were drawn."""

    name: Literal["all"] = "all"

    @property
    def takes_all(self) -> bool:
        """It does."""
        return True

    def over(self, filter: Filter, fallback: int) -> Selection:
        """As any selector; without a filter it would select everything."""
        if filter.passes_all:
            raise ValueError("with neither filter nor selector nothing is selected; use granularity none")
        return super().over(filter, fallback)

    def select(self, losses: Losses, generator: torch.Generator) -> Positions:
        """All positions."""
        return torch.arange(len(losses), device=losses.device)


class Counted(Selector):
    """A selector of a fixed number of samples."""

    k: PositiveInt = Field(description="samples to select")

    @property
    def number(self) -> int | None:
        """k."""
        return self.k


class TopK(Counted):
    """The ``k`` largest losses (Alg. 3), largest first; of equal ones, the first drawn."""

    name: Literal["top_k"] = "top_k"

    def select(self, losses: Losses, generator: torch.Generator) -> Positions:
        """Positions of the k largest."""
        return _ordered(losses, descending=True)[: self.k]


class TopQ(Selector):
    """The losses from quantile ``q`` on (section 3.2.1, Top-q), in the order drawn; their number varies with ties."""

    name: Literal["top_q"] = "top_q"
    q: float = Field(0.5, ge=0, lt=1, description="quantile of the loss from which on samples are selected")

    def select(self, losses: Losses, generator: torch.Generator) -> Positions:
        """Positions of the losses that are no smaller than the quantile."""
        if len(losses) == 0:
            return torch.arange(0, device=losses.device)
        least = losses[_ordered(losses)[math.ceil(self.q * (len(losses) - 1))]]
        return (losses.nan_to_num(math.inf, math.inf) >= least.nan_to_num(math.inf, math.inf)).nonzero().flatten()


class LossWeighted(Counted):
    """``k`` candidates without replacement, each draw with probability proportional to the loss (section 3.2.1).

    By the largest of log loss + Gumbel noise, which is the same distribution (Efraimidis and Spirakis 2006) and needs
    no sum, so that infinite losses come first and losses of 0 last.
    """

    name: Literal["loss_weighted"] = "loss_weighted"

    def select(self, losses: Losses, generator: torch.Generator) -> Positions:
        """Positions of the k drawn, in the order of the draws."""
        uniform = torch.rand(len(losses), generator=generator, dtype=torch.float64).to(losses.device)
        weights = losses.double().nan_to_num(math.inf, math.inf)
        return _ordered(weights.log() - (-uniform.log()).log(), descending=True)[: self.k]


class QSplit(Counted):
    """``k / buckets`` random candidates from each of ``buckets`` buckets (Alg. 4).

    Sorted by loss, candidates fall into buckets of about the same sum of loss to the ``power``: with a high power a few
    of high loss make up the last. As in the algorithm a candidate closes one bucket at most, so that the last ones can
    be empty; losses that are not finite count as the largest finite one.
    """

    name: Literal["q_split"] = "q_split"
    buckets: int = Field(2, ge=2, description="q: how many buckets")
    power: float = Field(2.0, gt=0, description="p: power of the losses whose sums the buckets share")

    @model_validator(mode="after")
    def _equal_parts(self) -> QSplit:
        if self.k % self.buckets:
            raise ValueError(f"k must be a multiple of buckets: {self.k} samples are not {self.buckets} equal parts")
        return self

    def select(self, losses: Losses, generator: torch.Generator) -> Positions:
        """Positions, bucket after bucket."""
        finite = losses[losses.isfinite()]
        largest = float(finite.max()) if len(finite) else 1.0
        losses = losses.double().nan_to_num(largest, largest)
        ascending = _ordered(losses)
        cumulative = (losses[ascending] ** self.power).cpu().cumsum(0)
        start, chosen = 0, []
        for bucket in range(self.buckets):
            closing = float(cumulative[-1]) / self.buckets * (bucket + 1) if len(losses) else 0.0
            last = bucket == self.buckets - 1
            end = len(losses) if last else max(start, int(torch.searchsorted(cumulative, closing))) + 1
            members = ascending[start:end]
            chosen.append(members[shuffled(len(members), generator, members.device)[: self.k // self.buckets]])
            start = min(end, len(losses))
        return torch.cat(chosen)


def _ordered(losses: Losses, descending: bool = False) -> Positions:
    """Positions by loss, ties in the order drawn, losses that are not numbers as the largest."""
    return losses.nan_to_num(math.inf, math.inf, -math.inf).argsort(stable=True, descending=descending)


def shuffled(size: int, generator: torch.Generator, device: torch.device) -> Positions:
    """A permutation of ``range(size)`` on ``device``, drawn on the CPU."""
    return torch.randperm(size, generator=generator).to(device)
