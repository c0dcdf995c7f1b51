"""Every check both ways: what is in order is said to be, and what is not comes with a remedy."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from study import cluster, doctor, preflight
from study.doctor import GIBIBYTE, MEBIBYTE, Finding, Gpu, Machine, Measured
from study.experiment import Experiment, Resources, Wandb
from trainables.checkpoints import Checkpoints
from trainables.comparison import prepare
from trainables.config import TrialConfig
from trainables.data import DatasetError

Build = Callable[..., Experiment]

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
    found = doctor._machines(resources, lambda function: {"one": machine})
    return {finding.subject: finding for finding in found}


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine where the study starts has the versions of SOUND, and its clock stands still."""
    monkeypatch.setattr(doctor, "_versions", lambda: SOUND.versions)
    monkeypatch.setattr(doctor.time, "time", lambda: 100.0)


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
        ("threads", {"quota": 2.0}, {}, "warning", "2 of its 8 cores", "taskset -c 0-1"),
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
    assert doctor.openmp(replace(SOUND, settings=settings), 2).level == level


def test_a_machine_is_seen_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_PROC_BIND", "close")
    began = time.time()
    machine = doctor.look()
    assert machine.cores == cluster.available_cpus()
    assert machine.versions["Python"] == ".".join(map(str, sys.version_info[:3]))
    assert machine.settings == {"OMP_PROC_BIND": "close", "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
    assert began <= machine.clock <= time.time()
    assert min(machine.available_memory, machine.temporary_free, machine.open_files, machine.threads) > 0


def test_gpus_are_those_of_torch_and_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties(NamedTuple):
        name: str
        total_memory: int

    monkeypatch.setattr(doctor.torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(doctor.torch.cuda, "get_device_properties", lambda index: Properties(*H100))
    monkeypatch.setattr(doctor.pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(doctor.pynvml, "nvmlDeviceGetCount", lambda: 2)
    machine = doctor.look()
    assert (machine.gpus, machine.installed_gpus) == ((H100,), 2)
    monkeypatch.setattr(doctor.pynvml, "nvmlInit", _no_driver)
    assert doctor.look().installed_gpus == 0


def _no_driver() -> None:
    raise doctor.pynvml.NVMLError(doctor.pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)


def test_a_limit_is_the_soft_or_the_hard_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.resource, "getrlimit", lambda kind: (1024, doctor.resource.RLIM_INFINITY))
    assert doctor._limit(doctor.resource.RLIMIT_NOFILE, hard=False) == 1024
    assert doctor._limit(doctor.resource.RLIMIT_NOFILE, hard=True) == inf


@pytest.mark.parametrize(
    ("content", "cores"), [("150000 100000\n", 1.5), ("max 100000\n", inf), ("", inf), (None, inf)]
)
def test_the_cores_of_a_container_are_those_of_its_quota(content: str | None, cores: float, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "cpu.max").write_text(content)
    assert doctor._quota(tmp_path / "cpu.max") == cores


def test_packages_must_be_there_in_versions_that_the_program_can_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.packages().level == "ok"
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: ["torch>=99", "numpy>=1", "nonesuch-package>=1"])
    finding = doctor.packages()
    assert finding.level == "error"
    assert ", not >=99; nonesuch-package is missing, not >=1" in finding.text
    assert "numpy" not in finding.text


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


# Storage


def test_a_study_folder_can_be_recorded_in(tmp_path: Path) -> None:
    assert doctor.study_folder(tmp_path / "new" / "study").level == "ok"
    (tmp_path / "file").touch()
    finding = doctor.study_folder(tmp_path / "file" / "study")
    assert (finding.level, finding.remedy) == ("error", "choose another --dir")
    assert str(tmp_path / "file") in finding.text
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "study.sqlite").write_text("this is no database, but as long as the header of one" * 9)
    assert "not a database" in doctor.study_folder(tmp_path / "damaged").text


