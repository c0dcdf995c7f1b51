"""An experiment as the objective of an Optuna study of one's own."""

import math
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest

import filter_study
from trainables.records import REPRODUCIBLE

SMALL = {
    "model.name": "FCNet10",
    "dataset.samples_per_class": 20,
    "epochs": 2,
    "space": {"optimizer.lr": {"loguniform": [0.01, 0.2]}, "batch_size": {"choice": [16, 32]}},
}


def searched(objective: filter_study.Objective, trials: int, **how: Any) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=1)
    study = optuna.create_study(directions=objective.directions, sampler=sampler, **how)
    study.optimize(objective, n_trials=trials)
    return study


def test_optuna_searches_and_what_it_trained_is_a_study(tmp_path: Path) -> None:
    objective = filter_study.objective(set=SMALL)
    assert objective.directions == ["maximize"]
    found = searched(objective, 3)
    study = filter_study.from_objective(objective, tmp_path / "tables")
    assert study.trials["status"].tolist() == ["finished"] * 3
    assert study.trials["objective"].tolist() == [trial.value for trial in found.trials]
    assert study.trials["optimizer.lr"].tolist() == [trial.params["optimizer.lr"] for trial in found.trials]
    assert [trial.intermediate_values[2] for trial in found.trials] == [trial.value for trial in found.trials]
    assert all(set(trial.intermediate_values) == {1, 2} for trial in found.trials)
    gaps = study.pairs()["gap/test_accuracy"]
    assert [trial.user_attrs["gap/test_accuracy"] for trial in found.trials] == pytest.approx(gaps.tolist())
    fixed = {key: value for key, value in SMALL.items() if key != "space"}
    rows = filter_study.compare(fixed | found.trials[1].params)
    ours = study.epochs[study.epochs["trial_id"] == study.trials["trial_id"].iloc[1]].reset_index(drop=True)
    same = [name for name in REPRODUCIBLE if name in rows and rows[name].notna().any()]
    pd.testing.assert_frame_equal(ours[same], rows[same], check_dtype=False, check_exact=True)


def test_seeds_are_averaged_and_each_is_a_comparison(tmp_path: Path) -> None:
    objective = filter_study.objective(set=SMALL | {"seeds": 2, "seed": 3})
    found = searched(objective, 1)
    study = filter_study.from_objective(objective, tmp_path / "tables")
    assert study.trials["seed"].tolist() == [3, 4]
    assert study.trials["configuration"].nunique() == 1
    assert found.trials[0].value == pytest.approx(study.trials["objective"].mean())


class Always(optuna.pruners.BasePruner):
    """Has had enough of every trial after its first epoch."""

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return bool(trial.intermediate_values)


def test_a_pruner_of_optuna_s_stops_comparisons_by_the_metric_that_it_is_to_hear_of(tmp_path: Path) -> None:
    objective = filter_study.objective(set=SMALL, pruned_by="better/validation_accuracy")
    found = searched(objective, 2, pruner=Always())
    assert [trial.state.name for trial in found.trials] == ["PRUNED", "PRUNED"]
    study = filter_study.from_objective(objective, tmp_path / "tables")
    assert study.trials["status"].tolist() == ["stopped", "stopped"]
    assert study.trials["error"].iloc[0] == "pruned by Always after epoch 1"
    sides = study.epochs[(study.epochs["epoch"] == 1) & study.epochs["arm"].isin(["archetype", "filtered"])]
    best = sides.groupby("trial_id", sort=False)["validation_accuracy"].max()
    assert [trial.intermediate_values[1] for trial in found.trials] == best.tolist()


def test_a_comparison_that_diverges_has_no_value(tmp_path: Path) -> None:
    objective = filter_study.objective(set=SMALL | {"space": {"optimizer.lr": {"choice": [1e30]}}})
    (trial,) = searched(objective, 1).trials
    assert trial.state.name == "FAIL"
    assert trial.user_attrs["status"] == "diverged"
    assert "loss is not finite" in trial.user_attrs["reason"]
    study = filter_study.from_objective(objective, tmp_path / "tables")
    assert study.trials["status"].tolist() == ["diverged"]
    assert math.isnan(study.trials["objective"].iloc[0])


def test_several_objectives_are_searched_together() -> None:
    metrics = ["gap/validation_accuracy", "gap/cumulative_compute"]
    objective = filter_study.objective(set=SMALL | {"objective.metric": metrics})
    found = searched(objective, 2)
    assert objective.directions == ["maximize", "maximize"]
    assert all(len(trial.values) == 2 for trial in found.trials)


def test_what_optuna_cannot_do_is_refused_with_all_its_reasons() -> None:
    with pytest.raises(filter_study.UserError) as raised:
        filter_study.objective(set=SMALL | {"search.each": "arm"}, pruned_by="archetype/test_mean_loss")
    assert "two searches take turns" in str(raised.value)
    assert "a pruner knows one direction" in str(raised.value)
    with pytest.raises(filter_study.UserError, match=r"pruned_by.*accuracies"):
        filter_study.objective(set=SMALL, pruned_by="better/accuracies")
    with pytest.raises(filter_study.UserError, match=r"set dataset\.validation_fraction above 0"):
        filter_study.objective(
            set=SMALL | {"dataset.validation_fraction": 0, "objective.metric": "gap/test_accuracy"},
            pruned_by="better/validation_accuracy",
        )


def test_a_pruner_hears_nothing_in_epochs_that_do_not_measure_its_metric() -> None:
    objective = filter_study.objective(set=SMALL | {"evaluate.train": 2}, pruned_by="better/train_accuracy")
    (trial,) = searched(objective, 1).trials
    assert trial.state.name == "COMPLETE"
    assert set(trial.intermediate_values) == {2}


def test_nothing_was_trained_yet(tmp_path: Path) -> None:
    assert len(filter_study.from_objective(filter_study.objective(set=SMALL), tmp_path / "tables").trials) == 0
