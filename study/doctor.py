"""What stands in an experiment's way on this machine or cluster, told before it costs a night.

Facts are gathered where they are, on a cluster at every node at once, and judged here by functions of nothing else.
A check that fails in an unforeseen way is an error line like any other: none ends the examination.
"""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from ipaddress import ip_address
from itertools import count
from math import inf
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import Any, Literal, NamedTuple

import psutil
import pynvml
import torch
from packaging.requirements import Requirement
from rich.console import Console
from rich.text import Text

from study import cluster, preflight
from study.experiment import Experiment, Resources, Wandb
from study.folder import FolderError, locked
from study.recorder import Recorder, RecordError
from trainables import models
from trainables.checkpoints import Checkpoints, is_uri
from trainables.comparison import Arm, prepare
from trainables.config import Runtime, TrialConfig
from trainables.data import CHANNELS, CLASSES, DatasetError
from trainables.seeds import generator
from trainables.train import Stopwatch, train_epoch

Level = Literal["ok", "warning", "error"]
Ask = Callable[..., dict[str, Any]]
"""Calls a function with arguments on every machine; by machine what it returned, or the exception that it raised."""

KIBIBYTE, MEBIBYTE, GIBIBYTE = 2**10, 2**20, 2**30
ANSWER_SECONDS = 60.0  # for a machine to answer; a storage that does not exist can keep one waiting for ever
PROGRAM = "filter-study"
PACKAGES = ("torch", "ray")

EPOCH_BYTES = 8 * KIBIBYTE  # of an arm: its row, and its line in W&B's file, which is the larger
WORKER_BYTES = GIBIBYTE // 2  # memory of a process that has loaded torch
TEMPORARY_BYTES = GIBIBYTE  # Ray's logs and sockets, Tune's own files
RAY_FILES, WORKER_FILES = 512, 32  # descriptors of Ray's busiest process: its own, and for each worker
RAY_THREADS, WORKER_THREADS = 256, 64

NETWORK_FILE_SYSTEMS = (
    "9p", "afs", "beegfs", "ceph", "cifs", "fuse", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "ocfs2", "orangefs",
    "panfs", "smb", "virtiofs", "wekafs",
)  # fmt: skip
LOCAL_FUSE = ("fuseblk", "fuse.fuse-overlayfs")
BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
SETTINGS = (*BINDING, "OMP_THREAD_LIMIT", "RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED")
DASHBOARD_PORT = 8265
STRANGER = "import sys; from ray._raylet import GcsClient; GcsClient(address=sys.argv[1]).internal_kv_keys(b'', None)"

PACKED = (1, 2, 4)
MARGIN = 0.1  # a throughput that is lower by no more than this is as good
SPAN_SECONDS = 1.5  # of training for one throughput
MEASURE_SECONDS = 25.0


@dataclass(frozen=True)
class Finding:
    """What a check found about its subject, and what to do about it."""

    level: Level
    subject: str
    text: str
    remedy: str = ""


class Gpu(NamedTuple):
    """A GPU that torch can use."""

    name: str
    memory: int


