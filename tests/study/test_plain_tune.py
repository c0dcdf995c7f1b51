"""A comparison in a Tuner of one's own: Ray's own search, early stopping and populations, and its study."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining
from ray.tune.search.optuna import OptunaSearch

import filter_study
from trainables.records import REPRODUCIBLE

pytestmark = pytest.mark.slow

SMALL = {
    "model.name": "FCNet10",
    "dataset.samples_per_class": 20,
    "dataset.validation_fraction": 0.2,
    "batch_size": 16,
    "epochs": 3,
}


@pytest.fixture(scope="module", autouse=True)
def local_ray() -> Iterator[None]:
    with ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False):
        yield


def engine_s(pairs: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The pairs that our engine finds for the learning rates and seeds of others, in their order."""
    points = pairs[["optimizer.lr", "seed"]].to_dict("records")
    given = SMALL | {"space": {}, "search": {"name": "points", "points": points}, "scheduler": {"name": "none"}}
    ours = filter_study.run(set=given | {"wandb.mode": "disabled"}, dir=folder, report=False, progress=False)
    return ours.pairs().sort_values("number", ignore_index=True)


def fitted(folder: Path, space: dict[str, Any], trainable: Any = None, **how: Any) -> tune.ResultGrid:
    tuner = tune.Tuner(
        tune.with_resources(trainable or filter_study.Comparison, {"cpu": 1}),
        param_space=SMALL | space,
        tune_config=tune.TuneConfig(metric="objective", mode="max", reuse_actors=True, **how),
        run_config=tune.RunConfig(name="plain", storage_path=str(folder), verbose=0),
    )
    return tuner.fit()


def test_ray_s_own_search_and_early_stopping_leave_a_study_with_our_gaps(tmp_path: Path) -> None:
    space = {"optimizer.lr": tune.loguniform(0.01, 0.2), "seed": tune.choice([0, 1])}
    scheduler = ASHAScheduler(grace_period=1, reduction_factor=2, max_t=3)
    grid = fitted(tmp_path, space, search_alg=OptunaSearch(seed=0), scheduler=scheduler, num_samples=4)
    assert not grid.errors
    study = filter_study.from_result_grid(grid, tmp_path / "tables")
    assert len(study.trials) == 4
    assert set(study.trials["status"]) <= {"finished", "stopped"}
    assert set(study.searched) <= {"optimizer.lr", "seed"}
    finished = study.trials[study.trials["status"] == "finished"].iloc[0]
    chosen = {"optimizer.lr": float(finished["optimizer.lr"]), "seed": int(finished["seed"])}
    ours = filter_study.compare(SMALL | chosen)  # the quickstart's arms, and one more
    ours = ours[ours["arm"] != "random"]
    theirs = study.epochs[study.epochs["trial_id"] == finished["trial_id"]].reset_index(drop=True)
    theirs = theirs.set_index(["epoch", "arm"])
    for row in ours.to_dict("records"):
        same = theirs.loc[(row["epoch"], row["arm"])]
        for name in REPRODUCIBLE:
            if name not in ("epoch", "arm", "trial_id") and row[name] == row[name] and row[name] is not None:
                assert same[name] == row[name], name
    again = filter_study.load(tmp_path / "tables")
    assert again.gaps()["median"].tolist() == study.gaps()["median"].tolist()
    pairs = study.pairs()
    engine = engine_s(pairs, tmp_path / "ours")
    for metric in ("gap/test_accuracy", "gap/test_worst_loss", "gap/cumulative_compute"):
        assert engine[metric].tolist() == pairs[metric].tolist()


