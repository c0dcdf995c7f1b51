"""SeTa, scale efficient training (Zhou et al., CVPR 2025, arXiv:2503.13385).

Cost of an epoch: 3 per sample that stays; nothing is probed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int64
from pydantic import Field, PositiveInt
from torch import Tensor
from torch.nn.functional import pad

from trainables.methods.selection import Batch, Choice, Memory, ProbeResult, Run, Unit, Unprobed

ROUNDS = 1000
"""Of k-means at most; it converges long before, and a round takes microseconds."""


class SeTa(Unprobed):
    """Prunes samples at random, then all but a window of difficulty that slides from easy to hard.

    In every pass, a random share ``prune`` (r) is left out. The others are put into ``groups`` groups by their last
    training loss (k-means), and a window of the share ``window`` of these groups is trained on. From pass to pass it
    slides by one group, from the easiest to the hardest, and begins again. In the first pass it holds all groups. After
    the share ``anneal`` (δ) of the epochs there are no groups, and only the random share is left out. Losses are not
    rescaled: the gradient is biased.

    Three things differ from the authors' code. A sample that was not yet trained on has the loss log C, that of a model
    that knows nothing, and not 3 whatever the number of classes. k-means starts from quantiles of the distinct losses,
    and not at random, so that it is the same on every machine. Where there are fewer distinct losses than groups, there
    are fewer groups; the authors' code cuts samples of equal losses into groups by their position.

    Remembered: each sample's last loss.
    """

    granularities: ClassVar[Sequence[str]] = ("epoch",)
    batches: ClassVar[Sequence[str]] = ("stable",)

    name: Literal["seta"] = "seta"
    prune: float = Field(0.1, ge=0, lt=1, description="r: share of the samples that is left out at random")
    groups: PositiveInt = Field(5, description="groups of similar losses")
    window: float = Field(0.9, gt=0, le=1, description="share of the groups that is trained on")
    anneal: float = Field(0.875, gt=0, le=1, description="δ: share of the epochs in which groups are left out")

    def begin(self, run: Run, memory: Memory) -> None:
        """No loss is known."""
        memory.last_pruned_epoch = math.floor(self.anneal * run.epochs)
        memory.losses = torch.full((run.size,), math.log(run.classes), device=run.device)

    def choose(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Choice:
        """Those of the random share that the window holds, in the order drawn."""
        number = max(round((1 - self.prune) * len(unit)), 1)
        kept = torch.randperm(len(unit), generator=unit.random)[:number].sort().values
        if unit.pass_number == 1 or unit.epoch > memory.last_pruned_epoch:
            return Choice(kept)
        groups = grouped(memory.losses[unit.index].cpu()[kept], self.groups)
        first, last = self.held(int(groups.max()) + 1, unit.pass_number)
        return Choice(kept[(groups >= first) & (groups <= last)])

    def held(self, groups: int, pass_number: int) -> tuple[int, int]:
        """The first and the last group that the window holds in a pass after the first."""
        size = max(round(self.window * groups), 1)
        first = (pass_number - 1) % (groups - size + 1)
        return first, first + size - 1

    def loss(self, batch: Batch, memory: Memory) -> Float[Tensor, ""]:
        """The mean loss; the batch's losses are remembered."""
        memory.losses[batch.index] = batch.losses.detach().to(memory.losses.dtype)
        return batch.mean_loss


def grouped(losses: Float[Tensor, " n"], groups: int) -> Int64[Tensor, " n"]:
    """The group of each loss, from 0 for the smallest: at most ``groups``, and none is empty.

    Losses that are not finite count as the largest that is.

    This is Lloyd's k-means on a line: groups are intervals, bounded in the middle between the means of neighbours.
    """
    losses = losses.double()
    finite = losses.isfinite()
    losses = torch.where(finite, losses, losses[finite].max() if finite.any() else 0.0)
    values, counts = losses.unique(return_counts=True)
    groups = min(groups, len(values))
    number, total = pad(counts.cumsum(0), (1, 0)), pad((values * counts).cumsum(0), (1, 0))
    ends = torch.tensor([0]), torch.tensor([len(values)])
    centres = values[((torch.arange(groups) + 0.5) * len(values) / groups).long()]
    for _ in range(ROUNDS):
        bounds = (centres[1:] + centres[:-1]) / 2
        cuts = torch.cat((ends[0], torch.searchsorted(values, bounds), ends[1]))
        size, before = number[cuts].diff(), centres
        centres = torch.where(size > 0, total[cuts].diff() / size.clamp_min(1), before)
        if torch.equal(centres, before):
            break
    within = torch.searchsorted(bounds, losses, right=True)
    return within.unique(return_inverse=True)[1]
