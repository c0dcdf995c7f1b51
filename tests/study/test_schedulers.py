import math
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.schedulers import TrialScheduler

from study.experiment import Experiment, from_document
from study.history import Report
from study.schedulers import InOrder, Judged, Remembering, bias, build
from tests.study.conftest import SMALL

LAST = 27
CONTINUE, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP
SCHEDULERS: dict[str, dict[str, Any]] = {
    "asha": {"name": "asha"},
    "hyperband": {"name": "hyperband", "brackets": 3},
    "median": {"name": "median", "grace_period": 2, "min_samples": 2},
}
Event = tuple[str, float]
NAMES = st.sampled_from(sorted(SCHEDULERS))
SEEDS = st.integers(0, 2**32)


def experiment(metric: str | None = "filtered/test_accuracy", **scheduler: Any) -> Experiment:
    return from_document("small", {**SMALL, "epochs": LAST, "scheduler": {"metric": metric, **scheduler}})


def remembering(name: str) -> Remembering:
    scheduler = build(experiment(**SCHEDULERS[name]))
    assert isinstance(scheduler, Remembering)
    return scheduler


@dataclass
class Run:
    """Comparisons under a scheduler, as Tune runs them: a comparison that is stopped or at its end reports no more."""

    scheduler: Remembering
    epochs: dict[str, int] = field(default_factory=dict)
    added: set[str] = field(default_factory=set)
    over: set[str] = field(default_factory=set)
    stopped: set[str] = field(default_factory=set)
    decisions: list[tuple[str, int, str]] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)

    def feed(self, events: Iterable[Event]) -> None:
        for name, value in events:
            if name in self.over:
                continue
            trial = Judged(name)
            if name not in self.added:
                self.added.add(name)
                self.scheduler.on_trial_add(None, trial)
            epoch = self.epochs[name] = self.epochs.get(name, 0) + 1
            result = {"epoch": epoch, "filtered/test_accuracy": value}
            self.reports.append(Report(name, epoch, (value,), value))
            decision = "END" if epoch == LAST else self.scheduler.on_trial_result(None, trial, result)
            self.decisions.append((name, epoch, decision))
            if decision == STOP:
                self.stopped.add(name)
            if decision != CONTINUE:
                self.over.add(name)
                self.scheduler.on_trial_complete(None, trial, result)

    def resumed(self, scheduler: Remembering) -> "Run":
        """The same comparisons under a new scheduler that was told of what they have reported."""
        ended = dict.fromkeys(self.over - self.stopped, LAST)
        assert scheduler.replay(self.reports, ended) == self.stopped
        return Run(scheduler, dict(self.epochs), set(), set(self.over), set(self.stopped))


def events(seed: int, trials: int = 9, count: int = 160, nan: float = 0.1) -> list[Event]:
    """Comparisons of different quality that report in a random order, now and then no number."""
    rng = Random(seed)
    quality = [rng.uniform(0, 1) for _ in range(trials)]
    drawn = [rng.randrange(trials) for _ in range(count)]
    return [(f"t{i}", math.nan if rng.random() < nan else quality[i] + rng.gauss(0, 0.1)) for i in drawn]


# -------------------------------------------------------------------------------------------------------- what is built


def test_without_early_stopping_tune_stops_none() -> None:
    assert type(build(experiment(metric=None, name="none"))) is InOrder


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_result_without_the_metric_is_no_error_for_tune(name: str) -> None:
    scheduler = remembering(name)
    scheduler.on_trial_add(None, Judged("a"))
    failed = {"epoch": 0, "objective": math.nan}  # its data were not there
    assert scheduler.metric is None  # what Tune demands of every result, on pain of ending the run
    assert scheduler.on_trial_result(None, Judged("a"), failed) == CONTINUE
    scheduler.on_trial_complete(None, Judged("a"), failed)


@pytest.mark.parametrize(("metric", "better", "worse"), [("test_accuracy", 0.9, 0.1), ("test_mean_loss", 0.1, 0.9)])
def test_asha_lets_one_in_so_many_go_on_at_each_rung(metric: str, better: float, worse: float) -> None:
    scheduler = build(experiment(f"filtered/{metric}", name="asha", grace_period=2, reduction_factor=2))

    def decide(trial: str, epoch: int, value: float) -> str:
        decision: str = scheduler.on_trial_result(None, Judged(trial), {"epoch": epoch, f"filtered/{metric}": value})
        return decision

    for trial in "abc":
        scheduler.on_trial_add(None, Judged(trial))
        assert decide(trial, 1, worse) == CONTINUE  # in the grace period
    assert decide("a", 2, (better + worse) / 2) == CONTINUE
    assert decide("b", 2, worse) == STOP
    assert decide("c", 2, better) == CONTINUE
    assert decide("a", 3, worse) == CONTINUE  # between rungs
    assert decide("c", 4, better) == CONTINUE
    assert decide("a", 4, worse) == STOP


