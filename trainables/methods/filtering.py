"""Filter × selector, the thesis's form of selection (Alg. 3 to 7; section 3.2.1)."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor
from torch.nn.functional import pad

from trainables.methods.filters import Judgement
from trainables.methods.selection import Choice, Memory, Positions, ProbeResult, Selection, Unit


class FilteredSelection(Selection):
    """What the selector takes of the filter's candidates, then the filter's marginal samples.

    Where the selector takes all candidates, no loss is computed.
    """

    filter: Any = Field(description="a Filter")
    selector: Any = Field(description="a Selector")
    fallback: int = Field(0, description="section 3.2.1: with fewer samples, random rejected ones make up the number")

    @property
    def ahead(self) -> bool:
        """Several units may share a probe where the filter judges each sample for itself: nothing is remembered."""
        return self.filter.samplewise

    def most(self, unit: int) -> int:
        """The selector's number, unless marginal samples come on top."""
        number = self.selector.number
        return unit if number is None or self.filter.adds else min(number, unit)

    def choose(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Choice:
        """The selected candidates, then the marginal samples, then random others where these are too few."""
        assert seen is not None
        return Choice(self._chosen(seen, self.filter.judge(seen), unit, 0))

    def choose_ahead(self, unit: Unit, size: int, seen: ProbeResult, memory: Memory) -> tuple[Choice, list[int]]:
        """As :meth:`choose`; the filter judges all units at once."""
        judgement = self.filter.judge(seen)
        if self._takes_the_candidates(judgement):
            return Choice(judgement.candidates.nonzero().view(-1)), _sums(judgement.candidates, size)
        parts = zip(seen.split(size), judgement.split(size), strict=True)
        chosen = [self._chosen(*part, unit, place) + place * size for place, part in enumerate(parts)]
        return Choice(torch.cat(chosen)), [positions.numel() for positions in chosen]

    def _takes_the_candidates(self, judgement: Judgement) -> bool:
        """Whether exactly the candidates are chosen, so that each sample stands for itself."""
        return self.selector.takes_all and judgement.marginal is None and not self.fallback

    def _chosen(self, result: ProbeResult, judgement: Judgement, unit: Unit, place: int) -> Positions:
        """Positions in the ``place``-th unit from ``unit`` on."""
        kept = judgement.candidates.nonzero().view(-1)
        if self._takes_the_candidates(judgement):
            return kept
        generator = unit.random_of(place)
        if not self.selector.takes_all:
            kept = kept[self.selector.select(result.losses[kept], generator)]
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
