"""The sampler: when samples are selected, and how what is selected becomes batches.

Algorithm 10 of the thesis is :meth:`Sampler._next` with a selection that keeps what the model gets wrong
(:class:`~trainables.methods.filters.Hard`): draw a raw batch, probe it, add what was misclassified to the batch being
filled, and train when that is full.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from trainables.methods.batching import Batching as Batching
from trainables.methods.selection import (
    Batch,
    Images,
    Ledger,
    Memory,
    Positions,
    ProbeResult,
    Run,
    Selection,
    Unit,
)
from trainables.methods.views import Views

Probe = Callable[[Views], ProbeResult]
Order = Callable[[int], Int64[Tensor, " n"]]


@dataclass
class Counts:
    """What a sampler did in one epoch; the names are those of the epoch table.

    kept = trained + overflowed + what :attr:`Sampler.waiting` grew by.
    """

    steps: int = 0
    samples_probed: int = 0
    samples_kept: int = 0
    samples_rejected: int = 0
    samples_overflowed: int = 0
    samples_trained: int = 0
    raw_batches: int = 0


REPEATED = 1_000_000
"""What the number of a pass grows by in the views of a sample's second choice, so that no other has that image."""

GRADIENT = 3
"""Forward-equivalents of a sample's gradient: a forward and a backward pass."""

TRACED = ("raw_batches", "samples_probed", "samples_kept", "samples_overflowed", "samples_trained")
"""The counts that :attr:`Sampler.trace` has for every step of the epoch, since the step before."""


