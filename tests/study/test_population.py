"""Population-based training: what is explored, who goes on from whose state, and that no row is lost by it."""

import json
import math
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from search_spaces.domains import space
from study.cluster import ClusterError
from study.display import NoDisplay
from study.experiment import Experiment, ExperimentError, from_document
from study.history import History
from study.recorder import FILENAME, Recorder
from study.runner import tuner
from study.schedulers import Population, build, explore
from study.watch import Watch
from tests.study.conftest import SMALL
from tests.study.drills import Driver, experiment, filter_study, tables
from trainables.config import TrialConfig
from trainables.places import Place

LR = {"loguniform": [1e-6, 0.2]}
METRIC = "filtered/test_accuracy"
SCHEDULER = {"name": "pbt", "metric": METRIC, "interval": 2, "quantile": 0.25}
POPULATION: dict[str, Any] = {
    **SMALL,
    "epochs": 6,
    "space": {"optimizer.lr": LR},
    "search": {"name": "random", "trials": 4},
    "scheduler": SCHEDULER,
}

# ------------------------------------------------------------------------------------------------------------- explore

SPACE = space(
    optimizer__lr=LR, optimizer__momentum={"uniform": [0.1, 0.9]}, optimizer__weight_decay={"choice": [0.0, 1e-4, 1e-2]}
)


@given(seed=st.integers(0, 2**32), lr=st.floats(1e-6, 0.2), momentum=st.floats(0.1, 0.9))
def test_what_is_explored_is_in_the_space_and_a_function_of_the_seed(seed: int, lr: float, momentum: float) -> None:
    config = TrialConfig.from_dotted(
        {"optimizer.lr": lr, "optimizer.momentum": momentum, "optimizer.weight_decay": 1e-4, "seed": 3}
    ).to_dotted()
    explored = explore(config, SPACE, Random(seed))
    assert explored == explore(config, SPACE, Random(seed))
    assert all(parameter.contains(explored[key]) for key, parameter in SPACE.items())
    assert {key: value for key, value in explored.items() if key not in SPACE} == {
        key: value for key, value in config.items() if key not in SPACE
    }


def test_most_settings_stay_near_and_some_are_drawn_anew() -> None:
    config = TrialConfig.from_dotted({"optimizer.lr": 0.01}).to_dotted()
    rates = [explore(config, space(optimizer__lr=LR), Random(seed))["optimizer.lr"] for seed in range(400)]
    near = [rate for rate in rates if any(math.isclose(rate, 0.01 * factor) for factor in (0.8, 1.2))]
    assert 0.68 < len(near) / len(rates) < 0.82
    assert len(set(near)) == 2


# ---------------------------------------------------------------------------------------------------------- population


@dataclass
class Controller:
    """What a scheduler sees of Tune."""

    trials: list[Any]
    search_alg: Any = field(default_factory=lambda: SimpleNamespace(is_finished=lambda: True))

    def get_trials(self) -> list[Any]:
        return self.trials


class Member(SimpleNamespace):
    """What a scheduler sees of a trial."""

    def is_finished(self) -> bool:
        return self.status in (Trial.TERMINATED, Trial.ERROR)

    def set_config(self, config: Mapping[str, Any]) -> None:
        self.config = config

    @property
    def latest_checkpoint_result(self) -> Any:
        return self.run_metadata.checkpoint_manager._latest_checkpoint_result


def member(number: int) -> Member:
    name = f"t{number}"
    trial = TrialConfig.from_dotted({"optimizer.lr": 0.01 * (number + 1), "seed": number}).to_dotted()
    manager = SimpleNamespace(_latest_checkpoint_result=f"checkpoint of {name}")
    return Member(
        trial_id=name,
        status=Trial.RUNNING,
        is_saving=False,
        config={"number": number, "checkpoints": name, "trial": trial},
        run_metadata=SimpleNamespace(checkpoint_manager=manager),
    )


class Game:
    """A population whose members report what the test says."""

    def __init__(self, **scheduler: Any) -> None:
        self.changes: list[tuple[str, int, Mapping[str, Any], str]] = []
        document = {**POPULATION, "epochs": 12, "scheduler": {**SCHEDULER, **scheduler}}
        self.population = build(from_document("small", document), lambda *change: self.changes.append(change))
        assert isinstance(self.population, Population)
        self.members = [member(number) for number in range(4)]
        self.controller = Controller(self.members)
        for trial in self.members:
            self.population.on_trial_add(self.controller, trial)

    def report(self, number: int, epoch: int, score: float) -> str:
        trial = self.members[number]
        decision = self.population.on_trial_result(self.controller, trial, {"epoch": epoch, METRIC: score})
        if decision == TrialScheduler.PAUSE:
            trial.status = Trial.PAUSED
        return decision

    def ready(self) -> list[str]:
        """All that may go on now."""
        names = []
        while (trial := self.population.choose_trial_to_run(self.controller)) is not None:
            trial.status = Trial.RUNNING
            names.append(trial.trial_id)
        return names


