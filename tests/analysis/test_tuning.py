import math
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from comparisons import frame_of, rates
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.database import TableError
from analysis.pairs import pair
from analysis.tuning import (
    LOST,
    STANDINGS,
    TIED,
    UNLEARNED,
    UNTRAINED,
    UNTUNED,
    WON,
    at_best,
    best_of_n,
    standing,
    tuned,
)


def test_tuned_arms_come_from_the_same_trials_and_are_reported_on_test():
    # Validation accuracy chooses trial 1 for the baseline and trial 0 for the treatment.
    frame = frame_of((0.5, 0.9), (0.8, 0.6), configs=rates(0.1, 0.2))
    (cell,) = tuned(frame.assign(**{"baseline/test_accuracy": [0.99, 0.7]}))
    assert (cell.baseline_trial, cell.treatment_trial, cell.trials) == (1, 0, 2)
    assert cell.chosen_by == "validation_accuracy"
    assert (cell.baseline_test, cell.treatment_test) == (0.7, 0.9)
    assert cell.gap == pytest.approx(0.2)


def test_seeds_are_averaged_and_a_lucky_one_is_not_chosen():
    # Over two seeds each, a rate of 0.2 is best on average for both arms (0.75, 0.8); the best single trial of either
    # arm (0.95, 0.99) is one of 0.1, whose other seed failed to learn (averages 0.55, 0.6).
    accuracies = [(0.95, 0.21), (0.7, 0.75), (0.15, 0.99), (0.8, 0.85), (0.3, 0.3)]
    frame = frame_of(*accuracies, configs=rates(0.1, 0.2, 0.1, 0.2, 0.3))
    (cell,) = tuned(frame)
    assert cell.trials == 3
    assert (cell.baseline_trial, cell.treatment_trial) == (1, 1)
    assert (cell.baseline_test, cell.treatment_test) == pytest.approx((0.75, 0.8))
    assert cell.gap == pytest.approx(0.05)
    # In any order of the trials, and with what is reported averaged apart from what chooses.
    shuffled = frame.iloc[[4, 3, 2, 1, 0]].assign(**{"treatment/test_accuracy": [0.0, 0.1, 0.0, 0.2, 0.0]})
    (cell,) = tuned(shuffled)
    assert (cell.baseline_trial, cell.treatment_trial) == (3, 3)
    assert (cell.baseline_test, cell.treatment_test) == pytest.approx((0.75, 0.15))


def test_seeds_and_studies_alone_are_nothing_to_tune():
    frame = frame_of((0.5, 0.9), (0.8, 0.6), (0.7, 0.7)).assign(study=["a", "a", "b"])
    assert frame["seed"].nunique() == 3
    assert tuned(frame) == []
    assert best_of_n(frame).empty


def test_of_nothing_nothing_is_tuned():
    for frame in (frame_of(), frame_of((0.5, 0.6)).iloc[:0]):
        assert tuned(frame) == []
        assert best_of_n(frame).columns.tolist() == list(best_of_n(frame_of(*TWO, configs=rates(0.1, 0.2))))
        assert standing(frame).tolist() == []


def test_a_setting_that_is_missing_is_a_configuration_too():
    (cell,) = tuned(frame_of((0.5, 0.9), (0.8, 0.6), configs=[{"optimizer.momentum": 0.9}]))
    assert cell.trials == 2
    assert (cell.baseline_trial, cell.treatment_trial) == (1, 0)


@pytest.mark.parametrize(
    ("small", "large"),
    [
        ({"batch_size": 32}, {"batch_size": 64}),
        ({"dataset.label_noise": 0.0}, {"dataset.label_noise": 0.4}),
        ({"dataset.split_seed": 0}, {"dataset.split_seed": 1}),
        ({"treatment": "filtered"}, {"treatment": "epochwise"}),
    ],
)
def test_tuned_arms_share_their_cell(small, large):
    slow, fast = rates(0.1, 0.2)
    configs = [small | slow, small | fast, large | slow, large | fast]
    cells = tuned(frame_of((0.5, 0.6), (0.7, 0.5), (0.9, 0.8), (0.8, 0.9), configs=configs))
    assert [(cell.cell, cell.gap) for cell in cells] == [
        (small, pytest.approx(-0.1)),
        (large, pytest.approx(0.0)),
    ]
    assert tuned(frame_of((0.5, 0.6), (0.9, 0.8), configs=[small, large])) == []
    assert tuned(frame_of((0.5, 0.6), (0.9, 0.8), configs=[small | slow, large | fast])) == []


