"""Selections: what becomes of one unit (an epoch, or a raw batch). A filter and a selector that see a probe, or
chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor
from torch.nn.functional import pad

from trainables.samplers.filters import Filter, Judgement, ProbeResult
from trainables.samplers.peers import InfoBatch, SelectiveBackprop
from trainables.samplers.selectors import Selector

Positions = Int64[Tensor, " m"]
Quota = Callable[[int, int, torch.Generator], int]
"""How many samples to keep: (number of the unit in its epoch, samples in the unit, generator)."""


@dataclass(frozen=True)
class Judged:
    """Filter × selector: what the selector takes of the filter's candidates, then the filter's marginal samples.

    Without a selector that is all candidates, and no loss is computed.
    ``fallback`` (section 3.2.1, "select random samples"): with fewer samples than this, random rejected ones make up
    the number; 0 for none.
    """

    filter: Filter
    selector: Selector | None = None
    fallback: int = 0

    def __call__(self, result: ProbeResult, generator: torch.Generator) -> Positions:
        """Positions in the unit of the samples to train on, in the order of training."""
        return self._chosen(result, self.filter(result), generator)

    def by_unit(
        self, result: ProbeResult, size: int, generator: Callable[[int], torch.Generator]
    ) -> tuple[Positions, list[int]]:
        """The same for units of ``size`` consecutive samples, the last one possibly smaller.

        Arguments:
            generator: gives that of a unit, by its place among them.

        Returns:
            Positions in ``result``, unit after unit, and how many of them are of each unit.
        """
        judgement = self.filter(result)
        if self.selector is None and judgement.marginal is None and not self.fallback:  # each sample for itself
            kept = judgement.candidates.nonzero().view(-1)
            return kept, _sums(judgement.candidates, size) if len(result.labels) > size else [kept.numel()]
        parts = zip(result.split(size), judgement.split(size), strict=True)
        units = [self._chosen(*part, generator(unit)) + unit * size for unit, part in enumerate(parts)]
        return torch.cat(units), [kept.numel() for kept in units]

    def _chosen(self, result: ProbeResult, judgement: Judgement, generator: torch.Generator) -> Positions:
        kept = judgement.candidates.nonzero().view(-1)
        if self.selector is not None:
            kept = kept[self.selector(result.losses[kept], generator)]
        if judgement.marginal is not None:
            kept = torch.cat((kept, judgement.marginal.nonzero().view(-1)))
        if len(kept) >= self.fallback:
            return kept
        rejected = torch.ones_like(judgement.candidates)
        rejected[kept] = False
        rest = rejected.nonzero().flatten()
        order = torch.randperm(len(rest), generator=generator).to(rest.device)
        return torch.cat((kept, rest[order[: self.fallback - len(kept)]]))


def _sums(mask: Bool[Tensor, " n"], size: int) -> list[int]:
    """How many are true in each piece of ``size``, fetched from the device at once."""
    pieces = math.ceil(len(mask) / size)
    return pad(mask, (0, pieces * size - len(mask))).view(pieces, size).sum(1).tolist()


@dataclass(frozen=True)
class Chance:
    """Random selection of as many samples as ``quota`` says, in the order drawn: a control, which needs no probe."""

    quota: Quota

    def __call__(self, unit: int, size: int, generator: torch.Generator) -> Positions:
        """Positions in the unit of the samples to train on."""
        count = min(self.quota(unit, size, generator), size)
        return torch.randperm(size, generator=generator)[:count].sort().values


Selection = Judged | Chance | SelectiveBackprop | InfoBatch


def exactly(k: int) -> Quota:
    """``k`` samples of every unit."""
    return lambda unit, size, generator: k


def share(ratio: float) -> Quota:
    """A share of every unit, rounded up or down at random so that its mean is ``ratio``."""
    return lambda unit, size, generator: int(ratio * size + float(torch.rand((), generator=generator)))


def as_traced(trace: Callable[[], Sequence[int]]) -> Quota:
    """As many as another sampler kept of the same unit: ``trace`` gives its numbers of the same epoch."""
    return lambda unit, size, generator: trace()[unit]
