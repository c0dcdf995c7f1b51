"""A study on several nodes: where its comparisons run, and what becomes of them when a node dies."""

from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster

from study.recorder import FILENAME
from tests.study.drills import Driver, assert_same, experiment, filter_study

pytestmark = pytest.mark.slow

SPREAD = {"scheduler": {"name": "none"}, "resources": {"cpu": 1}, "epochs": 60}


def trains(node: object) -> bool:
    """Whether a comparison trains on this node."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)  # type: ignore[attr-defined]
    return any("Trainable" in child.name() for child in raylet.children(recursive=True))


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