@dataclass(frozen=True)
class Machine:
    """What a machine has; gathered on it by :func:`look`. Sizes are in bytes.

    ``installed_gpus`` are those of the driver, ``gpus`` those that torch can use; ``quota`` is the number of cores that
    a container may keep busy; ``settings`` are those of the environment in which workers start.
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


def examine(experiment: Experiment, folder: Path, address: str | None = None) -> Iterator[Finding]:
    """What is found, as it is found, about running ``experiment`` in ``folder`` or a new one within it.

    With ``address``, on the nodes of that Ray cluster; else on this machine.
    """
    located = _outcome(preflight.runtime, experiment)  # where it cannot be, the check of the data says so
    where = experiment.model_copy(update={"data_dir": located.data_dir}) if isinstance(located, Runtime) else experiment
    with ExitStack() as stack:
        ask: Ask = here
        if address:
            try:
                stack.enter_context(cluster.joined_ray(address))
                ask = on_every_node
            except Exception as error:
                told = str(error) if isinstance(error, cluster.ClusterError) else _message(error)
                yield Finding("error", "cluster", told, "until then, this machine alone is examined")
        yield from guarded("packages", packages)
        yield from guarded("machines", partial(_machines, where.resources, ask))
        at_once = _outcome(_at_once, where)
        yield from everywhere("comparisons", {"": at_once}, comparisons)
        loaded = guarded("data", lambda: everywhere("data", ask(_data, where), data))
        yield from loaded
        number = at_once if isinstance(at_once, int) and at_once else 1
        yield from guarded("storage", partial(keeping, where, folder, number, ask))
        yield from guarded("W&B", partial(weights_and_biases, where.wandb))
        yield from guarded("Ray", joined if ask is on_every_node else alone)
        if all(finding.level != "error" for finding in loaded):
            pays = partial(packing, resources=where.resources)
            yield from guarded("packing", lambda: everywhere("packing", ask(measure, where), pays))


def _machines(resources: Resources, ask: Ask) -> Iterator[Finding]:
    """What is found about each machine itself."""
    began = time.time()
    answers = ask(look)
    machines = {name: answer for name, answer in answers.items() if isinstance(answer, Machine)}
    for name, error in answers.items():
        if name not in machines:
            yield Finding("error", "machine", f"{name} cannot be examined: {_message(error)}")
    judges: dict[str, Callable[[Machine], Finding]] = {
        "versions": partial(versions, reference=_versions()),
        "GPUs": partial(gpus, share=resources.gpu),
        "threads": partial(threads, resources=resources),
        "OpenMP": partial(openmp, cpu=resources.cpu),
        "memory": partial(memory, resources=resources),
        "temporary": temporary,
        "shared memory": shared_memory,
        "limits": partial(limits, resources=resources),
        "clock": partial(clock, began=began, ended=time.time()),
        "Ray settings": ray_settings,
    }
    for subject, judge in judges.items():
        yield from everywhere(subject, machines, judge)


def tell(findings: Iterable[Finding], console: Console) -> int:
    """Print findings as they come; the exit code: 1 if one is an error."""
    colours = {"ok": "green", "warning": "yellow", "error": "red"}
    levels: Counter[Level] = Counter()
    for finding in findings:
        levels[finding.level] += 1
        line = Text.assemble((f"{finding.level:>7}", colours[finding.level]), f"  {finding.subject:13}  {finding.text}")
        console.print(line, soft_wrap=True, highlight=False)
        if finding.remedy:
            console.print(Text(f"{'':24}→ {finding.remedy}"), soft_wrap=True, highlight=False)
    console.print(f"errors: {levels['error']}, warnings: {levels['warning']}", soft_wrap=True, highlight=False)
    return 1 if levels["error"] else 0


# Where checks run


def here(function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """An :data:`Ask` of this machine alone."""
    answers: list[Any] = [TimeoutError(f"no answer within {ANSWER_SECONDS:g} s")]
    thread = Thread(target=lambda: answers.append(_outcome(function, *arguments)), daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    return {socket.gethostname(): answers[-1]}


def on_every_node(function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """An :data:`Ask` of every living node of the Ray that was joined, all at once."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
    hosts = Counter(nodes.values())
    task = ray.remote(num_cpus=0, max_retries=0)(_outcome)
    asked = {
        (host if hosts[host] == 1 else f"{host} {node[:6]}"): task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote(function, *arguments)
        for node, host in nodes.items()
    }
    done, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER_SECONDS)
    late = TimeoutError(f"no answer within {ANSWER_SECONDS:g} s")
    return {name: _outcome(ray.get, answer) if answer in done else late for name, answer in asked.items()}


def _outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception as error:
        return error


def guarded(subject: str, check: Callable[[], Finding | Iterable[Finding]]) -> list[Finding]:
    """What ``check`` finds; where it raises, that is what was found."""
    try:
        found = check()
        return [found] if isinstance(found, Finding) else list(found)
    except Exception as error:
        return [Finding("error", subject, f"cannot be examined: {_message(error)}")]


