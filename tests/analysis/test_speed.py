import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.database import TableError
from analysis.load import Study
from analysis.speed import LEVELS, reached, speeds, targets, time_to
from trainables.records import CLOCKS

FLAT = [0.1, 0.1, 0.1]


@pytest.fixture(scope="module")
def watch(trial, study):
    """The study of trials with these (archetype, filtered) test accuracies; each ``given`` is one's further options."""

    def make(*accuracies, given=()):
        given = [*given, *[{}] * (len(accuracies) - len(given))]
        return study(
            *(
                trial(n, {"archetype": ours, "filtered": theirs}, **options)
                for n, ((ours, theirs), options) in enumerate(zip(accuracies, given, strict=True))
            )
        )

    return make


def times(*sides):
    """Rows of ``time_to`` with these (moment, end) of the baseline; the treatment reaches it at 1."""
    moment, end = zip(*sides, strict=True)
    return pd.DataFrame({"baseline": moment, "baseline_end": end, "treatment": 1.0, "treatment_end": 9.0})


@pytest.mark.parametrize(
    ("clock", "baseline", "treatment", "ends", "winner"),
    [
        ("epochs", 1, 1 + 1 / 3, (2, 2), "baseline"),
        ("steps", 10, 20 / 3, (20, 10), "treatment"),
        ("samples", 640, 1280 / 3, (1280, 640), "treatment"),
        ("compute", 1920, 1280, (3840, 1920), "treatment"),
        ("seconds", 2, 8 / 3, (4, 4), "baseline"),
    ],
)
def test_times_are_interpolated_between_epochs(watch, clock, baseline, treatment, ends, winner):
    (row,) = time_to(watch(([0.1, 0.5, 0.7], [0.1, 0.3, 0.9])), 0.5, clock).to_dict("records")
    assert (row["trial_id"], row["number"], row["configuration"]) == ("trial0", 0, 0)
    assert row["baseline"] == pytest.approx(baseline)
    assert row["treatment"] == pytest.approx(treatment)
    assert (row["baseline_end"], row["treatment_end"]) == ends
    assert row["winner"] == winner


def test_the_first_time_counts_though_accuracy_falls_again(watch):
    row = time_to(watch(([0.1, 0.5, 0.3, 0.9], [0.1, 0.2, 0.3, 0.3])), 0.4, "epochs").iloc[0]
    assert row["baseline"] == pytest.approx(0.75)
    assert math.isnan(row["treatment"])


def test_what_an_arm_has_before_training_it_has_at_0(watch):
    found = time_to(watch(([0.3, 0.5], [0.1, 0.5]), ([0.3, 0.5], [0.3, 0.4])), 0.3, "steps")
    assert found["baseline"].tolist() == [0, 0]
    assert found["treatment"].tolist() == pytest.approx([2.5, 0])
    assert found["winner"].tolist() == ["baseline", "tied"]


def test_one_reached_before_the_other_s_end_decides(watch):
    found = time_to(
        watch(
            ([0.1, 0.1, 0.6], [0.1, 0.1, 0.5]),  # reached at the last epoch: the other was watched for as long
            ([0.1, 0.2, 0.4], [0.1, 0.2, 0.6]),
            ([0.1, 0.2, 0.4], [0.1, 0.2, 0.4]),
        ),
        0.6,
        "epochs",
    )
    assert found["winner"].tolist() == ["baseline", "treatment", "undecided"]


def test_an_arm_that_spends_less_may_be_undecided(watch):
    """The baseline gets there after 15 steps; the filtered arm makes 10 in all."""
    row = time_to(watch(([0.1, 0.4, 0.8], FLAT)), 0.6, "steps").iloc[0]
    assert (row["baseline"], row["treatment_end"], row["winner"]) == (15, 10, "undecided")


@pytest.mark.parametrize("status", ["stopped", "interrupted", "running", "failed"])
def test_a_trial_that_ended_early_counts_up_to_there(watch, status):
    row = time_to(watch(([0.1, 0.5], [0.1, 0.3]), given=[{"status": status}]), 0.4, "epochs").iloc[0]
    assert row["baseline"] == pytest.approx(0.75)
    assert (row["treatment_end"], row["winner"]) == (1, "baseline")


