"""What a gain in accuracy costs elsewhere: configurations that no other beats in all of three respects at once.

Filtering often lowers the worst loss and the compute while it loses accuracy (section 4.4 of the thesis), so that one
number does not say where it pays. The front is made of the best of noisy measurements, and flatters what is on it, all
the more with many configurations of few seeds; confirm it on fresh ones. Gaps of different problems stand on one front:
to choose within a problem, give its comparisons alone.
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
import pandas as pd

from analysis.gaps import hyperparameters, label
from analysis.outcomes import Bools, Floats, Objects
from analysis.statistics import configurations

DIRECTIONS = (1, 1, -1)
"""Whether more (1) or less (-1) is better of the accuracy gap, the worst-loss gap and the compute."""


def tradeoffs(frame: pd.DataFrame) -> pd.DataFrame:
    """What each configuration gains and costs, and which ones are on the Pareto front.

    Args:
        frame: pairs.

    Returns:
        A row per configuration, in order of its first comparison: ``number`` (of that comparison), ``label`` (its
        settings that vary, seeds aside; "all alike" where none does), ``accuracy`` (gap in test accuracy, a fraction),
        ``worst_loss`` (gap in worst test loss, nats), ``compute`` (the treatment's forward-equivalents over the
        baseline's), each averaged over its comparisons, geometrically for the ratio; ``comparisons`` (with all three),
        ``unlearned`` (of these, with a baseline that did not learn: no gains to boast of), ``lost`` (comparisons that
        the treatment lost by what became of it, which have none of the three), and ``front``: no other configuration is
        at least as good in all three and better in one. Those that are equal in all three are on it together. One
        without a comparison that has all three has NaN, and is not on it; nor is one with a comparison that is lost,
        for the others alone would flatter it. Where nobody measured compute, that is NaN, and the other two make the
        front.
    """
    names = ("gap/test_accuracy", "gap/test_worst_loss", "treatment/cumulative_compute", "baseline/cumulative_compute")
    accuracy, worst, *spent = (frame[name].to_numpy("float64", na_value=np.nan) for name in names)
    spent = [np.where(of_side > 0, of_side, np.nan) for of_side in spent]
    measured = np.column_stack([accuracy, worst, np.log(spent[0]) - np.log(spent[1])])
    costed = bool(np.isfinite(measured[:, 2]).any())
    if not costed:
        measured[:, 2] = 0
    known = np.isfinite(measured).all(axis=1)
    _, first, code = np.unique(configurations(frame).to_numpy("int64"), return_index=True, return_inverse=True)
    n = len(first)
    comparisons = np.bincount(code[known], minlength=n)
    means = np.full((n, 3), np.nan)
    for place, values in enumerate(measured.T):
        total = np.bincount(code[known], weights=values[known], minlength=n)
        np.divide(total, comparisons, out=means[:, place], where=comparisons > 0)
    lost = np.bincount(code[np.isneginf(accuracy)], minlength=n)
    on_front = np.zeros(n, dtype="bool")
    eligible = (comparisons > 0) & (lost == 0)
    on_front[eligible] = front(means[eligible] * DIRECTIONS)
    table = {
        "number": frame["number"].array[first],
        "label": _labels(frame)[first],
        "accuracy": means[:, 0],
        "worst_loss": means[:, 1],
        "compute": np.exp(means[:, 2]) if costed else np.nan,
        "comparisons": comparisons,
        "unlearned": np.bincount(code[known & ~frame["baseline_learned"].to_numpy("bool")], minlength=n),
        "lost": lost,
        "front": on_front,
    }
    return pd.DataFrame(table).iloc[np.argsort(first, kind="stable")].reset_index(drop=True)


def front(goods: Floats) -> Bools:
    """Which points no other dominates: is at least as large in all coordinates and larger in one. Equal points agree.

    Args:
        goods: three coordinates of each point, (points, 3); more is better; finite.

    Returns:
        (points,). A sweep by the first coordinate over the staircase of the other two (Kung et al. 1975), in
        O(n log n) but for the insertions.
    """
    distinct, place = np.unique(goods.reshape(-1, 3), axis=0, return_inverse=True)
    undominated = np.zeros(len(distinct), dtype="bool")
    seconds: list[float] = []  # ascending, and the thirds beside them descending; ties may stay
    thirds: list[float] = []
    for point in range(len(distinct) - 1, -1, -1):  # whatever dominates a point has come before it
        _, second, third = distinct[point].tolist()
        at = bisect_left(seconds, second)
        if at < len(seconds) and thirds[at] >= third:
            continue
        undominated[point] = True
        end = at
        while at and thirds[at - 1] <= third:
            at -= 1
        seconds[at:end], thirds[at:end] = [second], [third]
    return undominated[place.reshape(-1)]


def _labels(frame: pd.DataFrame) -> Objects:
    """The settings of each comparison in words."""
    written = np.full(len(frame), "", dtype="object")
    for key in hyperparameters(frame):
        codes, values = pd.factorize(frame[key])
        words = np.array([*(f"{key} {label(value)}" for value in values), ""], dtype="object")[codes]
        written += np.where((written != "") & (words != ""), ", ", "").astype("object") + words
    written[written == ""] = "all alike"
    return written
