"""What became of the arms of a comparison: one that diverged, ran out of memory or never trained has lost.

Such a comparison is counted, not left out: a method that breaks off in half of its runs must not be judged by the other
half. Its gap is -inf where the treatment lost and +inf where the baseline did, for every metric that is measured on a
split; an outcome says nothing of what was spent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from trainables.records import BUILT_IN, SIDES, Columns

Floats = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
Objects = np.ndarray[Any, np.dtype[np.object_]]

CLASSES = {"cifar100": 100}
"""Classes of the data sets that do not have 10."""

LEARNED = 1.5
"""An arm has learned when its test accuracy is at least this many times chance."""

MEASURED = "measured"
"""The outcome of a comparison whose arms both trained to where they are compared."""

DIVERGED, OUT_OF_MEMORY, WITHOUT_UPDATES = "diverged", "out of memory", "without updates"
"""What can become of an arm, so that it loses.

An arm is *without updates* where it made fewer of them than epochs and its test accuracy is below :data:`LEARNED` times
chance: it never had the batches to learn from. A filter that accepts nearly nothing late in training has learned.
"""


def without_updates(values: Mapping[str, Floats], classes: Floats) -> Bools:
    """Which arms made too few updates to learn anything.

    Args:
        values: ``epoch``, ``cumulative_steps`` and ``test_accuracy`` of each arm.
        classes: the number of classes of each one's data set.
    """
    few = values["cumulative_steps"] < values["epoch"]
    return few & (values["test_accuracy"] < LEARNED / classes)


def outcomes(fates: Mapping[str, Objects]) -> Objects:
    """The outcome of each comparison: ``measured``, or the side that lost and why, such as "treatment diverged".

    Args:
        fates: for each side what became of it, "" where it trained; never something on both sides.
    """
    named = {side: np.where(fate == "", "", f"{side} " + fate) for side, fate in fates.items()}
    joined = named["baseline"] + named["treatment"]
    return np.where(joined == "", MEASURED, joined)


def decided(frame: pd.DataFrame) -> Bools:
    """Which comparisons of a frame of pairs were decided by what became of an arm."""
    return (frame["outcome"] != MEASURED).to_numpy("bool")


def counted_by_arm(frame: pd.DataFrame) -> dict[str, int]:
    """How many comparisons each arm lost by what became of it: such as "filtered diverged" in 3; most first."""
    found: Counter[str] = Counter()
    for side in SIDES:
        lost = frame[frame["outcome"].str.startswith(f"{side} ")]
        if lost.empty:  # a study without trials names no arms
            continue
        fates = lost["outcome"].str.removeprefix(f"{side} ").map(SAID)
        found.update((lost[side].astype("string") + " " + fates).tolist())
    return dict(found.most_common())


SAID = {DIVERGED: "diverged", OUT_OF_MEMORY: "ran out of memory", WITHOUT_UPDATES: "made too few updates to learn"}
"""What became of an arm, as a verb after its name."""


def finite_gaps(frame: pd.DataFrame, metric: str) -> Floats:
    """The gaps of ``metric`` with a number in place of an infinite one, for what needs numbers: means and forests.

    An arm that lost by its outcome is taken to have chance accuracy, one over the number of classes. The other arm is
    taken as it was when the comparison ended. In other metrics, and where the other arm left no row, the worst or best
    finite gap of the frame stands in; where there is none, 0.
    """
    gaps = frame[f"gap/{metric}"].to_numpy("float64")
    if not np.isinf(gaps).any():
        return gaps
    finite = gaps[np.isfinite(gaps)]
    ends = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    found = np.where(np.isposinf(gaps), max(ends[1], 0.0), np.where(np.isneginf(gaps), min(ends[0], 0.0), gaps))
    if not _is_accuracy(metric):
        return found
    chance = 1 / classes(frame)
    by_chance = np.where(
        np.isneginf(gaps), chance - frame[f"baseline/{metric}"], frame[f"treatment/{metric}"] - chance
    ).astype("float64")
    return np.where(np.isinf(gaps) & np.isfinite(by_chance), by_chance, found)


def reached(frame: pd.DataFrame, side: str, metric: str, columns: Columns = BUILT_IN) -> pd.Series[Any]:
    """What one side reached in a metric; of a side without values, chance accuracy or else infinitely bad."""
    values = frame[f"{side}/{metric}"].astype("float64")
    lost = decided(frame) & frame["outcome"].str.startswith(f"{side} ").to_numpy("bool") & values.isna()
    worst = 1 / classes(frame) if _is_accuracy(metric) else -columns.by_name[metric].direction * np.inf
    return values.mask(lost, worst)


def _is_accuracy(metric: str) -> bool:
    """Whether a metric is the share of samples classified correctly, which is one over the classes at chance."""
    return metric in BUILT_IN.by_name and BUILT_IN.unit(metric) == "fraction"


def classes(trials: pd.DataFrame) -> Floats:
    """The number of classes of each trial's data set."""
    none = pd.Series(pd.NA, trials.index)
    given = pd.to_numeric(trials.get("dataset.classes", none)).astype("Float64")
    whole = trials.get("dataset.name", none).map(lambda name: CLASSES.get(str(name), 10)).astype("Float64")
    found: Any = given.where(given > 0, whole).to_numpy("float64")
    return np.asarray(found, dtype=np.float64)
