"""A sampler under simulated training: acceptance by a table, and model time that ticks with every update."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from hypothesis import strategies as st

from trainables.samplers import ProbeResult, Sampler, Views, wrong
from trainables.seeds import permutation

Accepts = Callable[[int, int, int], bool]
"""Whether a model after so many updates gets (index, epoch's picture of it) wrong: (index, epoch, updates)."""
Batch = list[tuple[int, int]]
"""(index, epoch whose picture is shown) by sample."""

GRANULARITIES = ("none", "epoch", "batch", "epoch+batch")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """The sizes of a simulated run, and a table of acceptances that is read in a scattered order."""

    samples: int
    batch_size: int
    raw_batch_size: int
    epochs: int
    table: tuple[bool, ...]

    def accepts(self, index: int, epoch: int, updates: int) -> bool:
        return self.table[(index * 7 + epoch * 13 + updates * 29) % len(self.table)]

    def order(self, epoch: int) -> torch.Tensor:
        return permutation(self.samples, 0, "order", epoch)

    def sampler(self, granularity: str) -> Sampler:
        return Sampler(
            order=self.order,
            batch_size=self.batch_size,
            raw_batch_size=self.raw_batch_size,
            epoch_filter=wrong if granularity in ("epoch", "epoch+batch") else None,
            batch_filter=wrong if granularity in ("batch", "epoch+batch") else None,
            device=CPU,
        )


_TABLES = st.one_of(
    st.just((True,)),
    st.just((False,)),
    st.lists(st.booleans(), min_size=2, max_size=61).map(tuple),
    st.lists(st.integers(0, 9).map(lambda digit: digit == 0), min_size=2, max_size=61).map(tuple),
)
CASES = st.builds(
    Case,
    samples=st.integers(1, 60),
    batch_size=st.integers(1, 25),
    raw_batch_size=st.integers(1, 25),
    epochs=st.integers(1, 5),
    table=_TABLES,
)


@dataclass
class Simulation:
    """Runs a sampler; every batch that it yields is an update."""

    sampler: Sampler
    accepts: Accepts
    updates: int = 0
    probed: list[Batch] = field(default_factory=list)

    def probe(self, views: Views) -> ProbeResult:
        batch = pairs(views)
        self.probed.append(batch)
        wrongly = torch.tensor([self.accepts(index, epoch, self.updates) for index, epoch in batch], dtype=torch.int64)
        logits = torch.nn.functional.one_hot(wrongly, 2).float()
        return ProbeResult(logits, torch.zeros(len(batch), dtype=torch.int64))

    def epoch(self, epoch: int) -> list[Batch]:
        self.probed.clear()
        batches = []
        for views in self.sampler.batches(epoch, self.probe):
            batches.append(pairs(views))
            self.updates += 1
        return batches


def simulate(case: Case, granularity: str) -> Simulation:
    return Simulation(case.sampler(granularity), case.accepts)


def pairs(views: Views) -> Batch:
    return list(zip(views.index.tolist(), views.epoch.tolist(), strict=True))
