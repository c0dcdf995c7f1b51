"""Every check both ways: what is in order is said to be, and what is not comes with a remedy."""

import sys
import time
from dataclasses import replace
from math import inf
from typing import Any, NamedTuple

import pytest

from study import limits
from study.doctor import machines
from study.doctor.findings import GIBIBYTE, MEBIBYTE, Finding
from study.doctor.machines import Gpu, Machine
from study.experiment import Resources

SOUND = Machine(
    versions={"Python": "3.11.7", "torch": "2.15.0", "ray": "2.60.0"},
    cores=8,
    quota=inf,
    gpus=(),
    installed_gpus=0,
    available_memory=16 * GIBIBYTE,
    temporary="/tmp",
    temporary_free=10 * GIBIBYTE,
    shared_memory=GIBIBYTE,
    open_files=4096,
    threads=inf,
    settings={"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"},
    clock=100.0,
)
H100 = Gpu("H100", 80 * GIBIBYTE)


def judged(machine: Machine, resources: Resources) -> dict[str, Finding]:
    """What is found about a machine, by subject."""
    found = machines.examined(resources, lambda function: {"one": machine})
    return {finding.subject: finding for finding in found}


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine where the study starts has the versions of SOUND, and its clock stands still."""
    monkeypatch.setattr(machines, "_versions", lambda: SOUND.versions)
    monkeypatch.setattr(machines.time, "time", lambda: 100.0)


@pytest.mark.usefixtures("sound")
def test_a_sound_machine_is_in_order() -> None:
    findings = judged(SOUND, Resources())
    assert {finding.level for finding in findings.values()} == {"ok"}, findings
    with_gpus = replace(SOUND, gpus=(H100, H100), installed_gpus=2)
    findings = judged(with_gpus, Resources(gpu=0.25))
    assert {finding.level for finding in findings.values()} == {"ok"}, findings
    assert findings["GPUs"].text == "2 × H100 (80.0 GiB), resources.gpu 0.25"


@pytest.mark.parametrize(
    ("subject", "change", "resources", "level", "text", "remedy"),
    [
        ("versions", {"versions": {**SOUND.versions, "torch": "2.11"}}, {}, "error", "2.11, not 2.15.0", "same"),
        ("GPUs", {}, {"gpu": 0.5}, "warning", "none, and resources.gpu is 0.5", "resources.gpu=0"),
        ("GPUs", {"installed_gpus": 2}, {"gpu": 1}, "error", "torch 2.15.0 can use none of 2", "driver"),
        ("GPUs", {"gpus": (H100,)}, {}, "warning", "resources.gpu is 0", "resources.gpu=1"),
        ("threads", {}, {"cpu": 9}, "warning", "9, of 8 cores: no comparison runs", "resources.cpu=8"),
        ("threads", {}, {"cpu": 3}, "warning", "leaves 2 idle", "resources.cpu=2"),
        (
            "threads",
            {"cores": 1, "quota": 0.5},
            {},
            "warning",
            "0.5 of a core: training takes 2.0 ×",
            "--cpus",
        ),
        ("threads", {"gpus": (H100,) * 4}, {"gpu": 0.25}, "warning", "lets 8 comparisons run, the GPUs would 16", ""),
        ("OpenMP", {"settings": {"OMP_PROC_BIND": "true"}}, {}, "warning", "OMP_PROC_BIND binds", "unset OMP_PROC"),
        ("OpenMP", {"settings": {"OMP_THREAD_LIMIT": "1"}}, {"cpu": 2}, "warning", "is 1, resources.cpu 2", "unset"),
        (
            "memory",
            {"available_memory": GIBIBYTE},
            {},
            "warning",
            "1.0 GiB available, 512.0 MiB for each of 8",
            "no more than 2",
        ),
        ("memory", {}, {"memory_gib": 4}, "warning", "4.0 GiB for each of 8", "no more than 4"),
        ("temporary", {"temporary_free": 800 * MEBIBYTE}, {}, "warning", "/tmp has 800.0 MiB free", "TMPDIR"),
        ("temporary", {"temporary_free": 80 * MEBIBYTE}, {}, "error", "/tmp has 80.0 MiB free", "TMPDIR"),
        ("shared memory", {"shared_memory": 64 * MEBIBYTE}, {}, "warning", "has 64.0 MiB free", "--shm-size"),
        ("limits", {"open_files": 256}, {}, "warning", "256 open files", "ulimit -Hn 768"),
        ("limits", {"threads": 500}, {}, "warning", "500 threads", "ulimit -u 768"),
        ("clock", {"clock": 110.0}, {}, "warning", "off by 10 s", "NTP"),
        ("clock", {"clock": 90.0}, {}, "warning", "off by 10 s", "NTP"),
        ("Ray settings", {"settings": {}}, {}, "error", "RAY_AUTH_MODE is not set", "RAY_AUTH_MODE=token"),
        ("Ray settings", {"settings": {"RAY_AUTH_MODE": "token"}}, {}, "warning", "report", "RAY_USAGE_STATS"),
    ],
)
@pytest.mark.usefixtures("sound")
def test_what_is_wrong_with_a_machine_is_told_with_its_remedy(
    subject: str, change: dict[str, Any], resources: dict[str, Any], level: str, text: str, remedy: str
) -> None:
    finding = judged(replace(SOUND, **change), Resources(**resources))[subject]
    assert finding.level == level
    assert text in finding.text
    assert remedy in finding.remedy
    assert finding.remedy


@pytest.mark.parametrize(
    ("settings", "level"),
    [
        ({"OMP_PROC_BIND": "false"}, "ok"),
        ({"OMP_THREAD_LIMIT": "2"}, "ok"),
        ({"GOMP_CPU_AFFINITY": "0-1"}, "warning"),
        ({"OMP_PLACES": "cores"}, "warning"),
    ],
)
def test_openmp_may_be_set_as_long_as_comparisons_keep_their_threads(settings: dict[str, str], level: str) -> None:
    assert machines.openmp(replace(SOUND, settings=settings), 2).level == level


def test_a_machine_is_seen_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_PROC_BIND", "close")
    began = time.time()
    machine = machines.look()
    assert machine.cores == limits.available_cpus()
    assert machine.versions["Python"] == ".".join(map(str, sys.version_info[:3]))
    assert machine.settings == {"OMP_PROC_BIND": "close", "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
    assert began <= machine.clock <= time.time()
    assert min(machine.available_memory, machine.temporary_free, machine.open_files, machine.threads) > 0


def test_gpus_are_those_of_torch_and_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties(NamedTuple):
        name: str
        total_memory: int

    monkeypatch.setattr(machines.torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(machines.torch.cuda, "get_device_properties", lambda index: Properties(*H100))
    monkeypatch.setattr(machines.pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(machines.pynvml, "nvmlDeviceGetCount", lambda: 2)
    machine = machines.look()
    assert (machine.gpus, machine.installed_gpus) == ((H100,), 2)
    monkeypatch.setattr(machines.pynvml, "nvmlInit", _no_driver)
    assert machines.look().installed_gpus == 0


def _no_driver() -> None:
    raise machines.pynvml.NVMLError(machines.pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)


def test_a_limit_is_the_soft_or_the_hard_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines.resource, "getrlimit", lambda kind: (1024, machines.resource.RLIM_INFINITY))
    assert machines._limit(machines.resource.RLIMIT_NOFILE, hard=False) == 1024
    assert machines._limit(machines.resource.RLIMIT_NOFILE, hard=True) == inf


def test_a_machine_has_the_cores_and_the_memory_that_its_container_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "cgroup_limits", lambda: limits.Limits(0.5, float(GIBIBYTE)))
    machine = machines.look()
    assert (machine.cores, machine.quota, machine.available_memory) == (1, 0.5, GIBIBYTE)


def test_a_program_that_is_not_installed_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "PROGRAM", "a-package-that-is-nowhere")
    finding = machines.packages()
    assert finding.level == "warning"
    assert "a-package-that-is-nowhere is not installed" in finding.text
    assert "pip install -e ." in finding.remedy


def test_packages_must_be_there_in_versions_that_the_program_can_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machines.packages().level == "ok"
    monkeypatch.setattr(machines.metadata, "requires", lambda name: ["torch>=99", "numpy>=1", "nonesuch-package>=1"])
    finding = machines.packages()
    assert finding.level == "error"
    assert ", not >=99; nonesuch-package is missing, not >=1" in finding.text
    assert "numpy" not in finding.text
