"""The sampler: when samples are selected, and how what is selected becomes batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy

from trainables.samplers.filters import ProbeResult
from trainables.samplers.peers import InfoBatch, SelectiveBackprop
from trainables.samplers.selection import Chance, Judged, Selection
from trainables.samplers.views import Views
from trainables.seeds import generator

Probe = Callable[[Views], ProbeResult]
Order = Callable[[int], Int64[Tensor, " n"]]


@dataclass
class Counts:
    """What a sampler did in one epoch; the names are those of the epoch table.

    kept = trained + overflowed + what the held batch grew by.
    """

    steps: int = 0
    samples_probed: int = 0
    samples_kept: int = 0
    samples_rejected: int = 0
    samples_overflowed: int = 0
    samples_trained: int = 0
    raw_batches: int = 0


TRACED = ("raw_batches", "samples_probed", "samples_kept", "samples_overflowed", "samples_trained")
"""The counts that :attr:`Sampler.trace` has for every step of the epoch, since the step before."""


@dataclass(frozen=True)
class Batching:
    """How selected samples become batches.

    Attributes:
        batch_size: samples in a stable batch.
        raw_batch_size: samples probed at once; None: as many as the acceptance ratio of the last filtered batch says
            it takes to fill one, at least ``batch_size`` and at most ``raw_batch_limit`` (section 5.2.2).
        raw_batch_limit: the bound of an adaptive raw batch, set by memory.
        stable: whether batches have ``batch_size`` samples (Alg. 10), or are all that was selected at once (Alg. 2, 9).
        carry: whether what does not fit a stable batch goes into the next one, or is discarded (section 3.3.2).
        at_once: samples that may be probed together, ahead of need: as many raw batches as are likely to be needed
            before the next update. Where fewer were, the probe of the others is forgotten, for the model changes;
            nothing is counted that was not needed. 0: one raw batch at a time. Only valid if the output for a sample
            does not depend on the rest of the batch, and with a fixed ``raw_batch_size``: the size of an adaptive raw
            batch depends on what the one before it kept.
    """

    batch_size: int
    raw_batch_size: int | None
    raw_batch_limit: int = 16384
    stable: bool = True
    carry: bool = False
    at_once: int = 0

    def probe_sizes(self) -> list[int]:
        """The sizes that whole probes have; none where raw batches are adaptive."""
        if self.raw_batch_size is None:
            return []
        most = max(self.at_once // self.raw_batch_size, 1)
        return [self.raw_batch_size * 2**power for power in range(most.bit_length())]


class Sampler:
    """Yields the batches of an epoch as views.

    Without selections it is the archetype (Alg. 1). An epoch selection judges the whole shuffled epoch before the first
    update (Alg. 8, and 2 to 6 with unstable batches). A batch selection judges raw batches: a stable batch is yielded
    when it is full, what overflows is discarded or carried, and a half-filled one is held over to the next epoch (Alg.
    10); an unstable one is what was selected of one raw batch (Alg. 9). With both, raw batches are drawn from what the
    epoch's selection kept (Table 4.4).

    Arguments:
        order: the permutation of sample indices that an epoch goes through; a pure function of the epoch.
        seed: of the selections' random numbers, which are a function of seed, epoch and unit.
    """

    def __init__(
        self,
        order: Order,
        batching: Batching,
        epoch_selection: Selection | None = None,
        batch_selection: Selection | None = None,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        self.order = order
        self.batching = batching
        self.epoch_selection = epoch_selection
        self.batch_selection = batch_selection
        self.seed = seed
        self.device = device
        self.counts = Counts()
        self.kept_by_unit: list[int] = []
        self.trace: list[dict[str, int]] = []
        self.held = Views.none(device)
        self._epoch: int | None = None
        self._pending = Views.none(device)
        self._taken = 0  # of the pending
        self._probed_since_step = 0
        self._kept_since_step = 0
        self._acceptance = 1.0
        self._at_last_step = Counts()
        selections = (epoch_selection, batch_selection)
        self._peers = [peer for peer in selections if isinstance(peer, SelectiveBackprop | InfoBatch)]

    def batches(self, epoch: int, probe: Probe) -> Iterator[Views]:
        """The batches of ``epoch``; starts new :attr:`counts`, unless a restored state lies within this epoch.

        The model must be trained on each batch before the next is asked for.
        """
        if self._epoch != epoch:
            self._begin(epoch, probe)
        while (batch := self._next(probe)) is not None:
            self.counts.steps += 1
            self.counts.samples_trained += len(batch)
            self.trace.append({"step": self.counts.steps, **self._since_last_step()})
            self._at_last_step = copy(self.counts)
            yield batch
        self._epoch = None

    def _begin(self, epoch: int, probe: Probe) -> None:
        waiting = {name: -count for name, count in self._since_last_step().items()}
        self._at_last_step = Counts(**waiting)  # below 0: what earlier epochs spent on the batch that is being filled
        self.counts, self.kept_by_unit, self.trace, self._epoch = Counts(), [], [], epoch
        self._pending, self._taken = Views.of(self.order(epoch).to(self.device), epoch), 0
        if self.epoch_selection is not None:
            self._pending = self._selected(self.epoch_selection, self._pending, len(self._pending), probe)
        if self.batch_selection is None:
            self.counts.samples_kept = len(self._pending)

    def _since_last_step(self) -> dict[str, int]:
        return {name: getattr(self.counts, name) - getattr(self._at_last_step, name) for name in TRACED}

    def _next(self, probe: Probe) -> Views | None:
        """The next batch, or None at the epoch's end."""
        if self.batch_selection is None:
            return self._take(self.batching.batch_size if self.batching.stable else len(self._pending))
        while True:
            if self.batching.stable and len(self.held) >= self.batching.batch_size:  # carried over
                return self._filled()
            start, size = self._taken, self._raw_batch_size()
            raw = self._take(size * self._raw_batches_at_once(size))
            if raw is None:
                return None
            kept = self._selected(self.batch_selection, raw, size, probe)
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
        if self.batching.raw_batch_size is not None:
            return self.batching.raw_batch_size
        missing = self.batching.batch_size - (len(self.held) if self.batching.stable else 0)
        wanted = math.ceil(missing / self._acceptance)  # above 0, for it is that of a batch that was filled
        return max(min(wanted, self.batching.raw_batch_limit), self.batching.batch_size)

    def _raw_batches_at_once(self, size: int) -> int:
        """How many raw batches the held batch is likely to need; a power of two, so that there are few sizes."""
        most = self.batching.at_once // size
        if most < 2 or not self.batching.stable or not isinstance(self.batch_selection, Judged):
            return 1
        likely = int((self.batching.batch_size - len(self.held)) / (self._acceptance * size))
        return 2 ** (max(min(likely, most), 1).bit_length() - 1)

    def _selected(self, selection: Selection, views: Views, size: int, probe: Probe) -> Views:
        """What ``selection`` keeps of the views, taken as units of ``size``; units that no batch needs go back."""
        assert self._epoch is not None
        unit, epoch = len(self.kept_by_unit), self._epoch
        raw_batch_size = self._raw_batch_size()

        def random(place: int) -> torch.Generator:
            return generator(self.seed, "selection", epoch, unit + place)

        match selection:
            case Judged():
                kept, by_unit = selection.by_unit(self._probed(views, raw_batch_size, probe), size, random)
            case SelectiveBackprop():
                kept = selection(self._probed(views, raw_batch_size, probe), random(0))
            case Chance():
                kept = selection(unit, len(views), random(0)).to(self.device)
            case InfoBatch():
                kept = selection(views.index, epoch, random(0))
        by_unit = self._needed(by_unit) if isinstance(selection, Judged) else [kept.numel()]
        drawn, number = min(len(by_unit) * size, len(views)), sum(by_unit)
        self._taken -= len(views) - drawn
        self.kept_by_unit += by_unit
        self.counts.samples_rejected += drawn - number
        if isinstance(selection, Judged | SelectiveBackprop):
            self.counts.raw_batches += math.ceil(drawn / raw_batch_size)
            self.counts.samples_probed += drawn
        return views[kept[:number]]

    def _needed(self, kept_by_unit: list[int]) -> list[int]:
        """Those of the units that it takes to fill the held batch: then the model changes."""
        missing = self.batching.batch_size - len(self.held)
        return kept_by_unit[: 1 + sum(kept < missing for kept in accumulate(kept_by_unit[:-1]))]

    def _probed(self, views: Views, raw_batch_size: int, probe: Probe) -> ProbeResult:
        at_once = max(self.batching.at_once // raw_batch_size, 1) * raw_batch_size
        return ProbeResult.join([probe(chunk) for chunk in views.split(at_once)])

    def loss(self, views: Views, logits: Float[Tensor, "n classes"], labels: Int64[Tensor, " n"]) -> Float[Tensor, ""]:
        """What an update descends: a batch's mean cross-entropy in nats, unless the method rescales it by sample."""
        if isinstance(self.epoch_selection, InfoBatch):
            return self.epoch_selection.loss(views.index, cross_entropy(logits, labels, reduction="none"))
        return cross_entropy(logits, labels)

    def state_dict(self) -> dict[str, Any]:
        """What the sampler remembers, in plain values and tensors; it can be taken after any batch."""
        return {
            "held": self.held.state_dict(),
            "pending": self._pending[self._taken :].state_dict(),
            "epoch": self._epoch,
            "counts": asdict(self.counts),
            "at_last_step": asdict(self._at_last_step),
            "kept_by_unit": list(self.kept_by_unit),
            "trace": [dict(step) for step in self.trace],
            "probed_since_step": self._probed_since_step,
            "kept_since_step": self._kept_since_step,
            "acceptance": self._acceptance,
            "selection": [peer.state_dict() for peer in self._peers],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned, within an epoch or between two."""
        self.held = Views.from_state_dict(state["held"], self.device)
        self._pending, self._taken = Views.from_state_dict(state["pending"], self.device), 0
        self._epoch = state["epoch"]
        self.counts = Counts(**state["counts"])
        self._at_last_step = Counts(**state["at_last_step"])
        self.kept_by_unit = list(state["kept_by_unit"])
        self.trace = [dict(step) for step in state["trace"]]
        self._probed_since_step = state["probed_since_step"]
        self._kept_since_step = state["kept_since_step"]
        self._acceptance = state["acceptance"]
        for peer, remembered in zip(self._peers, state["selection"], strict=True):
            peer.load_state_dict(remembered)
