"""Selectors: pure functions from candidates' losses to the ones to train on (section 3.2.1).

Each takes the losses and a CPU generator, and returns positions in the losses, in the order of training. A loss that is
not a number counts as infinite. Where there are fewer candidates than are to be selected, all are.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

Losses = Float[Tensor, " n"]
Positions = Int64[Tensor, " m"]
Selector = Callable[[Losses, torch.Generator], Positions]


def everyone(losses: Losses, generator: torch.Generator) -> Positions:
    """Every candidate, in the order in which they were drawn."""
    return torch.arange(len(losses), device=losses.device)


def top_k(k: int) -> Selector:
    """The ``k`` largest losses (Alg. 3), largest first; of equal ones, the first drawn."""

    def select(losses: Losses, generator: torch.Generator) -> Positions:
        return _ordered(losses, descending=True)[:k]

    return select


def uniform(k: int) -> Selector:
    """``k`` random candidates, each with the same probability, in the order drawn."""

    def select(losses: Losses, generator: torch.Generator) -> Positions:
        return _shuffled(len(losses), generator, losses.device)[:k].sort().values

    return select


def top_q(q: float) -> Selector:
    """The losses from quantile ``q`` on (section 3.2.1, Top-q), in the order drawn; their number varies with ties."""

    def select(losses: Losses, generator: torch.Generator) -> Positions:
        if len(losses) == 0:
            return everyone(losses, generator)
        least = losses[_ordered(losses)[math.ceil(q * (len(losses) - 1))]]
        return (losses.nan_to_num(math.inf, math.inf) >= least.nan_to_num(math.inf, math.inf)).nonzero().flatten()

    return select


def loss_weighted(k: int) -> Selector:
    """``k`` candidates without replacement, each draw with probability proportional to the loss (section 3.2.1).

    By the largest of log loss + Gumbel noise, which is the same distribution (Efraimidis and Spirakis 2006) and needs
    no sum, so that infinite losses come first and losses of 0 last.
    """

    def select(losses: Losses, generator: torch.Generator) -> Positions:
        uniform = torch.rand(len(losses), generator=generator, dtype=torch.float64).to(losses.device)
        weights = losses.double().nan_to_num(math.inf, math.inf)
        return _ordered(weights.log() - (-uniform.log()).log(), descending=True)[:k]

    return select


def q_split(k: int, buckets: int, power: float) -> Selector:
    """``k / buckets`` random candidates from each of ``buckets`` buckets (Alg. 4).

    Sorted by loss, candidates fall into buckets of about the same sum of loss to the ``power``: with a high power a few
    of high loss make up the last. As in the algorithm a candidate closes one bucket at most, so that the last ones can
    be empty; losses that are not finite count as the largest finite one.
    """

    def select(losses: Losses, generator: torch.Generator) -> Positions:
        finite = losses[losses.isfinite()]
        largest = float(finite.max()) if len(finite) else 1.0
        losses = losses.double().nan_to_num(largest, largest)
        ascending = _ordered(losses)
        cumulative = (losses[ascending] ** power).cpu().cumsum(0)
        start, chosen = 0, []
        for bucket in range(buckets):
            closing = float(cumulative[-1]) / buckets * (bucket + 1) if len(losses) else 0.0
            end = max(start, int(torch.searchsorted(cumulative, closing))) + 1 if bucket < buckets - 1 else len(losses)
            members = ascending[start:end]
            chosen.append(members[_shuffled(len(members), generator, members.device)[: k // buckets]])
            start = min(end, len(losses))
        return torch.cat(chosen)

    return select


def _ordered(losses: Losses, descending: bool = False) -> Positions:
    """Positions by loss, ties in the order drawn, losses that are not numbers as the largest."""
    return losses.nan_to_num(math.inf, math.inf, -math.inf).argsort(stable=True, descending=descending)


def _shuffled(size: int, generator: torch.Generator, device: torch.device) -> Positions:
    return torch.randperm(size, generator=generator).to(device)
