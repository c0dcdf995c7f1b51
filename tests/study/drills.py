"""What the drills share: a study in a process of its own that can be killed, and the tables it leaves."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import yaml

from study.limits import available_cpus
from study.recorder import FILENAME
from trainables.records import REPRODUCIBLE

PROGRAM = Path(sys.executable).with_name("filter-study")  # not python -m: a folder "study" here would be imported

GRID: dict[str, Any] = {
    "about": {"title": "Drill", "question": "Is anything lost?"},
    "dataset": {"samples_per_class": 60, "validation_fraction": 0.2},
    "model": {"name": "FCNet10"},
    "batch_size": 16,
    "epochs": 8,
    "space": {"optimizer.lr": {"choice": [0.01, 0.05, 0.1]}, "seed": {"choice": [0, 1]}},
    "objective": {"metric": "gap/validation_accuracy"},
    "search": {"name": "grid"},
    "scheduler": {
        "name": "asha",
        "metric": "filtered/validation_accuracy",
        "grace_period": 3,
        "reduction_factor": 2,
    },
    "recovery": {"checkpoint_seconds": 0},
    "wandb": {"mode": "disabled"},
    "resources": {"cpu": available_cpus()},  # one comparison at a time: what comes first is certain
}


def experiment(folder: Path, **sections: Any) -> Path:
    """An experiment file: :data:`GRID` with ``sections`` in place of its own."""
    file = folder / "drill.yaml"
    file.write_text(yaml.safe_dump({**GRID, **sections}))
    return file


def filter_study(*arguments: str | Path, cwd: Path, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run a command line to its end."""
    command = [PROGRAM, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)


class Driver:
    """A command line that runs beside the test, in the folder of its study."""

    def __init__(self, *arguments: str | Path, study: Path) -> None:
        self.study = study
        command = [PROGRAM, *map(str, arguments), "--no-report"]
        self.process = subprocess.Popen(
            command, cwd=study.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def until(self, reached: Callable[[sqlite3.Connection], bool], seconds: float = 200) -> Driver:
        """Wait for a state of the record."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.process.communicate()
            if (self.study / FILENAME).is_file():
                try:
                    if reached_in(self.study, reached):
                        return self
                except sqlite3.OperationalError:  # the tables are about to be made
                    pass
            time.sleep(0.02)
        raise AssertionError("the study did not get there")

    def until_epochs(self, count: int) -> Driver:
        """Wait for so many reports."""
        return self.until(lambda c: c.execute("SELECT count(*) FROM reports").fetchone()[0] >= count)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> tuple[str, str]:
        """Send a signal, and wait until it and all its children are gone; output and errors."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        os.kill(self.process.pid, number)
        output = self.end()
        deadline = time.monotonic() + 120
        while alive := [process for process in children if _runs(process)]:
            assert time.monotonic() < deadline, alive
            time.sleep(0.1)
        return output

    def kill_child(self, part: str) -> None:
        """``kill -9`` of every descendant whose command line has this part."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        found = [child for child in children if part in " ".join(command_line(child))]
        assert found, part
        for process in found:
            process.kill()

    def end(self, seconds: float = 240) -> tuple[str, str]:
        """Wait for its end; output and errors."""
        return self.process.communicate(timeout=seconds)


def command_line(process: psutil.Process) -> list[str]:
    """Its command line; empty where it has just ended, or waits to be reaped."""
    try:
        return list(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


def _runs(process: psutil.Process) -> bool:
    """Whether it is alive; two idle agents of Ray's take a minute or two to see that its head is gone."""
    try:
        agent = process.name() in ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE and not agent
    except psutil.Error:
        return False


def reached_in(study: Path, reached: Callable[[sqlite3.Connection], bool]) -> bool:
    """Whether the record is in a state, read as any other process could."""
    with closing(sqlite3.connect(f"file:{study / FILENAME}?mode=ro", uri=True)) as connection:
        return reached(connection)


def tables(study: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What two runs of a study must have in common: its trials, and its epochs' reproducible columns."""
    with closing(sqlite3.connect(study / FILENAME)) as connection:
        trials = pd.read_sql(
            "SELECT number, trial_id, status, error, objective FROM trials ORDER BY number", connection
        )
        epochs = pd.read_sql("SELECT * FROM epochs", connection)
    key = ["trial_id", "epoch", "arm"]
    return trials, epochs[["trial_id", *REPRODUCIBLE]].sort_values(key, ignore_index=True)


def assert_same(study: Path, undisturbed: Path) -> None:
    """Both studies hold the same, bit for bit, with neither holes nor duplicates."""
    for ours, theirs in zip(tables(study), tables(undisturbed), strict=True):
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    _, epochs = tables(study)
    lengths = epochs.groupby(["trial_id", "arm"])["epoch"].agg(["size", "nunique", "max"])
    assert (lengths["size"] == lengths["max"] + 1).all()
    assert (lengths["size"] == lengths["nunique"]).all()
