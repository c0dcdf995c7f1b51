"""The protocol of selections: which samples an arm trains on.

A *selection* is a method: one class in one file, whose fields are its options. The sampler says *when*: it draws a
*unit* (the whole shuffled epoch, or a raw batch of it), lets the selection look at samples by a forward pass, and
trains on what it chooses. The sampler, the loop and the recorded graphs ask no selection what class it is.

A selection is frozen and holds nothing between two calls. What it remembers stands in a :class:`Memory`, which the
program makes, hands to every call, saves in checkpoints and restores: no state can be forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainables.config.base import Frozen
from trainables.methods.memory import Memory as Memory
from trainables.seeds import generator

Positions = Int64[Tensor, " m"]
Images = Float[Tensor, "m channels h w"]
GRANULARITIES = ("epoch", "batch", "epoch+batch")
BATCHES = ("stable", "unstable")


def _nothing_to_see(positions: Positions) -> Any:
    raise RuntimeError("this unit has no images: it stands alone, without a training set")


@dataclass(frozen=True)
class ProbeResult:
    """What a forward pass says of samples: logits, and the labels that they are judged by."""

    logits: Float[Tensor, "n classes"]
    labels: Int64[Tensor, " n"]

    @classmethod
    def join(cls, results: Sequence[ProbeResult]) -> ProbeResult:
        """Several results as one, in order."""
        if len(results) == 1:
            return results[0]
        return cls(torch.cat([result.logits for result in results]), torch.cat([result.labels for result in results]))

    def split(self, size: int) -> Iterator[ProbeResult]:
        """Consecutive pieces of ``size``, the last one possibly smaller."""
        return map(ProbeResult, self.logits.split(size), self.labels.split(size))

    @property
    def losses(self) -> Float[Tensor, " n"]:
        """Each sample's cross-entropy in nats."""
        return cross_entropy(self.logits, self.labels, reduction="none")

    @property
    def wrong(self) -> Bool[Tensor, " n"]:
        """Whether the model misclassifies the sample."""
        return self.logits.argmax(1) != self.labels


@dataclass(frozen=True)
class Unit:
    """A part of a pass over the raw data that a selection chooses from: the whole shuffled pass, or a raw batch.

    Attributes:
        number: which unit of the pass it is, from 0.
        epoch: the epoch, from 1 to ``run.epochs``: of the budget, in as many equal shares, the one being spent.
        pass_number: the pass, from 1. By default an epoch is a pass; under a budget it may be several or a part.
        index: the samples, by their index in the training set, in the pass's order.
        missing: samples that the batch being filled still lacks; the batch size where nothing is being filled.
        seed: of the selections' stream.
        kept: how many samples another arm kept of each unit of this pass.
        spend: counts forward-equivalents of work other than the probe (an auxiliary model's, say).
        samples: the normalized images at positions of the unit, as they would be trained on, and their labels.
        gradient_norms: of the samples at positions of the unit, the norm of the loss's gradient by all parameters, the
            network in evaluation mode. It counts its cost, 3 a sample, and takes each sample for itself.
    """

    number: int
    epoch: int
    pass_number: int
    index: Int64[Tensor, " n"]
    missing: int
    seed: int
    kept: Callable[[str], Sequence[int]]
    spend: Callable[[float], None]
    samples: Callable[[Positions], tuple[Images, Int64[Tensor, " m"]]] = _nothing_to_see
    gradient_norms: Callable[[Positions], Float[Tensor, " m"]] = _nothing_to_see

    def __len__(self) -> int:
        return self.index.numel()

    @cached_property
    def random(self) -> torch.Generator:
        """The unit's own CPU generator: a function of seed, pass and number alone."""
        return self.random_of(0)

    def random_of(self, place: int) -> torch.Generator:
        """The generator of the unit that comes ``place`` units after this one."""
        return generator(self.seed, "selection", self.pass_number, self.number + place)


@dataclass(frozen=True)
class Choice:
    """What to train on, in the order of training.

    Attributes:
        positions: in the unit; a sample may stand there several times if ``repeats`` says so.
        weights: the factor of each chosen sample's loss; only of a selection that is ``weighted``.
        repeats: whether samples may repeat; each repeat then shows an image of its own.
    """

    positions: Positions
    weights: Float[Tensor, " m"] | None = None
    repeats: bool = False