def test_a_population_waits_for_its_slowest_and_the_worst_goes_on_from_the_best() -> None:
    game = Game()
    assert game.report(0, 1, 0.3) == TrialScheduler.CONTINUE
    for number, score in ((0, 0.3), (1, 0.9), (2, 0.1)):
        assert game.report(number, 2, score) == TrialScheduler.PAUSE
        assert game.ready() == []
    game.report(3, 2, 0.5)
    game.members[3].is_saving = True  # what the best are to hand on is not on the disk
    assert game.ready() == []
    game.members[3].is_saving = False
    assert sorted(game.ready()) == ["t0", "t1", "t2", "t3"]
    ((name, epoch, settings, parent),) = game.changes
    assert (name, epoch, parent) == ("t2", 2, "t1")
    worst, best = game.members[2], game.members[1]
    assert worst.latest_checkpoint_result == "checkpoint of t1"
    assert worst.config == {"number": 2, "checkpoints": "t2", "trial": settings}
    assert settings["seed"] == 2
    assert settings["optimizer.lr"] != best.config["trial"]["optimizer.lr"] == 0.02
    assert settings | {"seed": 1, "optimizer.lr": 0.02} == best.config["trial"]


def test_who_cannot_be_compared_is_worst_and_nobody_goes_on_from_an_equal() -> None:
    game = Game(quantile=0.5)
    for number, score in enumerate((0.5, math.nan, 0.5, 0.5)):
        game.report(number, 2, score)
    assert len(game.ready()) == 4
    assert [(name, epoch) for name, epoch, _, _ in game.changes] == [("t1", 2)]


def test_a_smaller_loss_is_better() -> None:
    game = Game(metric="filtered/test_mean_loss")
    for number, loss in enumerate((0.5, 0.1, 0.4, 3.0)):
        game.population.on_trial_result(
            game.controller, game.members[number], {"epoch": 2, "filtered/test_mean_loss": loss}
        )
        game.members[number].status = Trial.PAUSED
    assert len(game.ready()) == 4
    assert [(name, parent) for name, _, _, parent in game.changes] == [("t3", "t1")]


def test_nobody_waits_for_who_has_ended_but_all_for_who_is_still_to_come() -> None:
    game = Game()
    game.controller.search_alg = SimpleNamespace(is_finished=lambda: False)
    game.members[3].status = Trial.ERROR
    for number in range(3):
        game.report(number, 2, number)
    assert game.ready() == []
    game.controller.search_alg = SimpleNamespace(is_finished=lambda: True)
    assert len(game.ready()) == 3


def test_members_that_go_on_from_different_epochs_are_changed_only_among_those_at_the_same() -> None:
    """As after a crash: two were past epoch 2 already, two have yet to come there."""
    game = Game()
    for number, score in ((0, 0.9), (1, 0.8)):
        assert game.report(number, 3, score) == TrialScheduler.CONTINUE
        assert game.report(number, 4, score) == TrialScheduler.PAUSE
    for number, score in ((2, 0.1), (3, 0.2)):
        game.report(number, 2, score)
    assert sorted(game.ready()) == ["t2", "t3"]
    assert [(name, epoch, parent) for name, epoch, _, parent in game.changes] == [("t2", 2, "t3")]
    for number, score in ((2, 0.1), (3, 0.2)):
        game.report(number, 4, score)
    assert len(game.ready()) == 4
    assert [(name, epoch, parent) for name, epoch, _, parent in game.changes[1:]] == [("t2", 4, "t0")]


def test_who_lost_its_worker_while_it_waited_is_waited_for_again() -> None:
    game = Game()
    for number in range(3):
        game.report(number, 2, number)
    game.members[0].status = Trial.PENDING
    game.population.on_trial_add(game.controller, game.members[0])
    assert game.ready() == ["t0"]
    game.report(3, 2, 3)
    assert game.ready() == []
    game.report(0, 2, 0)
    assert len(game.ready()) == 4


