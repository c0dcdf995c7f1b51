"""What each machine has: gathered on it, and judged here by functions of nothing else."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from math import inf
from pathlib import Path
from typing import NamedTuple

import psutil
import pynvml
import torch
from packaging.requirements import Requirement

from study import cluster, limits, private
from study.doctor.asking import Ask
from study.doctor.findings import GIBIBYTE, Finding, Level, amount, everywhere, message, size
from study.experiment import Resources

PROGRAM = "filter-study"
PACKAGES = ("torch", "ray")

WORKER_BYTES = GIBIBYTE // 2  # memory of a process that has loaded torch
TEMPORARY_BYTES = GIBIBYTE  # Ray's logs and sockets, Tune's own files
RAY_FILES, WORKER_FILES = 512, 32  # descriptors of Ray's busiest process: its own, and for each worker
RAY_THREADS, WORKER_THREADS = 256, 64

BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
SETTINGS = (*BINDING, "OMP_THREAD_LIMIT", "RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED")


class Gpu(NamedTuple):
    """A GPU that torch can use."""

    name: str
    memory: int


@dataclass(frozen=True)
class Machine:
    """What a machine has; gathered on it by :func:`look`. Sizes are in bytes.

    ``installed_gpus`` are those of the driver, ``gpus`` those that torch can use; ``cores`` are those that a
    study uses; ``quota`` is the limit that a container or batch job sets, which may be a fraction of a core;
    ``settings`` are those of the environment in which workers start.
    """

    versions: Mapping[str, str]
    cores: int
    quota: float
    gpus: tuple[Gpu, ...]
    installed_gpus: int
    available_memory: int
    temporary: str
    temporary_free: int
    shared_memory: int
    open_files: float
    threads: float
    settings: Mapping[str, str]
    clock: float


def examined(resources: Resources, ask: Ask) -> Iterator[Finding]:
    """What is found about each machine itself."""
    began = time.time()
    answers = ask(look)
    machines = {name: answer for name, answer in answers.items() if isinstance(answer, Machine)}
    for name, error in answers.items():
        if name not in machines:
            yield Finding("error", "machine", f"{name} cannot be examined: {message(error)}")
    judges: dict[str, Callable[[Machine], Finding]] = {
        "versions": partial(versions, reference=_versions()),
        "GPUs": partial(gpus, share=resources.gpu),
        "threads": partial(threads, resources=resources),
        "OpenMP": partial(openmp, cpu=resources.cpu),
        "memory": partial(memory, resources=resources),
        "temporary": temporary,
        "shared memory": shared_memory,
        "limits": partial(ulimits, resources=resources),
        "clock": partial(clock, began=began, ended=time.time()),
        "Ray settings": ray_settings,
    }
    for subject, judge in judges.items():
        yield from everywhere(subject, machines, judge)


def look() -> Machine:
    """This machine, as it is now."""
    environment = _workers_environment()
    temporary = str(private.temporary())
    return Machine(
        versions=_versions(),
        cores=limits.available_cpus(),
        quota=limits.cgroup_limits().cores,
        gpus=tuple(_gpu(index) for index in range(torch.cuda.device_count())),
        installed_gpus=_installed_gpus(),
        available_memory=limits.available_memory(),
        temporary=temporary,
        temporary_free=shutil.disk_usage(temporary).free,
        shared_memory=shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else 0,
        open_files=_limit(resource.RLIMIT_NOFILE, hard=True),  # Ray raises the soft limit itself
        threads=_limit(resource.RLIMIT_NPROC, hard=False),
        settings={name: environment[name] for name in SETTINGS if name in environment},
        clock=time.time(),
    )


def _versions() -> dict[str, str]:
    return {"Python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


def _workers_environment() -> Mapping[str, str]:
    """The environment that Ray's workers inherit: of the process that starts them, where this is one of them."""
    parent = psutil.Process().parent()
    if parent is not None and parent.name() == "raylet":
        return parent.environ()
    return {**os.environ, **cluster.SETTINGS}


def _gpu(index: int) -> Gpu:
    properties = torch.cuda.get_device_properties(index)
    return Gpu(properties.name, properties.total_memory)


def _installed_gpus() -> int:
    try:
        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return 0


def _limit(kind: int, hard: bool) -> float:
    limit = resource.getrlimit(kind)[1 if hard else 0]
    return inf if limit == resource.RLIM_INFINITY else limit


