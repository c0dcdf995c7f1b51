"""The suite ``analysis``: reading, pairing and summarizing a large study's tables, in seconds and in memory.

The tables are made up, and of the form that ``filter-study export`` gives: every column, Parquet. The floor is pandas
reading the same files and doing nothing with them. Each measurement is a process of its own, so that its peak memory is
its own too.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from study.bench import Block, Figure, amount, in_turn, ratio

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

SUITE = "analysis"
ARMS = ("archetype", "filtered")
SECONDS = 15.0
GIGABYTES = 4.0
CHUNK = 500
METRICS = ("test_accuracy", "test_mean_loss", "test_worst_loss", "cumulative_compute")


def suite(comparisons: int = 10_000, epochs: int = 100, rounds: int = 3, seed: int = 0) -> Iterator[Figure]:
    """The figures of the analysis: two arms in every comparison, a row per epoch and one for epoch 0.

    Raises:
        RuntimeError: a measurement failed; its last line says why.
    """
    with tempfile.TemporaryDirectory(prefix="filter-study-bench-") as name:
        folder = Path(name)
        _process("generate", folder, str(comparisons), str(epochs), str(seed))
        reports: dict[str, list[dict[str, Any]]] = {"read": [], "floor": []}
        blocks = {part: Block(lambda part=part: reports[part].append(_process(part, folder))) for part in reports}  # type: ignore[misc]
        in_turn(blocks, lambda run: float(run() is None), rounds, warm_up=0)
        size = sum(file.stat().st_size for file in folder.glob("*.parquet")) / 1e9
    read, floor = reports["read"], reports["floor"]
    steps = {step: [report[step] for report in read] for step in ("load", "pair", "summarize")}
    total = [sum(report[step] for step in steps) for report in read]
    bare = [report["load"] for report in floor]
    parts = ", ".join(f"{step} {median(times):.2f} s" for step, times in steps.items())
    what = f"{comparisons:,} comparisons × {len(ARMS)} arms × {epochs} epochs"
    yield amount(SUITE, f"load, pair, summarize: {what}", total, "s", f"{parts}; {size:.2f} GB", "at most", SECONDS)
    yield amount(
        SUITE,
        f"peak memory: {what}",
        [report["peak"] / 1e9 for report in read],
        "GB",
        f"pandas' bare reading {median([report['peak'] for report in floor]) / 1e9:.2f} GB",
        "at most",
        GIGABYTES,
    )
    yield ratio(SUITE, f"load, pair, summarize / pandas' bare reading: {what}", total, bare, f"{median(bare):.2f} s")


def generate(folder: Path, comparisons: int, epochs: int, rng: np.random.Generator) -> None:
    """Write the tables ``trials`` and ``epochs`` of a made-up study into ``folder``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    trials = _trials(comparisons, epochs, rng)
    trials.to_parquet(folder / "trials.parquet", index=False)
    writer = None
    for start in range(0, comparisons, CHUNK):
        rows = _epochs(trials["trial_id"].iloc[start : start + CHUNK].tolist(), epochs, rng)
        part = pa.Table.from_pandas(rows, preserve_index=False)
        writer = writer or pq.ParquetWriter(folder / "epochs.parquet", part.schema)
        writer.write_table(part)
    if writer:
        writer.close()


def _trials(comparisons: int, epochs: int, rng: np.random.Generator) -> pd.DataFrame:
    """Configurations on two seeds each."""
    import numpy as np
    import pandas as pd

    number = np.arange(comparisons)
    choice = number // 2
    drawn = len(np.unique(choice))
    settings = {
        "dataset.name": np.full(drawn, "mnist5k"),
        "model.name": rng.choice(["FCNet100", "LeNet"], drawn),
        "batch_size": rng.choice([32, 64, 128, 256], drawn),
        "optimizer.name": rng.choice(["SGD", "Adam"], drawn),
        "optimizer.lr": 10 ** rng.uniform(-4, 0, drawn),
    }
    return pd.DataFrame(
        {
            "trial_id": [f"{i:05d}-{rng.integers(2**32):08x}" for i in number],
            "number": number,
            "configuration": [f"c{i}" for i in choice],
            "status": "finished",
            "error": pd.Series([None] * comparisons, dtype="string"),
            "started": 1.0,
            "ended": 100.0,
            "objective": rng.normal(size=comparisons),
            **{key: values[choice] for key, values in settings.items()},
            "epochs": epochs,
            "seed": number % 2,
            "baseline": ARMS[0],
            "treatment": ARMS[1],
        }
    )