@pytest.mark.parametrize(
    ("folder", "level", "kind"),
    [
        ("/local/study", "ok", "ext4"),
        ("/home/me/study", "warning", "nfs4"),
        ("/home/me/scratch/study", "ok", "xfs"),
        ("/homely", "ok", "ext4"),
        ("/lustre", "warning", "lustre"),
        ("/remote/a", "warning", "fuse.sshfs"),
        ("/windows/a", "ok", "fuseblk"),
        ("/late/a", "warning", "cifs"),
    ],
)
def test_a_network_file_system_is_no_place_for_sqlite(folder: str, level: str, kind: str) -> None:
    mounts = [
        ("/", "ext4"),
        ("/home", "nfs4"),
        ("/home/me/scratch", "xfs"),
        ("/lustre", "lustre"),
        ("/remote", "fuse.sshfs"),
        ("/windows", "fuseblk"),
        ("/late", "autofs"),
        ("/late", "cifs"),
    ]
    finding = doctor.file_system(Path(folder), mounts)
    assert finding.level == level
    assert f"is on {kind}" in finding.text
    assert ("--set storage=" in finding.remedy) == (level == "warning")


class Usage(NamedTuple):
    free: int


@pytest.mark.parametrize(("free", "level"), [(201, "ok"), (199, "warning"), (100, "warning"), (99, "error")])
def test_a_disk_must_have_room(free: int, level: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: asked.append(path) or Usage(free))
    assert doctor.space(tmp_path / "not" / "there", 100, "all").level == level
    assert asked == [tmp_path]


@pytest.mark.parametrize("optimizer", [{"name": "SGD", "momentum": 0.9}, {"name": "AdamW", "amsgrad": True}])
def test_the_size_of_a_checkpoint_is_told_beforehand(small: Build, tmp_path: Path, optimizer: dict[str, Any]) -> None:
    models = {"choice": ["FCNet10", "FCNet50"]}
    experiment = small(optimizer={"lr": 0.01, **optimizer}, space={"model.name": models}, epochs=1)
    config = TrialConfig.from_dotted({**experiment.fixed, "model.name": "FCNet50"})
    comparison = prepare(config, preflight.under_ray(experiment))
    while not comparison.done:
        comparison.step()
    Checkpoints(str(tmp_path)).save(1, comparison.state_dict())
    (file,) = tmp_path.iterdir()
    assert doctor.checkpoint_bytes(experiment) == pytest.approx(file.stat().st_size, rel=0.1)