def test_without_validation_training_accuracy_chooses():
    frame = frame_of((0.5, 0.6), (0.7, 0.5), configs=rates(0.1, 0.2))
    one = frame.assign(**{"treatment/validation_accuracy": [0.9, math.nan]})
    assert [(cell.chosen_by, cell.treatment_trial) for cell in tuned(one)] == [("train_accuracy", 0)]
    assert tuned(one.assign(**{"baseline/train_accuracy": [0.5, math.nan]})) == []


def test_the_choice_is_made_for_each_cell_apart():
    configs = [{"batch_size": size} | rate for size in (32, 64) for rate in rates(0.1, 0.2)]
    frame = frame_of((0.5, 0.6), (0.7, 0.5), (0.5, 0.6), (0.7, 0.5), configs=configs)
    frame.loc[3, "baseline/validation_accuracy"] = math.nan
    assert [cell.chosen_by for cell in tuned(frame)] == ["validation_accuracy", "train_accuracy"]


TWO = [(0.5, 0.6), (0.7, 0.5)]
THREE = [(0.5, 0.9), (0.8, 0.3), (0.2, 0.6)]


def sides(table, name="expected"):
    return {side: rows[name].tolist() for side, rows in table.groupby("side")}


def test_what_the_best_of_a_few_trials_is_expected_to_reach():
    table = best_of_n(frame_of(*THREE, configs=rates(0.1, 0.2, 0.3)))
    assert table[["cell", "arm", "configurations"]].drop_duplicates().to_numpy().tolist() == [
        ["all", "archetype", 3],
        ["all", "filtered", 3],
    ]
    # Of the three pairs of configurations, two contain the best one and one does not.
    assert sides(table)["baseline"] == pytest.approx([0.5, (2 * 0.8 + 0.5) / 3, 0.8])
    assert sides(table)["treatment"] == pytest.approx([0.6, (2 * 0.9 + 0.6) / 3, 0.9])
    assert sides(table, "gap_at_n")["baseline"] == pytest.approx([0.1, 0.1, 0.1])
    assert sides(table, "n") == {"baseline": [1, 2, 3], "treatment": [1, 2, 3]}


def test_the_best_is_chosen_on_validation_and_reported_on_test():
    frame = frame_of(*THREE, configs=rates(0.1, 0.2, 0.3)).assign(**{"baseline/test_accuracy": [0.6, 0.4, 0.2]})
    # By validation the second configuration is best, then the first; on test they reach 0.4 and 0.6.
    assert sides(best_of_n(frame))["baseline"] == pytest.approx([0.4, (2 * 0.4 + 0.6) / 3, 0.4])


def test_of_equally_good_configurations_each_is_as_likely():
    frame = frame_of(*[(0.5, 0.5)] * 3, configs=rates(0.1, 0.2, 0.3)).assign(
        **{"treatment/test_accuracy": [0.1, 0.2, 0.6]}
    )
    assert sides(best_of_n(frame))["treatment"] == pytest.approx([0.3, 0.3, 0.3])


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 1)), min_size=2, max_size=7))
def test_the_closed_form_is_the_mean_of_all_draws(configurations):
    frame = frame_of(*[(0.5, test) for _, test in configurations], configs=rates(*range(len(configurations))))
    frame["treatment/validation_accuracy"] = [choice / 10 for choice, _ in configurations]
    for n, expected in enumerate(sides(best_of_n(frame))["treatment"], start=1):
        draws = []
        for draw in combinations(configurations, n):
            best = max(choice for choice, _ in draw)
            draws.append(np.mean([test for choice, test in draw if choice == best]))
        assert expected == pytest.approx(np.mean(draws))


