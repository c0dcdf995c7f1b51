"""The samplers against the thesis's algorithms, transcribed over Python lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given, settings
from simulation import CASES, Accepts, Batch, Case, simulate

Filter = Callable[[Batch], Batch]


class Net:
    """What the algorithms call ``net``: only its updates matter to a filter."""

    def __init__(self, accepts: Accepts) -> None:
        self.accepts = accepts
        self.updates = 0
        self.trained: list[Batch] = []

    def step(self, batch: Batch) -> None:
        """Forward, losses, backward, Op.step."""
        self.trained.append(list(batch))
        self.updates += 1

    def filter(self, batch: Batch) -> Batch:
        """Algorithm 7."""
        return [(index, epoch) for index, epoch in batch if self.accepts(index, epoch, self.updates)]


def in_batches(data: Batch, size: int) -> Iterator[Batch]:
    batch: Batch = []
    for sample in data:
        batch.append(sample)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def shuffled(case: Case, epoch: int) -> Batch:
    return [(index, epoch) for index in case.order(epoch).tolist()]


def algorithm_1(case: Case, net: Net) -> Iterator[None]:
    for epoch in range(1, case.epochs + 1):
        for batch in in_batches(shuffled(case, epoch), case.batch_size):
            net.step(batch)
        yield


def algorithm_8(case: Case, net: Net) -> Iterator[None]:
    for epoch in range(1, case.epochs + 1):
        data = shuffled(case, epoch)
        selected = net.filter(data)
        for batch in in_batches(selected, case.batch_size):
            net.step(batch)
        yield


def algorithm_10(case: Case, net: Net, select: Filter = lambda data: data) -> Iterator[None]:
    filtered: Batch = []
    for epoch in range(1, case.epochs + 1):
        for raw in in_batches(select(shuffled(case, epoch)), case.raw_batch_size):
            filtered = filtered + net.filter(raw)
            if len(filtered) >= case.batch_size:
                net.step(filtered[0 : case.batch_size])
                filtered = []
        yield


def epoch_and_batch(case: Case, net: Net) -> Iterator[None]:
    """Table 4.4: Algorithm 10 over what Algorithm 8's filter selects at the start of the epoch."""
    return algorithm_10(case, net, select=net.filter)


ORACLES = {"none": algorithm_1, "epoch": algorithm_8, "batch": algorithm_10, "epoch+batch": epoch_and_batch}
NAMED = {
    "nothing accepted": Case(20, 4, 6, 3, (False,)),
    "everything accepted, batches divide": Case(20, 4, 4, 3, (True,)),
    "everything accepted, overflow at every batch": Case(20, 4, 6, 3, (True,)),
    "everything accepted, raw batches smaller": Case(20, 6, 4, 3, (True,)),
    "half-filled at the end of every epoch": Case(10, 7, 5, 4, (True, False)),
    "one sample accepted in many": Case(50, 3, 8, 5, (True, *[False] * 16)),
    "last raw batch partial": Case(11, 4, 5, 4, (True, True, False)),
    "a single raw batch": Case(9, 4, 25, 3, (True, True, False)),
    "batches of one": Case(9, 1, 3, 2, (True, False)),
}


@pytest.mark.parametrize("granularity", ORACLES)
def test_batches_are_those_of_the_thesiss_algorithm(granularity: str) -> None:
    @given(CASES)
    @settings(max_examples=100)
    def agrees(case: Case) -> None:
        check(granularity, case)

    for case in NAMED.values():
        agrees = example(case)(agrees)
    agrees()


def check(granularity: str, case: Case) -> None:
    net, simulation = Net(case.accepts), simulate(case, granularity)
    oracle = ORACLES[granularity](case, net)
    for epoch in range(1, case.epochs + 1):
        net.trained.clear()
        next(oracle)
        assert simulation.epoch(epoch) == net.trained


@pytest.mark.parametrize("granularity", ["batch", "epoch+batch"])
def test_a_half_filled_batch_is_completed_by_the_next_epoch_with_the_old_pictures(granularity: str) -> None:
    case = Case(samples=5, batch_size=8, raw_batch_size=5, epochs=2, table=(True,))
    simulation = simulate(case, granularity)
    assert simulation.epoch(1) == []
    assert len(simulation.sampler.held) == 5
    (batch,) = simulation.epoch(2)
    assert batch == shuffled(case, 1) + shuffled(case, 2)[:3]
    assert simulation.sampler.counts.samples_overflowed == 2


def test_overflow_is_discarded_and_not_carried_over() -> None:
    case = Case(samples=6, batch_size=4, raw_batch_size=6, epochs=2, table=(True,))
    simulation = simulate(case, "batch")
    for epoch in (1, 2):
        assert simulation.epoch(epoch) == [shuffled(case, epoch)[:4]]
        assert simulation.sampler.counts.samples_overflowed == 2
        assert len(simulation.sampler.held) == 0