def test_the_median_rule_stops_what_never_was_as_good_as_the_others_are_on_average() -> None:
    run = Run(remembering("median"))
    run.feed([("a", 0.5), ("b", 0.6)] * 5)
    run.feed([("c", 0.1)] * 2 + [("d", 0.9)] * 2 + [("e", 0.1), ("e", 0.58)])
    assert run.stopped == {"c"}
    assert [decision for name, _, decision in run.decisions if name == "c"] == [CONTINUE, STOP]


def stops(ids: Sequence[str]) -> dict[str, int]:
    """At which epoch HyperBand stops each comparison, every one of them worse than those before."""
    run = Run(remembering("hyperband"))
    for place, name in enumerate(ids):
        run.feed([(name, -float(place))] * (LAST - 1))
    return {name: epoch for name, epoch, decision in run.decisions if decision == STOP}


def test_hyperband_gives_a_comparison_the_same_bracket_whenever_it_comes() -> None:
    ids = [f"{number:04d}-abcd" for number in range(400)]
    np.random.seed(0)
    forwards = stops(ids)
    np.random.seed(1)
    backwards = stops(ids[::-1])
    assert {name: forwards[name] for name in backwards.keys() & forwards.keys()} == {
        name: backwards[name] for name in backwards.keys() & forwards.keys()
    }
    assert len(backwards.keys() & forwards.keys()) >= 394  # but for the first of each bracket, which nothing stops


def test_hyperband_gives_a_bracket_more_comparisons_the_earlier_it_starts() -> None:
    counts = Counter(stops([f"{number:04d}-abcd" for number in range(650)]).values())
    assert set(counts) == {1, 3, 9}
    assert counts[1] == pytest.approx(450, abs=45)  # 9 to 3 to 1
    assert counts[3] == pytest.approx(150, abs=40)
    assert counts[9] == pytest.approx(50, abs=25)


@pytest.mark.parametrize(
    ("scheduler", "said"),
    [
        (
            {"name": "asha", "metric": "filtered/test_accuracy"},
            "the test accuracy of filtered alone, which flatters filtered",
        ),
        ({"name": "median", "metric": "archetype/test_accuracy"}, "which flatters archetype"),
        ({"name": "asha", "metric": "gap/test_accuracy"}, "by the gap in test accuracy, which flatters filtered"),
        ({"name": "hyperband", "metric": "objective"}, "by the gap in validation accuracy, which flatters filtered"),
        ({"name": "asha"}, None),
        ({"name": "asha", "metric": "better/test_accuracy"}, None),
        ({"name": "none", "metric": "filtered/test_accuracy"}, None),
    ],
)
def test_a_rule_that_does_not_look_at_both_arms_alike_says_what_that_does(
    scheduler: dict[str, Any], said: str | None
) -> None:
    found = bias(from_document("x", {**SMALL, "epochs": LAST, "scheduler": scheduler}))
    assert (found is None) if said is None else (said in (found or ""))


# ---------------------------------------------------------------------------------------------------------- remembering


@given(NAMES, SEEDS, st.integers(0, 160))
@settings(max_examples=40, deadline=None)
def test_a_scheduler_that_was_told_the_past_decides_as_the_one_that_lived_it(name: str, seed: int, cut: int) -> None:
    sequence = events(seed)
    whole, first = Run(remembering(name)), Run(remembering(name))
    whole.feed(sequence)
    first.feed(sequence[:cut])
    second = first.resumed(remembering(name))
    second.feed(sequence[cut:])
    assert first.decisions + second.decisions == whole.decisions
    assert first.stopped | second.stopped == whole.stopped


@pytest.mark.parametrize("name", SCHEDULERS)
def test_in_such_sequences_some_are_stopped_and_some_are_not(name: str) -> None:
    runs = [Run(remembering(name)) for _ in range(10)]
    for seed, run in enumerate(runs):
        run.feed(events(seed))
    assert all(run.stopped for run in runs)
    assert all(len(run.stopped) < 9 for run in runs)