def everywhere(subject: str, answers: Mapping[str, Any], judge: Callable[[Any], Finding]) -> list[Finding]:
    """Judge what each machine answered; machines of which the same is to be said share a line."""
    alike: dict[Finding | Level, list[tuple[str, Finding]]] = {}
    for name, answer in answers.items():
        (finding,) = guarded(subject, partial(_judged, judge, answer))
        alike.setdefault("ok" if finding.level == "ok" else finding, []).append((name, finding))
    found = []
    for same in alike.values():
        names = ", ".join(name for name, _ in same[:3])
        others = f" and {len(same) - 3} more" if len(same) > 3 else ""
        first = same[0][1]
        where = f" (on {names}{others})" if len(answers) > 1 else ""
        found.append(Finding(first.level, first.subject, first.text + where, first.remedy))
    return found


def _judged(judge: Callable[[Any], Finding], answer: Any) -> Finding:
    if isinstance(answer, Exception):
        raise answer
    return judge(answer)


def _message(error: BaseException) -> str:
    """An exception's name and the line of its message that says most: Ray puts a traceback before it."""
    lines = str(error).strip().splitlines() or ["no message"]
    return f"{type(error).__name__}: {lines[-1].strip()}"


# What a machine has


def look() -> Machine:
    """This machine, as it is now."""
    environment = _workers_environment()
    place = tempfile.gettempdir()
    temporary = place if len(place) <= cluster.LONGEST_TEMPDIR else "/tmp"  # as Ray is started
    return Machine(
        versions=_versions(),
        cores=cluster.available_cpus(),
        quota=_quota(Path("/sys/fs/cgroup/cpu.max")),
        gpus=tuple(_gpu(index) for index in range(torch.cuda.device_count())),
        installed_gpus=_installed_gpus(),
        available_memory=psutil.virtual_memory().available,
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
    return parent.environ() if parent is not None and parent.name() == "raylet" else os.environ


def _quota(file: Path) -> float:
    try:
        allowed, period = file.read_text().split()
    except (OSError, ValueError):
        return inf
    return inf if allowed == "max" else int(allowed) / int(period)


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
    wanted = [Requirement(line) for line in metadata.requires(PROGRAM) or ()]
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
    if machine.quota < cores:
        text = f"the container may keep {machine.quota:g} of its {cores} cores busy"
        return Finding("warning", "threads", text, f"start under: taskset -c 0-{max(int(machine.quota), 1) - 1}")
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


def limits(machine: Machine, resources: Resources) -> Finding:
    """Whether Ray may open the files and start the threads that it needs."""
    workers = _slots(machine, resources)
    files, tasks = RAY_FILES + WORKER_FILES * workers, RAY_THREADS + WORKER_THREADS * workers
    text = f"{_amount(machine.open_files)} open files, {_amount(machine.threads)} threads"
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


def comparisons(at_once: int) -> Finding:
    """Whether a comparison can run at all."""
    if not at_once:
        text = "no machine has the resources that one comparison takes"
        return Finding("error", "comparisons", text, "a lower resources.cpu; without GPUs --set resources.gpu=0")
    return Finding("ok", "comparisons", f"{at_once} at a time")


def _at_once(experiment: Experiment) -> int:
    resources = experiment.resources
    return min(cluster.slots(cluster.nodes(), resources.cpu, resources.gpu), experiment.trials)


def _slots(machine: Machine, resources: Resources) -> int:
    return cluster.slots([cluster.Capacity(machine.cores, len(machine.gpus))], resources.cpu, resources.gpu)


# Data and storage


def data(error: str | None) -> Finding:
    """Whether every data set that the search can ask for is there and whole; ``error`` says why not."""
    return Finding("error", "data", error) if error else Finding("ok", "data", "all there and whole")


def _data(experiment: Experiment) -> str | None:
    try:
        preflight.check(experiment)
    except DatasetError as error:
        return str(error)
    return None


def keeping(experiment: Experiment, folder: Path, at_once: int, ask: Ask) -> Iterator[Finding]:
    """Whether the study's record and checkpoints can be kept; what is written to see that is removed."""
    from study.runner import checkpoint_root  # here, for the processes that measure start faster without Tune

    mark = f".doctor-{secrets.token_hex(4)}"
    root = checkpoint_root(experiment, folder / mark, mark)
    with ExitStack() as stack:
        stack.enter_context(_traceless(folder))
        if not is_uri(root):
            stack.enter_context(_traceless(Path(root).parent.parent))
        stack.callback(here, _remove, root.rpartition("/")[0])
        stack.callback(shutil.rmtree, folder / mark, ignore_errors=True)
        yield from guarded("study folder", partial(study_folder, folder / mark))
        yield from guarded("file system", partial(file_system, folder.resolve(), _mounts()))
        yield from guarded("disk", partial(space, folder, experiment.cost * EPOCH_BYTES, "the record"))
        yield from guarded("storage", partial(storage, root, ask))
        if not is_uri(root):
            number = (experiment.recovery.checkpoints + 1) * at_once  # and the one that is being written
            place = Path(root).parents[1]
            yield from guarded("disk", lambda: space(place, number * checkpoint_bytes(experiment), "checkpoints"))


def study_folder(folder: Path) -> Finding:
    """Whether a study can be recorded in ``folder``: a lock held, and SQLite's journal written ahead."""
    try:
        with locked(folder), Recorder(folder):
            pass
    except (FolderError, RecordError) as error:
        return Finding("error", "study folder", str(error.__cause__ or error), "choose another --dir")
    return Finding("ok", "study folder", f"{folder.parent} can be written")


def file_system(folder: Path, mounts: Sequence[tuple[str, str]]) -> Finding:
    """Whether the folder's file system, one of ``mounts`` as (folder, type), is one that SQLite can rely on."""
    around = [(len(point), place, kind) for place, (point, kind) in enumerate(mounts) if folder.is_relative_to(point)]
    kind = max(around)[2] if around else "unknown"
    if kind.startswith(NETWORK_FILE_SYSTEMS) and kind not in LOCAL_FUSE:
        text = f"{folder} is on {kind}, where SQLite's journal can break"
        return Finding(
            "warning", "file system", text, "a --dir on a local disk, and --set storage=FOLDER on the shared one"
        )
    return Finding("ok", "file system", f"{folder} is on {kind}")


def space(folder: Path, needed: int, what: str) -> Finding:
    """Whether the disk of ``folder``, which need not exist, has room for what is needed."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    text = f"{existing} has {size(free)} free, {what} may take {size(needed)}"
    if needed > free / 2:
        return Finding("error" if needed > free else "warning", "disk", text, "make room, or choose another disk")
    return Finding("ok", "disk", text)


def checkpoint_bytes(experiment: Experiment) -> int:
    """About the size of the largest checkpoint of a comparison: each arm's weights and what its optimizer keeps."""
    configs = [TrialConfig.from_dotted(corner) for corner in experiment.corners()]
    sizes = {(c.model, c.dataset.name): 0 for c in configs}
    for model, dataset in sizes:
        network = models.build(model, CHANNELS[dataset], CLASSES[dataset], generator(0, "weights"))
        sizes[model, dataset] = sum(tensor.nbytes for tensor in network.state_dict().values())
    kept = {"SGD": 2, "Adam": 4, "AdamW": 4}  # copies of the weights; with momentum, or AMSGrad, they are no more
    return max(sizes[c.model, c.dataset.name] * kept[c.optimizer.name] * len(c.arms) for c in configs)


def storage(root: str, ask: Ask) -> list[Finding]:
    """Whether every machine can write checkpoints under ``root`` that this one reads, and read what this one writes."""
    secret = secrets.token_hex(8)
    failed = {name: answer for name, answer in here(_write, f"{root}/driver", secret).items() if answer is not None}
    answers = failed or ask(_exchange, root, secret)
    return everywhere("storage", answers, partial(exchanged, root=root, secret=secret))


def exchanged(answer: tuple[str, bool] | str, root: str, secret: str) -> Finding:
    """Judge a machine's answer: its own folder's name and whether it saw this machine's, or why it could not write."""
    place = root.rsplit("/", 2)[0]
    remedy = "--set storage=FOLDER, or a URI, that every machine can write"
    if isinstance(answer, str):
        return Finding("error", "storage", f"{place}: {answer}", remedy)
    name, saw = answer
    if not (saw and _read(f"{root}/{name}") == secret):
        text = f"{place} is not the same there as where the study starts: its checkpoints would not be found"
        return Finding("error", "storage", text, remedy)
    return Finding("ok", "storage", f"{place} can be written and read")


def _exchange(root: str, secret: str) -> tuple[str, bool] | str:
    name = secrets.token_hex(4)
    problem = _write(f"{root}/{name}", secret)
    return problem if problem is not None else (name, _read(f"{root}/driver") == secret)


def _write(folder: str, text: str) -> str | None:
    """Leave ``text`` as a comparison leaves its state; why it cannot be."""
    try:
        Checkpoints(folder).save(1, {"text": text})
    except (OSError, ValueError) as error:
        return str(error)
    return None


def _read(folder: str) -> str | None:
    return next((str(state["text"]) for _, state in Checkpoints(folder).newest()), None)


def _remove(folder: str) -> None:
    Checkpoints(folder).remove()


def _mounts() -> list[tuple[str, str]]:
    return [(part.mountpoint, part.fstype) for part in psutil.disk_partitions(all=True)]


@contextmanager
def _traceless(folder: Path) -> Iterator[None]:
    """Leave no folder that was not there before, if nothing else came into it."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            for path in made:
                path.rmdir()


# Ray and W&B


def alone() -> Iterator[Finding]:
    """What is found about a Ray of this machine's own."""
    with cluster.local_ray(1, 0):
        listening = _listening()
        dashboards = [host for host, port in listening if port == DASHBOARD_PORT]
        yield from guarded("sockets", partial(sockets, [host for host, _ in listening]))
        yield from guarded("dashboard", partial(dashboard, dashboards))
        yield from _credentials()


def joined() -> Iterator[Finding]:
    """What is found about the Ray cluster that was joined."""
    import ray

    head = ray.get_runtime_context().gcs_address.rpartition(":")[0].strip("[]")
    dashboards = [host for host in sorted({head, "127.0.0.1"}) if _answers(host, DASHBOARD_PORT)]
    yield from guarded("dashboard", partial(dashboard, dashboards))
    yield from _credentials()


def _credentials() -> Iterator[Finding]:
    import ray

    yield from guarded("token", lambda: token(os.environ))
    yield from guarded("strangers", lambda: strangers(_admitted(ray.get_runtime_context().gcs_address)))


def sockets(addresses: Sequence[str]) -> Finding:
    """Whether Ray's processes, which listen at these addresses, can be reached from this machine alone."""
    exposed = sorted({address for address in addresses if not _is_loopback(address)})
    if exposed:
        text = f"Ray listens on {', '.join(exposed)}: others on the network can reach it"
        return Finding("error", "sockets", text, "the Ray of requirements.lock, or a firewall, until this is mended")
    if not addresses:
        return Finding("error", "sockets", "none of Ray's could be seen", "run the doctor as the user who runs studies")
    return Finding("ok", "sockets", f"all {len(addresses)} of Ray's listen on loopback alone")


def dashboard(hosts: Sequence[str]) -> Finding:
    """Whether Ray's dashboard, which takes jobs and so any code, answers at one of these hosts."""
    if not hosts:
        return Finding("ok", "dashboard", "does not listen")
    level: Level = "warning" if all(_is_loopback(host) for host in hosts) else "error"
    text = f"answers at {', '.join(f'{host}:{DASHBOARD_PORT}' for host in hosts)}, and runs what it is sent"
    return Finding(level, "dashboard", text, "ray start --head --include-dashboard=false, or ray[tune] alone")


def token(environment: Mapping[str, str]) -> Finding:
    """Whether the token that Ray is reached with is its owner's alone."""
    if environment.get("RAY_AUTH_TOKEN"):
        text = "in RAY_AUTH_TOKEN, which every process that is started inherits"
        return Finding("warning", "token", text, "put it into a file of mode 600, named by RAY_AUTH_TOKEN_PATH")
    path = Path(environment.get("RAY_AUTH_TOKEN_PATH") or cluster.TOKEN.expanduser())
    if not path.is_file():
        return Finding("error", "token", f"{path} is not there", "name the cluster's file by RAY_AUTH_TOKEN_PATH")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return Finding("warning", "token", f"{path} has mode {mode:o}: others can read it", f"chmod 600 {path}")
    return Finding("ok", "token", f"in a file of mode {mode:o}")


def strangers(admitted: bool) -> Finding:
    """Whether Ray turns away who has no token."""
    if admitted:
        text = "Ray answers without a token: whoever reaches it runs code here"
        return Finding("error", "strangers", text, "RAY_AUTH_MODE=token on every node, before ray start")
    return Finding("ok", "strangers", "Ray refuses whoever has no token")


def weights_and_biases(settings: Wandb) -> Finding:
    """Whether W&B can be logged to as the experiment says."""
    if settings.mode != "online":
        return Finding("ok", "W&B", f"{settings.mode}: needs neither key nor network")
    from study.weights_and_biases import unreachable

    if reason := unreachable():
        return Finding("warning", "W&B", reason, "mend that, or log offline: --set wandb.mode=offline")
    return Finding("ok", "W&B", "online: it answers, and takes the key")


def _admitted(address: str) -> bool:
    """Whether a process without a token can read what the cluster at ``address`` keeps."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, address],
        env=environment | {"RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=ANSWER_SECONDS,
        check=False,
    )
    if done.returncode and "InvalidAuthToken" not in done.stderr:
        raise RuntimeError(done.stderr or f"exit code {done.returncode}")
    return done.returncode == 0


def _listening() -> list[tuple[str, int]]:
    """Addresses and ports at which the processes that this one has started listen."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            ends = process.net_connections(kind="inet")
            found += [(end.laddr.ip, end.laddr.port) for end in ends if end.status == psutil.CONN_LISTEN]
    return found


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.removeprefix("::ffff:")).is_loopback
    except ValueError:
        return host == "localhost"


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return False
    return True


