import math
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.load import TableError
from analysis.pairs import arm_rows, arms, final_rows, pair, varied
from trainables.records import BY_NAME, METRICS, STATUSES

REPEATED = "repeated another comparison, seed and all"
SIDES = {"archetype": [0.1, 0.6, 0.8], "filtered": [0.1, 0.7, 0.6]}


def test_final_gaps_and_what_has_none(mixed):
    pairs = pair(mixed)
    assert pairs.frame["trial_id"].tolist() == ["trial0", "trial1", "trial2"]
    assert pairs.frame["outcome"].tolist() == ["measured"] * 3
    assert pairs.frame["gap/test_accuracy"].tolist() == pytest.approx([0.1, -0.05, 0])
    assert pairs.frame["gap/test_mean_loss"].tolist() == pytest.approx([0.1, -0.05, 0])
    assert pairs.frame["baseline/cumulative_steps"].tolist() == [20, 20, 20]
    assert pairs.frame["treatment/cumulative_steps"].tolist() == [10, 10, 10]
    assert pairs.frame["optimizer.lr"].tolist() == [0.1, 0.2, 0.2]
    assert pairs.dropped == {
        "stopped early by the scheduler": 1,
        "diverged: archetype, filtered": 1,
        "failed": 1,
        "still running": 1,
        "interrupted": 1,
        "an arm is missing": 1,
    }


def test_every_metric_has_both_sides_and_a_gap(mixed):
    frame = pair(mixed).frame
    for metric in METRICS:
        assert {f"baseline/{metric}", f"treatment/{metric}", f"gap/{metric}"} <= set(frame)


def test_a_baseline_has_learned_at_one_and_a_half_times_chance(trial, study):
    loaded = study(
        trial(0, {"archetype": [0.1, 0.15], "filtered": [0.1, 0.5]}),
        trial(1, {"archetype": [0.1, 0.149], "filtered": [0.1, 0.5]}),
        trial(2, {"archetype": [0.1, 0.016], "filtered": [0.1, 0.5]}, config={"dataset.name": "cifar100"}),
        trial(3, {"archetype": [0.1, 0.7], "filtered": [0.1, 0.5]}, config={"dataset.classes": 2}),
    )
    assert pair(loaded).frame["baseline_learned"].tolist() == [True, False, True, False]


def test_best_takes_each_arm_where_its_own_validation_is_best(trial, study):
    changes = {("archetype", 1): {"validation_accuracy": 0.95}}
    row = pair(study(trial(0, SIDES, changes=changes)), at="best").frame.iloc[0]
    assert (row["baseline/epoch"], row["treatment/epoch"]) == (1, 1)
    assert row["gap/test_accuracy"] == pytest.approx(0.1)


def test_training_that_was_not_measured_has_not_diverged(trial, study):
    not_measured = {name: None for name in METRICS if name.startswith("train_")}
    changes = {(arm, 1): not_measured for arm in SIDES} | {("archetype", 0): {"train_mean_loss": math.inf}}
    loaded = study(trial(0, SIDES, changes=changes))
    for reading in ({"at": 1}, {"at": "final"}, {"clock": "steps"}):
        assert pair(loaded, **reading).dropped == {}
    assert math.isnan(pair(loaded, at=1).frame["gap/train_accuracy"].iloc[0])
    assert pair(loaded, at=0).frame["outcome"].tolist() == ["baseline diverged"]


def test_best_without_validation_names_it(trial, study):
    none = {"validation_accuracy": None}
    changes = {(arm, epoch): none for arm in SIDES for epoch in range(3)}
    with pytest.raises(TableError, match=r"validation_accuracy has no value.*validation_fraction above 0"):
        pair(study(trial(0, SIDES, changes=changes)), at="best")
    some = study(trial(0, SIDES, changes=changes), trial(1, SIDES))
    assert pair(some, at="best").dropped == {"no validation accuracy": 1}


def test_an_epoch_counts_every_trial_that_reached_it(mixed):
    pairs = pair(mixed, at=1)
    assert pairs.frame["number"].tolist() == [0, 1, 2, 3]
    assert pairs.frame["gap/test_accuracy"].tolist() == pytest.approx([0.1, -0.1, 0, -0.2])
    assert pairs.dropped["diverged: archetype, filtered"] == 1
    assert pairs.dropped["still running, before epoch 1"] == 1
    assert pair(mixed, at=2).dropped["stopped early by the scheduler, before epoch 2"] == 1
    assert pair(mixed, at=3).dropped["trained for fewer epochs, before epoch 3"] == 3


