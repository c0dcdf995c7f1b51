"""AutoAssist (Zhang, Yu and Dhillon 2019, arXiv:1905.03381).

Cost of an epoch of N samples of which the share a is kept: 3aN, and N (1 + 3a) passes of the assistant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from trainables.flops import forward_flops
from trainables.methods.selection import Batch, Choice, Images, Memory, ProbeResult, Run, Unit, Unprobed


class AutoAssist(Unprobed):
    """A small model, the assistant, foretells which samples are worth an update, so that nothing is probed.

    The assistant is a logistic regression on the image's pixels x and its label y: s = σ(W·x + U_y). A sample is kept
    with probability γ + (1 - γ) s, with γ = ``base``. It learns from every batch that is trained on
    whether a sample's loss is above the mean (``target: loss``), or whether the model misclassified it (``target:
    error``). The second is accuracy filtering with a forecast in the place of the probe.

    The mean is that of recent batches, whose sums are multiplied by 0.75 at every update. Unlike the authors' code, the
    data are shuffled, the assistant is as new as the last update (theirs lags by a queue of 20 batches), and what is
    kept is filled into full batches. Remembered: W, U and the mean's sums.
    """

    granularities: ClassVar[Sequence[str]] = ("batch",)

    name: Literal["autoassist"] = "autoassist"
    target: Literal["loss", "error"] = Field(
        "loss", description="what it foretells: a loss above the mean, or an error"
    )
    base: float = Field(0.3, ge=0, le=1, description="γ: least chance that a sample is kept")
    assistant_lr: float = Field(0.01, gt=0, description="learning rate of the assistant, on the batch's mean")
    assistant_weight_decay: float = Field(1e-3, ge=0, description="its L2 penalty, as in the authors' code")
    decay: float = Field(0.75, ge=0, lt=1, description="of the sums that the mean loss is of")

    def begin(self, run: Run, memory: Memory) -> None:
        """An assistant that knows nothing: its weights are normal with a deviation of 0.001."""
        image = run.images(torch.zeros(1, dtype=torch.int64, device=run.device))
        draw = run.stream("assistant")
        memory.pixels = (0.001 * torch.randn(image.numel(), generator=draw)).to(run.device)
        memory.classes = (0.001 * torch.randn(run.classes, generator=draw)).to(run.device)
        memory.loss_sum = torch.zeros((), device=run.device)
        memory.loss_count = torch.zeros((), device=run.device)
        memory.cost = 2 * image.numel() / max(forward_flops(run.network("cost of a forward pass"), image), 1)

    def choose(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Choice:
        """What falls to the assistant's forecast and to chance, in the order drawn."""
        images, labels = unit.samples(torch.arange(len(unit)))
        unit.spend(memory.cost * len(unit))
        chance = torch.rand(len(unit), generator=unit.random).to(images.device)
        return Choice((chance < self.chances(images, labels, memory)).nonzero().flatten())

    def chances(self, images: Images, labels: Tensor, memory: Memory) -> Float[Tensor, " n"]:
        """γ + (1 - γ) s."""
        return self.base + (1 - self.base) * self._forecast(images, labels, memory)

    def loss(self, batch: Batch, memory: Memory) -> Float[Tensor, ""]:
        """The batch's mean loss; the assistant takes a step on what the forward pass said."""
        assert batch.images is not None
        losses = batch.losses.detach().float()
        memory.loss_sum.copy_(self.decay * memory.loss_sum + losses.nan_to_num().sum())
        memory.loss_count.copy_(self.decay * memory.loss_count + len(losses))
        if self.target == "loss":
            wanted = ~(losses <= memory.loss_sum / memory.loss_count)  # also what is not a number
        else:
            wanted = batch.logits.argmax(1) != batch.labels
        error = self._forecast(batch.images, batch.labels, memory) - wanted.float()
        of_class = torch.zeros_like(memory.classes).index_add_(0, batch.labels, error)
        count = torch.zeros_like(memory.classes).index_add_(0, batch.labels, torch.ones_like(error))
        step, shrink = self.assistant_lr / len(losses), self.assistant_weight_decay
        memory.classes.sub_(step * (of_class + shrink * count * memory.classes))
        memory.pixels.sub_(step * (error @ batch.images.flatten(1).float() + shrink * memory.pixels))
        return batch.mean_loss

    def overhead(self, memory: Memory) -> float:
        """The assistant's forward and backward pass."""
        return 3 * memory.cost

    def _forecast(self, images: Images, labels: Tensor, memory: Memory) -> Float[Tensor, " n"]:
        return (images.flatten(1).float() @ memory.pixels + memory.classes[labels]).sigmoid()
