import logging

import numpy as np
import optuna
import pandas as pd
import pytest

from analysis.database import TableError
from analysis.importance import DTYPES, FEWEST, MOST, SHUFFLES, averaged, chance, importances


def frame_of(gaps, seeds=1, **keys):
    """A frame of pairs of these configurations, each with ``seeds`` comparisons; what is not needed is left out.

    Of a configuration's seeds, the n-th has a gap that is larger by n. In names of keys, __ stands for a dot.
    """
    table = pd.DataFrame({name.replace("__", "."): values for name, values in keys.items()}).assign(gap=gaps)
    table = table.loc[np.repeat(np.arange(len(table)), seeds)].reset_index(drop=True)
    seed = np.arange(len(table)) % seeds
    names = {"trial_id": [f"trial{n:05}" for n in range(len(table))], "number": np.arange(len(table))}
    gap = {"seed": seed, "baseline_learned": True, "gap/test_accuracy": table.pop("gap").to_numpy("float64") + seed}
    return table.assign(**names, **gap)


def mixed(n, rng):
    """Keys of every kind; momentum is set with SGD alone."""
    name = rng.choice(["Adam", "SGD"], n)
    momentum = np.where(name == "SGD", rng.choice([0, 0.5, 0.9], n), np.nan)
    return {
        "optimizer__lr": 10 ** rng.uniform(-4, 0, n),
        "optimizer__name": pd.array(name, dtype="string"),
        "optimizer__momentum": momentum,
        "dataset__classes": pd.array(rng.choice([10, 20, 100], n), dtype="Int64"),
        "augmentation": pd.array(rng.choice([True, False], n), dtype="boolean"),
    }


@pytest.fixture(scope="module")
def planted():
    """60 configurations, of which those with 100 classes have gaps larger by 0.1; noise has a deviation of 0.02."""
    rng = np.random.default_rng(0)
    keys = mixed(60, rng)
    return frame_of(0.1 * (keys["dataset__classes"] == 100) + rng.normal(0, 0.02, 60), **keys)


@pytest.fixture(scope="module")
def found(planted):
    return importances(planted, "test_accuracy", 0)


def test_what_was_planted_comes_first_and_alone_is_above_chance(found):
    assert found["key"][0] == "dataset.classes"
    assert found["fanova"][0] > 0.8
    assert found["ped_anova"].idxmax() == 0
    assert found["fanova_above"].tolist() == [True, False, False, False, False]
    assert found["ped_above"].tolist() == [True, False, False, False, False]


def test_rows_are_one_per_key_with_shares_and_what_chance_reaches(found):
    assert list(found.columns) == list(DTYPES)
    assert set(found["key"]) == {
        "optimizer.lr",
        "optimizer.name",
        "optimizer.momentum",
        "dataset.classes",
        "augmentation",
    }
    assert found["fanova"].is_monotonic_decreasing
    assert found["fanova"].sum() <= 1
    assert found["ped_anova"].between(0, 1).all()
    for name in ("fanova", "ped"):
        assert found[f"{name}_chance"].between(0, 1).all()
        assert found[f"{name}_chance"].nunique() == len(found)  # each key has its own
        measured = found["fanova" if name == "fanova" else "ped_anova"]
        assert (found[f"{name}_above"] == (measured > found[f"{name}_chance"])).all()
    assert (found["configurations"] == 60).all()


def test_ped_anova_of_a_key_that_tells_the_best_quarter_exactly():
    # 80 configurations in 4 equal groups; the gaps of group "d" are the best quarter. The chance to be in it is 1
    # there and 0 elsewhere, so the key explains the whole variance, less what Optuna smooths away.
    rng = np.random.default_rng(0)
    group = np.repeat(["a", "b", "c", "d"], 20)
    gaps = (group == "d") + rng.uniform(0, 0.1, 80)
    found = importances(frame_of(gaps, model__name=group, idle=rng.permutation(80)), "test_accuracy", 0)
    assert found["key"][0] == "model.name"
    assert found["ped_anova"][0] == pytest.approx(0.9, abs=0.1)
    # Of one half, half are best, and of the other none: the variance of 0.5 and 0 is a third of that of 0.25 and 0.75.
    half = importances(frame_of(gaps, half=group > "b", idle=rng.permutation(80)), "test_accuracy", 0)
    assert half["ped_anova"][0] == pytest.approx(0.28, abs=0.06)
    # Below the best quarter nothing counts for it: here "d" is best, and "a" by far the worst.
    gaps -= 5.0 * (group == "a")
    worst = importances(frame_of(gaps, model__name=group, idle=rng.permutation(80)), "test_accuracy", 0)
    assert worst["ped_anova"][0] == found["ped_anova"][0]


