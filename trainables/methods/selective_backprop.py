"""Selective Backprop (Jiang et al. 2019, arXiv:1910.00762).

Cost of an epoch of N samples of which the share a is selected: N (1 + 3a), or N (1/s + 3a) with ``stale: s``. A sample
of a unit that is taken whole costs 3, for it is not probed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from trainables.methods.selection import Choice, Memory, Positions, ProbeResult, Run, Selection, Unit


class SelectiveBackprop(Selection):
    """A sample is selected with probability CDF_R(loss)^β.

    CDF_R is the share of the last ``window`` (R) losses, this raw batch's included, that are no larger than its own.
    Remembered: those losses.

    The other options are the authors' and later practice; none is in force by default. In the authors' code, the first
    pass is trained on as a whole (``prime: 1``), a rank counts smaller losses alone (``strict: true``), and β is 3.
    With ``strict``, nothing is selected where all losses are equal, as they can be before the first update; ``prime``
    helps. Composer (MosaicML) selects from the middle of training on and no longer at its end (``start: 0.5``,
    ``end: 0.9``), and takes every second batch as a whole (``interrupt: 2``).

    With ``stale`` above 1, a loss serves for so many passes (the paper's Stale-SB; 3 in the authors' code). A sample is
    then looked at only if its loss is that old or was never known, and old losses join the window anew. Unlike in the
    authors' code, units that are taken whole leave no losses, and an update does not renew a loss. Remembered as well:
    the last loss of each sample and the pass that it is of.
    """

    granularities: ClassVar[Sequence[str]] = ("batch",)

    name: Literal["selective_backprop"] = "selective_backprop"
    beta: float = Field(1.0, gt=0, description="β: power of the loss's rank")
    window: PositiveInt = Field(1024, description="R: losses that the rank is among")
    prime: int = Field(0, ge=0, description="first passes over the data that are trained on as a whole")
    strict: bool = Field(False, description="whether a rank counts smaller losses alone, not equal ones")
    start: float = Field(0.0, ge=0, lt=1, description="share of the epochs after which it begins to select")
    end: float = Field(1.0, gt=0, le=1, description="share of the epochs after which it no longer selects")
    interrupt: int = Field(0, ge=0, description="every so-many-th raw batch is trained on as a whole; 0: none is")
    stale: PositiveInt = Field(1, description="passes that a sample's loss serves for before it is looked at again")

    @model_validator(mode="after")
    def _selects_sometimes(self) -> SelectiveBackprop:
        if self.start >= self.end:
            raise ValueError(f"start {self.start:g} must be below end {self.end:g}")
        if self.interrupt == 1:
            raise ValueError("interrupt 1 would train on every raw batch as a whole; 2 takes every second one")
        return self

    def begin(self, run: Run, memory: Memory) -> None:
        """No loss is known."""
        memory.history = torch.empty(0, device=run.device)
        if (self.start, self.end) != (0.0, 1.0):
            share = lambda part: math.ceil(round(part * run.epochs, 6))  # noqa: E731
            memory.first_epoch, memory.last_epoch = share(self.start) + 1, share(self.end)
        if self.stale > 1:
            memory.losses = torch.zeros(run.size, device=run.device)
            memory.looked_at = torch.full((run.size,), 1 - self.stale, device=run.device)

    def look(self, unit: Unit, memory: Memory) -> bool | Positions:
        """All samples, or those whose losses are too old; none of a unit that is taken whole."""
        if not self._selects(unit, memory):
            return False
        return True if self.stale == 1 else self._old(unit, memory).nonzero().flatten()

    def choose(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Choice:
        """The selected samples, in the order drawn; their losses join the history first."""
        if not self._selects(unit, memory):
            return Choice(torch.arange(len(unit)))
        losses = self._losses(unit, seen, memory)
        memory.history = torch.cat((memory.history, losses))[-self.window :]
        chance = torch.rand(len(losses), generator=unit.random).to(losses.device)
        return Choice((chance < self.probabilities(losses, memory)).nonzero().flatten())

    def probabilities(self, losses: Float[Tensor, " n"], memory: Memory) -> Float[Tensor, " n"]:
        """CDF_R(loss)^β over the history as it stands."""
        ranks = torch.searchsorted(memory.history.sort().values, losses, right=not self.strict)
        return (ranks / max(len(memory.history), 1)) ** self.beta

    def _selects(self, unit: Unit, memory: Memory) -> bool:
        """Whether it selects from the unit, or takes it whole."""
        if unit.pass_number <= self.prime or (self.interrupt and (unit.number + 1) % self.interrupt == 0):
            return False
        if (self.start, self.end) == (0.0, 1.0):
            return True
        return bool(memory.first_epoch <= unit.epoch <= memory.last_epoch)

    def _old(self, unit: Unit, memory: Memory) -> Bool[Tensor, " n"]:
        """Whose loss has served, or was never known."""
        return unit.pass_number - memory.looked_at[unit.index] >= self.stale

    def _losses(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Float[Tensor, " n"]:
        """The losses of the unit: as the probe found them, or as they are remembered."""
        found = None if seen is None else seen.losses.nan_to_num(math.inf, math.inf)
        if self.stale == 1:
            assert found is not None
            return found
        if found is not None:
            looked_at = unit.index[self._old(unit, memory)]
            memory.losses[looked_at] = found.to(memory.losses)
            memory.looked_at[looked_at] = unit.pass_number
        return memory.losses[unit.index]