@dataclass(frozen=True)
class Batch:
    """An update's batch, and what its own forward pass said, before the update.

    Attributes:
        index: the samples, by their index in the training set.
        weight: the factors that the selection chose; None where it gives none.
        withheld: counts the samples that are not sent backward; None unless the selection ``withholds`` some.
        smoothing: label smoothing of the training loss, 0 to 1.
        images: the normalized images that the forward pass saw.
    """

    index: Int64[Tensor, " n"]
    logits: Float[Tensor, "n classes"]
    labels: Int64[Tensor, " n"]
    withheld: Int64[Tensor, ""] | None
    weight: Float[Tensor, " n"] | None = None
    smoothing: float = 0.0
    images: Images | None = None

    @property
    def losses(self) -> Float[Tensor, " n"]:
        """Each sample's training loss in nats, with its gradient."""
        return cross_entropy(self.logits, self.labels, reduction="none", label_smoothing=self.smoothing)

    @property
    def mean_loss(self) -> Float[Tensor, ""]:
        """The mean of the losses, each times its weight."""
        if self.weight is None:
            return cross_entropy(self.logits, self.labels, label_smoothing=self.smoothing)
        return (self.losses * self.weight).mean()

    def send_backward(self, count: int | Int64[Tensor, ""]) -> None:
        """Say that only ``count`` of the samples have a part in the gradient; all have, unless this is called.

        Raises:
            RuntimeError: the class does not say that it withholds samples.
        """
        if self.withheld is None:
            raise RuntimeError("send_backward is for a selection that says: withholds: ClassVar[bool] = True")
        self.withheld.add_(len(self.labels) - count)


@dataclass(frozen=True)
class Run:
    """What a selection can know of its arm before training.

    Attributes:
        size: training samples N.
        classes: classes C.
        labels: of the training samples, int64 of shape (N,).
        batch_size: samples in a full batch.
        epochs: epochs that are trained.
        device: where the arm trains.
        images: clean, normalized images of the training samples at an index, float of shape (n, channels, h, w).
        network: a fresh network of the arm's own kind, on the device, its initial weights from the stream of that name.
        stream: a CPU generator for the stream of that name, a function of the trial's seed.
        true_labels: what the labels were before ``dataset.label_noise`` replaced some. A method that looks at them says
            so, by :attr:`Choosing.knows_labels`.
        spend: counts forward-equivalents of the arm's own model (1 per sample forward, 2 more per sample backward).
    """

    size: int
    classes: int
    labels: Int64[Tensor, " N"]
    batch_size: int
    epochs: int
    device: torch.device
    images: Callable[[Int64[Tensor, " n"]], Float[Tensor, "n ..."]]
    network: Callable[[str], nn.Module]
    stream: Callable[[str], torch.Generator]
    spend: Callable[[float], None]
    true_labels: Int64[Tensor, " N"] | None = None


class Options(Frozen):
    """Options of a class that an experiment names: its fields.

    A built-in class has a field ``name`` with the word for it; one of a researcher's own is named by ``use``.
    """

    use: str | None = Field(None, exclude_if=lambda use: use is None, description="import path or entry point")

    @property
    def word(self) -> str | None:
        """What messages call it: its built-in name, or what ``use`` says."""
        return getattr(self, "name", None) or self.use


class Choosing(Options):
    """What an arm's ``selector`` can name: a method of its own, or a selector of what a filter lets through."""

    @property
    def number(self) -> int | None:
        """How many samples are selected from every unit, where that is fixed."""
        return None

    @property
    def follows(self) -> str | None:
        """The arm whose numbers of kept samples it needs (see :attr:`Unit.kept`); that arm is then trained first."""
        return None

    @property
    def like_compute_of(self) -> str | None:
        """The arm that it trains at the same compute as; that arm is then trained first."""
        return None

    @property
    def pace(self) -> float:
        """The passes over the data in an epoch, where the budget is ``epochs``."""
        return 1.0

    @property
    def knows_labels(self) -> bool:
        """Whether it is told for some samples if their label is right; then there must be ``dataset.label_noise``."""
        return False

    @property
    def alone(self) -> bool:
        """Whether it is a method of its own, and takes no filter."""
        raise NotImplementedError

    def over(self, filter: Any, fallback: int) -> Selection:
        """The selection of an arm that has this ``selector`` and that filter.

        Arguments:
            fallback: with fewer samples than this, random rejected ones make up the number; 0 for none.

        Raises:
            ValueError: the options do not go together.
        """
        raise NotImplementedError


