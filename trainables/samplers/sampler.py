"""The sampler: the order of an epoch, filtered as a whole, in raw batches, in both ways, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from trainables.samplers.filters import Filter, ProbeResult
from trainables.samplers.views import Views

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


class Sampler:
    """Yields the batches of an epoch as views.

    Without filters it is the archetype (Alg. 1). An epoch filter judges the whole shuffled epoch before the first
    update (Alg. 8). A batch filter judges raw batches and yields when a filtered batch is full; the rest of that raw
    batch overflows and is discarded, and a half-filled batch is held over to the next epoch (Alg. 10). With both, raw
    batches are drawn from what the epoch filter kept (Table 4.4).

    Arguments:
        order: the permutation of sample indices that an epoch goes through; a pure function of the epoch.
        batch_size: samples in a batch; only without a batch filter can an epoch's last batch be smaller.
        raw_batch_size: samples probed at once.
        epoch_filter, batch_filter: which samples to keep.
    """

    def __init__(
        self,
        order: Order,
        batch_size: int,
        raw_batch_size: int,
        epoch_filter: Filter | None = None,
        batch_filter: Filter | None = None,
        *,
        device: torch.device,
    ) -> None:
        self.order = order
        self.batch_size = batch_size
        self.raw_batch_size = raw_batch_size
        self.epoch_filter = epoch_filter
        self.batch_filter = batch_filter
        self.device = device
        self.counts = Counts()
        self.held = Views.none(device)

    def batches(self, epoch: int, probe: Probe) -> Iterator[Views]:
        """The batches of ``epoch``; starts new :attr:`counts`. The model must be trained on each before the next is
        asked.
        """
        self.counts = Counts()
        views = Views.of(self.order(epoch).to(self.device), epoch)
        drawn = len(views)
        if self.epoch_filter is not None:
            kept = [raw[self._judge(self.epoch_filter, raw, probe)] for raw in views.split(self.raw_batch_size)]
            views = sum(kept, Views.none(self.device))
        batches = self._counted(views) if self.batch_filter is None else self._filtered(self.batch_filter, views, probe)
        for batch in batches:
            self.counts.steps += 1
            self.counts.samples_trained += len(batch)
            yield batch
        self.counts.samples_rejected = drawn - self.counts.samples_kept

    def _judge(self, keep: Filter, raw: Views, probe: Probe) -> Tensor:
        self.counts.raw_batches += 1
        self.counts.samples_probed += len(raw)
        return keep(probe(raw))

    def _counted(self, views: Views) -> Iterator[Views]:
        self.counts.samples_kept = len(views)
        return views.split(self.batch_size)

    def _filtered(self, keep: Filter, views: Views, probe: Probe) -> Iterator[Views]:
        for raw in views.split(self.raw_batch_size):
            kept = raw[self._judge(keep, raw, probe)]
            self.counts.samples_kept += len(kept)
            self.held = self.held + kept
            if len(self.held) >= self.batch_size:
                batch, overflow = self.held[: self.batch_size], self.held[self.batch_size :]
                self.held = Views.none(self.device)
                self.counts.samples_overflowed += len(overflow)
                yield batch

    def state_dict(self) -> dict[str, Tensor]:
        """What the sampler remembers between epochs: the views of the half-filled batch."""
        return {"held_index": self.held.index, "held_epoch": self.held.epoch}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from what :meth:`state_dict` returned."""
        self.held = Views(state["held_index"].to(self.device), state["held_epoch"].to(self.device))