def test_an_arm_that_diverged_never_gets_there(watch):
    broken = {"status": "diverged", "changes": {("filtered", 2): {"train_mean_loss": None}}}
    row = time_to(watch(([0.1, 0.4, 0.8], FLAT), given=[broken]), 0.6, "steps").iloc[0]
    assert (row["baseline_end"], row["treatment_end"], row["winner"]) == (20, math.inf, "baseline")


def test_what_an_arm_reached_before_it_diverged_counts(watch):
    broken = {"status": "diverged", "changes": {("filtered", 2): {"train_mean_loss": None}}}
    row = time_to(watch((FLAT, [0.1, 0.6, 0.1]), given=[broken]), 0.6, "epochs").iloc[0]
    assert (row["treatment"], row["winner"]) == (1, "treatment")


def test_trials_that_cannot_be_watched_are_left_out(study, trial):
    good = {"archetype": [0.1, 0.5], "filtered": [0.1, 0.5]}
    found = time_to(
        study(
            trial(0, {}, status="failed"),
            trial(1, {"archetype": [0.1, 0.5]}),
            trial(2, good, config={"treatment": None}),
            trial(3, good, changes={("filtered", 0): {"test_accuracy": None}}),
            trial(4, good, changes={("filtered", 0): {"cumulative_steps": None}}),
            trial(5, good),
        ),
        0.3,
        "steps",
    )
    assert found["trial_id"].tolist() == ["trial5"]


def test_an_epoch_that_was_not_measured_is_passed_over(watch):
    gone = {"changes": {("archetype", 1): {"test_accuracy": None}}}
    row = time_to(watch(([0.1, 0.9, 0.5], FLAT), given=[gone]), 0.3, "epochs").iloc[0]
    assert row["baseline"] == pytest.approx(1)


def test_of_a_repeated_comparison_the_one_watched_longest_counts(watch):
    same = {"config": {"seed": 7, "epochs": 9}}
    study = watch(([0.1, 0.2], [0.1, 0.2]), ([0.1, 0.2, 0.6], FLAT), (FLAT, FLAT), given=[same, same, {}])
    assert time_to(study, 0.5, "epochs")["trial_id"].tolist() == ["trial1", "trial2"]


def test_two_rows_of_one_epoch_leave_a_trial_out(watch):
    study = watch((FLAT, FLAT), (FLAT, FLAT))
    twice = pd.concat([study.epochs, study.epochs.iloc[:1]], ignore_index=True)
    assert time_to(replace(study, epochs=twice), 0.5, "epochs")["trial_id"].tolist() == ["trial1"]


def test_another_arm_can_be_the_baseline(study, trial):
    of = study(trial(0, {"archetype": [0.1, 0.9], "filtered": [0.1, 0.7], "random": [0.1, 0.3]}))
    assert time_to(of, 0.2, "epochs", against="random")["baseline"].tolist() == pytest.approx([0.5])
    assert time_to(of, 0.2, "epochs", against="nobody").empty
    assert speeds(of, [0.2], ["epochs"], against="random")["first"].tolist() == [1]
    assert targets(of, against="random") == [0.4, 0.5, 0.6, 0.7]


@pytest.mark.parametrize("target", [-0.1, 1.5, 90, math.nan])
def test_a_target_is_a_fraction(mixed, target):
    with pytest.raises(TableError, match=f"target {target} is no test accuracy; give a fraction"):
        time_to(mixed, target, "epochs")


def test_an_unknown_clock_is_named(mixed):
    with pytest.raises(TableError, match="clock 'weeks' is unknown; use one of epochs, passes, steps"):
        speeds(mixed, [0.5], ["weeks"])


