"""Random selection: the control of every method."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field, PositiveInt, model_validator

from trainables.methods.filtering import FilteredSelection
from trainables.methods.filters import Filter
from trainables.methods.selection import Choice, Memory, Positions, ProbeResult, Selection, Unit, Unprobed
from trainables.methods.selectors import Losses, shuffled


class Random(Unprobed):
    """Random samples, each as likely as another, in the order drawn; nothing is probed.

    How many: ``k`` of every unit; a share ``ratio`` of every unit, rounded up or down at random so that its mean is the
    ratio; or as many as the arm ``like`` kept of the same unit. With a filter, ``k`` random candidates.

    With ``like_compute`` it trains until it has cost what that arm has cost, be it in more passes over the data or in
    fewer: of every unit it takes ``ratio``, or all. So it is what uniform training does with another method's compute,
    its schedule run to the end (Kaddour et al. 2023, arXiv:2307.06440).
    """

    name: Literal["random"] = "random"
    k: PositiveInt | None = Field(None, description="samples to select")
    ratio: float | None = Field(None, gt=0, le=1, description="share of the samples to select, instead of k")
    like: str | None = Field(None, description="select as many samples as this arm did, unit by unit, instead of k")
    like_compute: str | None = Field(None, description="train until it has cost as much compute as this arm")

    @model_validator(mode="after")
    def _one_number(self) -> Random:
        given = [name for name in ("k", "ratio", "like") if getattr(self, name) is not None]
        if not given and self.like_compute is None:
            raise ValueError("random needs k, the number of samples to select, or a ratio, or the arm that it is like")
        if self.like_compute is not None and given not in ([], ["ratio"]):
            raise ValueError(f"{' and '.join(given)} and like_compute exclude each other; a ratio may stand with it")
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other")
        return self

    @property
    def alone(self) -> bool:
        """With a ratio or like; k can be of a filter's candidates."""
        return self.k is None

    @property
    def follows(self) -> str | None:
        """The arm ``like``."""
        return self.like

    @property
    def like_compute_of(self) -> str | None:
        """The arm ``like_compute``."""
        return self.like_compute

    @property
    def number(self) -> int | None:
        """k."""
        return self.k

    @property
    def takes_all(self) -> bool:
        """No."""
        return False

    def over(self, filter: Filter, fallback: int) -> Selection:
        """Itself without a filter, else a selector of the filter's candidates."""
        if filter.passes_all:
            return super().over(filter, fallback)
        if self.k is None:
            raise ValueError("ratio, like and like_compute are for selector random alone, without a filter")
        return FilteredSelection(filter=filter, selector=self, fallback=fallback)

    def most(self, unit: int) -> int:
        """The number of samples, as far as it is known beforehand."""
        if self.ratio is not None:
            return math.ceil(self.ratio * unit)
        return unit if self.k is None else min(self.k, unit)

    def select(self, losses: Losses, generator: torch.Generator) -> Positions:
        """k random candidates, in the order drawn."""
        return shuffled(len(losses), generator, losses.device)[: self.k].sort().values

    def choose(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Choice:
        """Random positions."""
        count = min(self._count(unit), len(unit))
        return Choice(torch.randperm(len(unit), generator=unit.random)[:count].sort().values)

    def _count(self, unit: Unit) -> int:
        if self.k is not None:
            return self.k
        if self.ratio is not None:
            return int(self.ratio * len(unit) + float(torch.rand((), generator=unit.random)))
        if self.like is None:
            return len(unit)
        return unit.kept(self.like)[unit.number]