# How many comparisons at a time pay


class Measured(NamedTuple):
    """Samples a second that so many comparisons at a time train together; none where there was no time for it.

    ``cores`` is how many each number of comparisons shared, on a CPU; on a GPU it is None.
    """

    rates: Mapping[int, float]
    cores: int | None


def measure(experiment: Experiment) -> Measured | None:
    """Train the experiment's own settings on this machine for some seconds, several at a time; None if it cannot."""
    gpu = torch.cuda.is_available()
    if experiment.resources.gpu and not gpu:
        return None
    shared = max(number for number in PACKED if number <= cluster.available_cpus())
    shares = {n: experiment.resources.cpu if gpu else shared // n for n in PACKED if gpu or n <= shared}
    runtime = preflight.runtime(experiment, "cuda" if gpu else "cpu")
    config = TrialConfig.from_dotted(experiment.trial)
    try:
        return Measured(throughputs(config, runtime, shares, SPAN_SECONDS, MEASURE_SECONDS), None if gpu else shared)
    except TimeoutError:
        return Measured({}, None if gpu else shared)


def packing(measured: Measured | None, resources: Resources) -> Finding:
    """Whether the experiment runs as many comparisons at a time as pay."""
    if measured is None:
        return Finding("ok", "packing", "not measured where there is no GPU")
    rates, cores = measured
    if not rates:
        text = f"not measured: some updates of this comparison were not done in {MEASURE_SECONDS:g} s"
        return Finding("warning", "packing", text, "an idle machine; a smaller batch or model; a GPU")
    each = {number: "to a GPU" if cores is None else f"of resources.cpu {cores // number}" for number in rates}
    told = ", ".join(f"{rate:,.0f} with {number} {each[number]}" for number, rate in rates.items())
    text = f"samples a second in training: {told}"
    if not any(rates.values()):
        return Finding("error", "packing", "one comparison does not fit on the GPU", "a smaller batch_size or model")
    best = fewest(rates)
    if cores is None:
        chosen, remedy = int(1 / resources.gpu) if resources.gpu else 0, f"--set resources.gpu={1 / best:g}"
    else:
        chosen, remedy = max(cores // resources.cpu, 1), f"--set resources.cpu={cores // best}"
    alike = max((number for number in rates if number <= chosen), default=0)
    pays = rates.get(alike, 0) >= (1 - MARGIN) * max(rates.values())
    return Finding("ok", "packing", text) if pays else Finding("warning", "packing", text, remedy)


def fewest(rates: Mapping[int, float]) -> int:
    """The fewest comparisons at a time that train together as many samples a second as any number does, or almost."""
    return min(number for number, rate in rates.items() if rate >= (1 - MARGIN) * max(rates.values()))


def throughputs(
    config: TrialConfig,
    runtime: Runtime,
    shares: Mapping[int, int],
    span: float,
    limit: float,
) -> dict[int, float]:
    """Samples a second that so many comparisons train together.

    Arguments:
        shares: for each number of comparisons to try, the threads of each; a number that the GPU cannot hold counts 0.
        span: seconds for each number.
        limit: seconds for everything.

    Raises:
        TimeoutError: there was not time enough; nothing goes on.
    """
    deadline = time.monotonic() + limit
    with ExitStack() as stack:
        pipes = [stack.enter_context(_trainer(config, runtime)) for _ in range(max(shares))]
        for pipe in pipes:  # one after the other: what the first ones need is theirs
            pipe.send((1, 0.0))
            _answer(pipe, deadline)
        rates = {}
        for number, share in sorted(shares.items()):
            for pipe in pipes[:number]:
                pipe.send((share, span))
            own = [_answer(pipe, deadline) for pipe in pipes[:number]]
            rates[number] = sum(own) if all(own) else 0.0
        return rates


@contextmanager
def _trainer(config: TrialConfig, runtime: Runtime) -> Iterator[Connection]:
    """A process that trains whenever it is sent a number of threads and of seconds, and answers with its rate."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_train, args=(theirs, config, runtime), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        process.kill()
        process.join()


def _answer(pipe: Connection, deadline: float) -> float:
    if not pipe.poll(max(deadline - time.monotonic(), 0)):
        raise TimeoutError
    try:
        answer = pipe.recv()
    except EOFError:
        raise RuntimeError("a process that trained was ended, as when memory is short") from None
    if isinstance(answer, Exception):
        raise answer
    return float(answer)


def _train(pipe: Connection, config: TrialConfig, runtime: Runtime) -> None:
    arm = None
    while True:
        threads, seconds = pipe.recv()
        try:
            arm = arm or next(one for one in prepare(config, runtime).arms if one.name == config.baseline)
            pipe.send(_rate(arm, threads, seconds))
        except torch.OutOfMemoryError:
            pipe.send(0.0)
        except Exception as error:
            pipe.send(error)


class _TimeIsUp(Exception):
    pass


def _rate(arm: Arm, threads: int, seconds: float) -> float:
    """Samples a second that an arm trains on; at least one batch."""
    torch.set_num_threads(threads)
    samples, began = 0, time.perf_counter()

    def feed(views: Any) -> Any:
        nonlocal samples
        if samples and time.perf_counter() - began > seconds:
            raise _TimeIsUp
        samples += len(views)
        return arm.feed(views)

    with contextlib.suppress(_TimeIsUp):
        for epoch in count(1):
            train_epoch(epoch, arm.sampler, arm.probe, feed, arm.model, arm.optimizer, Stopwatch(arm.device))
    if arm.device.type == "cuda":
        torch.cuda.synchronize()
    return samples / (time.perf_counter() - began)


# How numbers are told


def size(count: float) -> str:
    """Bytes as people say them."""
    unit, name = next(
        (unit, name)
        for unit, name in ((GIBIBYTE, "GiB"), (MEBIBYTE, "MiB"), (KIBIBYTE, "KiB"))
        if count >= unit or name == "KiB"
    )
    return f"{count / unit:.1f} {name}"


def _amount(limit: float) -> str:
    return "unlimited" if limit == inf else f"{limit:,.0f}"
