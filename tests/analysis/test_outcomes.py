import math

import pytest

from analysis.outcomes import LEARNING, counted_by_arm, decided, finite_gaps, reached
from analysis.pairs import pair
from trainables.records import METRICS, out_of_memory

ARMS = ("archetype", "filtered")
SIDES = {"archetype": "baseline", "filtered": "treatment"}


@pytest.fixture
def broken(trial):
    """A comparison in which these arms diverge in its second epoch of ten, when the others have reached 0.5."""

    def make(number, *arms, **settings):
        curves = {arm: [0.1, 0.1 if arm in arms else 0.5] for arm in ARMS}
        changes = {(arm, 1): {"train_mean_loss": None} for arm in arms}
        return trial(number, curves, status="diverged", changes=changes, **settings)

    return make


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_that_diverges_has_lost(study, trial, broken, arm):
    loaded = study(trial(0, {"archetype": [0.1, 0.5, 0.6], "filtered": [0.1, 0.4, 0.7]}), broken(1, arm))
    worse = -math.inf if arm == "filtered" else math.inf
    for reading in ({}, {"at": "best"}, {"clock": "compute"}, {"at": 1}):
        pairs = pair(loaded, **reading)
        assert pairs.dropped == {}
        row = pairs.frame.iloc[1]
        assert row["outcome"] == f"{SIDES[arm]} diverged"
        measured = [name for name in LEARNING if loaded.epochs[name].notna().any()]
        assert len(measured) > 10
        assert {row[f"gap/{name}"] for name in measured} == {worse}
        assert all(math.isnan(row[f"gap/{name}"]) for name in METRICS if name not in measured)  # costs, and no metric
        assert math.isnan(row[f"{SIDES[arm]}/test_accuracy"])
        other = "treatment" if arm == "archetype" else "baseline"
        assert (row[f"{other}/test_accuracy"], row[f"{other}/epoch"]) == (0.5, 1)
    assert not pair(loaded).frame["baseline_learned"].iloc[1] or arm == "filtered"


def test_before_it_diverges_an_arm_is_compared(study, broken):
    loaded = study(broken(0, "filtered"))
    assert pair(loaded, at=0).frame["outcome"].tolist() == ["measured"]
    for epoch in (1, 7):
        assert pair(loaded, at=epoch).frame["gap/test_accuracy"].tolist() == [-math.inf]


def test_where_both_arms_diverge_nobody_wins(study, broken):
    pairs = pair(study(broken(0, *ARMS)))
    assert pairs.frame.empty
    assert pairs.dropped == {"diverged: archetype, filtered": 1}


def test_a_control_that_diverges_decides_nothing_between_the_others(study, trial):
    curves = {arm: [0.1, 0.5] for arm in (*ARMS, "random")}
    loaded = study(trial(0, curves, status="diverged", changes={("random", 1): {"train_mean_loss": None}}))
    assert pair(loaded).dropped == {"diverged: random": 1}
    assert pair(loaded, against="random").frame["outcome"].tolist() == ["baseline diverged"]
    assert pair(loaded, at=1).frame["gap/test_accuracy"].tolist() == [0]


@pytest.mark.parametrize(
    ("steps", "accuracy", "outcome"),
    [
        (1, 0.12, "treatment without updates"),
        (2, 0.12, "measured"),  # once an epoch, as gradient descent on the whole set does
        (1, 0.4, "measured"),  # it has learned: a filter that accepts little late in training
    ],
)
def test_an_arm_that_made_too_few_updates_has_lost(study, trial, steps, accuracy, outcome):
    curves = {"archetype": [0.1, 0.5, 0.6], "filtered": [0.1, 0.1, accuracy]}
    loaded = study(trial(0, curves, changes={("filtered", 2): {"cumulative_steps": steps, "test_worst_loss": 0.1}}))
    row = pair(loaded).frame.iloc[0]
    assert row["outcome"] == outcome
    lost = outcome != "measured"
    assert (row["gap/test_accuracy"] == -math.inf) == lost
    assert (row["gap/test_worst_loss"] == -math.inf) == lost  # an untrained model's worst loss is no merit
    assert math.isnan(row["gap/cumulative_compute"]) == lost  # nor is what it did not spend
    assert row["treatment/test_accuracy"] == accuracy


def test_where_neither_arm_made_updates_nobody_wins(study, trial):
    changes = {(arm, 2): {"cumulative_steps": 0} for arm in ARMS}
    loaded = study(trial(0, {arm: [0.1, 0.1, 0.1] for arm in ARMS}, changes=changes))
    assert pair(loaded).dropped == {"without updates: archetype, filtered": 1}


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_that_ran_out_of_memory_has_lost(study, trial, arm):
    error = f"Traceback …\ntrainables.comparison.OutOfMemory: {out_of_memory(arm)}: tried to allocate 9 GiB"
    others = [
        trial(0, {arm: [0.1, 0.5] for arm in ARMS}),
        trial(1, {}, status="failed", error="the worker died"),
        trial(2, {}, status="failed", error=error),
    ]
    pairs = pair(study(*others))
    assert pairs.frame["outcome"].tolist() == ["measured", f"{SIDES[arm]} out of memory"]
    assert pairs.frame["gap/test_accuracy"].tolist() == [0, -math.inf if arm == "filtered" else math.inf]
    assert pairs.dropped == {"failed": 1}
    assert counted_by_arm(pairs.frame) == {f"{arm} ran out of memory": 1}
    assert finite_gaps(pairs.frame, "test_accuracy").tolist() == [0, 0]  # nothing is known of the other arm


def test_chance_stands_in_for_an_arm_that_lost(study, trial, broken):
    loaded = study(
        trial(0, {"archetype": [0.1, 0.5], "filtered": [0.1, 0.6]}),
        broken(1, "filtered", config={"dataset.classes": 4}),
        broken(2, "archetype", config={"dataset.classes": 4}),
    )
    frame = pair(loaded).frame
    assert decided(frame).tolist() == [False, True, True]
    assert counted_by_arm(frame) == {"archetype diverged": 1, "filtered diverged": 1}
    assert finite_gaps(frame, "test_accuracy").tolist() == pytest.approx([0.1, 0.25 - 0.5, 0.5 - 0.25])
    assert finite_gaps(frame, "test_mean_loss").tolist() == pytest.approx([0.1, 0, 0.1])  # no worse than what there is
    assert reached(frame, "treatment", "test_accuracy").tolist() == [0.6, 0.25, 0.5]
    assert reached(frame, "baseline", "test_mean_loss").tolist() == [0.5, 0.5, math.inf]
