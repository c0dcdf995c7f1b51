"""Drills on a real Ray: what a study does with trials that finish, fail, diverge or lose their worker."""

import contextlib
import os
import signal
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from analysis.export import export
from analysis.load import Study, config_keys, load
from study import folder, limits, preflight, runner
from study.display import NoDisplay
from study.experiment import Experiment
from study.recorder import FILENAME
from trainables.comparison import prepare
from trainables.config import TrialConfig
from trainables.data import DatasetError
from trainables.records import REPRODUCIBLE

pytestmark = pytest.mark.xdist_group("runner")  # one after the other: they share what takes long to start

DOOMED = 100_000  # more samples per class than there are
DIVERGING = 1e12


class Drill(NoDisplay):
    """Looks at Ray's sockets once, and kills the worker of the trial with seed 1 and a sound configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.listening: set[str] = set()
        self.killed = 0

    def epoch(self) -> None:
        self.listening |= {
            connection.laddr.ip
            for process in psutil.Process().children(recursive=True)
            for connection in _connections(process)
            if connection.status == psutil.CONN_LISTEN
        }
        if not self.killed and self._training(1):
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if any("Trainable" in part for part in process.cmdline()):
                        os.kill(process.pid, signal.SIGKILL)
                        self.killed += 1

    def _training(self, seed: int) -> bool:
        """Whether the doomed trial has left rows; read from the record, as any other process could."""
        with closing(sqlite3.connect(f"file:{self.folder / FILENAME}?mode=ro", uri=True)) as connection:
            query = """SELECT count(*) FROM epochs JOIN trials USING (trial_id)
                WHERE status = 'running' AND config ->> '$."seed"' = ? AND config ->> '$."optimizer.lr"' < 1"""
            return bool(connection.execute(query, (seed,)).fetchone()[0])


def _connections(process: psutil.Process) -> list[Any]:
    try:
        return process.net_connections(kind="inet")
    except psutil.Error:
        return []


@pytest.fixture(scope="module")
def drill(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Drill, Mapping[str, int]]:
    """A study of six trials on one actor at a time: sound, impossible and diverging ones, and a killed one."""
    from study.experiment import from_document
    from tests.study.conftest import SMALL

    cpus = limits.available_cpus()
    experiment = from_document(
        "drill",
        {
            **SMALL,
            "epochs": 6,
            "space": {
                "seed": {"choice": [0, 1]},
                "optimizer.lr": {"choice": [0.05, DIVERGING]},
                "dataset.samples_per_class": {"choice": [30, DOOMED], "when": {"optimizer.lr": 0.05}},
            },
            "resources": {"cpu": cpus},
            "wandb": {"mode": "offline"},
        },
    )
    path = tmp_path_factory.mktemp("drill")
    display = Drill(path)
    folder.create(path, experiment)
    statuses = runner.run(experiment, path, display)
    return load(path), display, statuses


@pytest.mark.slow
def test_a_trial_that_fails_or_diverges_is_one_row_and_one_that_loses_its_worker_goes_on(
    drill: tuple[Study, Drill, Mapping[str, int]],
) -> None:
    study, display, statuses = drill
    trials = study.trials
    assert display.killed == 1
    assert statuses == {"finished": 2, "failed": 2, "diverged": 2}
    assert trials["status"].value_counts().to_dict() == statuses
    doomed = trials["dataset.samples_per_class"] == DOOMED
    assert (trials.loc[doomed, "status"] == "failed").all()
    assert trials.loc[doomed, "error"].str.contains("samples_per_class is 100000, but the smallest class").all()
    assert (trials.loc[trials["optimizer.lr"] == DIVERGING, "status"] == "diverged").all()
    assert trials.loc[trials["status"] == "diverged", "error"].str.contains("not finite").all()
    killed = trials[(trials["seed"] == 1) & (trials["optimizer.lr"] < 1) & ~doomed]
    assert list(killed["status"]) == ["finished"]


@pytest.mark.slow
def test_rows_under_ray_are_bit_identical_to_those_of_a_plain_process(
    drill: tuple[Study, Drill, Mapping[str, int]],
) -> None:
    study, *_ = drill
    finished = study.trials[study.trials["status"] == "finished"]
    for trial in finished.to_dict("records"):
        set_keys = {key: trial[key] for key in config_keys(study.trials) if pd.notna(trial[key])}
        config = TrialConfig.from_dotted(set_keys)
        comparison = prepare(config, preflight.under_ray(_experiment_of(study)))
        rows = []
        while not comparison.done:
            rows += comparison.step()
        ours = pd.DataFrame(rows)[list(REPRODUCIBLE)].sort_values(["epoch", "arm"], ignore_index=True)
        theirs = study.epochs[study.epochs["trial_id"] == trial["trial_id"]][list(REPRODUCIBLE)]
        theirs = theirs.sort_values(["epoch", "arm"], ignore_index=True)
        pd.testing.assert_frame_equal(theirs, ours, check_exact=True, check_dtype=False)


def _experiment_of(study: Study) -> Experiment:
    from study.experiment import load as load_experiment

    return load_experiment(str(study.path / folder.EXPERIMENT))


@pytest.mark.slow
def test_ray_listens_on_loopback_alone(drill: tuple[Study, Drill, Mapping[str, int]]) -> None:
    _, display, _ = drill
    assert display.listening
    addresses = [ip_address(address.removeprefix("::ffff:")) for address in display.listening]
    assert all(address.is_loopback for address in addresses), display.listening


@pytest.mark.slow
def test_a_study_directory_holds_experiment_manifest_record_and_wandb_and_nothing_of_ray(
    drill: tuple[Study, Drill, Mapping[str, int]],
) -> None:
    study, *_ = drill
    names = {path.name for path in study.path.iterdir()}
    assert names == {"experiment.yaml", "manifest.json", "study.sqlite", "wandb"}
    assert not any(path.suffix in (".pkl", ".pickle") for path in study.path.rglob("*"))
    assert study.manifest["versions"]["ray"]
    assert study.manifest["seeds"] == {"search": 0, "training": "searched"}
    assert len(list(study.path.glob("wandb/offline-run-*/*.wandb"))) == len(study.trials)


@pytest.mark.slow
def test_nothing_of_ray_is_left_behind(drill: tuple[Study, Drill, Mapping[str, int]]) -> None:
    assert drill[0].trials.shape[0] == 6
    assert not any("raylet" in child.name() for child in psutil.Process().children(recursive=True))


def test_a_folder_that_holds_something_is_not_overwritten(small: Callable[..., Experiment], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(folder.FolderError, match="choose another --dir"):
        folder.create(tmp_path, small())
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_every_data_set_that_the_search_can_ask_for_is_looked_for_first(
    small: Callable[..., Experiment], tmp_path: Path
) -> None:
    preflight.check(small())
    experiment = small(space={"dataset.name": {"choice": ["mnist5k", "cifar10"]}}, data_dir=str(tmp_path))
    with pytest.raises(DatasetError, match=f"cifar10 was not found; looked for {tmp_path}"):
        preflight.check(experiment)


def test_training_in_this_process_records_every_epoch(small: Callable[..., Experiment], tmp_path: Path) -> None:
    experiment = small()
    folder.create(tmp_path, experiment)
    seen: list[float] = []
    status = runner.train(experiment, tmp_path, NoDisplay(), "cpu", lambda m: seen.append(m["gap/test_accuracy"]))
    study = load(tmp_path)
    assert status == "finished"
    assert len(seen) == 4
    epochs = study.epochs.groupby("arm")["epoch"].apply(list).to_dict()
    assert epochs == {"archetype": [0, 1, 2, 3], "filtered": [0, 1, 2, 3]}
    final = study.epochs.set_index(["arm", "epoch"])["test_accuracy"]
    assert seen[-1] == final["filtered", 3] - final["archetype", 3]


def test_training_that_is_interrupted_leaves_a_readable_study(small: Callable[..., Experiment], tmp_path: Path) -> None:
    experiment = small(epochs=100)
    folder.create(tmp_path, experiment)
    epochs = []

    def stop_after_three(metrics: dict[str, float]) -> None:
        epochs.append(metrics)
        if len(epochs) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(runner.Interrupted, match=str(tmp_path)):
        runner.train(experiment, tmp_path, NoDisplay(), "cpu", stop_after_three)
    study = load(tmp_path)
    assert list(study.trials["status"]) == ["interrupted"]
    assert set(study.epochs["epoch"]) >= {0, 1, 2}
    assert study.epochs.groupby("epoch").size().eq(2).all()


def test_training_runs_in_any_thread_and_is_interrupted_by_its_caller(
    small: Callable[..., Experiment], tmp_path: Path
) -> None:
    experiment = small(epochs=100)
    folder.create(tmp_path, experiment)

    def enough(metrics: dict[str, float]) -> None:
        raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(runner.train, experiment, tmp_path, NoDisplay(), "cpu", enough)
        assert isinstance(training.exception(), runner.Interrupted)
    assert list(load(tmp_path).trials["status"]) == ["interrupted"]


def test_a_traced_study_has_a_row_for_every_update(small: Callable[..., Experiment], tmp_path: Path) -> None:
    experiment = small(trace=True)
    folder.create(tmp_path / "study", experiment)
    runner.train(experiment, tmp_path / "study", NoDisplay(), "cpu", lambda metrics: None)
    study = load(tmp_path / "study")
    updates = study.steps.groupby(["arm", "epoch"])["step"].agg(["size", "max"])
    steps = study.epochs.set_index(["arm", "epoch"])["steps"]
    assert (updates["size"] == updates["max"]).all()
    assert updates["size"].to_dict() == {key: count for key, count in steps.to_dict().items() if count}
    exported = export(study, tmp_path / "tables", "csv")
    assert [path.name for path in exported][:3] == ["trials.csv", "epochs.csv", "steps.csv"]
    pd.testing.assert_frame_equal(load(tmp_path / "tables").steps, study.steps)