def packages() -> Finding:
    """Whether the packages that the program asks for are there, in versions that it can use."""
    try:
        named = [Requirement(line) for line in metadata.requires(PROGRAM) or ()]
        wanted = [one for one in named if one.marker is None or one.marker.evaluate({"extra": "train"})]
    except metadata.PackageNotFoundError:
        text = f"{PROGRAM} is not installed: what it needs is not known"
        return Finding("warning", "packages", text, "install it in its folder: make setup, or pip install -e .")
    unmet = []
    for package in wanted:
        try:
            version = metadata.version(package.name)
        except metadata.PackageNotFoundError:
            version = "missing"
        if version == "missing" or not package.specifier.contains(version, prereleases=True):
            unmet.append(f"{package.name} is {version}, not {package.specifier}")
    if unmet:
        return Finding("error", "packages", "; ".join(unmet), "install again what the program needs: make setup")
    return Finding("ok", "packages", f"all {len(wanted)} that the program needs")


def versions(machine: Machine, reference: Mapping[str, str]) -> Finding:
    """Whether a machine has the versions of the one that the study starts on."""
    unlike = [
        f"{name} {version}, not {reference[name]}"
        for name, version in machine.versions.items()
        if version != reference[name]
    ]
    if unlike:
        text = f"{', '.join(unlike)} as where the study starts"
        return Finding("error", "versions", text, "install the same requirements.lock on every node")
    return Finding("ok", "versions", ", ".join(f"{name} {version}" for name, version in machine.versions.items()))


def gpus(machine: Machine, share: float) -> Finding:
    """Whether there are GPUs, torch can use them, and the experiment does; ``share`` is its resources.gpu."""
    names = Counter(f"{gpu.name} ({size(gpu.memory)})" for gpu in machine.gpus)
    listed = ", ".join(f"{number} × {name}" for name, number in names.items())
    if machine.installed_gpus and not machine.gpus:
        text = f"torch {machine.versions['torch']} can use none of {machine.installed_gpus}"
        return Finding("error", "GPUs", text, "install a torch for the driver's CUDA; look at CUDA_VISIBLE_DEVICES")
    if share and not machine.gpus:
        text = f"none, and resources.gpu is {share:g}: no comparison runs here"
        return Finding("warning", "GPUs", text, "to train on the CPU: --set resources.gpu=0")
    if machine.gpus and not share:
        text = f"{listed}, and resources.gpu is 0: comparisons train on the CPU"
        return Finding("warning", "GPUs", text, "use them: --set resources.gpu=1, or the share that pays (see packing)")
    return Finding("ok", "GPUs", f"{listed}, resources.gpu {share:g}" if listed else "none; resources.gpu is 0")


def threads(machine: Machine, resources: Resources) -> Finding:
    """Whether resources.cpu divides the cores well."""
    cpu, cores = resources.cpu, machine.cores
    if cpu > cores:
        text = f"resources.cpu is {cpu}, of {cores} cores: no comparison runs here"
        return Finding("warning", "threads", text, f"--set resources.cpu={cores}, or less")
    if machine.quota < 1:
        text = f"the container may use {machine.quota:g} of a core: training takes {1 / machine.quota:.1f} × as long"
        return Finding("warning", "threads", text, "give the container a whole core: docker run --cpus=1, or more")
    by_gpu = len(machine.gpus) * int(1 / resources.gpu) if resources.gpu else inf
    if resources.gpu and cores // cpu < by_gpu:
        text = f"resources.cpu {cpu} of {cores} cores lets {cores // cpu} comparisons run, the GPUs would {by_gpu}"
        return Finding("warning", "threads", text, "a lower resources.cpu, or a higher resources.gpu")
    if not resources.gpu and cores % cpu:
        divisor = max(number for number in range(1, cpu) if cores % number == 0)
        text = f"resources.cpu {cpu} of {cores} cores leaves {cores % cpu} idle"
        return Finding("warning", "threads", text, f"--set resources.cpu={divisor}")
    return Finding("ok", "threads", f"{cpu} of {cores} cores for a comparison")


