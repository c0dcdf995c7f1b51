"""The suite ``search``: the epochs that ASHA and Optuna need to find what a full grid finds.

The grid is trained once, on several seeds; then searches over it are replayed. Each seed is a search's own in turn, and
the *confirmed gap* of a configuration is the mean of its objective after the last epoch over the other seeds, which
that search never sees. The objective is the search's: a win over a baseline that has not learned counts for nothing.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median
from typing import Any

import pandas as pd

from analysis.tuning import cells
from study.bench import Figure, amount
from study.bench.replay import WORKERS, Curve, Moment, Table, label, replay
from study.experiment import Experiment, Scheduler, Search, from_document
from trainables.comparison import prepare, report
from trainables.config import Runtime, TrialConfig
from trainables.records import SIDES

SUITE = "search"
LIMIT = 0.25
WITHIN = 0.005
ROUNDING = 1e-9
NEVER = 2.0
"""What a search counts as that never comes as near for the grid's epochs: more than 1, and finite for the quartiles."""


def experiment(epochs: int = 16) -> Experiment:
    """The grid of 96 configurations: SGD and FCNet100 of the quickstart, with its objective and early stopping."""
    return from_document(
        "bench",
        {
            "about": {"title": "Bench", "question": "How many epochs does a search save?"},
            "dataset": {"name": "mnist5k", "validation_fraction": 0.2},
            "model": {"name": "FCNet100"},
            "optimizer": {"name": "SGD"},
            "epochs": epochs,
            "space": {
                "optimizer.lr": {"choice": [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2]},
                "optimizer.momentum": {"choice": [0.0, 0.5, 0.9]},
                "batch_size": {"choice": [32, 64, 128, 256]},
            },
            "objective": {"metric": "gap/validation_accuracy", "baseline_floor": 0.8},
            "search": {"name": "grid"},
            "scheduler": {
                "name": "asha",
                "metric": "filtered/validation_accuracy",
                "grace_period": 4,
                "reduction_factor": 2,
            },
        },
    )


def suite(
    table: Path | None = None, grid: Experiment | None = None, seeds: int = 6, searches: int = 5, top: int = 5
) -> Iterator[Figure]:
    """The figures of the search; about ten minutes on two CPU cores, nearly all of them for training the grid.

    Arguments:
        table: a file in which the trained grid is kept, and which is read first; None: it is not kept.
        grid: an experiment with a space of choices, and with the objective and early stopping of the searches over it.
        seeds: on which every configuration is trained; each is the search's own once, and the others confirm.
        searches: on each of these seeds, with other seeds of the searcher.
        top: configurations that are confirmed, of which the best counts: so many as ``filter-study confirm`` does.

    Raises:
        ValueError: there are fewer than two seeds, or no searches.
    """
    if seeds < 2 or searches < 1:
        raise ValueError(f"{seeds} seeds and {searches} searches; at least two seeds and a search on each are needed")
    grid = grid or experiment()
    with tempfile.TemporaryDirectory(prefix="filter-study-bench-") as folder:
        trained = train(grid, range(seeds), table or Path(folder) / "grid.jsonl")
    yield from figures(grid, trained, range(seeds), searches, top)


def figures(grid: Experiment, table: Table, seeds: Sequence[int], searches: int, top: int) -> Iterator[Figure]:
    """What searches over a trained grid spend until they are near its best, and where a quarter of its epochs leads."""
    labels = [label(config) for config in grid.configurations or ()]
    whole = len(labels) * grid.longest
    gaps = {seed: confirmed(grid, table, labels, seed, seeds) for seed in seeds}
    best = {seed: max(gaps[seed].values()) for seed in seeds}
    own, alone = (
        [best[seed] - answer(ranked(grid, table, labels, seed)[:few], gaps[seed]) for seed in seeds] for few in (top, 1)
    )
    cost = confirmations(grid, top) * (len(seeds) - 1) * grid.longest
    for name, search, scheduler, limit in (
        ("ASHA + Optuna", Search(name="optuna", trials=whole), grid.scheduler, LIMIT),
        ("random search with ASHA", Search(name="random", trials=whole), grid.scheduler, None),
        ("random search, none stopped", Search(name="random", trials=whole), Scheduler(), None),
    ):
        spent, missed, firsts = [], [], 0
        for seed, number in product(seeds, range(searches)):
            drawn = search.model_copy(update={"seed": seed * searches + number})
            searching = grid.model_copy(update={"search": drawn, "scheduler": scheduler})
            moments = replay(searching, table, seed, whole, top)
            spent.append(near(moments, gaps[seed], best[seed] - WITHIN))
            firsts += near([Moment(m.spent, m.best[:1]) for m in moments], gaps[seed], best[seed] - WITHIN) is not None
            missed.append(100 * (best[seed] - answer(standing(moments, int(LIMIT * whole)), gaps[seed])))
        ratios = [NEVER if epochs is None else epochs / whole for epochs in spent]
        yield amount(
            SUITE,
            f"epochs until within {WITHIN} of the full grid's best confirmed gap / the grid's epochs: {name}",
            ratios,
            "×",
            f"grid {len(labels)} × {grid.longest} = {whole} epochs, best {100 * median(best.values()):+.2f} pp; "
            f"{sum(epochs is not None for epochs in spent)} of {len(spent)} searches get there, {firsts} with their "
            f"first alone, the others count as {NEVER:g}; with the {cost} epochs at most that confirm the best "
            f"{top} and each arm's best in their problems, on both sides: "
            f"{(median(ratios) * whole + cost) / (whole + cost):.2f}",
            "at most" if limit else None,
            limit,
        )
        yield amount(
            SUITE,
            f"confirmed gap below the full grid's best after {LIMIT:g} of its epochs: {name}",
            missed,
            "pp",
            f"the best {top} of the full grid on the search's seed: {100 * median(own):.2f} pp below; the first alone: "
            f"{100 * median(alone):.2f}",
        )