def _epochs(trial_ids: list[str], epochs: int, rng: np.random.Generator) -> pd.DataFrame:
    """Every column of the epoch table: accuracies and losses along learning curves, the rest of the declared type."""
    import numpy as np
    import pandas as pd

    from trainables.records import COLUMNS

    each = epochs + 1
    rows = len(trial_ids) * len(ARMS) * each
    epoch = np.tile(np.arange(each), len(trial_ids) * len(ARMS))
    filtered = np.tile(np.repeat([0, 1], each), len(trial_ids))
    effect = filtered * np.repeat(rng.normal(0, 0.03, len(trial_ids)), len(ARMS) * each)
    accuracy = np.clip(0.1 + 0.85 * (1 - np.exp(-epoch / 10)) + effect + rng.normal(0, 0.01, rows), 0, 1)
    columns: dict[str, Any] = {
        "trial_id": np.repeat(trial_ids, len(ARMS) * each),
        "arm": np.tile(np.repeat(ARMS, each), len(trial_ids)),
        "epoch": epoch,
    }
    for column in COLUMNS[len(columns) :]:
        if column.name.endswith("accuracy"):
            columns[column.name] = accuracy + rng.normal(0, 0.005, rows)
        elif column.name.endswith("loss"):
            columns[column.name] = 2 * (1 - accuracy) + rng.exponential(0.1, rows)
        elif column.name.startswith("cumulative_"):
            columns[column.name] = epoch * (10 - 5 * filtered) * (1 if column.type == "int" else 1.0)
        else:
            columns[column.name] = rng.integers(0, 100, rows) if column.type == "int" else rng.uniform(0, 1, rows)
    return pd.DataFrame(columns)


def read(folder: Path) -> dict[str, float]:
    """Load, pair and summarize the study in ``folder``: the seconds of each."""
    from analysis.gaps import summarize
    from analysis.load import load
    from analysis.pairs import pair

    times = [perf_counter()]
    study = load(folder)
    times.append(perf_counter())
    pairs = pair(study)
    times.append(perf_counter())
    summarize(pairs.frame, METRICS)
    times.append(perf_counter())
    seconds = [end - begin for begin, end in pairwise(times)]
    return {**dict(zip(("load", "pair", "summarize"), seconds, strict=True)), "comparisons": len(pairs.frame)}


def floor(folder: Path) -> dict[str, float]:
    """Read the tables in ``folder`` with pandas: the seconds."""
    import pandas as pd

    begin = perf_counter()
    kept = [pd.read_parquet(folder / f"{name}.parquet") for name in ("trials", "epochs")]
    return {"load": perf_counter() - begin, "comparisons": len(kept[0])}


def peak_memory() -> int:
    """The most memory that this program has held, in bytes; where the system tells only of the process, its."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would count what the process was before it became this program
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _process(part: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """What a part of this module, run in a process of its own, says."""
    run = [sys.executable, "-m", "study.bench.tables", part, str(folder), *arguments]
    done = subprocess.run(run, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the part {part} of the suite ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def main(part: str, folder: Path, *arguments: str) -> None:
    """Do one part and print what it took as JSON."""
    if part == "generate":
        import numpy as np

        comparisons, epochs, seed = map(int, arguments)
        generate(folder, comparisons, epochs, np.random.default_rng(seed))
        told: dict[str, float] = {}
    else:
        told = {"read": read, "floor": floor}[part](folder)
    print(json.dumps({**told, "peak": peak_memory()}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