def test_storage_is_written_and_read_by_every_machine(tmp_path: Path) -> None:
    root = f"{tmp_path}/storage/mark/checkpoints"

    def two(function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        return {name: doctor._outcome(function, *arguments) for name in ("a", "b")}

    assert doctor.storage(root, two) == [
        Finding("ok", "storage", f"{tmp_path}/storage can be written and read (on a, b)")
    ]
    assert doctor.storage("memory://doctor/mark/checkpoints", two)[0].level == "ok"


@pytest.mark.parametrize("root", ["{}/file/mark/checkpoints", "nonesuch://bucket/mark/checkpoints"])
def test_storage_that_cannot_be_written_is_an_error(root: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (finding,) = doctor.storage(root.format(tmp_path), doctor.here)
    assert finding.level == "error"
    assert root.format(tmp_path).removesuffix("/mark/checkpoints") in finding.text
    assert "--set storage=" in finding.remedy


@pytest.mark.parametrize(("writes_apart", "reads_apart"), [(True, False), (False, True)])
def test_storage_that_a_machine_does_not_share_is_an_error(
    writes_apart: bool, reads_apart: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, apart = f"{tmp_path}/here/mark/checkpoints", f"{tmp_path}/there"
    write, read = doctor._write, doctor._read

    def ask(function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """Another machine, on which the same path is another folder."""
        with monkeypatch.context() as patch:
            if writes_apart:
                patch.setattr(doctor, "_write", lambda folder, text: write(apart + folder, text))
            if reads_apart:
                patch.setattr(doctor, "_read", lambda folder: read(apart + folder))
            return {"other": function(*arguments)}

    (finding,) = doctor.storage(root, ask)
    assert finding.level == "error"
    assert "not the same there" in finding.text


@pytest.mark.parametrize("storage", [None, "shared/storage"])
def test_where_a_study_is_kept_nothing_is_left_behind(
    storage: str | None, small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "checkpoint_bytes", lambda experiment: 10 * MEBIBYTE)
    findings = list(doctor.keeping(small(storage=storage), Path("new/studies"), 2, doctor.here))
    assert [finding.level for finding in findings] == ["ok"] * 5, findings
    assert "the record may take 48.0 KiB" in findings[2].text  # three epochs of two arms
    assert (
        "checkpoints may take 60.0 MiB" in findings[4].text
    )  # two at a time, each with two kept and one being written
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "notes.txt").touch()
    list(doctor.keeping(small(storage=storage), Path("new"), 2, doctor.here))
    assert list(tmp_path.rglob("*")) == [tmp_path / "new", tmp_path / "new" / "notes.txt"]


# Ray and W&B


@pytest.mark.parametrize(
    ("addresses", "level"),
    [
        (["127.0.0.1", "::1", "::ffff:127.0.0.1"], "ok"),
        (["127.0.0.1", "0.0.0.0"], "error"),
        (["::"], "error"),
        (["::ffff:10.0.0.7"], "error"),
        ([], "error"),
    ],
)
def test_a_local_ray_listens_on_loopback_alone(addresses: list[str], level: str) -> None:
    assert doctor.sockets(addresses).level == level


@pytest.mark.parametrize(
    ("hosts", "level"),
    [([], "ok"), (["127.0.0.1"], "warning"), (["10.0.0.7", "127.0.0.1"], "error"), (["n1"], "error")],
)
def test_a_dashboard_that_answers_is_a_door(hosts: list[str], level: str) -> None:
    assert doctor.dashboard(hosts).level == level


def test_whether_something_answers_is_seen_at_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert doctor._answers("127.0.0.1", port)
    assert not doctor._answers("127.0.0.1", port)


@pytest.mark.parametrize(("mode", "level"), [(0o600, "ok"), (0o400, "ok"), (0o640, "warning"), (0o604, "warning")])
def test_a_token_is_its_owners_alone(mode: int, level: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.touch()
    path.chmod(mode)
    finding = doctor.token({"RAY_AUTH_TOKEN_PATH": str(path)})
    assert finding.level == level
    assert finding.remedy == (f"chmod 600 {path}" if level == "warning" else "")


def test_a_token_that_is_missing_or_in_the_environment_is_told(tmp_path: Path) -> None:
    finding = doctor.token({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")})
    assert (finding.level, finding.text) == ("error", f"{tmp_path / 'none'} is not there")
    finding = doctor.token({"RAY_AUTH_TOKEN": "abc"})
    assert finding.level == "warning"
    assert "abc" not in finding.text


def test_strangers_must_be_refused() -> None:
    assert doctor.strangers(False).level == "ok"
    assert doctor.strangers(True).level == "error"


def test_weights_and_biases_is_asked_only_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([None, "no API key (run: wandb login)"])
    monkeypatch.setattr("study.weights_and_biases.unreachable", lambda: next(answers))
    assert doctor.weights_and_biases(Wandb(mode="offline")).level == "ok"
    assert doctor.weights_and_biases(Wandb(mode="disabled")).level == "ok"
    assert doctor.weights_and_biases(Wandb(mode="online")).level == "ok"
    finding = doctor.weights_and_biases(Wandb(mode="online"))
    assert (finding.level, finding.text) == ("warning", "no API key (run: wandb login)")


# How many comparisons at a time pay


@given(st.dictionaries(st.integers(1, 64), st.floats(0, 1e6), min_size=1))
def test_the_fewest_comparisons_that_train_as_much_as_any_number(rates: dict[int, float]) -> None:
    chosen = doctor.fewest(rates)
    assert rates[chosen] >= 0.9 * max(rates.values())
    assert all(rate < 0.9 * max(rates.values()) for number, rate in rates.items() if number < chosen)


@pytest.mark.parametrize(
    ("measured", "resources", "level", "remedy"),
    [
        (Measured({1: 100, 2: 190, 4: 200}, None), {"gpu": 0.5}, "ok", ""),
        (Measured({1: 100, 2: 190, 4: 200}, None), {"gpu": 0.25}, "ok", ""),
        (Measured({1: 100, 2: 190, 4: 200}, None), {"gpu": 0.3}, "ok", ""),
        (Measured({1: 100, 2: 190, 4: 200}, None), {"gpu": 1}, "warning", "resources.gpu=0.5"),
        (Measured({1: 100, 2: 190, 4: 200}, None), {"gpu": 0}, "warning", "resources.gpu=0.5"),
        (Measured({1: 200, 2: 190, 4: 180}, None), {"gpu": 0}, "warning", "resources.gpu=1"),
        (Measured({1: 100, 2: 190, 4: 380}, None), {"gpu": 0.1}, "ok", ""),
        (Measured({1: 100, 2: 0.0, 4: 0.0}, None), {"gpu": 0.5}, "warning", "resources.gpu=1"),
        (Measured({1: 0.0, 2: 0.0, 4: 0.0}, None), {"gpu": 1}, "error", "batch_size"),
        (Measured({1: 100, 2: 190, 4: 300}, 4), {"cpu": 1}, "ok", ""),
        (Measured({1: 100, 2: 190, 4: 300}, 4), {"cpu": 2}, "warning", "resources.cpu=1"),
        (Measured({1: 100, 2: 90, 4: 80}, 4), {"cpu": 1}, "warning", "resources.cpu=4"),
        (Measured({1: 100, 2: 90, 4: 80}, 4), {"cpu": 8}, "ok", ""),
        (Measured({}, 4), {"cpu": 1}, "warning", "smaller batch"),
        (None, {"gpu": 1}, "ok", ""),
    ],
)
def test_the_share_of_a_gpu_or_of_the_cores_that_pays_is_recommended(
    measured: Measured | None, resources: dict[str, Any], level: str, remedy: str
) -> None:
    finding = doctor.packing(measured, Resources(**resources))
    assert finding.level == level
    assert remedy in finding.remedy
    assert bool(finding.remedy) == bool(remedy)


@pytest.mark.slow
def test_throughput_is_measured_in_processes_of_their_own(small: Build) -> None:
    experiment = small()
    config, runtime = TrialConfig.from_dotted(experiment.trial), preflight.runtime(experiment, "cpu")
    rates = doctor.throughputs(config, runtime, {1: 1, 2: 1}, span=1.0, limit=100)
    assert list(rates) == [1, 2]
    assert min(rates.values()) > 100  # samples a second through a network of ten hidden units


@pytest.mark.slow
def test_what_takes_too_long_or_cannot_train_is_not_measured(small: Build, tmp_path: Path) -> None:
    config, runtime = TrialConfig.from_dotted(small().trial), preflight.runtime(small(), "cpu")
    before = set(doctor.psutil.Process().children())
    with pytest.raises(TimeoutError):
        doctor.throughputs(config, runtime, {1: 1}, span=0.1, limit=0.1)
    missing = small(dataset={"name": "mnist"}, data_dir=str(tmp_path))
    config, runtime = TrialConfig.from_dotted(missing.trial), preflight.runtime(missing, "cpu")
    with pytest.raises(DatasetError, match="mnist was not found"):
        doctor.throughputs(config, runtime, {1: 1}, span=0.1, limit=100)
    assert set(doctor.psutil.Process().children()) - before <= _resource_trackers()


def _resource_trackers() -> set[Any]:
    """Python's own helpers of multiprocessing, one for as long as the process lives."""
    children = doctor.psutil.Process().children()
    return {child for child in children if any("resource_tracker" in part for part in child.cmdline())}


def test_throughput_is_that_of_all_processes_together(small: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int, float]] = []

    class Pipe:
        """A process that trains at a rate of 100; the fourth finds no room on the GPU."""

        def __init__(self, number: int) -> None:
            self.number = number

        def send(self, request: tuple[int, float]) -> None:
            asked.append((self.number, *request))

        def poll(self, seconds: float) -> bool:
            return seconds > 0

        def recv(self) -> float:
            return 0.0 if self.number == 3 else 100.0

    pipes = iter(Pipe(number) for number in range(4))
    monkeypatch.setattr(doctor, "_trainer", lambda config, runtime: contextlib.nullcontext(next(pipes)))
    config, runtime = TrialConfig.from_dotted(small().trial), preflight.runtime(small(), "cpu")
    rates = doctor.throughputs(config, runtime, {4: 1, 1: 3, 2: 2}, span=7.0, limit=100)
    assert rates == {1: 100.0, 2: 200.0, 4: 0.0}
    warming, measuring = asked[:4], asked[4:]
    assert warming == [(number, 1, 0.0) for number in range(4)]
    assert measuring[:3] == [(0, 3, 7.0), (0, 2, 7.0), (1, 2, 7.0)]
    assert len(measuring) == 7


@pytest.mark.parametrize(("cores", "shares"), [(1, {1: 1}), (3, {1: 2, 2: 1}), (8, {1: 4, 2: 2, 4: 1})])
def test_on_a_cpu_the_same_cores_are_shared_in_several_ways(
    cores: int, shares: dict[int, int], small: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []
    monkeypatch.setattr(doctor.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(cluster, "available_cpus", lambda: cores)
    monkeypatch.setattr(doctor, "throughputs", lambda *arguments: tried.append(arguments[2]) or {1: 5.0})
    assert doctor.measure(small(resources={"cpu": 3})) == Measured({1: 5.0}, max(shares))
    assert tried == [shares]


def test_on_a_gpu_comparisons_are_packed_with_the_threads_they_ask_for(
    small: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []
    monkeypatch.setattr(doctor.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(doctor, "throughputs", lambda *arguments: tried.append(arguments) or {1: 5.0})
    assert doctor.measure(small(resources={"cpu": 3})) == Measured({1: 5.0}, None)
    _, runtime, shares, *_ = tried[0]
    assert runtime.device == "cuda"
    assert shares == {1: 3, 2: 3, 4: 3}


def test_what_is_not_measured_in_time_has_no_rates(small: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*arguments: Any) -> Any:
        raise TimeoutError

    monkeypatch.setattr(doctor, "throughputs", late)
    measured = doctor.measure(small())
    assert measured is not None
    assert measured.rates == {}


def test_a_gpu_is_not_measured_where_there_is_none(small: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.torch.cuda, "is_available", lambda: False)
    assert doctor.measure(small(resources={"gpu": 0.5})) is None


# The examination


def test_a_check_that_fails_is_an_error_line_that_names_it() -> None:
    def check() -> Finding:
        raise KeyError("surprise")

    assert doctor.guarded("subject", check) == [Finding("error", "subject", "cannot be examined: KeyError: 'surprise'")]


def test_machines_of_which_the_same_is_to_be_said_share_a_line() -> None:
    def judge(free: int) -> Finding:
        return Finding("ok", "disk", f"{free} free") if free else Finding("error", "disk", "full", "make room")

    answers = {"a": 5, "b": 0, "c": 6, "d": 0, "e": 7, "f": 8, "g": OSError("gone")}
    assert doctor.everywhere("disk", answers, judge) == [
        Finding("ok", "disk", "5 free (on a, c, e and 1 more)"),
        Finding("error", "disk", "full (on b, d)", "make room"),
        Finding("error", "disk", "cannot be examined: OSError: gone (on g)"),
    ]
    assert doctor.everywhere("disk", {"a": 5}, judge) == [Finding("ok", "disk", "5 free")]


def test_this_machine_answers_raises_or_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(doctor.here(max, 1, 2).values()) == [2]
    assert isinstance(*doctor.here(int, "x").values(), ValueError)
    monkeypatch.setattr(doctor, "ANSWER_SECONDS", 0.05)
    assert isinstance(*doctor.here(time.sleep, 1).values(), TimeoutError)


def test_findings_are_printed_with_their_remedies_and_an_error_is_exit_code_1() -> None:
    out = StringIO()
    console = Console(file=out, width=40, highlight=False, markup=False)
    warning = Finding("warning", "disk", "a long [line] that is not broken, for it may be copied", "make room")
    assert doctor.tell([Finding("ok", "data", "there"), warning], console) == 0
    assert doctor.tell([Finding("error", "Ray", "gone")], console) == 1
    assert out.getvalue().splitlines() == [
        "     ok  data           there",
        "warning  disk           a long [line] that is not broken, for it may be copied",
        "                        → make room",
        "errors: 0, warnings: 1",
        "  error  Ray            gone",
        "errors: 1, warnings: 0",
    ]


def test_one_failure_after_another_does_not_end_the_examination(
    small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> Any:
        raise RuntimeError("broken")

    for name in ("packages", "look", "weights_and_biases", "alone", "measure", "_at_once", "here"):
        monkeypatch.setattr(doctor, name, fail)
    monkeypatch.setattr("study.runner.checkpoint_root", fail)
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
    monkeypatch.setattr(doctor, "alone", list)
    monkeypatch.setattr(doctor, "measure", lambda experiment: None)
    findings = list(doctor.examine(small(data_dir="~/data"), tmp_path / "studies", "127.0.0.1:1"))
    assert [(one.level, one.subject) for one in findings if one.level != "ok"] == [("error", "cluster")]
    assert str(tmp_path / "none") in findings[0].text
    assert "storage" in {finding.subject for finding in findings}


@pytest.mark.slow
def test_this_machine_is_examined_for_real(small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "MEASURE_SECONDS", 100)  # for a machine that has other things to do
    monkeypatch.setattr(doctor, "ANSWER_SECONDS", 110)
    findings = list(doctor.examine(small(), tmp_path / "studies"))
    assert [finding for finding in findings if finding.level == "error"] == []
    ours = {"packages", "versions", "GPUs", "threads", "OpenMP", "memory", "temporary", "shared memory", "limits"}
    rays = {"Ray settings", "sockets", "dashboard", "token", "strangers"}
    rest = {"clock", "comparisons", "data", "study folder", "file system", "disk", "storage", "W&B", "packing"}
    assert {finding.subject for finding in findings} == ours | rays | rest
    sockets = next(finding for finding in findings if finding.subject == "sockets")
    assert int(sockets.text.split()[1]) >= 4  # two of the raylet, one each of the GCS and of a worker
    packing = next(finding for finding in findings if finding.subject == "packing")
    assert "samples a second in training: " in packing.text
    assert list(tmp_path.iterdir()) == []
    assert "raylet" not in {child.name() for child in doctor.psutil.Process().children(recursive=True)}


@pytest.mark.slow
def test_every_node_of_a_cluster_is_examined(small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.study.cluster.conftest import running_cluster

    monkeypatch.setattr(doctor, "measure", lambda experiment: None)
    missing = small(dataset={"name": "mnist"}, data_dir=str(tmp_path))
    with running_cluster() as running:
        findings = list(doctor.examine(small(), tmp_path / "studies", running.address))
        with cluster.joined_ray(running.address):
            answers = doctor.on_every_node(os.getpid)
            lost = doctor.everywhere("data", doctor.on_every_node(doctor._data, missing), doctor.data)
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


OPEN_RAY = """
import os
os.environ.update(RAY_AUTH_MODE="disabled", RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0", RAY_USAGE_STATS_ENABLED="0")
import ray
ray.init(address="local", num_cpus=1, include_dashboard=False, logging_level="ERROR", object_store_memory=80 * 2**20)
print(ray.get_runtime_context().gcs_address, flush=True)
input()
"""


@pytest.mark.slow
def test_a_ray_without_authentication_admits_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", OPEN_RAY], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert doctor._admitted(address)
        process.communicate("\n")
    monkeypatch.setattr(doctor, "STRANGER", "raise SystemExit('something else')")
    with pytest.raises(RuntimeError, match="something else"):
        doctor._admitted(address)
