from __future__ import annotations

import mmap
import sys
import threading

import psutil
import pytest
import torch

from trainables import telemetry
from trainables.records import TELEMETRY

NAMES = [column.name for column in TELEMETRY]


def test_every_declared_column_is_there_as_a_float_and_a_cpu_tells_nothing_of_gpus(cpu: torch.device) -> None:
    values = telemetry.read(cpu)
    assert list(values) == NAMES
    for name, value in values.items():
        assert (value is None) if name.startswith("gpu_") else (type(value) is float), name


def test_cpu_values_are_plausible(cpu: torch.device) -> None:
    values = telemetry.read(cpu)
    total = psutil.virtual_memory().total
    assert values["cpu_threads"] >= 1
    assert 2**25 < values["process_memory"] < total  # torch alone takes more than 32 MiB
    assert 0 < values["available_memory"] <= total


def test_memory_and_threads_follow_what_the_process_takes(cpu: torch.device) -> None:
    before = telemetry.read(cpu)
    done = threading.Event()
    ballast = mmap.mmap(-1, 2**26)  # 64 MiB that no allocator has in store
    ballast.write(b"x" * 2**26)
    thread = threading.Thread(target=done.wait)
    thread.start()
    after = telemetry.read(cpu)
    done.set()
    thread.join()
    assert after["process_memory"] - before["process_memory"] > 2**25
    assert after["cpu_threads"] == before["cpu_threads"] + 1
    ballast.close()


def test_cpu_utilization_is_of_the_time_since_the_last_reading(cpu: torch.device) -> None:
    telemetry.read(cpu)
    started = psutil.Process().cpu_times().user
    while psutil.Process().cpu_times().user - started < 0.1:
        sum(range(10_000))
    assert telemetry.read(cpu)["cpu_utilization"] > 5


def test_without_the_nvml_library_the_gpu_has_no_handle(monkeypatch: pytest.MonkeyPatch, cpu: torch.device) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert telemetry._nvml.__wrapped__(cpu) == (None, None)


@pytest.mark.cuda
def test_gpu_values_are_plausible(cuda: torch.device) -> None:
    ballast = torch.ones(2**20, device=cuda)
    values = telemetry.read(cuda)
    assert values["gpu_memory"] >= ballast.numel() * 4
    assert all(type(value) is float for value in values.values() if value is not None)
    if values["gpu_temperature"] is not None:
        assert 5 < values["gpu_temperature"] < 120
        assert 1 < values["gpu_power"] < 2000
        assert 0 <= values["gpu_utilization"] <= 100