def test_kaplan_and_meier_s_estimate(watch):
    """Of 4 arms one reaches it at 1, one was watched until 2, one reaches it at 3, one was watched until 4."""
    curve = reached(times((1, 4), (math.nan, 2), (3, 4), (math.nan, 4)))
    baseline = curve[curve["side"] == "baseline"]
    assert baseline["value"].tolist() == [1, 2, 3, 4]
    assert baseline["share"].tolist() == pytest.approx([1 / 4, 1 / 4, 1 - 3 / 4 * 1 / 2, 5 / 8])
    assert baseline["at_risk"].tolist() == [4, 3, 2, 1]
    # Exponential Greenwood at 1: log(-log S) has the variance 1 / (4 * 3) / log(S)^2, where S is 3/4.
    half = 1.959964 * math.sqrt(1 / 12) / -math.log(3 / 4)
    assert baseline["low"].iloc[0] == pytest.approx(1 - 0.75 ** math.exp(-half), abs=1e-6)
    assert baseline["high"].iloc[0] == pytest.approx(1 - 0.75 ** math.exp(half), abs=1e-6)
    treatment = curve[curve["side"] == "treatment"]
    assert treatment[["value", "share", "at_risk"]].to_numpy().tolist() == [[1, 1, 4]]
    assert treatment[["low", "high"]].isna().all(axis=None)


def test_an_arm_that_diverged_stays_unreached_for_good():
    curve = reached(times((3, 4), (math.nan, math.inf)))
    baseline = curve[curve["side"] == "baseline"]
    assert baseline[["value", "share", "at_risk"]].to_numpy().tolist() == [[3, 0.5, 2]]
    assert reached(times((3, 4), (math.nan, 2))).query("side == 'baseline'")["share"].tolist() == [0, 1]
    assert "baseline" not in set(reached(times((math.nan, math.inf)))["side"])


def test_without_comparisons_there_is_no_curve(study):
    curve = reached(time_to(study(), 0.5, "epochs"))
    assert curve.columns.tolist() == ["side", "value", "share", "low", "high", "at_risk"]
    assert curve.empty


@pytest.fixture(scope="module")
def three_rates(watch):
    """Three learning rates with two seeds each: the treatment is first in all of one, and in one of each other.

    At 0.5 a seventh comparison, at a fourth rate, ends before either side gets there.
    """
    fast, slow = [0.1, 0.5, 0.9], [0.1, 0.3, 0.9]
    sides = [(slow, fast), (slow, fast), (slow, fast), (fast, slow), (fast, slow), (slow, fast), ([0.1, 0.4],) * 2]
    rates = [0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.4]
    given = [{"config": {"optimizer.lr": rate, "seed": n % 2, "epochs": 2}} for n, rate in enumerate(rates)]
    given[-1]["status"] = "stopped"
    return watch(*sides, given=given)


def test_who_is_first_how_often(three_rates):
    row = speeds(three_rates, [0.5], ["epochs"]).iloc[0]
    assert (row["clock"], row["target"], row["comparisons"]) == ("epochs", 0.5, 7)
    assert (row["baseline_reached"], row["treatment_reached"], row["both"]) == (6, 6, 6)
    assert (row["decided"], row["ties"], row["first"]) == (6, 0, 4 / 6)
    assert (row["least"], row["most"]) == (4 / 6, 4 / 6)
    # The quick reach 0.5 at 1 and the slow at 1 + 1/3: ratios of 3/4 four times and of 4/3 twice.
    assert row["ratio"] == pytest.approx(3 / 4)
    # Of 7 arms 1 is censored at epoch 1. The baseline has 2 by then, and 4 more at 4/3: 1 - 5/7 * 0.
    assert row["baseline_median"] == pytest.approx(4 / 3)
    assert row["treatment_median"] == 1
    # At two rates the seeds are even: one rate is left, and one throw of a coin tells nothing.
    assert (row["units"], row["p"], row["p_holm"]) == (1, 1, 1)


