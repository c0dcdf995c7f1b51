"""The archetype (Alg. 1): plain mini-batch SGD, which trains on every sample."""

from __future__ import annotations

from typing import Literal

import torch

from trainables.methods.selection import Choice, Memory, ProbeResult, Unit, Unprobed


class Everything(Unprobed):
    """Every sample of the epoch, in its order; nothing is probed."""

    name: Literal["everything"] = "everything"

    def choose(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Choice:
        """All."""
        return Choice(torch.arange(len(unit), device=unit.index.device))
