"""Of the suite ``study``: what a study pays once, before its first comparison and after its last.

``python -m study.bench.starts driver`` and ``… worker`` each print, as JSON, the seconds of one process's parts.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from statistics import median
from time import perf_counter

from study.bench import Figure, amount
from study.bench.engine import SUITE, WORKERS, command, experiment

Parts = dict[str, float]


def figures(rounds: int = 3) -> Iterator[Figure]:
    """The figures of both processes, one after the other; under a minute.

    Raises:
        RuntimeError: one of the processes failed.
    """
    for process in PROCESSES:
        runs = [json.loads(command("study.bench.starts", process).splitlines()[-1]) for _ in range(rounds)]
        for part in runs[0]:
            yield amount(SUITE, f"paid once: {part}", [run[part] for run in runs], "s", f"one {process} alone")


def driver() -> Parts:
    """What the driver imports, and the Ray that it starts and ends; seconds."""
    parts: Parts = {}
    begun = perf_counter()
    cluster = import_module("study.runner").cluster
    parts["the driver's imports"] = perf_counter() - begun
    begun = perf_counter()
    with cluster.local_ray(WORKERS, 0):
        parts["Ray's start"] = perf_counter() - begun
        begun = perf_counter()
    parts["Ray's end"] = perf_counter() - begun
    return parts


def worker() -> Parts:
    """What a worker imports beyond Ray, with which it was started, and what its first comparison takes beyond the next.

    Seconds.
    """
    import_module("ray")
    parts: Parts = {}
    begun = perf_counter()
    import_module("trainables.tune")
    parts["a worker's imports"] = perf_counter() - begun
    from study.bench.engine import train
    from study.experiment import from_document

    (config,) = from_document("bench", experiment(1, 1)).configurations or []
    first, *others = [train(config) for _ in range(4)]
    parts["a worker's first comparison, beyond the next"] = first - median(others)
    return parts


PROCESSES: dict[str, Callable[[], Parts]] = {"driver": driver, "worker": worker}


if __name__ == "__main__":
    print(json.dumps(PROCESSES[sys.argv[1]]()))
