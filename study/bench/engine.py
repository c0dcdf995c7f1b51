"""The suite ``study``: what the study engine costs, beside a bare loop in processes and beside plain Ray Tune.

All three train the same comparisons, two at a time on two CPU cores, each with one thread. The engine is
``filter-study run``, the whole command: Ray's start, the record in SQLite, W&B's offline files, checkpoints; without
the tables and the report at its end. The bare loop starts two processes, which train and keep nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from study.bench import Block, Figure, amount, in_turn, ratio, wall_seconds
from trainables import documents

SUITE = "study"
WORKERS = 2
LOOP_LIMIT = 1.3
TUNE_LEAST = 8.0
LOG = "plain-ray.log"


def suite(comparisons: int = 64, plain: int = 16, epochs: int = 5, rounds: int = 3) -> Iterator[Figure]:
    """The figures of the study engine; about ten minutes on two CPU cores.

    Arguments:
        comparisons: under the engine and in the bare loop; FCNet100 on the embedded digits.
        plain: comparisons under plain Ray Tune, of which a minute's number is counted from its start to its end.
        epochs: of each comparison.
        rounds: how often each is run.

    Raises:
        RuntimeError: one of the commands failed; its last lines of output say why.
    """
    with tempfile.TemporaryDirectory(prefix="filter-study-bench-") as name:
        folder = Path(name)
        file = folder / "bench.yaml"
        file.write_text(documents.dump(experiment(comparisons, epochs)), "utf-8")
        kept = folder / "study"
        spans: list[float] = []
        bare: list[float] = []
        plain_spans: list[float] = []
        blocks = {
            "engine": Block(partial(_engine, file, kept, spans), partial(shutil.rmtree, kept, ignore_errors=True)),
            "loop": Block(lambda: bare.append(float(command("study.bench.engine", str(file))))),
            "plain": Block(lambda: plain_spans.append(float(command("study.bench.plain_ray", str(file), str(plain))))),
        }
        times = in_turn(blocks, wall_seconds, rounds, warm_up=0)
    yield ratio(
        SUITE,
        f"study engine / bare loop: {comparisons} comparisons",
        times["engine"],
        times["loop"],
        f"{WORKERS} processes, {median(times['loop']):.1f} s; engine {median(times['engine']):.1f} s, "
        f"{median(times['engine']) - median(spans):.1f} s of them before the first and after the last comparison",
        "at most",
        LOOP_LIMIT,
    )
    each = [span * WORKERS / comparisons for span in spans]
    yield ratio(
        SUITE,
        "seconds of a worker per comparison / in the bare loop, once all have started",
        each,
        bare,
        f"{median(bare):.2f} s of training; engine {median(each):.2f} s, what it takes of the workers' cores included",
    )
    ours = [comparisons / span * 60 for span in spans]
    theirs = [plain / span * 60 for span in plain_spans]
    yield ratio(
        SUITE,
        "comparisons a minute / plain Ray Tune's",
        ours,
        theirs,
        f"function trainable, default loggers, {median(theirs):.1f} a minute over {plain}; ours {median(ours):.1f}",
        "at least",
        TUNE_LEAST,
    )
    yield amount(
        SUITE,
        "most comparisons a minute that training alone leaves room for",
        [comparisons / time * 60 for time in times["loop"]],
        "/min",
        f"the bare loop in {WORKERS} processes",
    )


def experiment(comparisons: int, epochs: int) -> dict[str, Any]:
    """So many short comparisons as an experiment file: seeds of one configuration, so that all cost the same."""
    return {
        "about": {"title": "Bench", "question": "What does the study engine cost?"},
        "dataset": {"name": "mnist5k"},
        "model": {"name": "FCNet100"},
        "batch_size": 64,
        "optimizer": {"name": "SGD", "lr": 0.05},
        "epochs": epochs,
        "space": {"seed": {"choice": list(range(comparisons))}},
        "search": {"name": "grid"},
        "resources": {"cpu": 1},
    }


def command(module: str, *arguments: str) -> str:
    """What a module prints when it is run in a process of its own, on as many cores as there are workers.

    Raises:
        RuntimeError: it failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True, preexec_fn=_bind()
    )
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise RuntimeError(f"python -m {module} {' '.join(arguments)} ended with {done.returncode}:\n{said}")
    return done.stdout


def _bind() -> Callable[[], None] | None:
    """Keep a process on as many cores as there are workers, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))[:WORKERS]
    return lambda: os.sched_setaffinity(0, cores)


def _engine(file: Path, folder: Path, spans: list[float]) -> None:
    """Run the study; from the first comparison's start to the last one's end goes to ``spans``."""
    from analysis.load import load

    command("study", "run", str(file), "--dir", str(folder), "--no-report")
    trials = load(folder).trials
    if (lost := int((trials["status"] != "finished").sum())) > 0:
        raise RuntimeError(f"{lost} of {len(trials)} comparisons did not finish under the engine")
    spans.append(float(trials["ended"].max() - trials["started"].min()))


def configurations(file: Path) -> list[dict[str, Any]]:
    """The comparisons of an experiment file, as dotted keys."""
    from study.experiment import load

    return load(str(file)).configurations or []


def train(config: Mapping[str, Any]) -> float:
    """One comparison from its start to its end, nothing kept; its seconds."""
    from trainables.comparison import prepare
    from trainables.config import Runtime, TrialConfig

    began = perf_counter()
    comparison = prepare(TrialConfig.from_dotted(config), Runtime(device="cpu", threads=1))
    while not comparison.done:
        comparison.step()
    return perf_counter() - began


def bare_loop(configs: list[dict[str, Any]], workers: int) -> list[float]:
    """The same comparisons in so many processes, each taking the next one when it is free; the seconds of each."""
    with get_context("spawn").Pool(workers) as pool:
        return list(pool.imap_unordered(train, configs))


if __name__ == "__main__":
    print(median(bare_loop(configurations(Path(sys.argv[1])), WORKERS)))
