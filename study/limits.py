"""What this process may use of its machine: the cores and the memory that CPU affinity and cgroups leave it.

joblib and Ray read the limits of the topmost cgroup alone, which is right in most containers, but not under Slurm or
systemd, where a limit is set further down, nor for memory that the cgroup already uses.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from typing import NamedTuple

import psutil


class Limits(NamedTuple):
    """What cgroups allow: CPU cores, which may be a fraction, and bytes of memory not yet in use; inf if unlimited."""

    cores: float
    memory: float


def available_cpus() -> int:
    """CPU cores that this process may use: whole ones of a limit such as 2.5, and at least one."""
    visible = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(int(min(visible, cgroup_limits().cores)), 1)


def available_memory() -> int:
    """Bytes of memory that this process may still use."""
    return int(max(min(psutil.virtual_memory().available, cgroup_limits().memory), 0))


def cgroup_limits(root: Path = Path("/")) -> Limits:
    """The tightest limits among this process's cgroups and their parents, as far as they can be seen under ``root``.

    Version 1, version 2 and both at a time (https://docs.kernel.org/admin-guide/cgroup-v2.html).
    """
    readers: tuple[tuple[str, Callable[[Path], float], Callable[[Path], float]], ...] = (
        ("cpu", _cores_v1, _cores_v2),
        ("memory", _memory_v1, _memory_v2),
    )
    found = []
    for controller, version_1, version_2 in readers:
        limits = [version_1(folder) for folder in _folders(root, controller)]
        limits += [version_2(folder) for folder in _folders(root, "")]
        found.append(min(limits, default=inf))
    return Limits(*found)


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """The cgroup of this process under ``controller`` (of version 2, if that is empty), and its visible parents."""
    try:
        cgroups = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
        mounts = [line.split() for line in (root / "proc/self/mountinfo").read_text().splitlines()]
    except OSError:  # not Linux
        return
    own = next((path for _, controllers, path in cgroups if controller in controllers.split(",")), None)
    for mount in mounts:
        top, mounted_at, kind, options = mount[3], mount[4], *mount[mount.index("-") + 1 :: 2][:2]
        if own is None or kind != ("cgroup" if controller else "cgroup2"):
            continue
        if controller and controller not in options.split(","):
            continue
        folder = root / mounted_at.lstrip("/")
        inside = Path(own).relative_to(top) if Path(own).is_relative_to(top) else Path()  # mounted for a container
        yield from (folder / part for part in (inside, *inside.parents))


def _cores_v1(folder: Path) -> float:
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return quota / period if 0 < quota < inf and 0 < period < inf else inf


def _cores_v2(folder: Path) -> float:
    allowed, _, period = _text(folder / "cpu.max").partition(" ")
    return int(allowed) / int(period) if allowed.isdecimal() and period.isdecimal() and int(period) else inf


def _memory_v1(folder: Path) -> float:
    return _left(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _memory_v2(folder: Path) -> float:
    return _left(folder, "memory.max", "memory.current", "inactive_file")


def _left(folder: Path, limit: str, used: str, reclaimable: str) -> float:
    """Bytes below the limit; what the kernel drops first when memory is short, unused pages of files, is not in use."""
    counts = dict(line.split() for line in _text(folder / "memory.stat").splitlines() if line.count(" ") == 1)
    in_use = _number(folder / used)
    return _number(folder / limit) - (in_use - int(counts.get(reclaimable, 0)) if in_use < inf else 0)


def _number(file: Path) -> float:
    """The number in ``file``; inf if there is none, as where it says ``max``."""
    with contextlib.suppress(ValueError):
        return int(_text(file))
    return inf


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
