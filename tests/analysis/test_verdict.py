import math

import pytest
from comparisons import frame_of, rates

from analysis.budgets import ONLY_WITH_BUDGETS
from analysis.pairs import Pairs, pair
from analysis.verdict import verdict
from trainables.records import CLOCKS


def ends(*accuracies, configs=()):
    return Pairs(frame_of(*accuracies, configs=configs), {})


def test_a_verdict_counts_and_names_its_clock():
    accuracies = [(0.5, 0.75), (0.5, 0.5), (0.5, 0.25), (0.1, 0.35)]
    lines = verdict(ends(*accuracies, configs=rates(0.1, 0.2, 0.3, 0.4))).splitlines()
    assert lines[0] == (
        "Measured by test accuracy after equally many passes over the data (1 epoch), filtered beats archetype in 2 of "
        "4 comparisons and ties in 1 (62%, a tie counting half). The median gap is +12.50 pp, the mean +6.25 pp."
    )
    assert lines[1].startswith("4 comparisons: too few to tell which arm is better")
    assert lines[2].startswith("1 of the wins is over a baseline that did not learn")
    assert "Tuned against tuned (each arm at its own best of 4 configurations, chosen on validation)" in lines[3]
    assert "filtered reaches 75.0% on test and archetype 50.0%, a gap of +25.00 pp" in lines[3]
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("accuracies", "sentence"),
    [
        ([(0.5, 0.9)], "1 comparison: too few to tell which arm is better"),
        ([(0.5, 0.9)] * 5, "5 comparisons: too few to tell which arm is better; a 95% interval of the median takes 6."),
        ([(0.5, 0.9)] * 6, "In the median comparison, filtered is better than archetype."),
        ([(0.9, 0.5)] * 6, "In the median comparison, archetype is better than filtered."),
        ([(0.5, 0.5)] * 6, "The interval includes 0"),
        ([(0.5, 0.9)] * 5 + [(0.5, 0.4)], "The interval includes 0"),
    ],
)
def test_a_verdict_says_no_more_than_it_knows(accuracies, sentence):
    said = verdict(ends(*accuracies))
    assert sentence in said
    assert ("is better than" in said) == sentence.startswith("In the median comparison")


def test_a_verdict_says_what_the_median_does_not():
    lines = verdict(ends(*[(0.5, 0.6)] * 9, (0.5, 0.55))).splitlines()
    assert lines[2] == (
        "The median says nothing of rare large gaps: 10 comparisons do not rule out that up to 26% of such gaps lie "
        "below the worst of these, +5.00 pp (95% bound)."
    )
    lines = verdict(ends(*[(0.5, 0.4)] * 9, (0.5, 0.7))).splitlines()
    assert lines[2].endswith("up to 26% of such gaps lie above the best of these, +20.00 pp (95% bound).")
    assert "other sign" not in "".join(lines)


def test_a_mean_that_contradicts_the_median_is_said():
    lines = verdict(ends(*[(0.8, 0.82)] * 9, (0.8, 0.1))).splitlines()
    assert lines[1] == "In the median comparison, filtered is better than archetype."
    assert lines[3] == "The mean gap has the other sign: a few large gaps in favour of archetype outweigh the rest."


def test_comparisons_that_an_arm_lost_by_its_outcome_are_counted():
    pairs = ends(*[(0.5, 0.6)] * 20)
    pairs.frame.loc[:9, "gap/test_accuracy"] = -math.inf
    lines = verdict(pairs).splitlines()
    assert "in 10 of 20 comparisons (50%). The median gap is −∞ with a 95% interval from −∞ to +10.00 pp" in lines[0]
    assert lines[0].endswith("the mean of the finite gaps +10.00 pp.")
    assert "is better than" not in "".join(lines)
    pairs.frame["gap/test_accuracy"] = -math.inf
    lines = verdict(pairs).splitlines()
    assert lines[0].endswith("The median gap is −∞ with a 95% interval from −∞ to −∞.")
    assert lines[1] == "In the median comparison, archetype is better than filtered."


# Three configurations on two seeds each, whose averages are 0.15, 0.15 and −0.1.
SEEDED = [(0.5, 0.6), (0.5, 0.7), (0.5, 0.5), (0.5, 0.8), (0.5, 0.3), (0.5, 0.5)]
RATES = rates(0.1, 0.1, 0.2, 0.2, 0.3, 0.3)


def test_a_verdict_says_what_its_interval_is_of():
    lines = verdict(ends(*SEEDED, configs=RATES)).splitlines()
    assert "beats archetype in 3 of 6 comparisons" in lines[0]
    assert lines[0].endswith("the mean +6.67 pp (over 3 configurations, each averaged over its seeds).")
    assert lines[1].startswith("3 configurations: too few to tell which arm is better")
    assert "sign test" not in "".join(lines)


def test_a_verdict_says_how_sure_it_is():
    lines = verdict(ends(*[(0.5, 0.9)] * 6)).splitlines()
    # Clopper and Pearson's interval of 6 of 6 begins where 6 of 6 have a chance of 0.025.
    assert lines[3] == (
        "The sign test over 6 comparisons, taken alone, has p = 0.031; the probability that filtered "
        "does better is 100% (95% interval from 54% to 100%)."
    )
    lines = verdict(ends(*[(0.5, 0.4)] * 12, configs=rates(*range(12)))).splitlines()
    assert "has p <0.001; the probability that filtered does better is 0% (" in lines[3]


