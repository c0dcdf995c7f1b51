import math

import numpy as np
import pytest
from comparisons import frame_of, rates

from analysis.pairs import Pairs, pair
from analysis.verdict import verdict
from trainables.records import CLOCKS


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def ends(*accuracies, configs=()):
    return Pairs(frame_of(*accuracies, configs=configs), {})


def test_a_verdict_counts_and_names_its_clock(rng):
    accuracies = [(0.5, 0.75), (0.5, 0.5), (0.5, 0.25), (0.1, 0.35)]
    lines = verdict(ends(*accuracies, configs=rates(0.1, 0.2, 0.3, 0.4)), rng).splitlines()
    assert lines[0].startswith(
        "Measured by test accuracy at equal epochs (the last, 1), filtered beats archetype in 2 of 4 comparisons "
        "and ties in 1 (62%, a tie counting half). The median gap is +12.50 pp, the mean +6.25 pp with a 95% interval"
    )
    assert lines[1] == "The interval includes 0: these comparisons do not tell which arm is better on average."
    assert lines[2] == (
        "A signed-rank test cannot tell from 4 comparisons: whatever their gaps, its p is 0.125 at least."
    )
    assert lines[3].startswith("1 of the wins is over a baseline that did not learn")
    assert "Tuned against tuned (each arm at its own best of 4 configurations, chosen on validation)" in lines[4]
    assert "filtered reaches 75.0% on test and archetype 50.0%, a gap of +25.00 pp" in lines[4]
    assert len(lines) == 5


@pytest.mark.parametrize(
    ("accuracies", "sentence"),
    [
        ([(0.5, 0.9)], "1 comparison: too few to tell which arm is better."),
        ([(0.5, 0.9)] * 2, "2 comparisons: too few to tell which arm is better."),
        ([(0.5, 0.9)] * 3, "3 comparisons are few; confirm it on fresh seeds."),
        ([(0.5, 0.9)] * 6, "On average over these comparisons, filtered is better than archetype."),
        ([(0.9, 0.5)] * 6, "On average over these comparisons, archetype is better than filtered."),
        ([(0.5, 0.5)] * 6, "The interval includes 0"),
    ],
)
def test_a_verdict_says_no_more_than_it_knows(rng, accuracies, sentence):
    said = verdict(ends(*accuracies), rng)
    assert sentence in said
    assert ("is better than" in said) == sentence.startswith("On average")


# Three configurations on two seeds each, whose averages are 0.15, 0.15 and −0.1.
SEEDED = [(0.5, 0.6), (0.5, 0.7), (0.5, 0.5), (0.5, 0.8), (0.5, 0.3), (0.5, 0.5)]
RATES = rates(0.1, 0.1, 0.2, 0.2, 0.3, 0.3)


def test_a_verdict_says_what_its_interval_is_of(rng):
    lines = verdict(ends(*SEEDED, configs=RATES), rng).splitlines()
    assert "beats archetype in 3 of 6 comparisons" in lines[0]
    assert lines[0].endswith("pp (over 3 configurations, each averaged over its seeds).")
    assert lines[2].startswith(
        "A signed-rank test cannot tell from 3 configurations: whatever their gaps, its p is 0.25"
    )
    lines = verdict(ends(*SEEDED[:4], configs=RATES[:4]), rng).splitlines()
    assert lines[1] == "2 configurations: too few to tell which arm is better."
    assert "signed-rank" not in "".join(lines)
    same = [(0.5, 0.6), (0.5, 0.7)] * 3
    lines = verdict(ends(*same, configs=RATES), rng).splitlines()
    assert lines[1] == "The interval leaves out 0, but 3 configurations are few; confirm it on fresh seeds."


def test_a_verdict_says_how_sure_it_is(rng):
    lines = verdict(ends(*[(0.5, 0.9)] * 6), rng).splitlines()
    # Wilson's interval of 6 of 6 begins at 6 / (6 + 1.96²).
    assert lines[2] == (
        "Wilcoxon's signed-rank test over 6 comparisons, taken alone, has p = 0.031; the probability that filtered "
        "does better is 100% (95% interval from 61% to 100%)."
    )
    lines = verdict(ends(*[(0.5, 0.4)] * 12, configs=rates(*range(12))), rng).splitlines()
    assert "has p <0.001; the probability that filtered does better is 0% (" in lines[2]


