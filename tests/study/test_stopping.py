"""What early stopping does to estimates, on made-up learning curves that the study's own rules stop.

Each arm has a best learning rate, and every arm's accuracy rises to what its learning rate allows. So the truth is
known: the gaps of all comparisons, trained to their end.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.schedulers import TrialScheduler

from analysis.load import Study
from analysis.pairs import pair
from analysis.stopped import stopping
from study.experiment import from_document
from study.schedulers import Judged, Remembering, build
from tests.study.conftest import SMALL
from trainables.comparison import better
from trainables.records import BUILT_IN, COLUMNS, STEP_COLUMNS, TRIAL_COLUMNS

EPOCHS = 16
RULES: Mapping[str, Mapping[str, Any]] = {
    "asha": {"name": "asha", "grace_period": 2, "reduction_factor": 2},
    "hyperband": {"name": "hyperband", "brackets": 2, "grace_period": 2, "reduction_factor": 2},
    "median": {"name": "median", "grace_period": 2, "min_samples": 3},
}
BOTH, TREATMENT, GAP = "better/test_accuracy", "filtered/test_accuracy", "gap/test_accuracy"
METRIC = "test_accuracy"
Curves = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Arm:
    """An arm whose accuracy falls off around its best learning rate, on a scale of decades."""

    best: float
    top: float
    width: float = 1.0

    def curves(self, rates: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Accuracy of each configuration after each epoch from 0 on: [configuration, epoch]."""
        ends = self.top - 0.4 * np.minimum(((rates - self.best) / self.width) ** 2, 2)
        share = 1 - np.exp(-np.arange(EPOCHS + 1) / 4)
        return 0.1 + np.outer(ends - 0.1, share / share[-1])


def made_up(seed: int, archetype: Arm, filtered: Arm, count: int = 24) -> Curves:
    rates = np.random.default_rng(seed).uniform(-3, 0, count)
    return {"archetype": archetype.curves(rates), "filtered": filtered.curves(rates)}


def stopped_at(curves: Curves, rule: str, metric: str, workers: int = 4) -> list[int]:
    """The last epoch of each comparison under a rule, ``workers`` of which train side by side in step."""
    scheduler = build(from_document("x", {**SMALL, "epochs": EPOCHS, "scheduler": {**RULES[rule], "metric": metric}}))
    assert isinstance(scheduler, Remembering)
    waiting, training = list(range(len(curves["archetype"])))[::-1], dict[int, int]()
    last = [EPOCHS] * len(waiting)
    while waiting or training:
        while waiting and len(training) < workers:
            place = waiting.pop()
            training[place] = 0
            scheduler.on_trial_add(None, Judged(f"{place:04d}"))
        for place in [*training]:
            epoch = training[place] = training[place] + 1
            told = {f"{arm}/{METRIC}": float(values[place, epoch]) for arm, values in curves.items()}
            told[GAP] = BUILT_IN.gap(METRIC, told[TREATMENT], told[f"archetype/{METRIC}"])
            result = {**told, **better(told, "archetype", "filtered"), "epoch": epoch}
            over = epoch == EPOCHS
            if not over and scheduler.on_trial_result(None, Judged(f"{place:04d}"), result) == TrialScheduler.STOP:
                last[place], over = epoch, True
            if over:
                scheduler.on_trial_complete(None, Judged(f"{place:04d}"), result)
                del training[place]
    return last


def recorded(curves: Curves, last: list[int], metric: str) -> Study:
    """The study that such comparisons leave behind."""
    ids = [f"t{place}" for place in range(len(last))]
    trials = pd.DataFrame({column.name: None for column in TRIAL_COLUMNS}, index=range(len(last)))
    trials = trials.assign(trial_id=ids, number=range(len(last)), seed=0, epochs=EPOCHS)
    trials["optimizer.lr"] = np.arange(len(last), dtype="float64")
    trials = trials.assign(baseline="archetype", treatment="filtered")
    trials["status"] = ["finished" if epoch == EPOCHS else "stopped" for epoch in last]
    rows = [
        {"trial_id": ids[place], "arm": arm, "epoch": epoch, METRIC: values[place, epoch]}
        for place, end in enumerate(last)
        for arm, values in curves.items()
        for epoch in range(end + 1)
    ]
    epochs = pd.DataFrame(rows).reindex(columns=[column.name for column in COLUMNS])
    text = f"scheduler: {{name: asha, metric: {metric}}}"
    none = pd.DataFrame(columns=[column.name for column in STEP_COLUMNS])
    return Study("made up", trials, epochs, {}, text, Path(), none)


