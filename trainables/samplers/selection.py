"""Selections: what becomes of one unit (an epoch, or a raw batch). A filter and a selector that see a probe, or
chance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from trainables.samplers.filters import Filter, ProbeResult
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
        judgement = self.filter(result)
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
