"""Active Bias (Chang et al. 2017, arXiv:1704.07433). Cost of an epoch: 3N; nothing is probed.

It emphasizes samples and drops none. So it can win accuracy, but no compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor

from trainables.methods.draws import draw_batches, warm_up, warming_up
from trainables.methods.selection import Batch, Choice, Memory, ProbeResult, Run, Unit, Unprobed

SMALLEST = 1e-12
"""The least score: where all are 0, every sample weighs the same."""


class ActiveBias(Unprobed):
    """Emphasizes samples of which the model is unsure.

    Of each sample it follows p, the probability of its label in the forward passes of training. Its score is either the
    prediction variance √(V + V² / (n - 1)), V the variance of the n values of p so far, or the threshold closeness
    m (1 - m), m their mean. To the score, ``epsilon`` (ε) is added. There are four variants:

    - ``wpv`` trains on every sample once a pass, its loss weighted by the prediction variance;
    - ``wtc`` the same, weighted by threshold closeness;
    - ``spv`` draws N samples a pass with a probability proportional to the prediction variance, without weights;
    - ``stc`` the same, by threshold closeness.

    Weights have mean 1 in every batch, as in the public code of others (songhwanjun/ActiveBias), so that the learning
    rate keeps its meaning; they are those before the batch's own p is known. A sample with a single p has variance 0:
    that code divides by zero there. Draws are made once a pass, without replacement within a batch. While warming up,
    a pass trains on every sample once, with weight 1.

    The authors' own code is not public, and the two implementations of others set ε to 0.2 and 0.02. As a standard
    deviation of p is seldom above 0.3, the one makes weights nearly equal and the other does not. The default here is
    the mean score of all samples, computed anew before every pass, which has no scale of its own.

    Remembered: n, the mean of p, and the sum of its squared deviations from the mean, by sample (Welford 1962).
    """

    granularities: ClassVar[Sequence[str]] = ("epoch",)
    batches: ClassVar[Sequence[str]] = ("stable",)

    name: Literal["active_bias"] = "active_bias"
    variant: Literal["spv", "wpv", "stc", "wtc"] = Field(
        "wpv", description="s samples or w weighs, by pv prediction variance or tc threshold closeness"
    )
    epsilon: Annotated[float, Field(ge=0)] | Literal["mean"] = Field(
        "mean", description="ε: added to every score; mean: the mean score"
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the epochs that are uniform; the first at least")

    @property
    def draws(self) -> bool:
        """Whether it draws samples instead of weighting them."""
        return self.variant in ("spv", "stc")

    def begin(self, run: Run, memory: Memory) -> None:
        """Nothing has been predicted."""
        memory.batch_size = run.batch_size
        memory.warm_up = warm_up(self.warmup, run.epochs)
        memory.seen = torch.zeros(run.size, device=run.device)
        memory.mean = torch.zeros(run.size, device=run.device)
        memory.deviation = torch.zeros(run.size, device=run.device)
        memory.epsilon = torch.zeros((), device=run.device)
        memory.uniform = torch.ones((), dtype=torch.bool, device=run.device)

    def choose(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Choice:
        """The pass as it is, unless samples are drawn; ε and whether to be uniform hold for the pass."""
        uniform = warming_up(unit, memory)
        memory.uniform.fill_(uniform)
        scores = self.scores(unit.index, memory)
        memory.epsilon.fill_(scores.mean() if self.epsilon == "mean" else self.epsilon)
        if uniform or not self.draws:
            return Choice(torch.arange(len(unit)))
        return Choice(draw_batches(scores + memory.epsilon, memory.batch_size, unit.random), repeats=True)

    def loss(self, batch: Batch, memory: Memory) -> Float[Tensor, ""]:
        """The weighted mean of the losses, or their mean; then the batch's p are remembered."""
        weights = self.weights(batch.index, memory)
        self._remember(batch, memory)
        return batch.mean_loss if self.draws else (batch.losses * weights).mean()

    def scores(self, index: Int64[Tensor, " n"], memory: Memory) -> Float[Tensor, " n"]:
        """The samples' prediction variance or threshold closeness; 0 where p is not known."""
        mean, seen = memory.mean[index], memory.seen[index]
        if self.variant in ("stc", "wtc"):
            return (mean * (1 - mean)).clamp_min(0)
        variance = memory.deviation[index] / seen.clamp_min(1)
        return (variance + variance.square() / (seen - 1).clamp_min(1)).sqrt()

    def weights(self, index: Int64[Tensor, " n"], memory: Memory) -> Float[Tensor, " n"]:
        """The factors of a batch's losses: its scores plus ε, divided by their mean; 1 while warming up."""
        scores = (self.scores(index, memory) + memory.epsilon).clamp_min(SMALLEST)
        return torch.where(memory.uniform, 1.0, scores / scores.mean())

    def _remember(self, batch: Batch, memory: Memory) -> None:
        """Welford's update. A probability that is not a number counts as 0, for its loss counts as infinite."""
        labels = batch.labels[:, None]
        p = batch.logits.detach().float().softmax(1).gather(1, labels)[:, 0].nan_to_num(0.0)
        seen, mean = memory.seen[batch.index] + 1, memory.mean[batch.index]
        updated = mean + (p - mean) / seen
        memory.seen[batch.index] = seen
        memory.mean[batch.index] = updated
        memory.deviation[batch.index] += ((p - mean) * (p - updated)).clamp_min(0)