def test_equal_steps_read_the_longer_arm_between_its_epochs(trial, study):
    # The treatment has taken 10 steps at its end; the archetype has after epoch 1.
    assert pair(study(trial(0, SIDES)), clock="steps").frame.iloc[0]["gap/test_accuracy"] == pytest.approx(0.0)
    # 15 steps lie half-way between the archetype's epochs 1 and 2: (0.6 + 0.8) / 2.
    changes = {("filtered", 2): {"cumulative_steps": 15}}
    row = pair(study(trial(0, SIDES, changes=changes)), clock="steps").frame.iloc[0]
    assert row["baseline/epoch"] == pytest.approx(1.5)
    assert row["baseline/test_accuracy"] == pytest.approx(0.7)
    assert row["baseline/cumulative_steps"] == row["treatment/cumulative_steps"] == 15


def test_too_unequal_clocks_are_not_compared(trial, study):
    changes = {("filtered", epoch): {"cumulative_steps": epoch} for epoch in (1, 2)}
    pairs = pair(study(trial(0, SIDES, changes=changes)), clock="steps")
    assert pairs.dropped == {"one arm's whole training takes fewer steps than the other's first epoch": 1}
    changes = {("filtered", 1): {"cumulative_seconds": None}}
    pairs = pair(study(trial(0, SIDES, changes=changes)), clock="seconds")
    assert pairs.dropped == {"seconds were not recorded": 1}


def test_a_control_can_stand_in_for_the_baseline(trial, study):
    loaded = study(trial(0, SIDES | {"control": [0.1, 0.5, 0.9]}), trial(1, SIDES))
    pairs = pair(loaded, against="control")
    assert pairs.frame["baseline"].tolist() == ["control"]
    assert pairs.frame["gap/test_accuracy"].tolist() == pytest.approx([-0.3])
    assert pairs.dropped == {"an arm is missing": 1}
    assert loaded.trials["baseline"].tolist() == ["archetype", "archetype"]


def test_what_is_damaged_is_counted(trial, study):
    loaded = study(trial(0, SIDES), trial(1, SIDES), trial(2, SIDES), trial(3, SIDES))
    rows = loaded.epochs
    double = rows[(rows["trial_id"] == "trial0") & (rows["epoch"] == 1)]
    short = (rows["trial_id"] == "trial1") & (rows["arm"] == "filtered") & (rows["epoch"] == 2)
    both = (rows["trial_id"] == "trial2") & (rows["epoch"] == 2)
    trials = loaded.trials.assign(baseline=loaded.trials["baseline"].mask(loaded.trials["number"] == 3))
    damaged = replace(loaded, trials=trials, epochs=pd.concat([rows[~short & ~both], double]))
    assert pair(damaged).dropped == {
        "the last epoch is missing": 2,
        "an arm has several rows for one epoch": 1,
        "the configuration names no baseline or no treatment": 1,
    }


def test_a_repeated_configuration_counts_once_and_the_first_stands(trial, study):
    same, other = {"seed": 7, "optimizer.momentum": None}, {"archetype": [0.1, 0.6, 0.8], "filtered": [0.1, 0.7, 0.9]}
    loaded = study(
        trial(0, SIDES, config=same),
        trial(1, other, config=same),
        trial(2, SIDES, config=same | {"seed": 8}),
        trial(3, SIDES, config=same | {"optimizer.lr": 0.2}),
        trial(4, SIDES, config=same | {"optimizer.momentum": 0.9}),
        trial(5, SIDES, config=same),
    )
    pairs = pair(loaded)
    assert pairs.frame["number"].tolist() == [0, 2, 3, 4]
    assert pairs.frame["gap/test_accuracy"].tolist() == pytest.approx([-0.2] * 4)
    assert pairs.dropped == {REPEATED: 2}


def test_a_trial_that_cannot_be_paired_is_repeated_by_none(trial, study):
    same = {"seed": 7, "epochs": 2}
    loaded = study(
        trial(0, {"archetype": [0.1, 0.5], "filtered": [0.1, 0.3]}, status="stopped", config=same),
        trial(1, SIDES, config=same),
        trial(2, {}, status="failed", config=same),
        trial(3, SIDES, config=same),
    )
    pairs = pair(loaded)
    assert pairs.frame["number"].tolist() == [1]
    assert pairs.dropped == {"stopped early by the scheduler": 1, "failed": 1, REPEATED: 1}
    assert pair(loaded, at=1).frame["number"].tolist() == [0]


