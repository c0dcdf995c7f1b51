"""RS2, repeated sampling of random subsets (Okanovic et al. 2023, arXiv:2305.18424). Cost: 3 per sample trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field

from trainables.methods.selection import Choice, Memory, ProbeResult, Unit, Unprobed


class RS2(Unprobed):
    """Every epoch trains on a random share ``ratio`` (r) of the data, and the schedule ends with the last of these.

    Without replacement (the paper's better variant) the shares of successive epochs are consecutive parts of a shuffled
    walk through the data: r · E passes in E epochs, and with a rate that changes with every step exactly the archetype
    of r · E epochs. With replacement every epoch draws its share from all of the data, whatever was drawn before.

    Unlike the paper's code, batches are those of the walk: none ends early because an epoch ends.
    """

    granularities: ClassVar[Sequence[str]] = ("epoch",)
    name: Literal["rs2"] = "rs2"
    ratio: float = Field(0.1, gt=0, le=1, description="r: share of the data that an epoch trains on")
    replacement: bool = Field(False, description="whether an epoch may draw what earlier ones of its walk have drawn")

    @property
    def pace(self) -> float:
        """An epoch goes through the share of the data that it trains on; with replacement, it draws from all."""
        return 1.0 if self.replacement else self.ratio

    def most(self, unit: int) -> int:
        """The share, of a pass that it is drawn from."""
        return self._drawn(unit) if self.replacement else unit

    def choose(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Choice:
        """The walk goes on; or random samples, in random order."""
        if not self.replacement:
            return Choice(torch.arange(len(unit)))
        return Choice(torch.randperm(len(unit), generator=unit.random)[: self._drawn(len(unit))])

    def _drawn(self, unit: int) -> int:
        return max(round(self.ratio * unit), 1)
