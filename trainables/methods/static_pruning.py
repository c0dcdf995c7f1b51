"""Static pruning: a share of the samples, chosen once before training, is all that an arm ever trains on.

EL2N (Paul et al. 2021, arXiv:2107.07075), forgetting (Toneva et al. 2019, arXiv:1812.05159), and a random subset as
their control. Cost of an epoch of N samples of which the share r is kept: 3rN. Cost before the first update, by K
networks that are trained for t passes: KN (3t + 1) for EL2N, 3KtN for forgetting, nothing for the random subset.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from trainables.methods.auxiliary import score_pass, train_pass
from trainables.methods.scores import gradient_bound
from trainables.methods.selection import Choice, Memory, ProbeResult, Run, Unit, Unprobed


class StaticPruning(Unprobed):
    """The samples of the highest scores are kept for the whole run. Subclass it and define :meth:`scores`.

    Samples of equal scores are ranked at random, so that the order of the training set does not matter, which may be
    sorted by class; the authors' codes leave that to their sorting routines. Remembered: which samples are kept.
    """

    granularities: ClassVar[Sequence[str]] = ("epoch",)

    ratio: float = Field(0.5, gt=0, le=1, description="r: share of the samples that is kept for the whole run")

    @property
    def skipped(self) -> float:
        """The share of the samples of the very highest scores that is dropped all the same."""
        return 0.0

    def most(self, unit: int) -> int:
        """The share, of a pass."""
        return max(round(self.ratio * unit), 1)

    def begin(self, run: Run, memory: Memory) -> None:
        """Nothing is pruned before there are scores."""
        memory.kept = torch.ones(run.size, dtype=torch.bool, device=run.device)

    def prepare(self, run: Run, memory: Memory) -> None:
        """Score the samples and keep those of the highest scores."""
        memory.kept.copy_(self.subset(self.scores(run), run.stream("static pruning")))

    def choose(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Choice:
        """The samples that are kept, in the order drawn."""
        return Choice(memory.kept[unit.index].nonzero().flatten())

    def scores(self, run: Run) -> Float[Tensor, " N"]:
        """How much it is worth to train on each sample of the training set. What is computed for it is counted."""
        raise NotImplementedError

    def subset(self, scores: Float[Tensor, " N"], random: torch.Generator) -> Bool[Tensor, " N"]:
        """Which samples are kept. A score that is not a number counts as infinite."""
        size, kept = len(scores), self.most(len(scores))
        shuffled = torch.randperm(size, generator=random).to(scores.device)
        comparable = scores.nan_to_num(math.inf, math.inf, -math.inf)
        ranked = shuffled[comparable[shuffled].argsort(stable=True, descending=True)]
        first = min(round(self.skipped * size), size - kept)
        chosen = torch.zeros(size, dtype=torch.bool, device=scores.device)
        chosen[ranked[first : first + kept]] = True
        return chosen


class StaticRandom(StaticPruning):
    """One random subset for the whole run: the control of every static pruning. All scores are equal."""

    name: Literal["static_random"] = "static_random"

    def scores(self, run: Run) -> Float[Tensor, " N"]:
        """The same for all."""
        return torch.zeros(run.size, device=run.device)


class Scored(StaticPruning):
    """Scores come from networks of the arm's own kind that are trained on the whole training set beforehand.

    They are trained on clean images by a constant learning rate. The optimizer's defaults are those of both papers'
    code for CIFAR-10: SGD with a rate of 0.1, Nesterov momentum 0.9 and weight decay 5e-4.
    """

    networks: PositiveInt = Field(1, description="K: networks that are trained, from different initial weights")
    epochs: PositiveInt | None = Field(
        None, description="t: passes over the data that each is trained for; None: as the method's paper has it"
    )
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="what trains them; sgd has Nesterov momentum")
    lr: float | None = Field(None, gt=0, description="its learning rate; None: 0.1 for sgd, 0.001 for adamw")
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd")
    weight_decay: float = Field(5e-4, ge=0, description="of either")

    def passes(self, run: Run) -> int:
        """The passes over the data that each network is trained for."""
        raise NotImplementedError

    def trained(self, run: Run) -> Iterator[tuple[nn.Module, list[Bool[Tensor, " N"]]]]:
        """Each network when it is trained, and for each pass which samples it had right just before the updates."""
        samples = torch.arange(run.size, device=run.device)
        for number in range(self.networks):
            network = run.network(f"{self.word} {number}")
            optimizer, order = self._optimizer(network), run.stream(f"{self.word} {number}")
            rights = []
            for _ in range(self.passes(run)):
                index, said = train_pass(run, network, optimizer, samples, order)
                rights.append(torch.zeros_like(said.wrong).index_copy_(0, index, ~said.wrong))
            yield network, rights

    def _optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        parameters, decay = network.parameters(), self.weight_decay
        if self.optimizer == "adamw":
            return torch.optim.AdamW(parameters, lr=self.lr or 1e-3, weight_decay=decay)
        rate, nesterov = self.lr or 0.1, self.momentum > 0
        return torch.optim.SGD(parameters, lr=rate, momentum=self.momentum, nesterov=nesterov, weight_decay=decay)


class EL2N(Scored):
    """Keeps the samples of the largest errors early in training: the mean over networks of ||p - y||.

    p are the class probabilities after ``epochs`` passes, in evaluation mode, y is the label as a one-hot vector. The
    samples of the very largest errors are often mislabeled; ``offset`` drops a share of these first.

    The paper takes K = 10 networks at epoch 20 of 200, so that scoring costs as much as a whole run. The defaults keep
    its share of the run, a tenth of the epochs, and take one network. The networks are trained on clean images; the
    authors augment.
    """

    name: Literal["el2n"] = "el2n"
    offset: float = Field(0.0, ge=0, lt=1, description="share of the samples of the largest errors that is dropped")

    @model_validator(mode="after")
    def _shares_fit(self) -> EL2N:
        if self.offset + self.ratio > 1 + 1e-9:
            raise ValueError(
                f"offset {self.offset:g} and ratio {self.ratio:g} are shares of the same samples: 1 at most"
            )
        return self

    @property
    def skipped(self) -> float:
        """``offset``."""
        return self.offset

    def passes(self, run: Run) -> int:
        """As the option says, or a tenth of the run's, rounded up."""
        return self.epochs or math.ceil(run.epochs / 10)

    def scores(self, run: Run) -> Float[Tensor, " N"]:
        """||p - y||, the mean over networks."""
        samples = torch.arange(run.size, device=run.device)
        total = torch.zeros(run.size, device=run.device)
        for network, _ in self.trained(run):
            said = score_pass(run, network, samples)
            total += gradient_bound(said.logits, said.labels)
        return total / self.networks


class Forgetting(Scored):
    """Keeps the samples that are forgotten most often: right at one presentation in training, wrong at the next.

    A sample that is never right counts as forgotten at every presentation, which is more than any other can be. Counts
    of several ``networks`` are added up, as in the authors' code.

    The paper trains five networks for as long as a run, of 200 epochs, with augmentation and a rate that falls. The
    defaults take one network and as many epochs as the run has, on clean images at a constant rate.
    """

    name: Literal["forgetting"] = "forgetting"

    def passes(self, run: Run) -> int:
        """As the option says, or the run's own."""
        return self.epochs or run.epochs

    def scores(self, run: Run) -> Float[Tensor, " N"]:
        """How often each sample was forgotten, the sum over networks."""
        return torch.stack([forgotten(torch.stack(rights)) for _, rights in self.trained(run)]).sum(0)


def forgotten(right: Bool[Tensor, "presentations n"]) -> Float[Tensor, " n"]:
    """How often samples were right at one presentation and wrong at the next; of one never right, all presentations."""
    events = (right[:-1] & ~right[1:]).sum(0)
    return torch.where(right.any(0), events, len(right)).float()