def test_an_experiment_s_space_is_searched_by_ray(tmp_path: Path) -> None:
    small = {"dataset.samples_per_class": 20, "epochs": 2}
    space = filter_study.tune_space("quickstart", small)
    grid = fitted(tmp_path, space | SMALL | small, num_samples=3)
    assert not grid.errors
    study = filter_study.from_result_grid(grid, tmp_path / "tables")
    assert study.trials["status"].tolist() == ["finished"] * 3
    assert study.arms == ["archetype", "filtered", "random"]
    with_momentum = study.trials["optimizer.momentum"].notna()
    assert (with_momentum == (study.trials["optimizer.name"] == "SGD")).all()
    by_run = filter_study.optuna_space("quickstart", small)
    tuner = tune.Tuner(
        tune.with_resources(filter_study.Comparison, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(space=by_run, metric="objective", mode="max"), num_samples=2
        ),
        run_config=tune.RunConfig(storage_path=str(tmp_path / "by run"), verbose=0),
    )
    study = filter_study.from_result_grid(tuner.fit(), tmp_path / "by run tables")
    assert study.trials["status"].tolist() == ["finished"] * 2


def test_arms_that_are_trained_alone_are_comparisons_with_the_same_gaps(tmp_path: Path) -> None:
    space = {
        "arm": tune.grid_search(["filtered", "archetype"]),
        "seed": tune.grid_search([0, 1]),
        "optimizer.lr": tune.grid_search([0.05]),
    }
    grid = fitted(tmp_path, space, filter_study.Arm)
    assert not grid.errors
    first = grid[0].metrics
    assert first is not None
    assert first["objective"] == first["validation_accuracy"]
    assert "filtered/test_accuracy" not in first
    study = filter_study.from_result_grid(grid, tmp_path / "tables")
    assert study.trials["status"].tolist() == ["finished", "finished"]
    pairs = study.pairs()
    engine = engine_s(pairs, tmp_path / "ours")
    for metric in ("gap/test_accuracy", "gap/test_worst_loss", "gap/cumulative_compute"):
        assert engine[metric].tolist() == pairs[metric].tolist()


def test_an_arm_that_another_leads_trains_beside_it_and_one_that_is_not_there_is_said(tmp_path: Path) -> None:
    random = {"arms.random.selector.name": "random", "arms.random.selector.like": "filtered", "arm": "random"}
    grid = fitted(tmp_path / "led", random | {"objective": "test_accuracy"}, filter_study.Arm)
    study = filter_study.from_result_grid(grid, tmp_path / "tables")
    assert study.arms == ["filtered", "random"]
    whole = fitted(tmp_path / "whole", {"arm": "filtered"})
    assert "arm" in str(whole.errors[0])
    assert "Extra inputs are not permitted" in str(whole.errors[0])
    alone = fitted(tmp_path / "lost", {"arm": "fitlered"}, filter_study.Arm)
    assert "arm 'fitlered' is not one of archetype, filtered" in str(alone.errors[0])


def test_a_population_of_ray_s_own_trains_and_is_read(tmp_path: Path) -> None:
    scheduler = PopulationBasedTraining(
        time_attr="training_iteration",
        perturbation_interval=1,
        hyperparam_mutations={"optimizer.lr": tune.loguniform(0.001, 0.5)},
        synch=True,
    )
    grid = fitted(tmp_path, {"optimizer.lr": tune.grid_search([0.001, 0.2])}, scheduler=scheduler)
    assert not grid.errors
    study = filter_study.from_result_grid(grid, tmp_path / "tables")
    assert study.trials["status"].tolist() == ["finished", "finished"]
    assert set(study.epochs["epoch"]) == {0, 1, 2, 3}


def test_a_setting_that_cannot_be_is_said_by_the_trial(tmp_path: Path) -> None:
    grid = fitted(tmp_path, {"optimizer.lr": tune.grid_search([-1.0])})
    assert "Input should be greater than 0" in str(grid.errors[0])
    study = filter_study.from_result_grid(grid, tmp_path / "tables")
    assert study.trials["status"].tolist() == ["failed"]
    assert "Input should be greater than 0" in study.trials["error"].iloc[0]
    assert study.epochs.empty
    with pytest.raises(filter_study.TableError, match=r"tables is not empty.*give a new folder"):
        filter_study.from_result_grid(grid, tmp_path / "tables")


def test_another_trainable_s_results_are_refused(tmp_path: Path) -> None:
    grid = tune.Tuner(
        lambda config: {"objective": 1.0}, run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0)
    ).fit()
    with pytest.raises(filter_study.TableError, match="no rows"):
        filter_study.from_result_grid(grid, tmp_path / "tables")