class Selection(Choosing):
    """A method: which samples of a unit an arm trains on. Subclass it, declare the options as fields, define
    :meth:`choose`; everything else has a default.

    Class attributes:
        granularities: the values of ``granularity`` that the method allows.
        batches: the values of ``batch`` that the method allows.
        ahead: whether several units may share one probe, ahead of need. Only valid if the choice from a unit depends on
            its own probe alone, on no memory and on nothing that an update changes.
        own_raw_batches: whether :meth:`draw` says how large a raw batch is, and not the arm's ``raw_batch_size``.
        weighted: whether a :class:`Choice` carries weights; views then always have some.
        withholds: whether :meth:`loss` keeps samples from the gradient (:meth:`Batch.send_backward`).
    """

    granularities: ClassVar[Sequence[str]] = GRANULARITIES
    batches: ClassVar[Sequence[str]] = BATCHES
    own_raw_batches: ClassVar[bool] = False
    weighted: ClassVar[bool] = False
    withholds: ClassVar[bool] = False

    @property
    def ahead(self) -> bool:
        """See the class."""
        return False

    @property
    def probes(self) -> bool:
        """Whether the method ever looks at samples by a forward pass before it chooses."""
        return True

    @property
    def alone(self) -> bool:
        """It is, unless it says otherwise."""
        return True

    def over(self, filter: Any, fallback: int) -> Selection:
        """Itself, for it takes no filter."""
        if not filter.passes_all:
            raise ValueError(f"{self.word} is a method of its own and takes no filter")
        if fallback:
            raise ValueError(f"fallback random is for a filter and its selector; {self.word} is a method of its own")
        return self

    def most(self, unit: int) -> int:
        """The samples that are chosen from a unit of that size at most."""
        return unit

    def begin(self, run: Run, memory: Memory) -> None:
        """Set everything that is remembered, at its start. Cheap: a run that is resumed calls it again."""

    def prepare(self, run: Run, memory: Memory) -> None:
        """Work before the first update: scoring runs, auxiliary models. Once; not again when a run is resumed.

        Its seconds are counted as ``auxiliary_seconds``; say by ``run.spend`` what it computed.
        """

    def draw(self, raw_batch_size: int, memory: Memory) -> int:
        """How many samples to draw for the next raw batch, 1 at least; ``raw_batch_size`` is what the arm says.

        Where it says something else, the class says ``own_raw_batches``.
        """
        return raw_batch_size

    def look(self, unit: Unit, memory: Memory) -> bool | Positions:
        """Which samples of the unit to look at by a forward pass: True for all, False for none, or their positions."""
        return self.probes

    def choose(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Choice:
        """What to train on. ``seen`` is what the probe says of the samples looked at, in order; None if none were."""
        raise NotImplementedError

    def choose_ahead(self, unit: Unit, size: int, seen: ProbeResult, memory: Memory) -> tuple[Choice, list[int]]:
        """As :meth:`choose`, for consecutive units of ``size`` that share a probe; ``unit`` holds them all.

        Returns:
            The choices of all units as one, unit after unit, and how many samples are of each unit.
        """
        chosen, positions = [], []
        for place, (index, result) in enumerate(zip(unit.index.split(size), seen.split(size), strict=True)):
            chosen.append(self.choose(replace(unit, number=unit.number + place, index=index), result, memory))
            positions.append(chosen[-1].positions + place * size)
        given = [choice.weights for choice in chosen if choice.weights is not None]
        weights = torch.cat(given) if len(given) == len(chosen) else None
        whole = Choice(torch.cat(positions), weights, any(choice.repeats for choice in chosen))
        return whole, [one.numel() for one in positions]

    def loss(self, batch: Batch, memory: Memory) -> Float[Tensor, ""]:
        """What an update descends; also where the method learns what training's own forward pass said.

        It runs inside recorded CUDA graphs: write to the memory's tensors in place, do not wait for the device (no
        ``.item()``, no branch on a tensor's value), draw nothing at random.
        """
        return batch.mean_loss

    def rate(self, memory: Memory) -> float | Float[Tensor, ""]:
        """The factor on the learning rate of the next update; a tensor is not waited for."""
        return 1.0

    def overhead(self, memory: Memory) -> float:
        """Forward-equivalents that :meth:`loss` spends on auxiliary models, per sample trained on."""
        return 0.0


class Unprobed(Selection):
    """A method that chooses without a forward pass over what it chooses from."""

    @property
    def probes(self) -> bool:
        """Never."""
        return False


@dataclass
class Ledger:
    """What an epoch costs beside probes and updates, in forward-equivalents."""

    spent: float = 0.0

    def add(self, amount: float | int) -> None:
        """Count ``amount`` more."""
        self.spent += amount
