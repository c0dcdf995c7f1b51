"""Ordered SGD (Kawaguchi and Lu 2020, arXiv:1907.04371).

Cost of an epoch of N samples in batches of b: N (1 + 2q/b). One forward pass serves both choice and update.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor

from trainables.methods.selection import Batch, Choice, Memory, ProbeResult, Run, Unit, Unprobed

STAGES = (800, 900, 950, 995)
"""The training accuracies, in thousandths, at each of which an adaptive q is halved once more."""


class OrderedSGD(Unprobed):
    """Every update descends the mean of the ``q`` largest losses of its batch.

    The gradient is biased towards the samples of high loss on purpose: it is an unbiased estimate of the gradient of
    another objective, in which losses are weighted by their rank. With ``q: adaptive``, the authors' rule, q is the
    batch size b at first, and b/2, b/4, b/8, b/16 once the training accuracy has reached 80, 90, 95 and 99.5 %. It
    never grows again. A batch with fewer than q samples is trained on as a whole.

    The training accuracy is that of the last pass's own updates: each sample is judged by the network as it was before
    the update on it, in training mode, as the augmentation shows it. The authors' code spends one more pass over the
    data for it after each epoch, in training mode too, and it ends with a more recent network: its q is halved
    somewhat earlier. Nor is its second effect copied: it halves the learning rate with the last stage. With label
    smoothing, losses are ranked as they are trained on. Remembered: q, and how many samples of the pass were right.
    """

    granularities: ClassVar[Sequence[str]] = ("epoch",)
    batches: ClassVar[Sequence[str]] = ("stable",)
    withholds: ClassVar[bool] = True

    name: Literal["ordered_sgd"] = "ordered_sgd"
    q: PositiveInt | Literal["adaptive"] = Field(
        "adaptive", description="samples of a batch that are descended; adaptive: fewer as training accuracy grows"
    )

    def begin(self, run: Run, memory: Memory) -> None:
        """The whole batch is descended, or as much of it as the option says."""
        adaptive = self.q == "adaptive"
        memory.q = torch.tensor(run.batch_size if adaptive else self.q, device=run.device)
        if adaptive:
            sizes = [max(run.batch_size >> stage, 1) for stage in range(len(STAGES) + 1)]
            memory.sizes = torch.tensor(sizes, device=run.device)
            memory.right = torch.zeros((), dtype=torch.int64, device=run.device)
            memory.seen = torch.zeros((), dtype=torch.int64, device=run.device)

    def choose(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Choice:
        """Every sample of the pass; q is what the accuracy of the last pass says."""
        if self.q == "adaptive":
            self._narrow(memory)
        return Choice(torch.arange(len(unit)))

    def loss(self, batch: Batch, memory: Memory) -> Float[Tensor, ""]:
        """The mean of the q largest losses. Of equal ones, the first drawn come first."""
        losses = batch.losses
        ranks = losses.detach().argsort(descending=True, stable=True).argsort()
        count = memory.q.clamp(max=len(losses))
        batch.send_backward(count)
        if self.q == "adaptive":
            memory.right.add_((batch.logits.detach().argmax(1) == batch.labels).sum())
            memory.seen.add_(len(losses))
        return torch.where(ranks < count, losses, 0.0).sum() / count

    def _narrow(self, memory: Memory) -> None:
        """Set q for the pass that begins, and start to count anew. No number leaves the device."""
        stages = torch.tensor(STAGES, device=memory.q.device)
        reached = (1000 * memory.right >= stages * memory.seen) & (memory.seen > 0)
        memory.q.copy_(torch.minimum(memory.q, memory.sizes.take(reached.sum())))
        memory.right.zero_()
        memory.seen.zero_()
