"""What the machine was doing: GPU temperature, power, memory, utilization; CPU threads and utilization; memory
(section 4.1).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import psutil
import torch

from trainables.records import TELEMETRY


def read(device: torch.device) -> dict[str, float | None]:
    """The columns :data:`~trainables.records.TELEMETRY`; None for what this machine cannot tell."""
    process = _process()
    with process.oneshot():
        values: dict[str, float | None] = {
            "cpu_threads": process.num_threads(),
            "cpu_utilization": process.cpu_percent(),
            "process_memory": process.memory_info().rss,
        }
    values["available_memory"] = psutil.virtual_memory().available
    if device.type == "cuda":
        values |= _gpu(device)
    return {c.name: None if (value := values.get(c.name)) is None else float(value) for c in TELEMETRY}


@lru_cache(maxsize=1)
def _process() -> psutil.Process:
    process = psutil.Process()
    process.cpu_percent()  # the first reading has nothing to compare with
    return process


def _gpu(device: torch.device) -> dict[str, float | None]:
    values: dict[str, float | None] = {"gpu_memory": float(torch.cuda.memory_allocated(device))}
    handle, nvml = _nvml(device)
    if handle is not None:
        values["gpu_temperature"] = float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
        values["gpu_power"] = nvml.nvmlDeviceGetPowerUsage(handle) / 1000
        values["gpu_utilization"] = float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    return values


@lru_cache(maxsize=8)
def _nvml(device: torch.device) -> tuple[Any, Any]:
    """NVML's handle of the device and its library; (None, None) where the driver does not offer it."""
    try:
        import pynvml
    except ImportError:
        return None, None
    try:
        pynvml.nvmlInit()
        uuid = torch.cuda.get_device_properties(device).uuid
        return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}"), pynvml
    except pynvml.NVMLError:
        return None, None
