import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from study import cluster, doctor, preflight
from study.doctor import access, asking, machines, packing
from study.doctor.findings import everywhere
from study.experiment import Experiment

Build = Callable[..., Experiment]


def test_no_comparison_can_run_where_no_machine_has_the_resources(small: Build) -> None:
    assert doctor.comparisons(doctor._at_once(small())).level == "ok"
    finding = doctor.comparisons(doctor._at_once(small(resources={"cpu": 4096})))
    assert finding.level == "error"
    assert "resources.cpu" in finding.remedy


def test_data_are_all_there_or_the_missing_ones_are_named(small: Build, tmp_path: Path) -> None:
    assert doctor.data(doctor._data(small())).level == "ok"
    missing = small(space={"dataset.name": {"choice": ["mnist5k", "mnist"]}}, data_dir=str(tmp_path))
    finding = doctor.data(doctor._data(missing))
    assert finding.level == "error"
    assert f"mnist was not found; looked for {tmp_path}" in finding.text


def test_one_failure_after_another_does_not_end_the_examination(
    small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> Any:
        raise RuntimeError("broken")

    parts = {
        doctor: ("_at_once", "here"),
        machines: ("packages", "look"),
        access: ("weights_and_biases", "alone"),
        packing: ("measure",),
    }
    for module, names in parts.items():
        for name in names:
            monkeypatch.setattr(module, name, fail)
    monkeypatch.setattr("study.doctor.storage.trial_root", fail)
    monkeypatch.setattr(preflight, "runtime", fail)
    findings = list(doctor.examine(small(), tmp_path))
    assert {finding.level for finding in findings} == {"error"}
    subjects = ["packages", "machines", "comparisons", "data", "storage", "W&B", "Ray"]
    assert [finding.subject for finding in findings] == subjects
    assert all("broken" in finding.text for finding in findings)


def test_where_a_cluster_cannot_be_joined_this_machine_is_examined(
    small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.setattr(access, "alone", list)
    monkeypatch.setattr(packing, "measure", lambda experiment: None)
    findings = list(doctor.examine(small(data_dir="~/data"), tmp_path / "studies", "127.0.0.1:1"))
    assert [(one.level, one.subject) for one in findings if one.level != "ok"] == [("error", "cluster")]
    assert str(tmp_path / "none") in findings[0].text
    assert "storage" in {finding.subject for finding in findings}


@pytest.mark.slow
def test_this_machine_is_examined_for_real(small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        packing, "MEASURE_SECONDS", {"cpu": 100, "cuda": 100}
    )  # for a machine that has other things to do
    monkeypatch.setattr(asking, "ANSWER_SECONDS", 110)
    findings = list(doctor.examine(small(), tmp_path / "studies"))
    assert [finding for finding in findings if finding.level == "error"] == []
    ours = {"packages", "versions", "GPUs", "threads", "OpenMP", "memory", "temporary", "shared memory", "limits"}
    rays = {"Ray settings", "sockets", "dashboard", "token", "strangers"}
    rest = {"clock", "comparisons", "data", "network", "study folder", "file system", "disk", "storage", "W&B"}
    assert {finding.subject for finding in findings} == ours | rays | rest | {"packing", "reference"}
    sockets = next(finding for finding in findings if finding.subject == "sockets")
    assert int(sockets.text.split()[1]) >= 4  # two of the raylet, one each of the GCS and of a worker
    packed = next(finding for finding in findings if finding.subject == "packing")
    assert "pay: resources." in packed.text
    assert "epochs a minute" in packed.lines[0]
    assert len(packed.lines) >= 2
    assert list(tmp_path.iterdir()) == []
    assert "raylet" not in {child.name() for child in psutil.Process().children(recursive=True)}


@pytest.mark.slow
def test_every_node_of_a_cluster_is_examined(small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.study.cluster.conftest import running_cluster

    monkeypatch.setattr(packing, "measure", lambda experiment: None)
    missing = small(dataset={"name": "mnist"}, data_dir=str(tmp_path))
    with running_cluster() as running:
        findings = list(doctor.examine(small(), tmp_path / "studies", running.address))
        with cluster.joined_ray(running.address):
            answers = asking.on_every_node(os.getpid)
            lost = everywhere("data", asking.on_every_node(doctor._data, missing), doctor.data)
    assert [finding for finding in findings if finding.level == "error"] == []
    told = {finding.subject: finding.text for finding in findings}
    for subject in ("versions", "clock", "Ray settings", "data", "storage"):
        assert told[subject].count(",") >= 2, told[subject]
        assert " (on " in told[subject]
    assert told["comparisons"] == "1 at a time"  # of a grid of one
    assert "sockets" not in told
    assert told["strangers"] == "Ray refuses whoever has no token"
    assert len(set(answers.values())) == len(answers) == 3
    assert [finding.level for finding in lost] == ["error"]
    assert "mnist was not found" in lost[0].text
