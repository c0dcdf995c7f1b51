"""What every sampler promises, whatever its method."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from drawing import follower, methods
from hypothesis import Phase, assume, find, given, settings
from hypothesis import strategies as st
from simulation import CASES, CPU, METHODS, ROWS, WRONG, Case, Row, simulate

from trainables.config import ARMS, FILTER, SELECTOR, MethodConfig
from trainables.methods import Counts, ProbeResult, Sampler, Views
from trainables.methods.sampler import TRACED

thorough = settings(max_examples=25)

KINDS = {
    "none": MethodConfig(granularity="none"),
    "epoch": MethodConfig(granularity="epoch"),
    "epoch unstable": MethodConfig(granularity="epoch", batch="unstable"),
    "batch": MethodConfig(granularity="batch"),
    "batch unstable": MethodConfig(granularity="batch", batch="unstable"),
    "batch carry": MethodConfig(granularity="batch", overflow="carry"),
    "batch adaptive": MethodConfig(granularity="batch", raw_batch_size="adaptive"),
    "epoch+batch": MethodConfig(granularity="epoch+batch"),
    "epoch+batch unstable": MethodConfig(granularity="epoch+batch", batch="unstable"),
    "chance": MethodConfig(granularity="batch", selector="random", ratio=0.5),
}
EVERYTHING = [
    {"filter": "none", "selector": "top_q", "q": 0.0},
    {"filter": "none", "selector": "random", "ratio": 1.0},
]


def epochs(case: Case) -> range:
    return range(1, case.epochs + 1)


def judges(sampler: Sampler) -> bool:
    return sampler.selection.probes


@given(CASES, METHODS)
@thorough
def test_indices_are_in_range_and_a_picture_is_trained_on_at_most_once(case: Case, method: MethodConfig) -> None:
    simulation = simulate(case, method)
    seen = []
    for epoch in epochs(case):
        for batch in simulation.epoch(epoch):
            assert all(0 <= index < case.samples and 1 <= shown <= epoch for index, shown in batch)
            seen += batch
    assert len(seen) == len(set(seen))


@given(CASES, METHODS)
@thorough
def test_stable_batches_have_the_batch_size(case: Case, method: MethodConfig) -> None:
    simulation = simulate(case, method)
    for epoch in epochs(case):
        sizes = [len(batch) for batch in simulation.epoch(epoch)]
        assert all(sizes)
        if method.batch == "stable":
            assert set(sizes if "batch" in method.granularity else sizes[:-1]) <= {case.batch_size}
            assert max(sizes, default=0) <= case.batch_size
        elif method.granularity == "epoch":
            assert len(sizes) <= 1
        else:
            assert max(sizes, default=0) <= (method.raw_batch_size or case.batch_size)
            kept = simulation.sampler.kept_by_unit[1 if method.granularity == "epoch+batch" else 0 :]
            assert sizes == [size for size in kept if size]


@given(CASES, METHODS)
@thorough
def test_counts_add_up(case: Case, method: MethodConfig) -> None:
    simulation = simulate(case, method)
    for epoch in epochs(case):
        before = len(simulation.sampler.held)
        batches = simulation.epoch(epoch)
        counts, held = simulation.sampler.counts, len(simulation.sampler.held)
        assert held < case.batch_size
        assert held == 0 or ("batch" in method.granularity and method.batch == "stable")
        assert counts.steps == len(batches)
        assert counts.samples_trained == sum(map(len, batches))
        assert counts.samples_kept == counts.samples_trained + counts.samples_overflowed + held - before
        assert counts.samples_kept + counts.samples_rejected == case.samples
        assert counts.samples_overflowed == 0 or method.overflow == "discard"
        assert counts.raw_batches == len(simulation.probed)
        assert counts.samples_probed == sum(map(len, simulation.probed))
        if method.granularity == "none":
            assert counts == Counts(counts.steps, 0, case.samples, 0, 0, case.samples, 0)
        elif method.granularity != "epoch+batch":
            assert sum(simulation.sampler.kept_by_unit) == counts.samples_kept
            assert counts.samples_probed == (case.samples if judges(simulation.sampler) else 0)
        elif judges(simulation.sampler):
            assert counts.samples_probed == case.samples + simulation.sampler.kept_by_unit[0]


@given(CASES, METHODS)
@thorough
def test_every_sample_is_probed_once_a_stage_in_the_epochs_order_and_never_by_chance(
    case: Case, method: MethodConfig
) -> None:
    simulation = simulate(case, method)
    for epoch in epochs(case):
        simulation.epoch(epoch)
        probed = [sample for raw in simulation.probed for sample in raw]
        if not judges(simulation.sampler):
            assert probed == []
            continue
        everything = case.run().shuffled(epoch)
        assert probed[: case.samples] == everything
        again = probed[case.samples :]
        assert len(again) == (simulation.sampler.kept_by_unit[0] if method.granularity == "epoch+batch" else 0)
        assert len(set(again)) == len(again)
        assert set(again) <= set(everything)
        if isinstance(method.raw_batch_size, int | None):
            assert all(len(raw) <= (method.raw_batch_size or case.batch_size) for raw in simulation.probed)


@given(CASES, METHODS)
@thorough
def test_the_same_run_twice_is_the_same_and_needs_no_global_randomness(case: Case, method: MethodConfig) -> None:
    one, other = simulate(case, method), simulate(case, method)
    for epoch in epochs(case):
        state = torch.random.get_rng_state()
        batches = one.epoch(epoch)
        assert torch.equal(torch.random.get_rng_state(), state)
        torch.rand(3)
        assert other.epoch(epoch) == batches
        assert one.sampler.counts == other.sampler.counts
        assert one.sampler.kept_by_unit == other.sampler.kept_by_unit


@given(CASES, METHODS)
@thorough
def test_a_sampler_saved_after_any_batch_continues_as_if_it_had_not_stopped(case: Case, method: MethodConfig) -> None:
    through, stopped = simulate(case, method), simulate(case, method)
    for epoch in epochs(case):
        batches = through.epoch(epoch)
        assert stopped.interrupted_epoch(epoch, case.sampler(method)) == batches
        assert stopped.probed == through.probed
        same_state(stopped.sampler, through.sampler)
        assert stopped.sampler.trace == through.sampler.trace


@given(CASES, METHODS)
@thorough
def test_the_trace_divides_the_counts_among_the_steps_across_epochs(case: Case, method: MethodConfig) -> None:
    simulation = simulate(case, method)
    waiting = dict.fromkeys(TRACED, 0)
    for epoch in epochs(case):
        batches = simulation.epoch(epoch)
        trace, counts = simulation.sampler.trace, vars(simulation.sampler.counts)
        assert [step["step"] for step in trace] == list(range(1, len(batches) + 1))
        assert [step["samples_trained"] for step in trace] == [len(batch) for batch in batches]
        for name in TRACED:
            waiting[name] += counts[name] - sum(step[name] for step in trace)
        assert method.overflow == "carry" or waiting["samples_kept"] == len(simulation.sampler.held)
        assert waiting["samples_trained"] == waiting["samples_overflowed"] == 0


@given(CASES, METHODS, st.integers(0, 200))
@thorough
def test_probing_ahead_of_need_changes_nothing_that_is_done_or_counted(
    case: Case, method: MethodConfig, at_once: int
) -> None:
    plain, ahead, stopped = simulate(case, method), *(simulate(case, method, None, at_once) for _ in range(2))
    for epoch in epochs(case):
        batches = plain.epoch(epoch)
        assert ahead.epoch(epoch) == batches
        assert stopped.interrupted_epoch(epoch, case.sampler(method, None, at_once)) == batches
        for other in (ahead, stopped):
            assert other.sampler.trace == plain.sampler.trace
            same_state(other.sampler, plain.sampler)
        size = method.raw_batch_size or case.batch_size
        if method.probe_mode == "train" or size == "adaptive":
            assert ahead.probed == plain.probed
        else:
            assert all(len(probed) <= max(at_once, size) for probed in ahead.probed)


SPARSE = st.builds(
    Case,
    samples=st.integers(80, 160),
    batch_size=st.integers(4, 12),
    epochs=st.just(1),
    table=st.lists(st.sampled_from(["wrong", "right", "right", "right"]), min_size=3, max_size=30).map(tuple),
)
"""Models that are right so often that a batch takes several raw batches."""


@given(SPARSE, methods(plain=False, others=False))
@thorough
def test_probing_ahead_of_need_changes_nothing_where_a_batch_takes_several_raw_batches(
    case: Case, method: MethodConfig
) -> None:
    plain, ahead = simulate(case, method), simulate(case, method, at_once=64)
    assert ahead.epoch(1) == plain.epoch(1)
    same_state(ahead.sampler, plain.sampler)


@given(SPARSE, st.floats(1.2, 2), st.sampled_from(["discard", "carry"]))
@settings(max_examples=40)
def test_probing_ahead_of_need_changes_nothing_where_the_limit_of_adaptive_raw_batches_binds(
    case: Case, limit: float, overflow: str
) -> None:
    most = int(limit * case.batch_size)
    method = MethodConfig(raw_batch_size="adaptive", raw_batch_limit=most, overflow=overflow)
    plain, ahead = simulate(case, method), simulate(case, method, at_once=1024)
    assert ahead.epoch(1) == plain.epoch(1)
    same_state(ahead.sampler, plain.sampler)
    assert all(len(probed) <= most for probed in ahead.probed)


class WrongInParts(Case):
    """A model that is wrong on every fourth sample, and on all from 24 to 31."""

    def row(self, index: int, epoch: int, updates: int) -> Row:
        return ROWS["wrong" if index % 4 == 1 or 24 <= index < 32 else "right"]


def test_a_raw_batch_is_no_larger_than_what_is_still_missing_asks_for() -> None:
    case = WrongInParts(samples=120, batch_size=4, epochs=1, table=())
    method = MethodConfig(raw_batch_size="adaptive", raw_batch_limit=8)
    plain, ahead = simulate(case, method), simulate(case, method, at_once=1024)
    assert ahead.epoch(1) == plain.epoch(1)
    assert len(plain.probed) == 19
    same_state(ahead.sampler, plain.sampler)


@pytest.mark.parametrize("option", sorted(MethodConfig.model_fields.keys() - {"epochs", "budget"}))
def test_methods_are_drawn_from_every_option(option: str) -> None:
    default = MethodConfig.model_fields[option].default
    found = find(
        methods(), lambda method: getattr(method, option) != default, settings=settings(phases=[Phase.generate])
    )
    assert getattr(found, option) != default


def test_methods_are_drawn_from_every_option_of_every_filter_and_selector() -> None:
    drawn: dict[tuple[str, str, str], set[Any]] = {
        (section, name, option): set()
        for section, named in {"filter": FILTER, "selector": SELECTOR}.items()
        for name in named.table
        for option in named.class_of({"name": name}).model_fields.keys() - {"name", "use", "like", "like_compute"}
    }

    @given(methods())
    @settings(max_examples=3000, phases=[Phase.generate], deadline=None)
    def draw(method: MethodConfig) -> None:
        for section in ("filter", "selector") if method.granularity != "none" else ():
            part = getattr(method, section)
            for option in type(part).model_fields.keys() - {"name", "use", "like", "like_compute"}:
                drawn[section, part.name, option].add(getattr(part, option))

    draw()
    assert not [place for place, values in drawn.items() if len(values) < 2]


def test_raw_batches_are_probed_together_where_few_samples_are_accepted_and_in_few_sizes() -> None:
    case = Case(samples=4000, batch_size=8, epochs=3, table=("wrong", *["right"] * 15))
    plain, ahead = simulate(case, MethodConfig()), simulate(case, MethodConfig(), at_once=128)
    for epoch in epochs(case):
        assert ahead.epoch(epoch) == plain.epoch(epoch)
    assert len(plain.probed) == 500
    assert len(ahead.probed) < 500 / 3
    assert 4000 < sum(map(len, ahead.probed)) < 4000 * 1.1  # some in vain
    sizes = [len(probed) for probed in ahead.probed]  # of the last epoch, which ends with what is left
    assert sum(size not in (8, 16, 32, 64, 128) for size in sizes) <= 2


def same_state(one: Sampler, other: Sampler) -> None:
    assert plain(one.state_dict()) == plain(other.state_dict())


def plain(state: Any) -> Any:
    """The state with lists for tensors."""
    if isinstance(state, torch.Tensor):
        return state.nan_to_num(-1.0).tolist()
    if isinstance(state, dict):
        return {key: plain(value) for key, value in state.items()}
    return [plain(value) for value in state] if isinstance(state, list) else state


@given(CASES, methods(plain=False, others=False))
@thorough
def test_an_arm_that_selects_like_another_keeps_as_many_unit_by_unit(case: Case, method: MethodConfig) -> None:
    followed = simulate(case, method)
    others = {"followed": followed.sampler}
    following = follower(method, "followed")
    simulation, stopped = simulate(case, following, others), simulate(case, following, others)
    for epoch in epochs(case):
        theirs = followed.epoch(epoch)
        ours = simulation.epoch(epoch)
        assert [len(batch) for batch in ours] == [len(batch) for batch in theirs]
        assert simulation.sampler.kept_by_unit == followed.sampler.kept_by_unit
        assert len(simulation.sampler.held) == len(followed.sampler.held)
        assert simulation.sampler.counts == replace(followed.sampler.counts, samples_probed=0, raw_batches=0)
        assert simulation.probed == []
        assert stopped.interrupted_epoch(epoch, case.sampler(following, others)) == ours


@given(CASES, methods(plain=False, others=False))
@thorough
def test_what_is_trained_on_was_probed_under_the_picture_that_is_trained_on(case: Case, method: MethodConfig) -> None:
    simulation = simulate(case, method)
    probed = set()
    for epoch in epochs(case):
        trained = {sample for batch in simulation.epoch(epoch) for sample in batch}
        probed |= {sample for raw in simulation.probed for sample in raw}
        assert not judges(simulation.sampler) or trained <= probed


@given(CASES, st.sampled_from(["batch", "epoch+batch"]), st.sampled_from(["discard", "carry"]), st.integers(1, 99))
@thorough
def test_adaptive_raw_batches_are_as_large_as_the_last_acceptance_says_within_bounds(
    case: Case, granularity: str, overflow: str, limit: int
) -> None:
    method = MethodConfig(
        granularity=granularity, raw_batch_size="adaptive", raw_batch_limit=limit, overflow=overflow, filter="soft"
    )
    simulation = simulate(case, method)
    for epoch in epochs(case):
        simulation.epoch(epoch)
        sizes = [len(raw) for raw in simulation.probed]
        assert max(sizes) <= max(limit, case.batch_size)
        first = 0 if granularity == "batch" else math.ceil(case.samples / sizes[0])
        for part in (sizes[:first], sizes[first:]):
            assert all(size >= case.batch_size for size in part[:-1])


def test_adaptive_raw_batches_save_probes_where_few_samples_are_accepted() -> None:
    case = Case(samples=400, batch_size=8, epochs=3, table=("wrong", *["right"] * 15))
    fixed, adaptive = (simulate(case, MethodConfig(raw_batch_size=raw)) for raw in (None, "adaptive"))
    for epoch in epochs(case):
        fixed.epoch(epoch)
        adaptive.epoch(epoch)
        assert fixed.sampler.counts.raw_batches == 50
        assert adaptive.sampler.counts.samples_probed == fixed.sampler.counts.samples_probed == 400
    assert fixed.sampler.counts.steps > 0
    per_step = [s.sampler.counts.raw_batches / s.sampler.counts.steps for s in (fixed, adaptive)]
    assert per_step[1] < per_step[0] / 4


def test_an_adaptive_raw_batch_is_what_it_takes_at_the_last_acceptance() -> None:
    case = Case(samples=64, batch_size=4, epochs=1, table=("wrong",))
    simulation = simulate(case, MethodConfig(raw_batch_size="adaptive", raw_batch_limit=16))
    accepted = iter([2, 1, 1, 1, 3, 0, 0])
    sizes = []

    def probe(views: Views) -> ProbeResult:
        sizes.append(len(views))
        logits = torch.tensor([[1.0, 0.0]]).repeat(len(views), 1)
        return ProbeResult(logits, (torch.arange(len(views)) < next(accepted)).long())

    assert len(list(simulation.sampler.batches(probe))) == 2
    # At least a batch's 4 while it is filled; then 12, for 4 of 12 were accepted, and 9 for the 3 still missing; then
    # 21, for 4 of 21 were, had the limit not been 16; then what is left.
    assert sizes == [4, 4, 4, 12, 9, 16, 15]


@pytest.mark.parametrize("everything", EVERYTHING)
@given(
    case=CASES, granularity=st.sampled_from(["epoch", "batch", "epoch+batch"]), batch=st.sampled_from(["stable", "un"])
)
@thorough
def test_selecting_everything_is_the_archetype_where_batches_divide_the_data(
    everything: dict, case: Case, granularity: str, batch: str
) -> None:
    whole = replace(case, samples=case.batch_size * case.epochs)
    unstable = batch == "un" and granularity != "epoch"
    method = MethodConfig(granularity=granularity, batch="unstable" if unstable else "stable", **everything)
    archetype, selecting = simulate(whole, MethodConfig(granularity="none")), simulate(whole, method)
    for epoch in epochs(case):
        assert selecting.epoch(epoch) == archetype.epoch(epoch)
        assert selecting.sampler.counts.samples_overflowed == len(selecting.sampler.held) == 0


@given(case=CASES, method=METHODS)
@thorough
def test_a_filter_that_keeps_nothing_yields_nothing_without_a_fallback(case: Case, method: MethodConfig) -> None:
    assume(method.granularity == "none" or method.filter.name != "none")
    simulation = simulate(replace(case, table=("right, loss 0",)), method)
    for epoch in epochs(case):
        batches = simulation.epoch(epoch)
        if method.filter.name != "none" and method.fallback == "none":
            assert simulation.sampler.counts.samples_rejected == case.samples
            assert batches == []
            assert len(simulation.sampler.held) == 0
        elif method.granularity in ("none", "epoch"):
            assert batches


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_that_ends_within_a_pass_leaves_the_rest_to_the_next(kind: str) -> None:
    case = Case(samples=40, batch_size=4, epochs=2, table=WRONG[:3])
    whole, parted = simulate(case, KINDS[kind]), simulate(case, KINDS[kind])
    batches = whole.epoch(1)
    parted.sampler.start_epoch(1)
    first = next(iter(parted.sampler.batches(parted.probe)))
    before = replace(parted.sampler.counts)
    assert [parted.train(first), *parted.epoch(2)] == batches
    both = {name: count + vars(before)[name] for name, count in vars(parted.sampler.counts).items()}
    assert both == vars(whole.sampler.counts)
    assert parted.sampler.passes == whole.sampler.passes == 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_can_be_gone_through_again(kind: str) -> None:
    case = Case(samples=40, batch_size=4, epochs=2, table=("wrong",))
    simulation = simulate(case, KINDS[kind])
    simulation.epoch(1)
    simulation.epoch(1)
    counts = simulation.sampler.counts
    assert counts.samples_kept + counts.samples_rejected == 40


@pytest.mark.parametrize("kind", KINDS)
def test_views_are_on_the_samplers_device(kind: str) -> None:
    case = Case(samples=12, batch_size=4, epochs=1, table=("wrong", "right", "wrong"))
    simulation = simulate(case, KINDS[kind])
    for views in simulation.sampler.batches(simulation.probe):
        assert views.index.device == views.epoch.device == CPU
        assert views.index.dtype == views.epoch.dtype == torch.int64


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_is_trained_before_the_next_probe(kind: str) -> None:
    """A batch selection sees the model after the last update; an epoch selection the model before the first."""
    case = Case(samples=40, batch_size=4, epochs=1, table=("wrong",))
    simulation = simulate(case, KINDS[kind])
    updates = []
    probing = simulation.probe

    def probe(views: Views):
        updates.append(simulation.updates)
        return probing(views)

    simulation.probe = probe
    simulation.epoch(1)
    expected = {"none": [], "epoch": [0] * 10, "batch": list(range(10)), "epoch+batch": [0] * 10 + list(range(10))}
    assert updates == ([] if kind == "chance" else expected[KINDS[kind].granularity])


@pytest.mark.parametrize("name", ARMS)
def test_the_arms_known_by_name_train(name: str) -> None:
    case = Case(samples=40, batch_size=4, epochs=2, table=("wrong", "right", "barely right"))
    filtered = simulate(case, MethodConfig.model_validate(ARMS["filtered"]))
    simulation = simulate(case, MethodConfig.model_validate(ARMS[name]), {"filtered": filtered.sampler})
    for epoch in epochs(case):
        filtered.epoch(epoch)
        assert simulation.epoch(epoch)