def test_of_several_studies_a_verdict_tells_them_apart():
    accuracies = [(0.5, 0.6)] * 8 + [(0.5, 0.4)] * 8 + [(0.5, 0.6), (0.5, 0.4)] * 4
    pairs = Pairs(frame_of(*accuracies, configs=rates(*range(24))).assign(study=["a"] * 8 + ["b"] * 8 + ["c"] * 8), {})
    lines = verdict(pairs).splitlines()
    assert lines[3] == (
        "Study by study, with p corrected by Holm for 3 studies, filtered is better in 1, worse in 1, and not told "
        "apart in 1."
    )
    alone = Pairs(pairs.frame.iloc[:8], {})
    assert "Study by study" not in verdict(alone)


def test_wins_over_untuned_baselines_are_said():
    lines = verdict(ends((0.9, 0.8), (0.5, 0.6), (0.5, 0.7), configs=rates(0.1, 0.2, 0.3))).splitlines()
    assert lines[2] == (
        "2 of the wins are over an untuned baseline: at its own best configuration in the same cell archetype does "
        "better than filtered did there."
    )
    assert "untuned" not in verdict(ends((0.5, 0.6), (0.5, 0.7), configs=rates(0.2, 0.3)))


def test_seeds_alone_are_nothing_to_tune():
    said = verdict(ends((0.5, 0.9), (0.8, 0.6), (0.7, 0.7)))
    assert "No cell has two configurations, so the arms cannot be compared" in said


def test_several_cells_are_counted():
    configs = [{"batch_size": size} | rate for size in (32, 64) for rate in rates(0.1, 0.2)]
    said = verdict(ends((0.5, 0.6), (0.7, 0.8), (0.5, 0.6), (0.7, 0.6), configs=configs))
    assert "filtered is ahead on test in 1 of 2 cells, with a median gap of 0.00 pp." in said


def test_a_verdict_says_where_nothing_is_held_out():
    pairs = ends((0.5, 0.6), (0.7, 0.5), configs=rates(0.1, 0.2))
    pairs.frame["treatment/validation_accuracy"] = math.nan
    assert "chosen on training accuracy, as nothing is held out" in verdict(pairs)


def test_a_verdict_says_what_it_leaves_out(mixed):
    lines = verdict(pair(mixed)).splitlines()
    assert "6 trials could not be counted: 1 stopped early by the scheduler" in lines[-1]
    assert "at epoch 1, filtered beats archetype in 1 of 4" in verdict(pair(mixed, at=1))


@pytest.mark.parametrize("clock", [clock for clock in CLOCKS if clock not in ("epochs", *ONLY_WITH_BUDGETS)])
def test_a_verdict_at_another_clock_than_epochs_says_whom_it_favours(mixed, clock):
    lines = verdict(pair(mixed, clock=clock)).splitlines()
    assert f"at equal {clock} (interpolated between epochs)" in lines[0]
    # An epoch of the archetype takes twice the updates of one of filtered, and as many seconds.
    early = "archetype is read before its end, at 50% of its epochs (median); which schedule it had is not recorded"
    said = "neither arm is read before its end" if clock == "seconds" else early
    assert f"At equal {clock}, {said}. Read this beside the gap at equal epochs." in lines


@pytest.mark.parametrize("at", ["final", "best", 1])
def test_a_verdict_at_equal_epochs_has_no_caveat_of_its_clock(mixed, at):
    assert "before its end" not in verdict(pair(mixed, at=at))


def test_a_verdict_does_not_count_a_repeated_comparison(study, trial):
    curves = {"archetype": [0.1, 0.5], "filtered": [0.1, 0.9]}
    said = verdict(pair(study(*(trial(n, curves, config={"seed": 7}) for n in range(2)))))
    assert "filtered beats archetype in 1 of 1 comparison " in said
    assert said.splitlines()[-1] == "1 trial could not be counted: 1 repeated another comparison, seed and all."


def test_no_comparison_no_verdict(study, trial):
    assert verdict(pair(study())) == "No comparison can be judged by test accuracy, so there is no verdict."
    said = verdict(pair(study(trial(0, {}, status="failed"))))
    assert said.splitlines()[1] == "1 trial could not be counted: 1 failed."


def own_searches(trial, study, sides, against=None):
    """The verdict on comparisons that these sides proposed."""
    trials = []
    for number, side in enumerate(sides):
        accuracies = {"archetype": [0.1, 0.8], "filtered": [0.1, 0.7], "random": [0.1, 0.6]}
        made = trial(number, accuracies, configuration=f"c{number // 2}", config={"optimizer.lr": 0.1 + number // 2})
        made["row"]["proposed_by"] = side
        trials.append(made)
    return verdict(pair(study(*trials), against=against))


def test_that_each_arm_was_tuned_by_a_search_of_its_own_is_said_with_its_configurations(trial, study):
    said = own_searches(trial, study, ["baseline"] * 2 + ["treatment"] * 2 + ["baseline"] * 2 + ["treatment"] * 2)
    assert said.endswith(
        "Each arm was tuned on its own: of 4 configurations the search for archetype and the search for filtered "
        "proposed 2 each, and both learned from all."
    )
    said = own_searches(trial, study, ["baseline"] * 2 + ["treatment"] * 2 + ["baseline"] * 2)
    assert "of 3 configurations the search for archetype and the search for filtered proposed 2 and 1, and" in said


def test_an_arm_that_takes_anothers_place_is_said_to_have_had_no_search(trial, study):
    said = own_searches(trial, study, ["baseline"] * 2 + ["treatment"] * 2, against="random")
    assert said.endswith(
        "the search for filtered proposed 1 each, and both learned from all. No search was for random."
    )


def test_one_search_for_both_arms_is_not_said_to_have_tuned_each(trial, study):
    for sides in ([None] * 4, ["baseline", "baseline", None, None]):
        assert "tuned on its own" not in own_searches(trial, study, sides)
