"""Of the suite ``study``: what the engine's driver costs where training costs nothing.

``python -m study.bench.driver FILE FOLDER`` runs the study of an experiment file with comparisons that report at once,
and prints what its driver took on the way as JSON. All else is what ``filter-study run`` has: Ray, the record, W&B's
files, search, early stopping, checkpoints after every epoch. Every comparison does equally well, so that early
stopping, which hears of every epoch, stops none.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import linear_regression, median
from time import perf_counter, process_time
from typing import Any, Literal, NamedTuple

import psutil
import torch

from study.bench import Figure, amount, ratio
from study.bench.engine import SUITE, WORKERS, command
from study.display import NoDisplay
from trainables import documents
from trainables.checkpoints import HANG
from trainables.config import TrialConfig
from trainables.records import COLUMNS, KEYS, TELEMETRY, Row
from trainables.tune import ComparisonTrainable

Mode = Literal["disabled", "offline"]
Proposed = Literal["tpe", "random"]
NAMES: dict[Proposed, str] = {"tpe": "TPE", "random": "random search"}
MEBIBYTE = 2**20
READINGS = 400
KEPT = 2
FLAT = 1.2
GROWTH_MIB = 8.0
PEAK_MIB = 1024.0
GPU_TELEMETRY = tuple(column.name for column in TELEMETRY if column.name.startswith("gpu_"))


class Reading(NamedTuple):
    """What the driver has taken after so many reports; seconds, and bytes that are in memory or on disk."""

    reports: int
    seconds: float
    cpu: float
    memory: int
    checkpoints: int
    checkpoint_bytes: int


def suite(trials: int = 2000, reports: int = 10, offline: int = 500, rounds: int = 1) -> Iterator[Figure]:
    """The figures of the driver: without W&B, and with its files; about four minutes on two CPU cores.

    Arguments:
        trials: comparisons under ASHA, once proposed by Optuna's TPE, which looks at all earlier ones, once at random.
        reports: of each comparison, one an epoch.
        offline: comparisons with W&B's files, which take the longest to open and close; proposed by TPE.
        rounds: how often each study is run.

    Raises:
        RuntimeError: the study failed; its last lines of output say why.
        ValueError: there are too few reports to be quartered.
    """
    studies: tuple[tuple[int, Mode, Proposed], ...] = (
        (trials, "disabled", "tpe"),
        (trials, "disabled", "random"),
        (offline, "offline", "tpe"),
    )
    for number, mode, proposed in studies:
        runs = [measured(number, reports, mode, proposed) for _ in range(rounds)]
        yield from figures(runs, f"{number:,} × {reports} reports, {NAMES[proposed]}, W&B {mode}")


def figures(runs: Sequence[Sequence[Reading]], what: str) -> list[Figure]:
    """The figures of some runs of the same study, each as its readings."""
    first, last = zip(*(ends(run) for run in runs), strict=True)
    whole = [1000 * per_report(run[0], run[-1], "cpu") for run in runs]
    peaks = [max(reading.memory for reading in run) / MEBIBYTE for run in runs]
    most = [max(reading.checkpoints for reading in run) for run in runs]
    bytes_kept = median(max(reading.checkpoint_bytes for reading in run) for run in runs)
    left = median(run[-1].checkpoints for run in runs)
    rates = [1 / per_report(run[0], run[-1], "seconds") for run in runs]
    return [
        ratio(
            SUITE,
            f"driver's CPU time a report, last quarter / first: {what}",
            last,
            first,
            f"first {median(first):.2f} ms, last {median(last):.2f} ms",
            "at most",
            FLAT,
        ),
        amount(SUITE, f"driver's CPU time a report: {what}", whole, "ms", "free training, checkpoints every epoch"),
        amount(
            SUITE,
            f"driver's memory, growth over 1,000 reports: {what}",
            [growth(run) / MEBIBYTE for run in runs],
            "MiB",
            f"{median(run[0].memory for run in runs) / MEBIBYTE:.0f} MiB at the first report",
            "at most",
            GROWTH_MIB,
        ),
        amount(SUITE, f"driver's memory, most: {what}", peaks, "MiB", "resident", "at most", PEAK_MIB),
        amount(
            SUITE,
            f"checkpoints on disk, most: {what}",
            most,
            "files",
            f"{bytes_kept / 1024:.0f} KiB; {left:.0f} files at the end; {KEPT} kept of each of {WORKERS} that train, "
            "and one being written",
            "at most",
            WORKERS * (KEPT + 1),
        ),
        amount(SUITE, f"reports a second: {what}", rates, "/s", f"{WORKERS} workers, the driver on the same cores"),
    ]


def per_report(before: Reading, after: Reading, what: Literal["cpu", "seconds"]) -> float:
    """Seconds that a report between two readings took, of the driver's CPU time or of the clock on the wall."""
    return float((getattr(after, what) - getattr(before, what)) / (after.reports - before.reports))


def ends(readings: Sequence[Reading]) -> tuple[float, float]:
    """Milliseconds of CPU time a report in the first and in the last quarter of the reports.

    Raises:
        ValueError: there are fewer than five readings.
    """
    if len(readings) < 5:
        raise ValueError(f"{len(readings)} readings cannot be quartered; at least five are needed")
    quarter = (len(readings) - 1) // 4
    first, last = (readings[0], readings[quarter]), (readings[-1 - quarter], readings[-1])
    return 1000 * per_report(*first, "cpu"), 1000 * per_report(*last, "cpu")


