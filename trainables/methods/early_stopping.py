"""IES, instance-dependent early stopping (Yuan et al., ICLR 2025, arXiv:2502.07547).

Cost of an epoch: 3 per sample that is trained on and 1 per sample that is left out, for it is probed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor

from trainables.methods.selection import Batch, Choice, Memory, Positions, ProbeResult, Run, Selection, Unit

NEEDED = 3
"""Losses that a second difference takes."""


class InstanceEarlyStopping(Selection):
    """Leaves out samples that the model has mastered, and takes them back if that changes.

    Every sample has one loss a pass, L. It is mastered if the mean of its last ``window`` values of
    |L(t) - 2 L(t-1) + L(t-2)| is below ``threshold`` (δ): its loss then changes at a steady rate, or not at all. A
    sample that is mastered when a pass begins is not trained on in it. Such samples are probed when the next pass
    begins, which gives their loss of the pass before. So they are judged like the others, and may return. Losses are
    not rescaled.

    The first ``start`` passes train on every sample. In a short run these are half of its epochs at most, rounded down,
    but always three: a second difference takes three losses. While fewer than ``window`` differences are known, the
    mean is over those there are. In a run of three epochs or fewer, no sample is ever left out.

    The losses of samples that are trained on come from training's own forward passes, before the update; the others
    from the probe, in evaluation mode unless ``probe_mode`` says otherwise. Both are plain cross-entropy, without the
    label smoothing that the training loss may have.

    The authors' code keeps the last subset when no sample is mastered any more; here all samples are trained on then.
    It doubles the threshold for CIFAR-100; set 0.002 there. If all samples are mastered, a pass makes no update and
    probes all of them; the authors' code would fail.

    Remembered: each sample's last losses, and whether it is mastered.
    """

    granularities: ClassVar[Sequence[str]] = ("epoch",)
    batches: ClassVar[Sequence[str]] = ("stable",)

    name: Literal["ies"] = "ies"
    threshold: float = Field(1e-3, gt=0, description="δ: a sample is mastered below this mean second difference")
    start: int = Field(6, ge=NEEDED, description="first passes that leave out no sample; at most half of the epochs")
    window: PositiveInt = Field(3, description="second differences that the mean is over")

    def begin(self, run: Run, memory: Memory) -> None:
        """No loss is known, and nothing is mastered."""
        memory.start = min(self.start, max(run.epochs // 2, NEEDED))
        memory.last = torch.zeros(run.size, device=run.device)
        memory.losses = torch.zeros(run.size, self.window + 2, device=run.device)
        memory.mastered = torch.zeros(run.size, dtype=torch.bool, device=run.device)

    def look(self, unit: Unit, memory: Memory) -> bool | Positions:
        """The samples that the last pass left out."""
        return memory.mastered[unit.index].nonzero().flatten()

    def choose(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Choice:
        """The samples that are not mastered, in the order drawn."""
        if seen is not None:
            memory.last[unit.index[self.look(unit, memory)]] = seen.losses.to(memory.last.dtype)
        memory.losses.copy_(torch.cat((memory.losses[:, 1:], memory.last[:, None]), 1))
        if unit.pass_number > memory.start:
            memory.mastered.copy_(self.change(unit.pass_number - 1, memory) < self.threshold)
        return Choice((~memory.mastered[unit.index]).nonzero().flatten())

    def change(self, known: int, memory: Memory) -> Float[Tensor, " N"]:
        """Each sample's mean second difference, where that many losses are known: three at least.

        It is not a number where a loss was not finite, and such a sample is not mastered.
        """
        return memory.losses[:, -min(known, self.window + 2) :].diff(n=2, dim=1).abs().mean(1)

    def loss(self, batch: Batch, memory: Memory) -> Float[Tensor, ""]:
        """The mean loss; the batch's losses are remembered."""
        losses = ProbeResult(batch.logits.detach(), batch.labels).losses
        memory.last[batch.index] = losses.to(memory.last.dtype)
        return batch.mean_loss