def test_of_several_studies_a_verdict_tells_them_apart(rng):
    accuracies = [(0.5, 0.6)] * 8 + [(0.5, 0.4)] * 8 + [(0.5, 0.6), (0.5, 0.4)] * 4
    pairs = Pairs(frame_of(*accuracies, configs=rates(*range(24))).assign(study=["a"] * 8 + ["b"] * 8 + ["c"] * 8), {})
    lines = verdict(pairs, rng).splitlines()
    assert lines[3] == (
        "Study by study, with p corrected by Holm for 3 studies, filtered is better in 1, worse in 1, and not told "
        "apart in 1."
    )
    alone = Pairs(pairs.frame.iloc[:8], {})
    assert "Study by study" not in verdict(alone, rng)


def test_wins_over_untuned_baselines_are_said(rng):
    lines = verdict(ends((0.9, 0.8), (0.5, 0.6), (0.5, 0.7), configs=rates(0.1, 0.2, 0.3)), rng).splitlines()
    assert lines[3] == (
        "2 of the wins are over an untuned baseline: at its own best configuration in the same cell archetype does "
        "better than filtered did there."
    )
    assert "untuned" not in verdict(ends((0.5, 0.6), (0.5, 0.7), configs=rates(0.2, 0.3)), rng)


def test_seeds_alone_are_nothing_to_tune(rng):
    said = verdict(ends((0.5, 0.9), (0.8, 0.6), (0.7, 0.7)), rng)
    assert "No cell has two configurations, so the arms cannot be compared" in said


def test_several_cells_are_counted(rng):
    configs = [{"batch_size": size} | rate for size in (32, 64) for rate in rates(0.1, 0.2)]
    said = verdict(ends((0.5, 0.6), (0.7, 0.8), (0.5, 0.6), (0.7, 0.6), configs=configs), rng)
    assert "filtered is ahead on test in 1 of 2 cells, with a median gap of 0.00 pp." in said


def test_a_verdict_says_where_nothing_is_held_out(rng):
    pairs = ends((0.5, 0.6), (0.7, 0.5), configs=rates(0.1, 0.2))
    pairs.frame["treatment/validation_accuracy"] = math.nan
    assert "chosen on training accuracy, as nothing is held out" in verdict(pairs, rng)


def test_a_verdict_says_what_it_leaves_out(mixed, rng):
    lines = verdict(pair(mixed), rng).splitlines()
    assert "5 trials could not be counted: 1 stopped early by the scheduler" in lines[-1]
    assert "at epoch 1, filtered beats archetype in 1 of 4" in verdict(pair(mixed, at=1), rng)


@pytest.mark.parametrize("clock", [clock for clock in CLOCKS if clock != "epochs"])
def test_a_verdict_at_another_clock_than_epochs_says_whom_it_favours(mixed, rng, clock):
    lines = verdict(pair(mixed, clock=clock), rng).splitlines()
    assert f"at equal {clock} (interpolated between epochs)" in lines[0]
    assert (
        f"At equal {clock} an arm that has spent more is read before its end, between two epochs and before its "
        "schedule has run out, which favours the other; read this beside the gap at equal epochs."
    ) in lines


@pytest.mark.parametrize("at", ["final", "best", 1])
def test_a_verdict_at_equal_epochs_has_no_caveat_of_its_clock(mixed, rng, at):
    assert "which favours the other" not in verdict(pair(mixed, at=at), rng)


def test_a_verdict_does_not_count_a_repeated_comparison(study, trial, rng):
    curves = {"archetype": [0.1, 0.5], "filtered": [0.1, 0.9]}
    said = verdict(pair(study(*(trial(n, curves, config={"seed": 7}) for n in range(2)))), rng)
    assert "filtered beats archetype in 1 of 1 comparison " in said
    assert said.splitlines()[-1] == "1 trial could not be counted: 1 repeated another comparison, seed and all."


def test_no_comparison_no_verdict(study, rng, trial):
    assert verdict(pair(study()), rng) == "No comparison can be judged by test accuracy, so there is no verdict."
    said = verdict(pair(study(trial(0, {}, status="failed"))), rng)
    assert said.splitlines()[1] == "1 trial could not be counted: 1 failed."
