"""Test over train: how far what an arm has learned holds beyond the samples that it learned it from.

The thesis's central finding (section 4.4.6): with batchwise filtering the ratios of mean and 0.9-quantile loss are
closer to 1; that of the worst loss is not. A model that has learned nothing has ratios of 1, so that a ratio closer to
1 is no merit by itself; :func:`summarize_ratios` counts apart where the test value is better, too.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from analysis.outcomes import Floats
from analysis.statistics import configurations, estimate, holm, median
from analysis.tables import THESIS_METRICS
from trainables.records import SIDES

RATIOS = tuple(THESIS_METRICS.values())
"""The metrics whose ratios the thesis prints: accuracy, mean loss, 0.9-quantile loss, worst loss."""


def ratios(frame: pd.DataFrame) -> pd.DataFrame:
    """The test/train ratio of each side of every comparison.

    Args:
        frame: pairs.

    Returns:
        A row per comparison, indexed like ``frame``: ``trial_id``, ``number``, and ``baseline/METRIC`` and
        ``treatment/METRIC`` for each of ``RATIOS``: the test value over the training value, without a unit; NaN where a
        value is missing or infinite, or the training value is 0.
    """
    columns: dict[str, Any] = {"trial_id": frame["trial_id"], "number": frame["number"]}
    for metric in RATIOS:
        for side in SIDES:
            train, test = _values(frame, side, metric)
            known = np.isfinite(train) & np.isfinite(test) & (train != 0)
            columns[f"{side}/{metric}"] = np.divide(test, train, out=np.full(len(frame), np.nan), where=known)
    return pd.DataFrame(columns, index=frame.index)


def summarize_ratios(frame: pd.DataFrame) -> pd.DataFrame:
    """The two sides' ratios against each other, on a logarithmic scale: 2 and 1/2 are equally far from 1.

    Args:
        frame: pairs.

    Returns:
        A row per metric of ``RATIOS``: ``metric``; ``comparisons`` (with a ratio above 0 on both sides; all that
        follows but ``zeros`` is of these); ``zeros`` (comparisons left out for a value of 0, where there is no ratio or
        no logarithm); ``baseline`` and ``treatment`` (median ratios); ``units`` (configurations, each averaged over its
        seeds, or comparisons where all are of one configuration); ``factor`` (their median of the treatment's ratio
        over the baseline's) with its 95% interval from ``factor_low`` to ``factor_high`` (NaN for fewer than 6 units);
        ``share`` (of comparisons in which the treatment's ratio is the smaller); ``closer`` (in which it is closer to
        1); ``closer_and_better`` (in which it is, and the test value is better as well); ``p`` (of the sign
        test of the logarithms) and ``p_holm`` (corrected over the rows). In ``share`` and ``closer`` a tie counts half.
    """
    found, drawn_from = ratios(frame), configurations(frame).to_numpy()
    rows = [_summary(frame, found, metric, drawn_from) for metric in RATIOS]
    table = pd.DataFrame(rows)
    return table.assign(p_holm=holm(table["p"].to_numpy("float64")))


def _summary(frame: pd.DataFrame, found: pd.DataFrame, metric: str, drawn_from: np.ndarray[Any, Any]) -> dict[str, Any]:
    ratio = {side: found[f"{side}/{metric}"].to_numpy("float64") for side in SIDES}
    counted = (ratio["baseline"] > 0) & (ratio["treatment"] > 0)
    measured = np.vstack([_values(frame, side, metric) for side in SIDES])
    zeros = np.isfinite(measured).all(axis=0) & (measured == 0).any(axis=0)
    baseline, treatment = (np.log(ratio[side][counted]) for side in SIDES)
    of_units = estimate(treatment - baseline, drawn_from[counted])
    with np.errstate(over="ignore"):  # of ratios that have nothing in common
        factor, low, high = (float(np.exp(of_units[name])) for name in ("median", "median_low", "median_high"))
    nearer = np.abs(baseline) - np.abs(treatment)
    won = frame[f"gap/test_{metric}"].to_numpy("float64")[counted] > 0
    return {
        "metric": metric,
        "comparisons": int(counted.sum()),
        "zeros": int(zeros.sum()),
        "baseline": median(ratio["baseline"][counted]),
        "treatment": median(ratio["treatment"][counted]),
        "units": of_units["units"],
        "factor": factor,
        "factor_low": low,
        "factor_high": high,
        "share": _share(baseline - treatment),
        "closer": _share(nearer),
        "closer_and_better": float(((nearer > 0) & won).mean()) if len(won) else math.nan,
        "p": of_units["p"],
    }


def _values(frame: pd.DataFrame, side: str, metric: str) -> tuple[Floats, Floats]:
    """The training and the test values of one side."""
    train, test = (
        frame[f"{side}/{split}_{metric}"].to_numpy("float64", na_value=np.nan) for split in ("train", "test")
    )
    return train, test


def _share(differences: Floats) -> float:
    """The share above 0, a tie counting half."""
    return float(((differences > 0) + (differences == 0) / 2).mean()) if len(differences) else math.nan
