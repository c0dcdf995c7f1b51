"""What every sampler promises, whatever its granularity."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from simulation import CASES, CPU, GRANULARITIES, Case, simulate

from trainables.samplers import Counts

pytestmark = pytest.mark.parametrize("granularity", GRANULARITIES)
thorough = settings(max_examples=25)


@given(case=CASES)
@thorough
def test_indices_are_in_range_and_shown_at_most_once_an_epoch(granularity: str, case: Case) -> None:
    simulation = simulate(case, granularity)
    seen = []
    for epoch in range(1, case.epochs + 1):
        for batch in simulation.epoch(epoch):
            assert all(0 <= index < case.samples and 1 <= shown <= epoch for index, shown in batch)
            seen += batch
    assert len(seen) == len(set(seen))


@given(case=CASES)
@thorough
def test_batches_have_the_batch_size(granularity: str, case: Case) -> None:
    simulation = simulate(case, granularity)
    for epoch in range(1, case.epochs + 1):
        sizes = [len(batch) for batch in simulation.epoch(epoch)]
        stable = sizes if "batch" in granularity else sizes[:-1]
        assert set(stable) <= {case.batch_size}
        assert all(1 <= size <= case.batch_size for size in sizes)


@given(case=CASES)
@thorough
def test_counts_add_up(granularity: str, case: Case) -> None:
    simulation = simulate(case, granularity)
    for epoch in range(1, case.epochs + 1):
        before = len(simulation.sampler.held)
        batches = simulation.epoch(epoch)
        counts, held = simulation.sampler.counts, len(simulation.sampler.held)
        assert held < case.batch_size
        assert counts.steps == len(batches)
        assert counts.samples_trained == sum(map(len, batches))
        assert counts.samples_kept == counts.samples_trained + counts.samples_overflowed + held - before
        assert counts.samples_kept + counts.samples_rejected == case.samples
        assert counts.raw_batches == len(simulation.probed)
        assert counts.samples_probed == sum(map(len, simulation.probed))
        assert all(len(raw) <= case.raw_batch_size for raw in simulation.probed)
        if granularity in ("epoch", "batch"):
            assert counts.samples_probed == case.samples
        if granularity == "none":
            assert counts == Counts(counts.steps, 0, case.samples, 0, 0, case.samples, 0)


@given(case=CASES)
@thorough
def test_every_sample_is_probed_once_a_stage_in_the_epochs_order(granularity: str, case: Case) -> None:
    simulation = simulate(case, granularity)
    for epoch in range(1, case.epochs + 1):
        simulation.epoch(epoch)
        probed = [pair for raw in simulation.probed for pair in raw]
        everything = [(index, epoch) for index in case.order(epoch).tolist()]
        expected = {"none": 0, "epoch": case.samples, "batch": case.samples, "epoch+batch": case.samples}[granularity]
        assert probed[:expected] == everything[:expected]
        again = probed[expected:]
        assert not again or granularity == "epoch+batch"
        assert len(set(again)) == len(again)
        assert [pair for pair in everything if pair in set(again)] == again


@given(case=CASES)
@thorough
def test_the_same_run_twice_is_the_same(granularity: str, case: Case) -> None:
    one, other = simulate(case, granularity), simulate(case, granularity)
    for epoch in range(1, case.epochs + 1):
        assert one.epoch(epoch) == other.epoch(epoch)
        assert one.sampler.counts == other.sampler.counts


@given(case=CASES)
@thorough
def test_a_saved_sampler_continues_as_if_it_had_not_stopped(granularity: str, case: Case) -> None:
    through, stopped = simulate(case, granularity), simulate(case, granularity)
    for epoch in range(1, case.epochs + 1):
        assert stopped.epoch(epoch) == through.epoch(epoch)
        assert stopped.sampler.counts == through.sampler.counts
        file = io.BytesIO()
        torch.save(stopped.sampler.state_dict(), file)
        file.seek(0)
        stopped.sampler = case.sampler(granularity)
        stopped.sampler.load_state_dict(torch.load(file, weights_only=True))
        assert len(stopped.sampler.held) == len(through.sampler.held)


@given(case=CASES)
@thorough
def test_a_filter_that_keeps_nothing_yields_nothing(granularity: str, case: Case) -> None:
    simulation = simulate(replace(case, table=(False,)), granularity)
    for epoch in range(1, case.epochs + 1):
        batches = simulation.epoch(epoch)
        assert bool(batches) is (granularity == "none")
        assert len(simulation.sampler.held) == 0
        assert simulation.sampler.counts.samples_rejected == (0 if granularity == "none" else case.samples)


@given(case=CASES)
@thorough
def test_a_filter_that_keeps_everything_is_the_archetype_where_batches_divide_the_data(
    granularity: str, case: Case
) -> None:
    whole = replace(case, samples=case.batch_size * case.epochs, raw_batch_size=case.batch_size, table=(True,))
    archetype, filtered = simulate(whole, "none"), simulate(whole, granularity)
    for epoch in range(1, case.epochs + 1):
        assert filtered.epoch(epoch) == archetype.epoch(epoch)
        assert filtered.sampler.counts.samples_overflowed == len(filtered.sampler.held) == 0


@given(case=CASES)
@thorough
def test_the_trained_were_accepted_under_the_picture_that_they_are_trained_on(granularity: str, case: Case) -> None:
    simulation = simulate(case, granularity)
    accepted: set[tuple[int, int]] = set()
    inner = simulation.probe

    def spy(views):
        result = inner(views)
        accepted.update(pair for pair in simulation.probed[-1] if case.accepts(*pair, simulation.updates))
        return result

    simulation.probe = spy
    for epoch in range(1, case.epochs + 1):
        trained = {pair for batch in simulation.epoch(epoch) for pair in batch}
        assert granularity == "none" or trained <= accepted


def test_an_abandoned_epoch_leaves_the_next_one_whole(granularity: str) -> None:
    case = Case(samples=40, batch_size=4, raw_batch_size=8, epochs=2, table=(True,))
    simulation = simulate(case, granularity)
    first = next(iter(simulation.sampler.batches(1, simulation.probe)))
    assert len(first) == 4
    simulation.epoch(2)
    counts = simulation.sampler.counts
    assert counts.samples_kept + counts.samples_rejected == 40


def test_views_are_on_the_samplers_device(granularity: str) -> None:
    case = Case(samples=12, batch_size=4, raw_batch_size=4, epochs=1, table=(True, False, True))
    simulation = simulate(case, granularity)
    for views in simulation.sampler.batches(1, simulation.probe):
        assert views.index.device == views.epoch.device == CPU
        assert views.index.dtype == views.epoch.dtype == torch.int64
