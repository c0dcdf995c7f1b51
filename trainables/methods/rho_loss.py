"""RHO-LOSS, reducible holdout loss selection (Mindermann et al. 2022, arXiv:2206.07137).

Cost of an epoch of N samples of which the share r is trained on: N (1 + 3r). Cost before the first update, for t passes
over the data: 4tN, of which 3tN train the two auxiliary networks and tN score the samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int64
from pydantic import Field, PositiveInt
from torch import Tensor

from trainables.methods.auxiliary import score_pass, train_pass
from trainables.methods.selection import Choice, Memory, ProbeResult, Run, Selection, Unit


class RhoLoss(Selection):
    """Of every large raw batch, the share ``ratio`` of the samples whose reducible loss is the largest.

    The reducible loss is the loss that the probe finds, less the sample's irreducible loss: the loss of a network that
    was not trained on the sample. A sample that is learned already has little of the first, a mislabeled one much of
    both; neither is selected. A raw batch is as large as it takes to fill a batch: batch size / ``ratio``.

    Irreducible losses are found before the first update. The training set is split at random into two halves, and a
    network of the arm's own kind is trained on each by AdamW. After each pass it scores the half that it has not seen;
    the pass of the least mean loss there counts. So no sample is lost to a holdout set, and the validation set stays
    free for choosing.

    By default the authors train one network on a separate holdout set. They have the two halves as a variant, whose
    passes they choose by the validation set. They augment the images that these networks are trained on; here they are
    clean, as are the images that are scored, in their code too. Their selection runs in training mode and moves the
    statistics of batch normalization; a probe never moves them, and is in evaluation mode unless ``probe_mode`` says
    otherwise. The defaults of ``ratio``, ``lr`` and ``weight_decay`` are theirs, and so is that of ``epochs`` in
    relation to the run: 100 for a run of 175 on CIFAR-10, which is about half. A loss that is not a number counts as
    infinite. Remembered: the irreducible losses.
    """

    granularities: ClassVar[Sequence[str]] = ("batch",)
    own_raw_batches: ClassVar[bool] = True

    name: Literal["rho_loss"] = "rho_loss"
    ratio: float = Field(0.1, gt=0, le=1, description="r: share of a raw batch that is trained on")
    epochs: PositiveInt | None = Field(
        None, description="t: passes of each auxiliary network over its half; None: half as many as the run has epochs"
    )
    lr: float = Field(1e-3, gt=0, description="learning rate of AdamW, which trains the auxiliary networks")
    weight_decay: float = Field(0.01, ge=0, description="of the same")

    def most(self, unit: int) -> int:
        """The share, rounded up: what is drawn may be cut into units of other sizes."""
        return max(math.ceil(round(self.ratio * unit, 6)), 1)

    def begin(self, run: Run, memory: Memory) -> None:
        """No loss is irreducible as far as is known."""
        memory.irreducible = torch.zeros(run.size, device=run.device)

    def prepare(self, run: Run, memory: Memory) -> None:
        """Find the irreducible losses, those of each half by a network that was trained on the other."""
        shuffled = torch.randperm(run.size, generator=run.stream("rho_loss halves")).to(run.device)
        one, other = shuffled.tensor_split(2)
        for number, (trained, scored) in enumerate(((one, other), (other, one))):
            memory.irreducible[scored] = self.held_out(run, f"rho_loss {number}", trained, scored)

    def held_out(
        self, run: Run, stream: str, trained: Int64[Tensor, " n"], scored: Int64[Tensor, " m"]
    ) -> Float[Tensor, " m"]:
        """The losses on ``scored`` of a network that is trained on ``trained``, after the best of its passes."""
        network, order = run.network(stream), run.stream(stream)
        optimizer = torch.optim.AdamW(network.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        best, least = torch.zeros(len(scored), device=run.device), math.inf
        for number in range(self.epochs or math.ceil(run.epochs / 2)):
            train_pass(run, network, optimizer, trained, order)
            losses = score_pass(run, network, scored).losses
            mean = float(losses.mean())
            if number == 0 or mean < least:
                best, least = losses.nan_to_num(math.inf, math.inf), math.inf if math.isnan(mean) else mean
        return best.clamp(max=torch.finfo(best.dtype).max)

    def draw(self, raw_batch_size: int, memory: Memory) -> int:
        """What it takes to select ``raw_batch_size`` samples."""
        return math.ceil(round(raw_batch_size / self.ratio, 6))

    def choose(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Choice:
        """The samples of the largest reducible losses, the largest first; of equal ones, the first drawn."""
        assert seen is not None
        reducible = seen.losses.nan_to_num(math.inf, math.inf) - memory.irreducible[unit.index]
        count = max(round(self.ratio * len(unit)), 1)
        return Choice(reducible.argsort(stable=True, descending=True)[:count])
