"""What the sections of a report rest on: every way to pair that they need, worked out once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.budgets import accuracy_by_budget, clocks_of
from analysis.charts import thinned
from analysis.gap_charts import points
from analysis.gaps import amount, hyperparameters, p_value, summarize, telling
from analysis.importance import importances
from analysis.load import Study, TableError
from analysis.page import LEFT_OUT, Cell, Table
from analysis.pairs import STUDY, Pairs, pair, varied
from analysis.rules import Rules, rules
from analysis.stopped import Stopping, stopping
from analysis.tables import STATISTICS, gap_table
from trainables.records import BUILT_IN, SIDES, Columns, title

HEADLINE = "test_accuracy"
MAIN_METRICS = (
    "validation_accuracy",
    "test_accuracy",
    "test_mean_loss",
    "test_q90_loss",
    "test_worst_loss",
    "cumulative_train_seconds",
    "cumulative_seconds",
    "cumulative_compute",
)
DRAWN_METRICS = ("test_accuracy", "test_mean_loss", "test_q90_loss", "test_worst_loss")
MOST_RUNGS = 6
"""Epochs at which trials that were stopped are compared, at most."""
MOST_ARMS = 4
"""Further arms that the treatment is compared with, at most."""
MOST_KEYS = 16
"""Settings that gaps are grouped by, at most."""


@dataclass(frozen=True)
class Findings:
    """Every pairing of a study that the report shows, and what several sections take from these.

    Attributes:
        study: its tables.
        pairs: comparisons at the last epoch.
        stopping: what early stopping leaves out of these.
        best: comparisons at each arm's best epoch by validation accuracy; None where nothing is held out.
        clocks: comparisons at equal clocks, epochs first.
        others: for each further arm, treatment against it, and it against the baseline.
        rungs: comparisons at some epochs, if any trial was stopped.
        measured: the main metrics and the study's own that have a gap.
        importances: of the settings for the headline's gap.
        rules: that divide the headline's gap.
        keys: what to group by: the study where there are several, then settings, those that matter most first.
        dots: what charts of single comparisons are drawn from.
        note: what these leave out.
        budgets: what each arm reaches on test with each budget; without rows where the budget does not vary.
        seed: of all that is drawn at random.
    """

    study: Study
    pairs: Pairs
    stopping: Stopping
    best: Pairs | None
    clocks: Mapping[str, Pairs]
    others: Mapping[str, tuple[Pairs, Pairs]]
    rungs: Mapping[int, Pairs]
    measured: Sequence[str]
    importances: pd.DataFrame
    rules: Rules
    keys: Sequence[str]
    dots: pd.DataFrame
    note: str
    budgets: pd.DataFrame
    seed: int

    @property
    def frame(self) -> pd.DataFrame:
        """The comparisons at the last epoch."""
        return self.pairs.frame

    @property
    def names(self) -> tuple[str, str]:
        """The baseline and the treatment, by name."""
        baseline, treatment = (named(self.study.trials, side) for side in SIDES)
        return baseline, treatment


def find(study: Study, seed: int) -> Findings:
    """All pairings of ``study``; each is worked out once."""
    pairs = pair(study)
    frame = pairs.frame
    try:
        best = pair(study, at="best")
    except TableError:
        best = None
    clocks = {clock: pairs if clock == "epochs" else pair(study, clock=clock) for clock in clocks_of(study)}
    rungs = {epoch: pair(study, at=epoch) for epoch in _rungs(study)}
    others = {arm: (pair(study, against=arm), pair(study, treatment=arm)) for arm in _others(study)}
    matter = importances(frame, HEADLINE, seed)
    first = list(matter["key"]) or [key for key in [telling(frame, HEADLINE)] if key]
    several = [STUDY] if STUDY in varied(frame) else []
    keys = list(dict.fromkeys([*several, *first, *hyperparameters(frame)]))[:MOST_KEYS]
    dots, note = thinned(points(frame, DRAWN_METRICS, keys), seed)
    return Findings(
        study=study,
        pairs=pairs,
        stopping=stopping(pairs),
        best=best,
        clocks=clocks,
        others=others,
        rungs=rungs,
        measured=[metric for metric in (*MAIN_METRICS, *_own(study)) if frame[f"gap/{metric}"].notna().any()],
        importances=matter,
        rules=rules(frame, HEADLINE, seed),
        keys=keys,
        dots=dots,
        note=note,
        budgets=accuracy_by_budget(study, HEADLINE),
        seed=seed,
    )


def _own(study: Study) -> list[str]:
    """The study's own metrics that have a gap, on held-out samples."""
    held_out = ("validation_", "test_")
    return [column.name for column in study.columns.own if column.direction and column.name.startswith(held_out)]