def test_seeds_of_one_configuration_are_the_units(watch):
    fast, slow = [0.1, 0.5, 0.9], [0.1, 0.3, 0.9]
    table = speeds(watch(*[(slow, fast)] * 6, (fast, fast)), [0.5, 0.95], ["epochs", "steps"])
    row = table.iloc[0]
    assert (row["decided"], row["ties"], row["first"], row["units"]) == (7, 1, 6.5 / 7, 6)
    assert table["target"].tolist() == [0.5, 0.95, 0.5, 0.95]
    assert table["clock"].tolist() == ["epochs", "epochs", "steps", "steps"]
    # All six untied by epochs, all seven by steps; nobody reaches 0.95, so that these are the two tests of the family.
    assert table["p"].tolist() == pytest.approx([2 / 2**6, math.nan, 2 / 2**7, math.nan], nan_ok=True)
    assert table["p_holm"].tolist() == pytest.approx([1 / 32, math.nan, 1 / 32, math.nan], nan_ok=True)


def test_what_cannot_be_decided_bounds_the_share(watch):
    """By steps the filtered arm is first once, and once it ends before the archetype gets there."""
    table = speeds(watch(([0.1, 0.4, 0.8], FLAT), ([0.1, 0.4, 0.8], [0.1, 0.4, 0.8])), [0.6], ["steps"])
    row = table.iloc[0]
    assert (row["decided"], row["first"], row["least"], row["most"]) == (1, 1, 1 / 2, 1)
    assert (row["baseline_reached"], row["treatment_reached"]) == (2, 1)


def test_no_ratio_where_a_side_starts_there(watch):
    row = speeds(watch(([0.5, 0.6], [0.1, 0.6])), [0.5], ["epochs"]).iloc[0]
    assert math.isnan(row["ratio"])
    assert (row["both"], row["first"]) == (1, 0)


def test_speeds_of_nothing(study, trial, mixed):
    for nothing in (study(), study(trial(0, {}, status="failed"))):
        row = speeds(nothing, [0.5], ["epochs"]).iloc[0]
        assert (row["comparisons"], row["decided"], row["units"]) == (0, 0, 0)
        assert row[["ratio", "first", "least", "most", "p", "p_holm"]].isna().all()
        assert targets(nothing) == []
    assert speeds(mixed, [], ["epochs"]).columns.tolist() == speeds(mixed, [0.5], ["epochs"]).columns.tolist()


def test_targets_are_reached_by_some_and_not_by_all(watch):
    """Arms that end at 0.55, 0.75, 0.75 and 0.92: a quarter reaches 0.9, all 0.5."""
    study = watch(([0.05, 0.55], [0.05, 0.75]), ([0.05, 0.75], [0.05, 0.92]))
    assert targets(study) == [0.6, 0.7, 0.8, 0.9]


def test_of_many_targets_an_even_choice(watch):
    study = watch(([0.05, 0.15], [0.05, 0.999]), ([0.05, 0.15], [0.05, 0.999]))
    # 12 levels from 0.2 to 0.995: the places 0, 3.67, 7.33 and 11 of these.
    assert targets(study) == [0.2, 0.6, 0.9, 0.995]


def test_targets_are_of_comparisons_with_both_sides(study, trial):
    both, one = {"archetype": [0.05, 0.55], "filtered": [0.05, 0.65]}, {"archetype": [0.05, 0.95]}
    assert targets(study(trial(0, both), trial(1, one))) == [0.6]


def test_what_all_reach_is_a_target_where_nothing_else_is(watch):
    assert targets(watch(([0.1, 0.85], [0.1, 0.89]))) == [0.8]


def test_what_arms_have_before_training_is_no_target(watch):
    assert targets(watch(([0.35, 0.36], [0.35, 0.38]))) == []