def test_an_interaction_is_no_key_s_own():
    # The gap is 1 where exactly one of two switches is on: neither tells anything on its own.
    on, off = np.tile([0, 0, 1, 1], 20), np.tile([0, 1, 0, 1], 20)
    keys = {"one": on, "other": off, "idle": np.random.default_rng(0).permutation(80)}
    found = importances(frame_of(on ^ off, **keys), "test_accuracy", 0)
    assert (found["fanova"] < 0.1).all()
    additive = importances(frame_of(on + off, **keys), "test_accuracy", 0)
    assert additive.set_index("key").loc[["one", "other"], "fanova"].tolist() == pytest.approx([0.5, 0.5], abs=0.1)


def test_a_conditional_key_matters_by_being_set():
    rng = np.random.default_rng(0)
    momentum = np.where(np.arange(40) % 2, rng.choice([0.5, 0.9], 40), np.nan)
    gaps = np.isnan(momentum) + rng.normal(0, 0.1, 40)
    frame = frame_of(gaps, optimizer__momentum=momentum, idle=rng.permutation(40))
    found = importances(frame, "test_accuracy", 0)
    assert found["key"][0] == "optimizer.momentum"
    assert found["fanova"][0] > 0.8
    assert found["fanova_above"].tolist() == [True, False]


def test_the_order_of_rows_changes_nothing_and_the_seed_decides_the_rest(planted, found):
    shuffled = planted.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(importances(shuffled, "test_accuracy", 0), found, check_exact=True)
    other = importances(planted, "test_accuracy", 1)
    assert other["key"][0] == found["key"][0]
    assert other["fanova"][0] != found["fanova"][0]


@pytest.mark.parametrize("groups", [(8, 8, 4, 2, 2), (8, 2), (8,) * 3 + (2,) * 7, (2,)])
def test_however_many_keys_do_nothing_one_is_above_chance_in_a_study_of_twenty(groups):
    """Shares of a variance that groups explain of nothing are about chi-squared over the number of configurations."""
    rng = np.random.default_rng(0)
    shares = rng.chisquare(np.array(groups) - 1, size=(2000, 1 + SHUFFLES, len(groups))) / 60
    marked = [(of[0] > chance(of[1:])).any() for of in shares]
    assert 0.03 <= np.mean(marked) <= 0.06  # 0.05, less what ties of few shuffles take; its deviation is 0.005


def test_what_never_varies_is_never_above_chance():
    assert chance(np.zeros((SHUFFLES, 2))).tolist() == [0, 0]
    assert np.isnan(chance(np.full((SHUFFLES, 2), np.nan))).all()


def test_of_keys_that_do_nothing_none_is_marked():
    for seed in range(3):
        rng = np.random.default_rng(seed)
        found = importances(frame_of(rng.normal(size=24), **mixed(24, rng)), "test_accuracy", seed)
        assert not found[["fanova_above", "ped_above"]].any(axis=None)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_where_there_is_nothing_to_find_few_studies_mark_a_key():
    marked = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        found = importances(frame_of(rng.normal(size=30), **mixed(30, rng)), "test_accuracy", seed)
        marked.append(found[["fanova_above", "ped_above"]].any())
    # Of 30 studies 1.5 are to be expected; 6 or more have a chance of 0.4%.
    assert (pd.DataFrame(marked).sum() <= 5).all()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_what_is_planted_is_found():
    """A key that explains half of the variance of 40 configurations."""
    marked = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        keys = mixed(40, rng)
        planted = 2.0 * np.asarray(keys["optimizer__name"] == "SGD", dtype=float) + rng.normal(size=40)
        found = importances(frame_of(planted, **keys), "test_accuracy", seed).set_index("key")
        marked.append(found.loc["optimizer.name", ["fanova_above", "ped_above"]])
    found = pd.DataFrame(marked).sum()
    assert found["fanova_above"] >= 8
    assert found["ped_above"] >= 4  # it only tells the best quarter from the rest, and has less power


