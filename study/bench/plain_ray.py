"""What a user would write instead of a study: plain Ray Tune, a function trainable, and Tune's default loggers.

``python -m study.bench.plain_ray FILE N`` trains the first N comparisons of an experiment file, and prints the seconds
from the call of ``fit`` to its return. Ray starts as a study's does, on loopback and with a token.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from study import cluster
from study.bench.engine import configurations
from study.limits import available_cpus


def trainable(config: Mapping[str, Any]) -> None:
    """One comparison, reported epoch by epoch."""
    from ray import tune

    from trainables.comparison import prepare, report
    from trainables.config import Runtime, TrialConfig

    trial = TrialConfig.from_dotted(config["trial"])
    comparison = prepare(trial, Runtime(device="cpu", threads=1))
    comparison.step()
    while not comparison.done:
        tune.report(report(comparison.step(), trial.baseline, trial.treatment))


def fit(configs: list[dict[str, Any]], folder: Path) -> float:
    """Seconds that Tune takes for the comparisons, on the Ray that was started.

    Raises:
        RuntimeError: a comparison failed.
    """
    from ray import tune

    from study.bench import wall_seconds

    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={"trial": tune.grid_search(configs)},
        run_config=tune.RunConfig(name="plain", storage_path=str(folder)),
    )
    results: list[Any] = []
    seconds = wall_seconds(lambda: results.append(tuner.fit()))
    if results[0].num_errors:
        raise RuntimeError(f"{results[0].num_errors} of {len(configs)} comparisons failed under plain Ray Tune")
    return seconds


def main(file: Path, count: int) -> None:
    """Train the first ``count`` comparisons of ``file`` and print the seconds; what Tune prints goes elsewhere."""
    printed = os.dup(1)
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory() as folder, cluster.local_ray(available_cpus(), 0):
        seconds = fit(configurations(file)[:count], Path(folder))
    os.write(printed, f"{seconds}\n".encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