def named(trials: pd.DataFrame, side: str) -> str:
    """The arms that are the ``side`` of trials, by name."""
    given = {str(name) for name in trials[side].dropna()} if side in trials else set()
    return " or ".join(sorted(given)) or f"the {side}"


def summary_table(caption: str, summary: pd.DataFrame, metric: bool = True, declared: Columns = BUILT_IN) -> Table:
    """What :func:`analysis.gaps.summarize` returns, to be sorted by its numbers; with or without the metric's name."""
    text = gap_table(summary, declared)
    columns = {
        heading: {"interval": "median_low", "range": "min"}.get(name, name) for name, heading in STATISTICS.items()
    }
    kept = [heading for heading in text.columns if metric or heading != "Metric"]
    values = [_sorted_by(summary, columns.get(heading, heading)) for heading in kept]
    rows = [
        [Cell(str(cell), value) for cell, value in zip(cells, numbers, strict=True)]
        for cells, numbers in zip(text[kept].itertuples(index=False, name=None), zip(*values, strict=True), strict=True)
    ]
    return Table(caption, kept, rows)


def _sorted_by(summary: pd.DataFrame, column: str) -> Sequence[float | None]:
    """A number for each row: of a group its place; none where text is to be sorted."""
    if column not in summary or column == "Metric":
        return [None] * len(summary)
    values: pd.Series[Any] = summary[column]
    if isinstance(values.dtype, pd.CategoricalDtype):
        return [float(code) for code in values.cat.codes]
    return list(values.astype("float64")) if pd.api.types.is_numeric_dtype(values) else [None] * len(summary)


def headline_rows(named: Mapping[str, Pairs], heading: str) -> pd.DataFrame:
    """The headline's gaps, a row for each of several ways to pair, under ``heading``, with the trials left out."""
    rows = []
    for name, pairs in named.items():
        row = summarize(pairs.frame, [HEADLINE])
        row.insert(0, heading, name)
        row.insert(1, LEFT_OUT, sum(pairs.dropped.values()))
        rows.append(row)
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def forest_rows(labels: Sequence[str], summary: pd.DataFrame) -> pd.DataFrame:
    """Median gaps of :func:`analysis.gaps.summarize` as :func:`analysis.charts.forest_chart` takes them, in points."""
    columns = {"value": "median", "low": "median_low", "high": "median_high"}
    gaps = {name: 100 * summary[column].astype("float64") for name, column in columns.items()}
    return pd.DataFrame(
        {"label": list(labels), **gaps, "said": [amount(HEADLINE, middle) for middle in summary["median"]]}
    )


def told(row: Mapping[Any, Any] | pd.Series[Any], metric: str = HEADLINE) -> str:
    """A median gap with its interval in words."""
    middle = f"a median gap of {amount(metric, row['median'])} in {title(metric)}"
    if math.isnan(row["median_low"]):
        return f"{middle}, too few for an interval"
    return f"{middle} (95% interval {amount(metric, row['median_low'])} to {amount(metric, row['median_high'])})"


def percent(share: float, digits: int = 0) -> str:
    """A share in words; a dash where there is none."""
    return f"{share:.{digits}%}" if math.isfinite(share) else "–"


def percents(low: float, high: float) -> str:
    """Two shares as "from to"; a dash where there is none."""
    return f"{low:.0%} to {high:.0%}" if math.isfinite(low) and math.isfinite(high) else "–"


def times(factor: float) -> str:
    """A factor in words; a dash where there is none."""
    return f"× {factor:.2f}" if math.isfinite(factor) else "–"


def equals(p: float) -> str:
    """A p value after "p"."""
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"


def _rungs(study: Study) -> list[int]:
    """Up to six epochs at which trials ended; none where none was stopped early."""
    if not (study.trials["status"] == "stopped").any():
        return []
    reached = study.epochs.groupby("trial_id")["epoch"].max()
    rungs = sorted({int(epoch) for epoch in reached if epoch > 0})
    places = np.linspace(0, len(rungs) - 1, min(len(rungs), MOST_RUNGS)).round().astype(int)
    return [rungs[place] for place in places]


def _others(study: Study) -> list[str]:
    """The first arms that are neither baseline nor treatment: those that select at random, then others by name."""
    compared = {name for side in SIDES if side in study.trials for name in study.trials[side].dropna()}
    arms = {str(name) for name in study.epochs["arm"].dropna().unique()}
    ordered = sorted(arms - compared, key=lambda arm: (not at_random(study.trials, arm), arm))
    return ordered[:MOST_ARMS] if compared else []


def at_random(trials: pd.DataFrame, arm: str) -> bool:
    """Whether an arm is a control: it selects its samples at random."""
    key = f"arms.{arm}.selector.name"
    return bool((trials[key] == "random").any()) if key in trials else arm == "random"