def confirmations(grid: Experiment, top: int) -> int:
    """How many configurations ``filter-study confirm`` runs at most: the best, and two in each of their problems."""
    whole = [TrialConfig.from_dotted(config).to_dotted() for config in grid.configurations or ()]
    return top + len(SIDES) * min(top, cells(pd.DataFrame(whole)).nunique())


def confirmed(
    grid: Experiment, table: Table, labels: Iterable[str], seed: int, seeds: Iterable[int]
) -> dict[str, float]:
    """Of each configuration, the mean objective after the last epoch over all ``seeds`` but the search's own.

    It is -1, the worst of gaps, of one that has not finished on each of them.
    """
    fresh = [other for other in seeds if other != seed]
    found = {}
    for name in labels:
        ends = [last(grid, table[name, other]) for other in fresh]
        found[name] = mean(ends) if all(map(math.isfinite, ends)) else -1.0
    return found


def ranked(grid: Experiment, table: Table, labels: Iterable[str], seed: int) -> list[str]:
    """The configurations that finish on a seed, the best on it first: what the full grid would have confirmed."""
    ends = {name: last(grid, table[name, seed]) for name in labels}
    return sorted((name for name, end in ends.items() if math.isfinite(end)), key=lambda name: -ends[name])


def answer(best: Sequence[str], gaps: Mapping[str, float]) -> float:
    """The best confirmed gap of what is confirmed; -1, the worst of gaps, of nothing."""
    return max((gaps[name] for name in best), default=-1.0)


def last(grid: Experiment, curve: Curve) -> float:
    """The objective at the end of a comparison; NaN where it has not come to its last epoch."""
    if curve.status != "finished":
        return math.nan
    return grid.objective.values(curve.at(curve.epochs), TrialConfig.from_dotted(grid.fixed).baseline)[0]


def near(moments: Iterable[Moment], gaps: Mapping[str, float], enough: float) -> int | None:
    """Epochs spent when a search's answer reaches ``enough`` to stay there until the search's end; None: never.

    A search that is near, and picks later what only looks better on its seed, has not come near for good: whoever runs
    it could not know when to stop.
    """
    since: int | None = None
    for moment in moments:
        if answer(moment.best, gaps) < enough - ROUNDING:
            since = None
        elif since is None:
            since = moment.spent
    return since


def standing(moments: Iterable[Moment], spent: int) -> tuple[str, ...]:
    """What a search would confirm that has spent so many epochs."""
    return next((moment.best for moment in reversed([*moments]) if moment.spent <= spent), ())


def train(grid: Experiment, seeds: Iterable[int], file: Path, workers: int = WORKERS) -> Table:
    """Train what ``file`` lacks of the grid on these seeds, in so many processes of one thread each; the whole table.

    A comparison that ends is added to the file at once, as a line of JSON, so that a training that broke off goes on
    where it was. What the file has of other grids stays there. It is of the program's version that has trained it.
    Progress goes to stderr.
    """
    known = read(file)
    configs = [{**config, "seed": seed} for seed in seeds for config in grid.configurations or ()]
    todo = [config for config in configs if (label(config), config["seed"]) not in known]
    if not todo:
        return known
    with file.open("a", encoding="utf-8") as lines, get_context("spawn").Pool(workers) as pool:
        for number, line in enumerate(pool.imap_unordered(_trained, todo), 1):
            print(line, file=lines, flush=True)
            if number * 20 // len(todo) > (number - 1) * 20 // len(todo):
                print(f"search: {number} of {len(todo)} comparisons trained", file=sys.stderr, flush=True)
    return read(file)


def read(file: Path) -> dict[tuple[str, int], Curve]:
    """The comparisons in a file of :func:`train`; none where there is no file."""
    if not file.is_file():
        return {}
    known = {}
    for line in file.read_text("utf-8").splitlines():
        held = json.loads(line)
        known[held["configuration"], held["seed"]] = Curve(held["status"], held["metrics"])
    return known


def _trained(config: Mapping[str, Any]) -> str:
    """A comparison from its start to its end, as a line of the file: accuracies alone."""
    trial = TrialConfig.from_dotted(config)
    comparison = prepare(trial, Runtime(device="cpu", threads=1))
    comparison.step()  # epoch 0: nothing is trained
    metrics: dict[str, list[float]] = {}
    while not comparison.done:
        for name, value in report(comparison.step(), trial.baseline, trial.treatment).items():
            if name.endswith("_accuracy"):
                metrics.setdefault(name, []).append(value)
    return json.dumps(
        {"configuration": label(config), "seed": trial.seed, "status": comparison.status, "metrics": metrics}
    )