# ------------------------------------------------------------------------------------------------------------- clashes


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"search": {"name": "optuna", "trials": 9}}, "which search.name optuna would not know of; use random"),
        ({"seeds": 2}, "seeds: 2: scheduler.name pbt changes every comparison by itself"),
        (
            {"scheduler": {**SCHEDULER, "interval": 6}},
            "scheduler.interval: 6: pbt would change nothing before",
        ),
        ({"space": {"optimizer.lr": LR, "batch_size": {"choice": [8, 16]}}}, "space.batch_size: scheduler.name pbt"),
        (
            {"space": {"optimizer.lr": {**LR, "when": {"optimizer.name": "SGD"}}}},
            "space.optimizer.lr: scheduler.name pbt changes settings in mid-run",
        ),
        ({"space": {"seed": {"integer": [0, 9]}}}, "space: scheduler.name pbt has nothing to change"),
        ({"search": {"name": "random", "trials": 3}}, "search: 3 configurations are no population"),
        (
            {"search": {"name": "points", "points": [{"batch_size": size} for size in (8, 16, 8, 8)]}},
            "search.points: batch_size differs",
        ),
    ],
)
def test_what_cannot_be_a_population_is_refused(sections: dict[str, Any], message: str) -> None:
    trial = {**POPULATION, "optimizer": {"name": "SGD", "lr": 0.05}}
    with pytest.raises(ExperimentError) as caught:
        from_document("small", {**trial, **sections})
    assert message in str(caught.value)


def test_a_population_may_search_seeds_and_everything_that_an_optimizer_takes_anew() -> None:
    searched = {"include": "sgd", "seed": {"integer": [0, 99]}}
    made: Experiment = from_document("small", {**POPULATION, "space": searched})
    assert set(made.explored) == {"optimizer.lr", "optimizer.momentum", "optimizer.weight_decay"}


def test_a_cluster_of_several_nodes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"Alive": True}, {"Alive": False}, {"Alive": True}]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    with Recorder(tmp_path) as recorder:
        watch = Watch(recorder, [], NoDisplay(), METRIC)
        with pytest.raises(ClusterError, match="the cluster has 2 nodes; run it without --address"):
            tuner(from_document("small", POPULATION), tmp_path, Place.of(tmp_path), tmp_path, watch, History(), print)


# -------------------------------------------------------------------------------------------------------------- drills

RATES = [1e-6, 2e-6, 0.02, 0.05]
DRILL: dict[str, Any] = {
    "epochs": 6,
    "space": {"optimizer.lr": LR},
    "search": {"name": "points", "points": [{"optimizer.lr": rate} for rate in RATES]},
    "scheduler": {**SCHEDULER, "metric": "filtered/validation_accuracy"},
    "resources": {"cpu": 1},
}


def changes(study: Path) -> pd.DataFrame:
    with closing(sqlite3.connect(study / FILENAME)) as connection:
        return pd.read_sql("SELECT trial_id, epoch, parent, config FROM changes ORDER BY sequence", connection)


def assert_whole(study: Path) -> None:
    """All have finished; every row is there once, and under the settings that were in force."""
    trials, epochs = tables(study)
    assert trials["status"].tolist() == ["finished"] * len(RATES)
    rows = epochs.groupby(["trial_id", "arm"])["epoch"].apply(list)
    assert len(rows) == 2 * len(RATES)
    assert all(sorted(found) == list(range(DRILL["epochs"] + 1)) for found in rows)
    with closing(sqlite3.connect(study / FILENAME)) as connection:
        configs = dict(connection.execute("SELECT trial_id, config FROM trials"))
    at_the_end = epochs[epochs["epoch"] == DRILL["epochs"]]
    for trial_id, rate in zip(at_the_end["trial_id"], at_the_end["learning_rate"], strict=True):
        assert rate == json.loads(configs[trial_id])["optimizer.lr"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("population")
    done = filter_study("run", experiment(folder, **DRILL), "--dir", "study", "--no-report", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "study"


@pytest.mark.slow
def test_a_comparison_that_does_not_learn_goes_on_from_one_that_does(undisturbed: Path) -> None:
    assert_whole(undisturbed)
    first = changes(undisturbed).iloc[0]
    trials, epochs = tables(undisturbed)
    assert first["epoch"] == SCHEDULER["interval"]
    assert first["trial_id"] in trials["trial_id"][:2].tolist()
    assert first["parent"] in trials["trial_id"][2:].tolist()
    ours = epochs[(epochs["trial_id"] == first["trial_id"]) & (epochs["arm"] == "filtered")].set_index("epoch")
    assert ours["validation_accuracy"][2] < 0.2
    assert ours["validation_accuracy"][3] > 0.3
    assert ours["learning_rate"][2] < 1e-5
    assert ours["learning_rate"][3] == json.loads(first["config"])["optimizer.lr"]
    assert ours["cumulative_steps"].is_monotonic_increasing


@pytest.mark.slow
def test_a_population_that_was_killed_goes_on_and_is_whole(tmp_path: Path) -> None:
    study = tmp_path / "study"
    driver = Driver("run", experiment(tmp_path, **DRILL), "--dir", "study", study=study)
    driver.until(lambda c: c.execute("SELECT count(*) FROM changes").fetchone()[0] > 0).until_epochs(10).kill()
    before = changes(study)
    resumed = Driver("resume", "study", study=study)
    _, errors = resumed.end()
    assert resumed.process.returncode == 0, errors
    assert_whole(study)
    pd.testing.assert_frame_equal(changes(study).iloc[: len(before)], before)