def test_the_ends_of_the_curve_are_the_mean_gap_and_the_tuned_gap():
    draws = np.random.default_rng(0).random((300, 2))
    frame = frame_of(*draws, configs=rates(*range(300)))
    table = best_of_n(frame)
    gaps = table[table["side"] == "treatment"]["gap_at_n"]
    assert gaps.iloc[0] == pytest.approx(frame["gap/test_accuracy"].mean())
    (cell,) = tuned(frame)
    assert gaps.iloc[-1] == pytest.approx(cell.gap)
    n = sides(table, "n")["treatment"]
    assert n[:32] == list(range(1, 33))
    assert n[-1] == 300
    assert len(n) < 70
    assert (np.diff(sides(table)["baseline"]) > 0).all()  # validation is test here: more trials never hurt


def test_cells_have_their_own_curves_and_seeds_are_averaged():
    configs = [{"batch_size": 32} | rate for rate in rates(0.1, 0.1, 0.2)]
    configs += [{"batch_size": 64} | rate for rate in rates(0.1, 0.2, 0.3)] + [{"batch_size": 8}]
    table = best_of_n(frame_of((0.4, 0.5), (0.6, 0.7), (0.2, 0.3), *THREE, (0.5, 0.5), configs=configs))
    assert table.groupby("cell", sort=False)["configurations"].first().to_dict() == {
        "batch_size 32": 2,
        "batch_size 64": 3,
    }
    small = table[table["cell"] == "batch_size 32"]
    assert sides(small) == {"baseline": pytest.approx([0.35, 0.5]), "treatment": pytest.approx([0.45, 0.6])}


def test_a_configuration_that_was_not_measured_on_test_is_not_drawn():
    frame = frame_of(*THREE, configs=rates(0.1, 0.2, 0.3))
    frame.loc[2, "baseline/test_accuracy"] = math.nan
    assert best_of_n(frame)["configurations"].unique().tolist() == [2]


def test_how_comparisons_stand():
    # The tuned baseline is that of the second configuration, 0.8.
    ends = [(0.5, 0.4), (0.8, 0.85), (0.5, 0.5), (0.1, 0.9), (0.5, 0.7), (0.5, 0.82), (0.5, 0.6)]
    frame = frame_of(*ends, configs=rates(*range(7)))
    frame.loc[6, "gap/test_accuracy"] = math.nan
    stands = standing(frame)
    assert stands.tolist()[:6] == [LOST, WON, TIED, UNLEARNED, UNTUNED, WON]
    assert pd.isna(stands[6])
    assert stands.cat.ordered
    assert stands.cat.categories.tolist() == list(STANDINGS)


def test_a_win_at_the_tuned_baseline_counts_whatever_its_seeds():
    # Rate 0.1 is the tuned one (0.5 and 0.9), and wins on its worse seed; at rate 0.2 the average (0.65) is below it.
    ends = [(0.5, 0.55), (0.9, 0.85), (0.3, 0.8), (0.3, 0.5)]
    frame = frame_of(*ends, configs=rates(0.1, 0.1, 0.2, 0.2))
    assert standing(frame).tolist() == [WON, LOST, UNTUNED, UNTUNED]


def test_cells_are_tuned_apart_and_losses_are_better_below():
    configs = [{"batch_size": 32} | rate for rate in rates(0.1, 0.2)] + [{"batch_size": 64} | rates(0.1)[0]]
    frame = frame_of((0.9, 0.8), (0.5, 0.6), (0.5, 0.6), configs=configs)
    assert standing(frame).tolist() == [LOST, UNTUNED, WON]
    assert standing(frame, "test_worst_loss").tolist() == [LOST, UNTUNED, WON]


def test_where_nothing_can_be_chosen_no_win_is_over_an_untuned_baseline():
    frame = frame_of((0.9, 0.8), (0.5, 0.6), configs=rates(0.1, 0.2))
    for split in ("validation", "train"):
        frame[f"baseline/{split}_accuracy"] = math.nan
    assert standing(frame).tolist() == [LOST, WON]
    assert tuned(frame) == []


def test_a_standing_keeps_the_index_and_needs_a_gap():
    frame = frame_of((0.5, 0.6), (0.5, 0.4)).set_index(pd.Index([7, 3]))
    assert standing(frame).to_dict() == {7: WON, 3: LOST}
    with pytest.raises(TableError, match="'steps' has no gap"):
        standing(frame, "steps")


ENDS = st.lists(
    st.tuples(st.sampled_from([0.1, 0.4, 0.5, 0.6]), st.sampled_from([0.1, 0.4, 0.5, 0.6]), st.integers(1, 3)),
    max_size=10,
)