def hand_made(curves):
    """A study of (baseline, treatment) curves, in memory."""
    rows = [
        {
            "trial_id": f"t{n}",
            "arm": arm,
            "epoch": epoch,
            "test_accuracy": accuracy,
            "train_accuracy": 0.5,
            "train_mean_loss": 1.0,
        }
        | {column: pace * epoch for column in CLOCKS.values() if column != "epoch"}
        for n, sides in enumerate(curves)
        for arm, pace, curve in zip(("a", "b"), (10.0, 7.0), sides, strict=True)
        for epoch, accuracy in enumerate(curve)
    ]
    ids = pd.Series([f"t{n}" for n in range(len(curves))], dtype="string")
    trials = pd.DataFrame(
        {"trial_id": ids, "number": range(len(curves)), "status": "stopped", "seed": range(len(curves))}
    )
    columns = [
        "trial_id",
        "arm",
        "epoch",
        "test_accuracy",
        "train_accuracy",
        "train_mean_loss",
        *set(CLOCKS.values()) - {"epoch"},
    ]
    epochs = pd.DataFrame(rows, columns=columns).astype({"trial_id": "string", "arm": "string", "epoch": "Int64"})
    return Study("made", trials.assign(baseline="a", treatment="b"), epochs, {}, "", Path())


def sides():
    curve = st.lists(st.integers(0, 8).map(lambda eighths: eighths / 8), min_size=1, max_size=5)
    return st.lists(st.tuples(curve, curve), max_size=5)


def slowly(curve, target, pace):
    """When a curve first reaches the target, epoch by epoch; NaN if never."""
    for epoch, value in enumerate(curve):
        if value >= target:
            before = curve[epoch - 1] if epoch else value
            return pace * (epoch - 1 + (target - before) / (value - before)) if epoch else 0.0
    return math.nan


@settings(max_examples=30, deadline=None)
@given(curves=sides(), target=st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0]), clock=st.sampled_from(["epochs", "steps"]))
def test_times_are_those_of_a_loop(curves, target, clock):
    found = time_to(hand_made(curves), target, clock)
    paces = (1, 1) if clock == "epochs" else (10, 7)
    for side, pace, of in zip(("baseline", "treatment"), paces, zip(*curves, strict=True), strict=False):
        np.testing.assert_allclose(found[side], [slowly(curve, target, pace) for curve in of])
        assert found[f"{side}_end"].tolist() == [pace * (len(curve) - 1) for curve in of]
    assert len(found) == len(curves)


@settings(max_examples=30, deadline=None)
@given(curves=sides(), target=st.sampled_from([0.3, 0.5, 0.9]))
def test_swapping_the_arms_swaps_the_answer(curves, target):
    study = hand_made(curves)
    other = replace(study, trials=study.trials.assign(baseline="b", treatment="a"))
    there, here = (speeds(one, [target], ["steps"]).iloc[0] for one in (study, other))
    assert there["baseline_reached"] == here["treatment_reached"]
    same = ["both", "decided", "ties", "units", "p"]
    assert there[same].astype(float).equals(here[same].astype(float))
    np.testing.assert_allclose([there["first"], there["least"]], [1 - here["first"], 1 - here["most"]])


@settings(max_examples=30, deadline=None)
@given(curves=sides(), order=st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(curves, order):
    study = hand_made(curves)
    places = list(range(len(study.epochs)))
    order.shuffle(places)
    shuffled = replace(study, epochs=study.epochs.iloc[places].reset_index(drop=True))
    pd.testing.assert_frame_equal(time_to(study, 0.5, "steps"), time_to(shuffled, 0.5, "steps"))
    assert targets(study) == targets(shuffled)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=12))
def test_with_nothing_censored_the_share_is_the_share(moments):
    curve = reached(times(*((float(moment), 9.0) for moment in moments))).query("side == 'baseline'")
    expected = [np.mean(np.array(moments) <= value) for value in curve["value"]]
    np.testing.assert_allclose(curve["share"], expected)
    known = curve.dropna()
    assert ((known["low"] < known["share"]) & (known["share"] < known["high"])).all()


@settings(max_examples=30, deadline=None)
@given(curves=sides())
def test_targets_are_in_order_and_at_most_4(curves):
    found = targets(hand_made(curves))
    assert set(found) <= set(LEVELS)
    assert len(found) <= 4
    assert all(low < high for low, high in itertools.pairwise(found))