def gaps_at(curves: Curves, last: list[int] | int) -> np.ndarray[Any, Any]:
    """The gap of each comparison at its last epoch."""
    return np.asarray((curves["filtered"] - curves["archetype"])[np.arange(len(curves["filtered"])), last])


SWAP = {"archetype": "filtered", "filtered": "archetype"}
BEST = st.floats(-3, 0)
TOP = st.floats(0.6, 0.95)


@given(st.sampled_from(sorted(RULES)), st.integers(0, 1000), BEST, BEST, TOP, TOP)
@settings(max_examples=12, deadline=None)
def test_by_the_better_arm_the_same_comparisons_are_stopped_where_the_arms_change_places(
    rule: str, seed: int, left: float, right: float, first: float, second: float
) -> None:
    curves = made_up(seed, Arm(left, first), Arm(right, second), 20)
    swapped = {SWAP[arm]: values for arm, values in curves.items()}
    assert stopped_at(curves, rule, BOTH) == stopped_at(swapped, rule, BOTH)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("metric", [TREATMENT, GAP])
def test_by_one_arm_or_the_gap_others_are_stopped_where_the_arms_change_places(rule: str, metric: str) -> None:
    curves = made_up(0, Arm(-2, 0.9), Arm(-1, 0.9))
    swapped = {SWAP[arm]: values for arm, values in curves.items()}
    assert stopped_at(curves, rule, metric) != stopped_at(swapped, rule, metric)


@pytest.mark.parametrize("rule", RULES)
def test_what_finishes_by_one_arm_or_by_the_gap_flatters_it_and_less_so_with_the_stopped_ones(rule: str) -> None:
    """The archetype is as good, at a learning rate that is a decade lower: the mean gap of all is about 0."""
    for metric in (TREATMENT, GAP):
        finished, with_stopped = biases(rule, metric, Arm(-2, 0.9), Arm(-1, 0.9))
        assert finished > 0.2
        assert 0 < with_stopped < finished / 2
    assert abs(biases(rule, BOTH, Arm(-2, 0.9), Arm(-1, 0.9))[0]) < 0.1


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("weaker", ["archetype", "filtered"])
def test_what_finishes_by_the_better_arm_suits_the_stronger_one_and_less_so_with_the_stopped_ones(
    rule: str, weaker: str
) -> None:
    archetype, filtered = (
        Arm(best, 0.8 if name == weaker else 0.9) for name, best in (("archetype", -2), ("filtered", -1))
    )
    finished, with_stopped = biases(rule, BOTH, archetype, filtered)
    assert (finished > 0.05) if weaker == "archetype" else (finished < -0.05)
    assert abs(with_stopped) < abs(finished) / 2


def biases(rule: str, metric: str, archetype: Arm, filtered: Arm) -> tuple[float, float]:
    """How far the mean gap is off, of those that finished, and with the stopped ones as far as they came."""
    found = []
    for seed in range(4):
        curves = made_up(seed, archetype, filtered)
        last = stopped_at(curves, rule, metric)
        gaps, reached = gaps_at(curves, EPOCHS), gaps_at(curves, last)
        found.append((gaps[np.array(last) == EPOCHS].mean() - gaps.mean(), reached.mean() - gaps.mean()))
    finished, with_stopped = np.mean(found, axis=0)
    return float(finished), float(with_stopped)


@pytest.mark.parametrize("metric", [BOTH, TREATMENT, GAP])
def test_a_study_is_estimated_as_it_was_stopped_and_its_bounds_hold_the_truth(metric: str) -> None:
    curves = made_up(0, Arm(-2, 0.9), Arm(-1, 0.8))
    last, gaps = stopped_at(curves, "asha", metric), gaps_at(curves, EPOCHS)
    found = stopping(pair(recorded(curves, last, metric)))
    assert found.stopped == found.read == sum(epoch < EPOCHS for epoch in last) > 3
    assert found.pairs.frame[GAP].mean() == pytest.approx(gaps[np.array(last) == EPOCHS].mean())
    assert sorted(found.reached[GAP]) == pytest.approx(sorted(gaps_at(curves, last)))
    bounds = found.bounds(METRIC)
    assert bounds.share[0] <= np.mean(gaps > 0) <= bounds.share[1]
    assert bounds.median[0] <= np.median(gaps) <= bounds.median[1]