@pytest.mark.parametrize("n", [0, 1, 2, FEWEST - 1])
def test_too_few_configurations_have_no_importances(n):
    found = importances(frame_of(np.arange(n), batch_size=np.arange(n)), "test_accuracy", 0)
    assert found.empty
    assert found.dtypes.astype(str).to_dict() == DTYPES


def test_gaps_or_keys_that_do_not_vary_have_no_importances():
    assert importances(frame_of(np.zeros(30), batch_size=np.arange(30)), "test_accuracy", 0).empty
    # Seeds are no hyperparameter: this is one configuration.
    assert importances(frame_of([0.0], seeds=30, batch_size=[16]), "test_accuracy", 0).empty


def test_gaps_that_tie_have_no_best_quarter_and_one_that_differs_does_not_break_it():
    gaps = np.zeros(30)
    gaps[3] = 1
    found = importances(frame_of(gaps, batch_size=np.arange(30) % 2), "test_accuracy", 0)
    assert found["ped_anova"].isna().all()
    assert np.isfinite(found["fanova"]).all()


def test_values_that_are_infinite_or_all_different_are_grouped():
    keys = {
        "clip": np.where(np.arange(40) % 2, np.inf, 1),
        "name": [f"model{n}" for n in range(40)],
        "weight_decay": np.geomspace(1e-9, 1, 40),
    }
    found = importances(frame_of(np.arange(40) % 2, **keys), "test_accuracy", 0)
    assert np.isfinite(found[["ped_anova", "fanova", "fanova_chance"]]).all(axis=None)


def test_seeds_are_averaged_and_what_has_no_gap_is_left_out():
    frame = frame_of([0.1, 0.4, 0.7], seeds=3, batch_size=[16, 32, 64])
    frame.loc[8, "gap/test_accuracy"] = np.nan
    table = averaged(frame.iloc[::-1], "test_accuracy")
    assert table["batch_size"].tolist() == [16, 32, 64]
    assert table["gap"].tolist() == pytest.approx([1.1, 1.4, 1.2])
    assert table["comparisons"].tolist() == [3, 3, 2]


def test_the_study_is_no_setting():
    frame = frame_of([0.1, 0.2, 0.3, 0.5], batch_size=[16, 16, 32, 32]).assign(study=["a", "b", "a", "b"])
    table = averaged(frame, "test_accuracy")
    assert list(table.columns) == ["batch_size", "gap", "comparisons"]
    assert table["gap"].tolist() == pytest.approx([0.15, 0.4])


def test_many_configurations_are_subsampled():
    rng = np.random.default_rng(0)
    sizes = rng.choice([16, 32], MOST + 20)
    gaps = sizes / 16 + rng.normal(size=MOST + 20)
    found = importances(frame_of(gaps, batch_size=sizes, lr=rng.random(MOST + 20)), "test_accuracy", 0)
    assert found["configurations"].tolist() == [MOST, MOST]
    assert found["key"].tolist() == ["batch_size", "lr"]


def test_a_metric_without_a_gap_is_refused(planted):
    with pytest.raises(TableError, match=r"steps.*has no gap"):
        importances(planted, "steps", 0)


def test_optuna_keeps_quiet_and_is_left_as_it_was(planted, capfd, caplog):
    before = optuna.logging.get_verbosity()
    optuna.logging.enable_propagation()
    try:
        with caplog.at_level(logging.DEBUG):
            importances(planted.head(FEWEST), "test_accuracy", 0)
    finally:
        optuna.logging.disable_propagation()
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == before