@given(NAMES, SEEDS, st.integers(1, 160), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_epochs_that_are_repeated_after_a_crash_are_not_judged_again(name: str, seed: int, cut: int, back: int) -> None:
    sequence = events(seed)
    whole, first = Run(remembering(name)), Run(remembering(name))
    whole.feed(sequence)
    first.feed(sequence[:cut])
    second = first.resumed(remembering(name))
    for trial in first.epochs.keys() - first.over:
        for epoch in range(max(1, first.epochs[trial] - back), first.epochs[trial] + 1):
            repeated = {"epoch": epoch, "filtered/test_accuracy": -100.0}
            assert second.scheduler.on_trial_result(None, Judged(trial), repeated) == CONTINUE
    second.feed(sequence[cut:])
    assert first.decisions + second.decisions == whole.decisions


@given(NAMES, SEEDS)
@settings(max_examples=40, deadline=None)
def test_what_is_no_number_stops_nobody_and_changes_nothing_for_the_others(name: str, seed: int) -> None:
    sequence = events(seed, nan=0)
    plain, disturbed = Run(remembering(name)), Run(remembering(name))
    plain.feed(sequence)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for place, event in enumerate(sequence):
            disturbed.feed([(f"nan{place % 3}", math.nan), event])
    assert [d for d in disturbed.decisions if not d[0].startswith("nan")] == plain.decisions
    assert {decision for name, _, decision in disturbed.decisions if name.startswith("nan")} <= {CONTINUE, "END"}


@given(NAMES, SEEDS, st.data())
@settings(max_examples=40, deadline=None)
def test_reports_that_a_crash_has_undone_make_no_past_that_cannot_be_told(
    name: str, seed: int, data: st.DataObject
) -> None:
    run = Run(remembering(name))
    run.feed(events(seed))
    lost = data.draw(st.sampled_from(sorted(run.epochs)))
    left = [report for report in run.reports if report.trial_id != lost or report.epoch <= 2]
    last = {report.trial_id: report.epoch for report in left}
    ended = dict.fromkeys(run.over - run.stopped, LAST)
    stopped = remembering(name).replay(left, ended)
    assert stopped <= last.keys()
    assert not any(ended.get(trial) == last[trial] for trial in stopped)


@pytest.mark.parametrize(("name", "judged"), [("asha", 1), ("median", 2)])
def test_who_went_on_is_not_stopped_by_a_past_of_which_a_part_is_lost(name: str, judged: int) -> None:
    """The reports tell that both are to be stopped at the epoch ``judged``, but went_on has reported more since."""
    good = [Report(f"good{i}", epoch, (1.0,), 1.0) for i in range(5) for epoch in (1, 2, 3)]
    went_on = [Report("went_on", epoch, (0.0,), 0.0) for epoch in range(1, judged + 5)]
    stopped = [Report("stopped", epoch, (0.0,), 0.0) for epoch in range(1, judged + 1)]
    scheduler = remembering(name)
    assert scheduler.replay([*good, *went_on, *stopped], {}) == {"stopped"}
    next_one = {"epoch": judged + 5, "filtered/test_accuracy": 0.0}
    assert scheduler.on_trial_result(None, Judged("went_on"), next_one) == CONTINUE


def test_a_comparison_that_another_rule_ended_is_heard_once_whether_lived_or_told() -> None:
    """A dead one: the trainable ended it, so that Tune told its last result as its end and asked for no decision."""
    sequence = [("a", 0.5), ("b", 0.6)] * 4

    def decisions(told: bool) -> list[str]:
        scheduler = remembering("median")
        run = Run(scheduler)
        run.feed([*sequence, ("dead", 0.55)])
        end = Report("dead", 2, (0.1,), 0.1)
        if told:
            scheduler = remembering("median")
            scheduler.replay([*run.reports, end], {})
        else:
            scheduler.on_trial_complete(None, Judged("dead"), {"epoch": 2, "filtered/test_accuracy": 0.1})
        found = []
        for value in np.linspace(0.0, 0.7, 71):
            trial = Judged(f"late{value}")
            scheduler.on_trial_add(None, trial)
            for epoch in (1, 2):
                decision = scheduler.on_trial_result(
                    None, trial, {"epoch": epoch, "filtered/test_accuracy": float(value)}
                )
            found.append(decision)
        return found

    assert decisions(told=True) == decisions(told=False)
    assert set(decisions(told=False)) == {CONTINUE, STOP}


@dataclass
class Waiting:
    """A trial that is in a state."""

    trial_id: str
    status: str

    def is_finished(self) -> bool:
        return self.status in ("TERMINATED", "ERROR")


@pytest.mark.parametrize("name", ["none", "asha"])
def test_who_came_first_starts_first_and_who_has_ended_is_forgotten(name: str) -> None:
    scheduler = build(experiment(name=name))
    assert isinstance(scheduler, InOrder)
    trials = [Waiting(str(n), status) for n, status in enumerate(["RUNNING", "PAUSED", "PENDING", "PENDING"])]
    for trial in (*trials, trials[0]):
        scheduler.on_trial_add(None, trial)
    assert scheduler.choose_trial_to_run(None) is trials[2]
    trials[2].status = trials[3].status = "RUNNING"
    assert scheduler.choose_trial_to_run(None) is trials[1]
    for trial in trials:
        trial.status = "TERMINATED"
    assert scheduler.choose_trial_to_run(None) is None
    assert scheduler._alive == []