def test_trials_that_differ_in_the_replaced_baseline_repeat_each_other(trial, study):
    sides = SIDES | {"control": [0.1, 0.5, 0.9]}
    loaded = study(trial(0, sides, config={"seed": 7}), trial(1, sides, config={"seed": 7, "baseline": "control"}))
    assert pair(loaded).dropped == {}
    assert pair(loaded, against="control").dropped == {REPEATED: 1}


def test_a_study_without_trials(study):
    pairs = pair(study())
    assert pairs.frame.empty
    assert pairs.dropped == {}


@pytest.mark.parametrize(
    ("at", "clock", "message"),
    [("last", "epochs", "use final, best or an epoch"), (-1, "epochs", "epoch from 0"), (1, "steps", "final' only")],
)
def test_what_cannot_be_asked_for(mixed, at, clock, message):
    with pytest.raises(ValueError, match=message):
        pair(mixed, at=at, clock=clock)
    with pytest.raises(ValueError, match="'days' is unknown; use one of epochs, passes, steps"):
        pair(mixed, clock="days")


accuracy = st.floats(0, 1)


@settings(max_examples=25, deadline=None)
@given(
    statuses=st.lists(st.sampled_from(list(STATUSES)), max_size=5),
    ends=st.lists(st.tuples(accuracy, accuracy), min_size=5, max_size=5),
    configs=st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0.1, 0.2])), min_size=5, max_size=5),
    at=st.sampled_from(["final", "best", 0, 1, 2]),
)
def test_no_trial_is_lost_and_the_sign_of_a_gap_is_its_metrics(study, trial, statuses, ends, configs, at):
    configs = [{"seed": seed, "optimizer.lr": rate, "epochs": 1} for seed, rate in configs[: len(statuses)]]
    loaded = study(
        *(
            trial(n, {"archetype": [0.1, end[0]], "filtered": [0.1, end[1]]}, status=status, config=config)
            for n, (status, end, config) in enumerate(zip(statuses, ends, configs, strict=False))
        )
    )
    pairs = pair(loaded, at=at)
    assert len(pairs.frame) + sum(pairs.dropped.values()) == len(statuses)
    pairable = [
        (config["seed"], config["optimizer.lr"])
        for status, config in zip(statuses, configs, strict=True)
        if (status == "finished" or isinstance(at, int)) and at != 2
    ]
    assert len(pairs.frame) == len(set(pairable))
    assert pairs.dropped.get(REPEATED, 0) == len(pairable) - len(set(pairable))
    for row in pairs.frame.to_dict("records"):
        for metric in METRICS:
            difference = row[f"treatment/{metric}"] - row[f"baseline/{metric}"]
            better = difference * BY_NAME[metric].direction
            assert row[f"gap/{metric}"] == better or (math.isnan(better) and math.isnan(row[f"gap/{metric}"]))


def test_varied_keys_take_more_than_one_value(trial, study):
    loaded = study(trial(0, SIDES), trial(1, SIDES, config={"dataset.classes": 5}))
    assert varied(loaded.trials) == varied(pair(loaded).frame) == ["seed", "dataset.classes"]


def test_the_last_rows_of_every_arm(trial, study):
    loaded = study(trial(0, {"zeta": [0.1, 0.2], "filtered": [0.1, 0.6], "archetype": [0.1, 0.5], "alpha": [0.1, 0.3]}))
    rows = final_rows(loaded, "trial0")
    assert arms(loaded, "trial0") == rows["arm"].tolist() == ["archetype", "filtered", "alpha", "zeta"]
    assert rows["test_accuracy"].tolist() == [0.5, 0.6, 0.3, 0.2]
    with pytest.raises(TableError, match="no trial 'trial9'"):
        final_rows(loaded, "trial9")


def test_pairs_in_long_form(mixed):
    rows = arm_rows(pair(mixed).frame)
    assert rows["number"].tolist() == [0, 0, 1, 1, 2, 2]
    assert rows["arm"].tolist() == ["archetype", "filtered"] * 3
    assert rows["test_accuracy"].tolist() == [0.8, 0.9, 0.85, 0.8, 0.1, 0.1]
