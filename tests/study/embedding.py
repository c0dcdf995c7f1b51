"""A program that embeds studies, as a notebook or a service does: prints what it saw as JSON. Its own process, for Ray.

Arguments: the folder of another checkout, a folder for studies.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import ray  # before study, as in a program that has used Ray for long

from study import folder, runner
from study.display import NoDisplay
from study.experiment import Experiment, from_document
from study.source import SourceError
from tests.study.conftest import SMALL


class Impatient(NoDisplay):
    """Wants no more after the first epoch."""

    def epoch(self) -> None:
        raise KeyboardInterrupt


def study(name: str, folder_of_all: Path, **sections: Any) -> tuple[Experiment, Path]:
    made = from_document(name, {**SMALL, **sections})
    folder.create(folder_of_all / name, made)
    return made, folder_of_all / name


def surroundings() -> dict[str, Any]:
    """What a study must leave as it was."""
    handlers = [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    return {**os.environ, "handlers": handlers, "level": logging.getLogger("ray.tune").level}


def in_thread(experiment: Experiment, place: Path) -> dict[str, int]:
    """Statuses of a study that is run by another thread."""
    found: list[dict[str, int]] = []
    thread = threading.Thread(target=lambda: found.append(dict(runner.run(experiment, place, NoDisplay()))))
    thread.start()
    thread.join()
    return found[0]


async def in_loop(experiment: Experiment, place: Path) -> dict[str, int]:
    """Statuses of a study that is run by a cell of a notebook: while an event loop runs."""
    await asyncio.sleep(0)
    return dict(runner.run(experiment, place, NoDisplay()))


def main(foreign: Path, studies: Path) -> None:
    seen: dict[str, Any] = {}
    os.chdir(foreign)
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        runner.run(*study("foreign", studies), NoDisplay())
    except SourceError as error:
        seen["foreign"] = str(error)
    ray.shutdown()
    os.chdir(studies)
    before = surroundings()
    seen["own"] = in_thread(*study("own", studies))
    seen["ended"] = not ray.is_initialized()
    seen["changed by one of its own"] = sorted(k for k, v in surroundings().items() if before.get(k) != v)
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    counter = ray.remote(num_cpus=0)(Counter).remote()
    before = surroundings()
    seen["shared"] = asyncio.run(in_loop(*study("shared", studies)))
    with contextlib.suppress(runner.Interrupted):
        runner.run(*study("interrupted", studies, epochs=1000), Impatient())
        seen["not interrupted"] = True
    seen["changed by a shared one"] = sorted(k for k, v in surroundings().items() if before.get(k) != v)
    seen["counter"] = ray.get(counter.add.remote())
    seen["free"] = ray.get(ray.remote(num_cpus=1)(lambda: "free").remote(), timeout=60)
    ray.shutdown()
    print(json.dumps(seen))


class Counter:
    """An actor of the program's own."""

    def __init__(self) -> None:
        self.count = 0

    def add(self) -> int:
        self.count += 1
        return self.count


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
