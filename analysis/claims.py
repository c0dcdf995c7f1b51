"""A study of ours beside the published gaps of the same problems: does what the thesis claims hold here?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis import published
from analysis.gaps import amount, bins, label, summarize
from analysis.load import Study
from analysis.outcomes import counted_by_arm
from analysis.pairs import pair
from analysis.tables import span
from trainables.records import title

__all__ = ["compare", "published_table"]

CELL = ("dataset.name", "model.name", "batch_size", "optimizer.name", "schedule.name")
"""What a comparison of ours has to share with a published one to stand beside it."""

DETAILS = tuple(key for key, _ in published.SETTINGS.values() if key not in CELL)
"""What it may differ in, said aloud."""

UNPRINTED: Mapping[str, Any] = {
    "dataset.classes": None,
    "dataset.samples_per_class": None,
    "dataset.label_noise": 0,
    "dataset.validation_fraction": 0,
    "optimizer.nesterov": False,
    "optimizer.amsgrad": False,
}
"""Keys that the thesis leaves alone, and what they are then (section 4.2.3, Table 4.1)."""

METHOD = {"batch": "stable", "overflow": "discard", "fallback": "none", "raw_batch_size": None}
"""Likewise of the treatment, batchwise filtering (Alg. 10)."""

METRICS = ("test_accuracy", "test_mean_loss", "test_q90_loss", "test_worst_loss")
ROUNDING = 0.001
"""What a gap of two figures with three decimals can be off by."""

TYPES: Mapping[str, str] = {
    "cell": "string",
    "metric": "string",
    "claimed": "float64",
    "published": "int64",
    "source": "string",
    "measured": "float64",
    "median_low": "float64",
    "median_high": "float64",
    "comparisons": "int64",
    "agrees": "string",
    "differs": "string",
}

Truths = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class _Group:
    """Comparisons of ours and the published ones that they stand beside; both are frames of pairs."""

    cell: str
    ours: pd.DataFrame
    claims: pd.DataFrame
    differs: list[str]


def compare(study: Study, metrics: Sequence[str] = METRICS) -> pd.DataFrame:
    """A study of ours beside the published gaps of the same problems.

    Published are those of :func:`analysis.published.claims`. Of ours count finished comparisons of an archetype with
    filtering by Alg. 10, at the last epoch. Each stands beside the published ones of the same data set (mnist5k beside
    MNIST), network, batch size, optimizer and schedule that share most of the other settings. Settings are compared as
    they are printed: to three decimals, augmentation as on or off.

    Args:
        study: its tables.
        metrics: names of published metrics: accuracy, mean_loss, q90_loss and worst_loss of train and test.

    Returns:
        A row per group of comparisons and metric, groups that differ in least first: ``cell`` (what the group is),
        ``metric``, ``claimed`` (median published gap), ``published`` (how many it is the median of), ``source`` (where
        these stand), ``measured`` (median gap of ours), ``median_low`` and ``median_high`` (its 95% interval),
        ``comparisons`` (of ours), ``agrees`` ("yes": the claim is within the interval, give or take its rounding; "sign
        only": it is not, but the whole interval is on its side of 0; "no"; "too few to tell": there is no interval) and
        ``differs`` (what is known to differ).
    """
    frame = pair(study).frame
    if frame.empty:  # with no trial at all, it lacks even the columns that name the arms
        return pd.DataFrame(columns=list(TYPES)).astype(dict(TYPES))
    frame = frame[_filters(frame)].reset_index(drop=True)
    claims = published.claims()
    ours, theirs = _printed(frame), _printed(claims)
    shared = np.logical_and.reduce([_alike(ours, theirs, key) for key in CELL])
    unlike = np.stack([~_alike(ours, theirs, key) for key in DETAILS])
    counts = np.where(shared, unlike.sum(axis=0), len(DETAILS) + 1)
    nearest = shared & (counts == counts.min(axis=1, keepdims=True))
    differing = (unlike & nearest).any(axis=2).T
    kinds = pd.DataFrame({key: bins(values).astype("string") for key, (values, _) in _unprinted(frame).items()})
    kinds["cell"] = _cells(frame)
    kinds["beside"] = [row.tobytes() for row in np.hstack([nearest, differing])]
    groups = []
    for _, kind in kinds[nearest.any(axis=1)].groupby(list(kinds), sort=False):
        one = int(kind.index[0])
        details = [key for key, differs in zip(DETAILS, differing[one], strict=True) if differs]
        group, claimed = frame.loc[kind.index], claims[nearest[one]]
        groups.append(_Group(str(kind["cell"].iloc[0]), group, claimed, _differences(group, claimed, details)))
    groups.sort(key=lambda group: (len(group.differs), group.cell))
    rows = [row for group in groups for row in _rows(group, _name(group, groups), metrics)]
    return pd.DataFrame(rows, columns=list(TYPES)).astype(dict(TYPES))


def published_table(compared: pd.DataFrame) -> pd.DataFrame:
    """What :func:`compare` returns, as text with units: a column for each heading."""
    cells = [
        {
            "Problem": row["cell"],
            "Metric": title(row["metric"]),
            "Claimed": amount(row["metric"], row["claimed"])
            + (f" (median of {row['published']})" if row["published"] > 1 else ""),
            "Measured median": amount(row["metric"], row["measured"]),
            "95% interval of the median": span(row["metric"], row["median_low"], row["median_high"]),
            "Comparisons": str(row["comparisons"]),
            "Agrees": row["agrees"],
            "Differs": row["differs"] or "in nothing that is printed",
        }
        for row in compared.to_dict("records")
    ]
    heads = [
        "Problem",
        "Metric",
        "Claimed",
        "Measured median",
        "95% interval of the median",
        "Comparisons",
        "Agrees",
        "Differs",
    ]
    return pd.DataFrame(cells, columns=heads, dtype="object")


def _rows(group: _Group, cell: str, metrics: Sequence[str]) -> Iterator[dict[str, Any]]:
    for row in summarize(group.ours, metrics).to_dict("records"):
        claimed = float(group.claims[f"gap/{row['metric']}"].median())
        yield {
            "cell": cell,
            "metric": row["metric"],
            "claimed": claimed,
            "published": len(group.claims),
            "source": ", ".join(group.claims["trial_id"]),
            "measured": row["median"],
            "median_low": row["median_low"],
            "median_high": row["median_high"],
            "comparisons": row["comparisons"],
            "agrees": _agrees(claimed, row["median_low"], row["median_high"]),
            "differs": "; ".join(group.differs),
        }


def _agrees(claimed: float, low: float, high: float) -> str:
    if math.isnan(low):
        return "too few to tell"
    if low - ROUNDING <= claimed <= high + ROUNDING:
        return "yes"
    return "sign only" if (low > 0 < claimed) or (high < 0 > claimed) else "no"


def _filters(frame: pd.DataFrame) -> Truths:
    """Which comparisons are of an archetype with batchwise filtering by accuracy."""
    holds = (_of_arm(frame, "baseline", "granularity") == "none") & (
        _of_arm(frame, "treatment", "granularity") == "batch"
    )
    for option, value in (("filter.name", "hard"), ("selector.name", "all")):
        holds &= _of_arm(frame, "treatment", option).fillna(value) == value
    return holds.to_numpy(dtype=bool)


def _of_arm(frame: pd.DataFrame, side: str, option: str) -> pd.Series[Any]:
    """An option of the arm that each comparison names for its ``side``, as text; None where it is not said."""
    values = pd.Series(None, index=frame.index, dtype="object")
    for name in frame[side].unique():
        if (column := f"arms.{name}.{option}") in frame:
            said = frame[column].astype("object").map(label, na_action="ignore")
            values = values.where(frame[side] != name, said)
    return values


def _printed(frame: pd.DataFrame) -> pd.DataFrame:
    """The settings of pairs as Appendix II prints them."""
    printed = pd.DataFrame(index=frame.index)
    for key, type in published.SETTINGS.values():
        if key not in frame:
            printed[key] = ""
        elif type == "float":
            numbers = frame[key].astype("float64")
            printed[key] = [f"{number:.3f}" if math.isfinite(number) else "" for number in numbers]
        else:
            printed[key] = frame[key].astype("string").fillna("")
    printed["dataset.name"] = printed["dataset.name"].replace("mnist5k", "mnist")
    printed["augmentation"] = printed["augmentation"].replace({"thesis": "on", "standard": "on"})
    return printed.astype("object")


def _alike(ours: pd.DataFrame, theirs: pd.DataFrame, key: str) -> Truths:
    """Whether a setting is the same, for each of our comparisons (rows) and each published one (columns)."""
    alike: Truths = ours[key].to_numpy()[:, None] == theirs[key].to_numpy()[None, :]
    return alike


def _cells(frame: pd.DataFrame) -> list[str]:
    """The cell of each comparison in words."""
    keys = [frame[key] if key in frame else pd.Series("?", index=frame.index) for key in CELL]
    return [
        f"{data}, {model}, batch size {size}, {optimizer}, {'no' if schedule == 'none' else schedule} schedule"
        for data, model, size, optimizer, schedule in zip(*keys, strict=True)
    ]


def _name(group: _Group, groups: Sequence[_Group]) -> str:
    """The cell of a group, with the published settings that set it apart from other groups of that cell."""
    every = pd.concat([other.claims for other in groups if other.cell == group.cell])
    varied = [key for key in DETAILS if every[key].nunique(dropna=False) > 1]
    telling = [key for key in varied if _values(every[key]) != _values(group.claims[key])]
    return ", ".join([group.cell, *(f"{key} {_values(group.claims[key])}" for key in telling)])


def _unprinted(frame: pd.DataFrame) -> dict[str, tuple[pd.Series[Any], Any]]:
    """What Appendix II has no column for: values of ours and the value there, by name."""
    said = {key: (frame[key], usual) for key, usual in UNPRINTED.items() if key in frame}
    treatment = {option: _of_arm(frame, "treatment", option) for option in METHOD}
    return said | {f"treatment's {option}": (values, METHOD[option]) for option, values in treatment.items()}


def _differences(group: pd.DataFrame, claims: pd.DataFrame, details: Sequence[str]) -> list[str]:
    """In words, what a group of comparisons is known to differ in from the published ones."""
    said = ["dataset.name mnist5k, a part of mnist"] if "mnist5k" in set(group["dataset.name"]) else []
    said += [f"{what} in {count} of {len(group)}" for what, count in counted_by_arm(group).items()]
    for key in details:
        ours = _values(group[key]) if key in group else "not recorded"
        said.append(f"{key} {ours} instead of {_values(claims[key])}")
    for name, (values, usual) in _unprinted(group).items():
        given = values.dropna()
        if len(given) and set(given) != {usual}:
            said.append(f"{name} {_values(values)}")
    return said


def _values(values: pd.Series[Any]) -> str:
    """The distinct values of a setting in few words: many numbers are a range."""
    return " or ".join(bins(values, most=3, ranges=1).cat.categories)
