"""A study on several nodes: where its comparisons run, and what becomes of them when a node dies."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster

from study.recorder import FILENAME
from tests.study.drills import Driver, assert_same, command_line, experiment, filter_study
from tests.study.lab import laboratory

pytestmark = pytest.mark.slow

SPREAD = {"scheduler": {"name": "none"}, "resources": {"cpu": 1}, "epochs": 60}


def trains(node: object) -> bool:
    """Whether a comparison trains on this node."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)  # type: ignore[attr-defined]
    return any("Trainable" in " ".join(command_line(child)) for child in raylet.children(recursive=True))


def test_a_node_that_dies_takes_no_epoch_and_no_trial_with_it(cluster: Cluster, tmp_path: Path) -> None:
    study = tmp_path / "study"
    file = experiment(tmp_path, **SPREAD)
    driver = Driver("run", file, "--dir", "study", "--address", cluster.address, study=study)
    nodes = [cluster.head_node, *cluster.worker_nodes]
    driver.until(lambda record: all(trains(node) for node in nodes))
    driver.until(lambda record: record.execute("SELECT coalesce(max(epoch), 0) FROM reports").fetchone()[0] >= 3)
    doomed = next(iter(cluster.worker_nodes))
    cluster.remove_node(doomed, allow_graceful=False)
    _, errors = driver.end()
    assert driver.process.returncode == 0, errors
    alone = tmp_path / "alone"
    assert filter_study("run", file, "--dir", "alone", "--no-report", cwd=tmp_path).returncode == 0
    assert (alone / FILENAME).is_file()
    assert_same(study, alone)


def test_a_cluster_that_is_not_there_is_one_message_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    done = filter_study("run", experiment(tmp_path), "--dir", "study", "--address", "127.0.0.1:1", cwd=tmp_path)
    assert done.returncode == 2
    assert "127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "study").exists()


def test_code_of_ones_own_is_shipped_to_every_node(cluster: Cluster, tmp_path: Path) -> None:
    laboratory(tmp_path / "lab", "lab_of_nodes")
    metrics = {"calibration": {"use": "lab_of_nodes.metrics:ece", "bins": 5}}
    mine = {"granularity": "batch", "selector": {"use": "lab_of_nodes.methods:Forgotten", "keep": 0.25}}
    own = {"arms": {"archetype": {}, "mine": mine}, "treatment": "mine", "metrics": metrics}
    file = experiment(tmp_path, **SPREAD | {"epochs": 30}, **own)
    study = tmp_path / "study"
    driver = Driver("run", file, "--code", "lab", "--dir", "study", "--address", cluster.address, study=study)
    driver.until(lambda record: all(trains(node) for node in [cluster.head_node, *cluster.worker_nodes]))
    shutil.move(tmp_path / "lab", tmp_path / "away")  # the nodes have copies
    _, errors = driver.end()
    assert driver.process.returncode == 0, errors
    with closing(sqlite3.connect(study / FILENAME)) as connection:
        assert connection.execute("SELECT DISTINCT status FROM trials").fetchall() == [("finished",)]
        missing = connection.execute("SELECT count(*) FROM epochs WHERE test_calibration IS NULL").fetchone()
        kept = connection.execute("SELECT DISTINCT arm, samples_kept < 480 FROM epochs WHERE epoch = 30").fetchall()
    assert missing == (0,)
    assert sorted(kept) == [("archetype", 0), ("mine", 1)]