@settings(deadline=None)
@given(ENDS, st.randoms(use_true_random=False))
def test_a_standing_agrees_with_its_gap_in_any_order(comparisons, random):
    frame = frame_of(*[ends[:2] for ends in comparisons], configs=rates(*[rate / 10 for *_, rate in comparisons]))
    stands = standing(frame)
    gaps = frame["gap/test_accuracy"]
    assert (stands == LOST).tolist() == (gaps < 0).tolist()
    assert (stands == TIED).tolist() == (gaps == 0).tolist()
    assert ((gaps > 0) & ~frame["baseline_learned"]).tolist() == (stands == UNLEARNED).tolist()
    apart = frame.groupby("optimizer.lr")["baseline/test_accuracy"].mean()
    if apart.nunique() == len(apart):  # where two are equally good, the first of them is taken
        order = random.sample(range(len(frame)), len(frame))
        assert standing(frame.iloc[order]).loc[frame.index].tolist() == stands.tolist()


def diverging(study, trial, arm):
    """Two configurations on two seeds; at a rate of 0.2 the arm is better on one seed, and diverges on the other."""
    curves = {name: [0.1, 0.5] for name in ("archetype", "filtered")}
    trials = [trial(seed, curves, config={"optimizer.lr": 0.1, "seed": seed}) for seed in (0, 1)]
    trials.append(trial(2, curves | {arm: [0.1, 0.7]}, config={"optimizer.lr": 0.2, "seed": 0}))
    broken = {"status": "diverged", "changes": {(arm, 1): {"train_mean_loss": None}}}
    trials.append(trial(3, curves, config={"optimizer.lr": 0.2, "seed": 1, "epochs": 1}, **broken))
    return pair(study(*trials)).frame


@pytest.mark.parametrize("arm", ["archetype", "filtered"])
def test_a_configuration_does_not_gain_by_the_seeds_on_which_its_arm_diverged(study, trial, arm):
    frame = diverging(study, trial, arm)
    (cell,) = tuned(frame)
    assert cell.chosen_by == "validation_accuracy"
    # (0.7 + 0.1) / 2, with chance for the seed that diverged, is less than 0.5.
    assert (cell.baseline_trial, cell.treatment_trial) == (0, 0)
    assert (cell.baseline_test, cell.treatment_test) == (0.5, 0.5)
    side = "baseline" if arm == "archetype" else "treatment"
    assert sides(best_of_n(frame))[side] == pytest.approx([0.45, 0.5])


def test_how_comparisons_stand_that_an_arm_lost_by_what_became_of_it(study, trial):
    assert standing(diverging(study, trial, "filtered")).tolist() == [TIED, TIED, UNTUNED, LOST]
    assert standing(diverging(study, trial, "archetype")).tolist() == [TIED, TIED, LOST, UNLEARNED]
    curves = {"archetype": [0.1, 0.5, 0.6], "filtered": [0.1, 0.1, 0.12]}
    idle = study(trial(0, curves, changes={("filtered", 2): {"cumulative_steps": 1}}))
    for metric in ("test_accuracy", "test_worst_loss"):
        assert standing(pair(idle).frame, metric).tolist() == [UNTRAINED]


def test_each_arm_is_at_its_best_somewhere_in_the_cell_of_every_comparison():
    configs = [{"batch_size": size} | rate for size in (32, 64) for rate in rates(0.1, 0.2)]
    frame = frame_of((0.9, 0.8), (0.5, 0.85), (0.6, 0.7), (0.5, 0.6), configs=configs)
    best = at_best(frame)
    assert best["baseline"].tolist() == ["trial0", "trial0", "trial2", "trial2"]
    assert best["treatment"].tolist() == ["trial1", "trial1", "trial2", "trial2"]
    assert at_best(frame.head(1))["treatment"].tolist() == ["trial0"]
    assert at_best(frame.head(0)).empty


def test_where_nothing_can_be_chosen_no_arm_is_at_its_best_anywhere():
    frame = frame_of((0.9, 0.8), (0.5, 0.6), configs=rates(0.1, 0.2))
    for split in ("validation", "train"):
        frame[f"baseline/{split}_accuracy"] = math.nan
    assert at_best(frame)["baseline"].tolist() == [None, None]
