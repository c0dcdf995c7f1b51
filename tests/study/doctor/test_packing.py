import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from study import limits, preflight
from study.doctor import packing
from study.doctor.packing import Measured
from study.experiment import Experiment, Resources
from tests.study.drills import command_line
from trainables.comparison import prepare
from trainables.config import TrialConfig
from trainables.data import DatasetError

Build = Callable[..., Experiment]


@given(st.dictionaries(st.integers(1, 64), st.floats(0, 1e6), min_size=1))
def test_the_fewest_comparisons_that_train_as_much_as_any_number(rates: dict[int, float]) -> None:
    chosen = packing.fewest(rates)
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
    finding = packing.worth(measured, Resources(**resources))
    assert finding.level == level
    assert remedy in finding.remedy
    assert bool(finding.remedy) == bool(remedy)


@pytest.mark.slow
def test_throughput_is_measured_in_processes_of_their_own(small: Build) -> None:
    experiment = small()
    config, runtime = TrialConfig.from_dotted(experiment.trial), preflight.runtime(experiment, "cpu")
    rates = packing.throughputs(config, runtime, {1: 1, 2: 1}, span=1.0, limit=100)
    assert list(rates) == [1, 2]
    assert min(rates.values()) > 10  # epochs a minute of 300 samples through a network of ten hidden units


@pytest.mark.slow
@pytest.mark.parametrize("resources", [{"cpu": 1}, {"gpu": 0.25}])
def test_the_curve_is_measured_on_the_device_that_is_named(
    resources: dict[str, Any], small: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "available_cpus", lambda: 2)
    monkeypatch.setattr(packing, "SPAN_SECONDS", 0.2)
    monkeypatch.setattr(packing, "MEASURE_SECONDS", {"cpu": 100, "cuda": 100})
    measured = packing.measure(small(resources=resources), "cpu")
    assert measured is not None
    assert (list(measured.rates), measured.cores) == ([1, 2], 2)
    assert min(measured.rates.values()) > 0
    as_of_a_gpu = packing.worth(measured._replace(cores=None), Resources(gpu=1))
    assert f"resources.gpu={1 / packing.fewest(measured.rates):g}" in as_of_a_gpu.text
    assert len(as_of_a_gpu.lines) == 3


def test_the_curve_is_a_table_and_names_the_setting() -> None:
    measured = Measured({1: 100.0, 2: 190.0, 4: 0.0}, None)
    finding = packing.worth(measured, Resources(gpu=1))
    assert finding.text == "2 at a time to a GPU pay: resources.gpu=0.5"
    assert finding.remedy == "--set resources.gpu=0.5"
    assert finding.lines == (
        "at a time  resources.gpu  epochs a minute  of the most",
        "        1              1            100.0          53%",
        "        2            0.5            190.0         100%",
        "        4           0.25          no room",
    )
    assert packing.curve({1: 10.0, 2: 20.0}, 2) == (
        "at a time  resources.cpu  epochs a minute  of the most",
        "        1              2             10.0          50%",
        "        2              1             20.0         100%",
    )


def test_an_epoch_is_as_many_samples_as_there_are(small: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = prepare(TrialConfig.from_dotted(small().trial), preflight.runtime(small(), "cpu"))
    arm = comparison.arms[0]
    clock = iter([0.0, *[1.0] * 10, 31.0, 31.0])  # at its start, before all batches but one, at its end
    monkeypatch.setattr(packing.time, "perf_counter", lambda: next(clock))
    epochs = 11 * 16 / len(arm.data.train.labels)
    assert packing._rate(arm, 1, 30.0) == pytest.approx(epochs * 60 / 31)


@pytest.mark.slow
def test_what_takes_too_long_or_cannot_train_is_not_measured(small: Build, tmp_path: Path) -> None:
    config, runtime = TrialConfig.from_dotted(small().trial), preflight.runtime(small(), "cpu")
    before = set(psutil.Process().children())
    with pytest.raises(TimeoutError):
        packing.throughputs(config, runtime, {1: 1}, span=0.1, limit=0.1)
    missing = small(dataset={"name": "mnist"}, data_dir=str(tmp_path))
    config, runtime = TrialConfig.from_dotted(missing.trial), preflight.runtime(missing, "cpu")
    with pytest.raises(DatasetError, match="mnist was not found"):
        packing.throughputs(config, runtime, {1: 1}, span=0.1, limit=100)
    left = {child for child in psutil.Process().children() if command_line(child)}
    assert left - before <= _resource_trackers()


def _resource_trackers() -> set[Any]:
    """Python's own helpers of multiprocessing, one for as long as the process lives."""
    return {child for child in psutil.Process().children() if "resource_tracker" in " ".join(command_line(child))}


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
    monkeypatch.setattr(packing, "_trainer", lambda config, runtime: contextlib.nullcontext(next(pipes)))
    config, runtime = TrialConfig.from_dotted(small().trial), preflight.runtime(small(), "cpu")
    rates = packing.throughputs(config, runtime, {4: 1, 1: 3, 2: 2}, span=7.0, limit=100)
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
    monkeypatch.setattr(packing.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(limits, "available_cpus", lambda: cores)
    monkeypatch.setattr(packing, "throughputs", lambda *arguments: tried.append(arguments[2]) or {1: 5.0})
    assert packing.measure(small(resources={"cpu": 3})) == Measured({1: 5.0}, max(shares))
    assert tried == [shares]


def test_on_a_gpu_comparisons_are_packed_with_the_threads_they_ask_for(
    small: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []
    monkeypatch.setattr(packing.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(packing, "throughputs", lambda *arguments: tried.append(arguments) or {1: 5.0})
    assert packing.measure(small(resources={"cpu": 3})) == Measured({1: 5.0}, None)
    _, runtime, threads, *_ = tried[0]
    assert runtime.device == "cuda"
    assert threads == {1: 3, 2: 3, 4: 3}


def test_what_is_not_measured_in_time_has_no_rates(small: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*arguments: Any) -> Any:
        raise TimeoutError

    monkeypatch.setattr(packing, "throughputs", late)
    measured = packing.measure(small())
    assert measured is not None
    assert measured.rates == {}


def test_a_gpu_is_not_measured_where_there_is_none(small: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing.torch.cuda, "is_available", lambda: False)
    assert packing.measure(small(resources={"gpu": 0.5})) is None
