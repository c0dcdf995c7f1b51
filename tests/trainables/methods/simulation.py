"""A sampler under simulated training: predictions by a table, and model time that ticks with every update."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from drawing import blank, methods
from hypothesis import strategies as st
from thesis import Batch, Run

from trainables.config import MethodConfig
from trainables.methods import ProbeResult, Sampler, Views, build
from trainables.seeds import permutation

CPU = torch.device("cpu")
SEED = 3
Row = tuple[tuple[float, float, float], int]

ROWS: Mapping[str, Row] = {
    "wrong": ((0.0, 1.0, 0.0), 0),
    "wronger": ((0.0, 3.0, 1.0), 0),
    "wrongest": ((0.0, 9.0, 0.0), 2),
    "wrong by a tie": ((1.0, 1.0, 0.0), 1),
    "right": ((4.0, 0.0, 1.0), 0),
    "right, loss 0": ((0.0, 200.0, 0.0), 1),
    "barely right": ((1.0, 0.95, -5.0), 0),
    "right by a tie": ((1.0, 1.0, 0.0), 0),
    "a little more than barely right": ((0.0, 0.0, 0.5), 2),
    "wrong, loss infinite": ((-math.inf, 0.0, 0.0), 0),
    "wrong, loss not a number": ((math.nan, 0.0, 0.0), 1),
    "right, loss not a number": ((math.nan, 0.0, 0.0), 0),
}
"""What a model may say of a sample: logits and label."""

WRONG = ("wrong", "wronger", "wrongest", "wrong by a tie", "wrong, loss infinite", "wrong, loss not a number")


@dataclass(frozen=True)
class Case:
    """The sizes of a simulated run, and a table of predictions that is read in a scattered order."""

    samples: int
    batch_size: int
    epochs: int
    table: tuple[str, ...]

    def row(self, index: int, epoch: int, updates: int) -> Row:
        return ROWS[self.table[(index * 7 + epoch * 13 + updates * 29) % len(self.table)]]

    def order(self, epoch: int) -> torch.Tensor:
        return permutation(self.samples, 0, "order", epoch)

    def run(self, raw_batch_size: int | None = None) -> Run:
        return Run(self.order, self.epochs, self.batch_size, raw_batch_size or self.batch_size, SEED)

    def sampler(self, method: MethodConfig, others: Mapping[str, Sampler] | None = None, at_once: int = 0) -> Sampler:
        problem = blank(self.samples, self.batch_size, self.epochs)
        return build(method, problem, self.order, SEED, CPU, others or {}, at_once=at_once)


TABLES = st.one_of(
    st.lists(st.sampled_from(sorted(ROWS)), min_size=1, max_size=30),
    st.lists(st.sampled_from(["wrong", "wronger", *["right"] * 8]), min_size=2, max_size=30),
    st.lists(st.sampled_from(WRONG), min_size=1, max_size=3),
    st.just(["right"]),
).map(tuple)
CASES = st.builds(
    Case, samples=st.integers(1, 60), batch_size=st.integers(1, 25), epochs=st.integers(1, 4), table=TABLES
)
METHODS = methods(others=False)


class TableNet:
    """The thesis's ``net``: only its updates matter to a filter."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.updates = 0
        self.trained: list[Batch] = []

    def forward(self, data: Batch) -> list[list[float]]:
        return [list(self.case.row(*sample, self.updates)[0]) for sample in data]

    def labels(self, data: Batch) -> list[int]:
        return [self.case.row(*sample, self.updates)[1] for sample in data]

    def step(self, batch: Batch) -> None:
        self.trained.append(list(batch))
        self.updates += 1


@dataclass
class Simulation:
    """Runs a sampler; every batch that it yields is an update."""

    case: Case
    sampler: Sampler
    updates: int = 0
    probed: list[Batch] = field(default_factory=list)

    def probe(self, views: Views) -> ProbeResult:
        batch = pairs(views)
        self.probed.append(batch)
        rows = [self.case.row(*sample, self.updates) for sample in batch]
        return ProbeResult(torch.tensor([logits for logits, _ in rows]), torch.tensor([label for _, label in rows]))

    def epoch(self, epoch: int) -> list[Batch]:
        self.probed.clear()
        batches = []
        self.sampler.start_epoch(epoch)
        for views in self.sampler.batches(self.probe):
            batches.append(self.train(views))
        return batches

    def train(self, views: Views) -> Batch:
        batch = pairs(views)
        rows = [self.case.row(*sample, self.updates) for sample in batch]
        logits, labels = torch.tensor([logits for logits, _ in rows]), torch.tensor([label for _, label in rows])
        self.sampler.loss(views, logits, labels, self.sampler.run.images(views.index))
        self.updates += 1
        return batch

    def interrupted_epoch(self, epoch: int, fresh: Sampler) -> list[Batch]:
        """The epoch by a sampler that is saved, and restored into ``fresh``, after every batch."""
        self.probed.clear()
        batches = []
        self.sampler.start_epoch(epoch)
        while (views := next(self.sampler.batches(self.probe), None)) is not None:
            batches.append(self.train(views))
            state = saved(self.sampler.state_dict())
            self.sampler, fresh = fresh, self.sampler
            self.sampler.load_state_dict(state)
        return batches


def simulate(
    case: Case, method: MethodConfig, others: Mapping[str, Sampler] | None = None, at_once: int = 0
) -> Simulation:
    return Simulation(case, case.sampler(method, others, at_once))


def pairs(views: Views) -> Batch:
    return list(zip(views.index.tolist(), views.epoch.tolist(), strict=True))


def saved(state: dict[str, Any]) -> dict[str, Any]:
    """The state as a file gives it back, with no pickled code."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)