def growth(readings: Sequence[Reading]) -> float:
    """Bytes that memory grows by over 1,000 reports: the slope of a line through all but the first quarter."""
    settled = readings[len(readings) // 4 :]
    line = linear_regression([reading.reports for reading in settled], [reading.memory for reading in settled])
    return 1000 * line.slope


def experiment(trials: int, reports: int, mode: Mode, proposed: Proposed) -> dict[str, Any]:
    """The experiment file of so many comparisons of so many epochs: quickstart's space and ASHA."""
    search = {"name": "optuna", "sampler": "tpe"} if proposed == "tpe" else {"name": "random"}
    return {
        "about": {"title": "Driver", "question": "What does the driver cost?"},
        "dataset": {"name": "mnist5k", "validation_fraction": 0.2},
        "model": {"name": "FCNet10"},
        "batch_size": 64,
        "optimizer": {"name": "SGD", "lr": 0.05, "momentum": 0.9},
        "epochs": reports,
        "space": {
            "model.name": {"choice": ["FCNet10", "FCNet50"]},
            "batch_size": {"choice": [32, 64, 128, 256]},
            "optimizer.name": {"choice": ["SGD", "Adam"]},
            "optimizer.lr": {"loguniform": [0.0005, 0.2]},
            "optimizer.momentum": {"uniform": [0.0, 0.95], "when": {"optimizer.name": "SGD"}},
            "schedule.name": {"choice": ["none", "cosine"]},
        },
        "search": {**search, "trials": trials},
        "scheduler": {"name": "asha"},
        "resources": {"cpu": 1},
        "recovery": {"checkpoint_seconds": 0, "checkpoints": KEPT},
        "wandb": {"mode": mode},
    }


def measured(trials: int, reports: int, mode: Mode, proposed: Proposed) -> list[Reading]:
    """Run the study in a process of its own; its driver's readings.

    Raises:
        RuntimeError: it failed.
    """
    with tempfile.TemporaryDirectory(prefix="filter-study-bench-") as name:
        file = Path(name) / "driver.yaml"
        file.write_text(documents.dump(experiment(trials, reports, mode, proposed)), "utf-8")
        told = command("study.bench.driver", str(file), str(Path(name) / "study"))
    return [Reading(*reading) for reading in json.loads(told.splitlines()[-1])]


class Free:
    """A comparison of which every step is done already; see :class:`trainables.comparison.Comparison`."""

    chance = 0.1
    reason = None
    note = None

    def __init__(self, config: TrialConfig) -> None:
        self.config = config
        self.epoch = -1

    @property
    def done(self) -> bool:
        """Whether the last epoch has been reported."""
        return self.epoch >= self.config.epochs

    @property
    def status(self) -> str:
        """``running`` or ``finished``."""
        return "finished" if self.done else "running"

    def step(self) -> list[Row]:
        """A row of every arm, with every column that a machine without GPU fills."""
        self.epoch += 1
        return [row(arm, self.epoch) for arm in self.config.arms]

    def trace(self) -> list[Row]:
        """No updates."""
        return []

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"config": self.config.model_dump(mode="json"), "epoch": self.epoch}


def row(arm: str, epoch: int) -> Row:
    """The row that an arm leaves after an epoch: all arms learn alike, and none perfectly."""
    learned = 1 - 0.9 * math.exp(-epoch)
    values: Row = {column.name: learned if column.type == "float" else 100 * epoch for column in COLUMNS[len(KEYS) :]}
    return {**values, **dict.fromkeys(GPU_TELEMETRY), "arm": arm, "epoch": epoch}


class FreeTrainable(ComparisonTrainable):
    """The engine's own trainable, of which only the training is left out."""

    def _continued(self) -> Free:
        return Free(self.trial)


class Meter(NoDisplay):
    """Reads the driver's clocks, memory and checkpoints after every so many reports."""

    def __init__(self, every: int, checkpoints: Path) -> None:
        self.readings: list[Reading] = []
        self._every = every
        self._checkpoints = checkpoints
        self._process = psutil.Process()
        self._reports = 0

    def epoch(self) -> None:
        """Count a report."""
        self._reports += 1
        if self._reports == 1 or self._reports % self._every == 0:
            self.read()

    def read(self) -> None:
        """Take a reading."""
        sizes = [_bytes(file) for file in self._checkpoints.glob("*/*") if file.name != HANG]
        self.readings.append(
            Reading(
                self._reports, perf_counter(), process_time(), self._process.memory_info().rss, len(sizes), sum(sizes)
            )
        )


def _bytes(file: Path) -> int:
    """Its size; 0 if it has just been removed."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def main(file: Path, folder: Path) -> list[Reading]:
    """Run the study of an experiment file in ``folder``; its driver's readings."""
    from study import folder as folders
    from study import runner, storage
    from study.experiment import load

    loaded = load(str(file))
    torch.set_num_threads(1)
    meter = Meter(max(loaded.trials * loaded.longest // READINGS, 1), folder / storage.CHECKPOINTS)
    with folders.locked(folders.made(folder)):
        folders.create(folder, loaded)
        statuses = runner.run(loaded, folder, meter, print, trainable=FreeTrainable)
    if statuses != {"finished": loaded.trials}:
        raise RuntimeError(f"of {loaded.trials} comparisons all were to finish: {dict(statuses)}")
    return meter.readings


if __name__ == "__main__":
    from study.bench import driver  # by its own name, under which workers import it

    print(json.dumps(driver.main(Path(sys.argv[1]), Path(sys.argv[2]))))
