"""A Tuner of one's own on three nodes: Ray's own search, early stopping and populations, and what they leave."""

from pathlib import Path
from typing import Any

import pytest
import ray
from ray import tune
from ray.cluster_utils import Cluster
from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining
from ray.tune.search.optuna import OptunaSearch

import filter_study
from tests.study.test_plain_tune import SMALL, engine_s

pytestmark = pytest.mark.slow


def fitted(folder: Path, space: dict[str, Any], **how: Any) -> tune.ResultGrid:
    return tune.Tuner(
        tune.with_resources(filter_study.Comparison, {"cpu": 1}),
        param_space=SMALL | space,
        tune_config=tune.TuneConfig(metric="objective", mode="max", reuse_actors=True, **how),
        run_config=tune.RunConfig(name=folder.name, storage_path=str(folder.parent), verbose=0),
    ).fit()


def test_ray_s_own_ways_on_three_nodes_leave_studies_with_our_gaps(cluster: Cluster, tmp_path: Path) -> None:
    ray.init(address=cluster.address, log_to_driver=False)
    assert sum(node["Alive"] for node in ray.nodes()) == 3
    space = {"optimizer.lr": tune.loguniform(0.01, 0.2), "seed": tune.choice([0, 1])}
    asha = ASHAScheduler(grace_period=1, reduction_factor=2, max_t=3)
    grid = fitted(tmp_path / "asha", space, search_alg=OptunaSearch(seed=0), scheduler=asha, num_samples=6)
    assert not grid.errors
    study = filter_study.from_result_grid(grid, tmp_path / "tables")
    assert len(study.trials) == 6
    assert set(study.trials["status"]) <= {"finished", "stopped"}
    population = PopulationBasedTraining(
        time_attr="training_iteration",
        perturbation_interval=1,
        hyperparam_mutations={"optimizer.lr": tune.loguniform(0.001, 0.5)},
        synch=True,
    )
    grid = fitted(tmp_path / "pbt", {"optimizer.lr": tune.grid_search([0.001, 0.05, 0.2])}, scheduler=population)
    assert not grid.errors
    bred = filter_study.from_result_grid(grid, tmp_path / "bred")
    assert bred.trials["status"].tolist() == ["finished"] * 3
    ray.shutdown()
    pairs = study.pairs()
    assert len(pairs)
    ours = engine_s(pairs, tmp_path / "ours")
    assert ours["gap/test_accuracy"].tolist() == pairs["gap/test_accuracy"].tolist()
    assert ours["gap/test_worst_loss"].tolist() == pairs["gap/test_worst_loss"].tolist()