class Sampler:
    """Yields the batches of a pass over the raw data as views: the selection says which samples, the sampler when.

    By epoch, the selection chooses from the whole shuffled pass before its first update (Alg. 1, 8, and 2 to 6 with
    unstable batches). By batch, it chooses from raw batches: a stable batch is yielded when it is full, what overflows
    is discarded or carried, and a half-filled one is held over to the next pass (Alg. 10); an unstable one is what was
    selected of one raw batch (Alg. 9). With both, raw batches are drawn from what the selection kept of the pass (Table
    4.4).

    An epoch is one pass unless the budget says otherwise; then it may end within a pass, and the next goes on there.

    Arguments:
        order: the permutation of sample indices that a pass goes through; a pure function of its number, from 1.
        granularity: ``epoch``, ``batch`` or ``epoch+batch``.
        run: what the selection may know.
        kept: how many samples another arm kept of each unit of the pass of that number.
        seed: of the selections' random numbers, which are a function of seed, epoch and unit.
        smoothing: label smoothing of the training loss.
        samples: the normalized images that views stand for, and their labels.
        gradient_norms: the norms of these samples' gradients.

    Attributes:
        finished: passes that are over.
        counts: of the epoch.
        kept_in: how many samples were kept of each unit, by pass; see :meth:`forget`.
    """

    def __init__(
        self,
        order: Order,
        batching: Batching,
        selection: Selection,
        granularity: str,
        run: Run,
        kept: Callable[[str, int], Sequence[int]],
        *,
        seed: int,
        ledger: Ledger,
        smoothing: float = 0.0,
        samples: Callable[[Views], tuple[Images, Int64[Tensor, " m"]]] | None = None,
        gradient_norms: Callable[[Views], Float[Tensor, " m"]] | None = None,
    ) -> None:
        self.order = order
        self.batching = batching
        self.selection = selection
        self.by_epoch = "epoch" in granularity
        self.by_batch = "batch" in granularity
        self.run = run
        self.kept = kept
        self.seed = seed
        self.device = run.device
        self.ledger = ledger
        self.smoothing = smoothing
        self.samples = samples
        self.gradient_norms = gradient_norms
        self.memory = Memory()
        selection.begin(run, self.memory)
        self.prepared = False
        self.withheld = torch.zeros((), dtype=torch.int64, device=run.device)
        self.counts = Counts()
        self.kept_in: dict[int, list[int]] = {}
        self.trace: list[dict[str, int]] = []
        self.held = Views.none(run.device)
        self.finished = 0
        self._epoch = 0
        self._pass: int | None = None
        self._pending = Views.none(run.device)
        self._size = 0  # of the pass, or what was selected of it
        self._taken = 0  # of these, by the batches so far
        self._probed_since_step = 0
        self._kept_since_step = 0
        self._acceptance = 1.0
        self._at_last_step = Counts()

    def prepare(self) -> None:
        """The selection's work before the first update; done once, also by a run that is resumed."""
        if not self.prepared:
            self.selection.prepare(self.run, self.memory)
            self.prepared = True

    def start_epoch(self, epoch: int) -> None:
        """Begin the counts and the trace of an epoch (from 1)."""
        waiting = {name: -count for name, count in self._since_last_step().items()}
        self._at_last_step = Counts(**waiting)  # below 0: what earlier epochs spent on the batch that is being filled
        if self._epoch:  # what begin() spent belongs to the first epoch
            self.ledger.spent = 0.0
        self.counts, self.trace, self._epoch = Counts(), [], epoch
        self.withheld.zero_()

    def batches(self, probe: Probe) -> Iterator[Views]:
        """The batches that are left of the pass in progress, or those of the next one.

        The model must be trained on each batch before the next is asked for. Who stops in between goes on there by
        calling it again.
        """
        self.prepare()
        if self._pass is None:
            self._begin(self.finished + 1, probe)
        while (batch := self._next(probe)) is not None:
            self.counts.steps += 1
            self.counts.samples_trained += len(batch)
            self.trace.append({"step": self.counts.steps, **self._since_last_step()})
            self._at_last_step = copy(self.counts)
            yield batch
        self.finished, self._pass = self.finished + 1, None

    def _begin(self, number: int, probe: Probe) -> None:
        self._pass, self.kept_in[number] = number, []
        self._pending, self._taken = Views.of(self.order(number).to(self.device), number), 0
        if self.by_epoch:
            self._pending = self._selected(self._pending, len(self._pending), self._usual_raw_batch_size(), probe)
        self._size = len(self._pending)
        if not self.by_batch:
            self.counts.samples_kept += len(self._pending)

    @property
    def passes(self) -> float:
        """Passes over the raw data so far (by epoch: over what was chosen of it); whole when the last batch is over."""
        if self._pass is None or not self._size:
            return float(self.finished)
        left = len(self._pending) - self._taken
        return self.finished + min(self._size - left, self._size - 0.5) / self._size

    @property
    def waiting(self) -> int:
        """Samples that were kept and are still to be trained on."""
        return len(self.held) + (0 if self.by_batch else len(self._pending) - self._taken)

    @property
    def kept_by_unit(self) -> list[int]:
        """How many samples were kept of each unit of the pass in progress, or of the last one."""
        return self.kept_in.get(self.finished if self._pass is None else self._pass, [])

    def forget(self, before: int) -> None:
        """Forget what was kept of each unit of the passes before that number: no arm that follows asks for it."""
        for number in [number for number in self.kept_in if number < before]:
            del self.kept_in[number]

    def _since_last_step(self) -> dict[str, int]:
        return {name: getattr(self.counts, name) - getattr(self._at_last_step, name) for name in TRACED}

    def _next(self, probe: Probe) -> Views | None:
        """The next batch, or None at the epoch's end."""
        if not self.by_batch:
            return self._take(self.batching.batch_size if self.batching.stable else len(self._pending))
        while True:
            if self.batching.stable and len(self.held) >= self.batching.batch_size:  # carried over
                return self._filled()
            start, size = self._taken, self._raw_batch_size()
            raw = self._take(size * self._raw_batches_at_once(size))
            if raw is None:
                return None
            kept = self._selected(raw, size, size, probe)
            self.counts.samples_kept += len(kept)
            self._probed_since_step += self._taken - start
            self._kept_since_step += len(kept)
            if self.batching.stable:
                self.held = self.held + kept
            elif len(kept):
                return kept

    def _take(self, size: int) -> Views | None:
        start, self._taken = self._taken, min(self._taken + size, len(self._pending))
        return self._pending[start : self._taken] if start < self._taken else None

    def _filled(self) -> Views:
        """The full held batch; what does not fit is discarded, or held for the next."""
        batch, rest = self.held[: self.batching.batch_size], self.held[self.batching.batch_size :]
        self.held = rest if self.batching.carry else Views.none(self.device)
        self.counts.samples_overflowed += 0 if self.batching.carry else len(rest)
        if self._probed_since_step:
            self._acceptance = self._kept_since_step / self._probed_since_step
        self._probed_since_step = self._kept_since_step = 0
        return batch

    def _raw_batch_size(self) -> int:
        return self.selection.draw(self._usual_raw_batch_size(), self.memory)

    def _usual_raw_batch_size(self) -> int:
        if self.batching.raw_batch_size is not None:
            return self.batching.raw_batch_size
        missing = self.batching.batch_size - (len(self.held) if self.batching.stable else 0)
        wanted = math.ceil(missing / self._acceptance)  # above 0, for it is that of a batch that was filled
        return max(min(wanted, self.batching.raw_batch_limit), self.batching.batch_size)

    def _raw_batches_at_once(self, size: int) -> int:
        """How many raw batches the held batch is likely to need; a power of two, so that there are few sizes."""
        most = self.batching.at_once // size
        if most < 2 or not self.batching.stable or not self.selection.ahead:
            return 1
        likely = int((self.batching.batch_size - len(self.held)) / (self._acceptance * size))
        return 2 ** (max(min(likely, most), 1).bit_length() - 1)

    def _selected(self, views: Views, size: int, raw_batch_size: int, probe: Probe) -> Views:
        """What the selection keeps of the views, taken as units of ``size``; units that no batch needs go back.

        They are probed ``raw_batch_size`` at a time, or several such batches together.
        """
        selection, memory = self.selection, self.memory
        unit = self._unit(views)
        look = selection.look(unit, memory)
        looked_at = (views if look else views[:0]) if isinstance(look, bool) else views[look.to(self.device)]
        seen = self._probed(looked_at, raw_batch_size, probe) if len(looked_at) else None
        if len(views) > size:
            assert seen is not None
            choice, by_unit = selection.choose_ahead(unit, size, seen, memory)
            by_unit = self._needed(by_unit)
        else:
            choice = selection.choose(unit, seen, memory)
            by_unit = [choice.positions.numel()]
        number = sum(by_unit)
        kept = views[choice.positions[:number].to(self.device)]
        if choice.repeats:
            kept = kept.repeated(REPEATED)
        if selection.weighted:
            kept = kept.weighted(None if choice.weights is None else choice.weights[:number].to(self.device))
        drawn = min(len(by_unit) * size, len(views))
        self._taken -= len(views) - drawn
        self.kept_by_unit.extend(by_unit)
        self.counts.samples_rejected += max(drawn - len(kept), 0)
        if seen is not None:
            looked = min(drawn, len(looked_at))
            self.counts.raw_batches += math.ceil(looked / raw_batch_size)
            self.counts.samples_probed += looked
        return kept

    def _unit(self, views: Views) -> Unit:
        assert self._pass is not None
        number, kept = self._pass, self.kept

        def samples(positions: Positions) -> tuple[Images, Int64[Tensor, " m"]]:
            assert self.samples is not None
            return self.samples(views[positions.to(self.device)])

        def gradient_norms(positions: Positions) -> Float[Tensor, " m"]:
            assert self.gradient_norms is not None
            self.ledger.add(GRADIENT * positions.numel())
            return self.gradient_norms(views[positions.to(self.device)])

        return Unit(
            number=len(self.kept_by_unit),
            epoch=self._epoch,
            pass_number=number,
            index=views.index,
            missing=max(self.batching.batch_size - len(self.held), 0),
            seed=self.seed,
            kept=lambda arm: kept(arm, number),
            spend=self.ledger.add,
            samples=samples,
            gradient_norms=gradient_norms,
        )

    def _needed(self, kept_by_unit: list[int]) -> list[int]:
        """Those of the units that it takes to fill the held batch: then the model changes."""
        missing = self.batching.batch_size - len(self.held)
        return kept_by_unit[: 1 + sum(kept < missing for kept in accumulate(kept_by_unit[:-1]))]

    def _probed(self, views: Views, raw_batch_size: int, probe: Probe) -> ProbeResult:
        at_once = max(self.batching.at_once // raw_batch_size, 1) * raw_batch_size
        return ProbeResult.join([probe(chunk) for chunk in views.split(at_once)])

    def loss(
        self,
        views: Views,
        logits: Float[Tensor, "n classes"],
        labels: Int64[Tensor, " n"],
        images: Images | None = None,
    ) -> Float[Tensor, ""]:
        """What an update descends: the batch's mean cross-entropy in nats, unless the selection has its own loss."""
        withheld = self.withheld if self.selection.withholds else None
        batch = Batch(views.index, logits, labels, withheld, views.weight, self.smoothing, images)
        return self.selection.loss(batch, self.memory)

    def rate(self) -> float | Float[Tensor, ""]:
        """The selection's factor on the learning rate of the next update."""
        return self.selection.rate(self.memory)

    def spent(self) -> dict[str, int | float]:
        """What the epoch has cost so far: its counts, and ``samples_backward``, ``auxiliary_compute`` and ``compute``.

        Waits for the device only if the selection sends not all samples backward.
        """
        backward = self.counts.samples_trained - (int(self.withheld) if self.selection.withholds else 0)
        auxiliary = self.ledger.spent + self.counts.samples_trained * self.selection.overhead(self.memory)
        forward = self.counts.samples_probed + self.counts.samples_trained
        compute = forward + 2 * backward + auxiliary
        return vars(self.counts) | {"samples_backward": backward, "auxiliary_compute": auxiliary, "compute": compute}

    def state_dict(self) -> dict[str, Any]:
        """What the sampler remembers, in plain values and tensors; it can be taken after any batch."""
        return {
            "held": self.held.state_dict(),
            "pending": self._pending[self._taken :].state_dict(),
            "size": self._size,
            "epoch": self._epoch,
            "pass": self._pass,
            "finished": self.finished,
            "counts": asdict(self.counts),
            "at_last_step": asdict(self._at_last_step),
            "kept_in": {str(number): list(kept) for number, kept in self.kept_in.items()},
            "trace": [dict(step) for step in self.trace],
            "probed_since_step": self._probed_since_step,
            "kept_since_step": self._kept_since_step,
            "acceptance": self._acceptance,
            "memory": self.memory.state_dict(),
            "prepared": self.prepared,
            "withheld": self.withheld.clone(),
            "spent": self.ledger.spent,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned, within an epoch or between two."""
        self.held = Views.from_state_dict(state["held"], self.device)
        self._pending, self._taken = Views.from_state_dict(state["pending"], self.device), 0
        self._size = state["size"]
        self._epoch, self._pass, self.finished = state["epoch"], state["pass"], state["finished"]
        self.counts = Counts(**state["counts"])
        self._at_last_step = Counts(**state["at_last_step"])
        self.kept_in = {int(number): list(kept) for number, kept in state["kept_in"].items()}
        self.trace = [dict(step) for step in state["trace"]]
        self._probed_since_step = state["probed_since_step"]
        self._kept_since_step = state["kept_since_step"]
        self._acceptance = state["acceptance"]
        self.memory.load_state_dict(state["memory"])
        self.prepared = state["prepared"]
        self.withheld.fill_(int(state["withheld"]))
        self.ledger.spent = state["spent"]
