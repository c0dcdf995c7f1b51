"""O-SGD, sampling by the true gradient norm (Johnson and Guestrin 2018, NeurIPS): what RAIS approximates.

Cost of a pass over N samples: 3N for the norms of all samples, and 3N for the updates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch

from trainables.methods.draws import draw_by_importance
from trainables.methods.selection import Choice, Memory, ProbeResult, Unit, Unprobed


class OSGD(Unprobed):
    """An epoch draws N samples with replacement, each with probability p in proportion to its gradient's norm.

    The loss of a sample is weighted by 1 / (N p), so that the expected gradient is that of the whole set. No other
    distribution gives the gradient's estimate less variance. The paper has the norms anew at every update; here they
    are of the epoch's start, for each time costs as much as an epoch of training. A yardstick for small networks: every
    sample's gradient is computed by itself.
    """

    granularities: ClassVar[Sequence[str]] = ("epoch",)
    batches: ClassVar[Sequence[str]] = ("stable",)
    weighted: ClassVar[bool] = True

    name: Literal["osgd"] = "osgd"

    def choose(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Choice:
        """N draws, with the weights that make up for their probabilities."""
        return draw_by_importance(unit.gradient_norms(torch.arange(len(unit))), len(unit), unit.random)