def openmp(machine: Machine, cpu: int) -> Finding:
    """Whether OpenMP's settings leave each comparison the threads that resources.cpu gives it."""
    off = ("", "false", "none", "disabled")
    bound = [name for name in BINDING if machine.settings.get(name, "").lower() not in off]
    if bound:
        text = f"{', '.join(bound)} binds every comparison to the same cores"
        return Finding("warning", "OpenMP", text, f"unset {' '.join(bound)}")
    limit = machine.settings.get("OMP_THREAD_LIMIT", "")
    if limit.isdecimal() and int(limit) < cpu:
        text = f"OMP_THREAD_LIMIT is {limit}, resources.cpu {cpu}"
        return Finding("warning", "OpenMP", text, "unset OMP_THREAD_LIMIT")
    return Finding("ok", "OpenMP", "resources.cpu overrules OMP_NUM_THREADS and MKL_NUM_THREADS")


def memory(machine: Machine, resources: Resources) -> Finding:
    """Whether as many comparisons as run at a time have room in memory."""
    each = int(resources.memory_gib * GIBIBYTE) if resources.memory_gib else WORKER_BYTES
    number = max(_slots(machine, resources), 1)
    text = f"{size(machine.available_memory)} available, {size(each)} for each of {number} at a time"
    if number * each > machine.available_memory:
        fewer = max(machine.available_memory // each, 1)
        return Finding("warning", "memory", text, f"no more than {fewer} at a time: a higher resources.cpu")
    return Finding("ok", "memory", text)


def temporary(machine: Machine) -> Finding:
    """Whether Ray's own files have room."""
    text = f"{machine.temporary} has {size(machine.temporary_free)} free"
    if machine.temporary_free < TEMPORARY_BYTES:
        level: Level = "error" if machine.temporary_free < TEMPORARY_BYTES / 4 else "warning"
        return Finding(level, "temporary", text, "make room, or name another folder by TMPDIR")
    return Finding("ok", "temporary", text)


def shared_memory(machine: Machine) -> Finding:
    """Whether Ray's object store has room."""
    text = f"/dev/shm has {size(machine.shared_memory)} free, Ray takes {size(cluster.OBJECT_STORE)}"
    if machine.shared_memory < cluster.OBJECT_STORE:
        return Finding("warning", "shared memory", text, "make room; in a container: --shm-size=512m")
    return Finding("ok", "shared memory", text)


def ulimits(machine: Machine, resources: Resources) -> Finding:
    """Whether Ray may open the files and start the threads that it needs."""
    workers = _slots(machine, resources)
    files, tasks = RAY_FILES + WORKER_FILES * workers, RAY_THREADS + WORKER_THREADS * workers
    text = f"{amount(machine.open_files)} open files, {amount(machine.threads)} threads"
    short = [f"ulimit -Hn {files}"] if machine.open_files < files else []
    short += [f"ulimit -u {tasks}"] if machine.threads < tasks else []
    if short:
        return Finding("warning", "limits", f"{text}: few for {workers} comparisons at a time", "; ".join(short))
    return Finding("ok", "limits", text)


def clock(machine: Machine, began: float, ended: float, tolerance: float = 2.0) -> Finding:
    """Whether a machine that was asked between ``began`` and ``ended`` has the time of this one."""
    off = max(began - machine.clock, machine.clock - ended, 0.0)
    if off > tolerance:
        return Finding("warning", "clock", f"off by {off:.0f} s", "synchronize the nodes' clocks (NTP)")
    return Finding("ok", "clock", "agrees")


def ray_settings(machine: Machine) -> Finding:
    """Whether Ray asks for a token on this machine, and reports nothing to its makers."""
    mode, usage = machine.settings.get("RAY_AUTH_MODE"), machine.settings.get("RAY_USAGE_STATS_ENABLED")
    if mode != "token":
        text = f"RAY_AUTH_MODE is {mode or 'not set'}"
        return Finding("error", "Ray settings", text, "RAY_AUTH_MODE=token on every node, before ray start")
    if usage != "0":
        text = f"RAY_USAGE_STATS_ENABLED is {usage or 'not set'}: Ray may report its use to its makers"
        return Finding("warning", "Ray settings", text, "RAY_USAGE_STATS_ENABLED=0 on every node, before ray start")
    return Finding("ok", "Ray settings", "token authentication; no usage report")


def _slots(machine: Machine, resources: Resources) -> int:
    return cluster.slots([cluster.Capacity(machine.cores, len(machine.gpus))], resources.cpu, resources.gpu)
