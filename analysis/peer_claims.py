"""What others published of their methods, beside what a study of ours measured in their setting."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from analysis.gaps import amount
from analysis.league import reached_by
from analysis.load import Study
from analysis.statistics import interval, median
from trainables.records import title

FILE = Path(__file__).parent / "peers.csv"
HEADS = (
    "Arm",
    "Metric",
    "Claimed",
    "Measured median",
    "95% interval",
    "Runs",
    "Gap to the baseline",
    "Source",
    "Differs",
)


def claims() -> pd.DataFrame:
    """The published values: ``study`` (the experiment in their setting), ``arm``, ``metric``, ``claimed`` (in the
    metric's unit), ``source`` and ``differs`` (what our setting does otherwise).
    """
    return pd.read_csv(FILE)


def beside_claims(study: Study) -> pd.DataFrame:
    """A row per published value that the study has a counterpart of; none where it is not of a published setting.

    Returns:
        The columns of :func:`claims`, and ``measured`` (median over the finished comparisons), ``low`` and ``high``
        (its 95% interval; NaN for fewer than 6), ``runs``, and ``gap`` (median gap to the comparison's baseline).
    """
    known = claims()
    rows = []
    for row in known[known["study"] == study.name].to_dict("records"):
        values, gaps = reached_by(study, row["arm"], row["metric"])
        if len(values):
            low, high = interval(values)
            rows.append(
                row | {"measured": median(values), "low": low, "high": high, "runs": len(values), "gap": median(gaps)}
            )
    return pd.DataFrame(rows, columns=[*known.columns, "measured", "low", "high", "runs", "gap"])


def claims_table(beside: pd.DataFrame) -> pd.DataFrame:
    """What :func:`beside_claims` returns, in words."""
    cells = []
    for row in beside.to_dict("records"):
        known = not math.isnan(row["low"])
        values = (
            row["arm"],
            title(row["metric"]),
            f"{row['claimed']:.2%}",
            f"{row['measured']:.2%}",
            f"{row['low']:.2%} to {row['high']:.2%}" if known else "–",
            str(row["runs"]),
            amount(row["metric"], row["gap"]),
            row["source"],
            row["differs"],
        )
        cells.append(dict(zip(HEADS, values, strict=True)))
    return pd.DataFrame(cells, columns=list(HEADS), dtype="object")
