"""Baseline and treatment of every comparison, side by side on one row; what cannot be paired is counted, not hidden."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.load import Study, TableError, config_keys
from trainables.records import CLOCKS, COLUMNS, METRICS, STATUSES, gap

CLASSES = {"cifar100": 100}
"""Classes of the data sets that do not have 10."""

LEARNED = 1.5
"""A baseline has learned when its test accuracy is at least this many times chance."""

MEASURED = tuple(c.name for c in COLUMNS if c.name in METRICS or c.name in CLOCKS.values())
"""The columns that a pair holds for each side."""


@dataclass(frozen=True)
class Pairs:
    """Comparisons that can be judged, and how many cannot.

    Attributes:
        frame: a row per comparison: ``trial_id``, ``number``, ``configuration`` (shared by comparisons that differ in
            seed alone), the configuration keys, ``baseline_learned``, and for each metric ``baseline/METRIC``,
            ``treatment/METRIC`` and ``gap/METRIC`` (positive: the treatment is better); for each clock's column,
            ``baseline/COLUMN`` and ``treatment/COLUMN``.
        dropped: the number of trials left out, by reason.
        at: what was compared: the final epoch, each arm's best, or a given epoch.
        clock: what the two sides have in common: a word of ``records.CLOCKS``.
    """

    frame: pd.DataFrame
    dropped: Mapping[str, int]
    at: Literal["final", "best"] | int = "final"
    clock: str = "epochs"


class _Unusable(Exception):
    """Why a trial cannot be paired."""


def pair(
    study: Study, at: Literal["final", "best"] | int = "final", clock: str = "epochs", against: str | None = None
) -> Pairs:
    """Put the two sides of every usable comparison on one row.

    Args:
        study: its tables.
        at: ``final``: the last epoch of finished trials. ``best``: the epoch of finished trials at which each arm's own
            validation accuracy is best. A number: that epoch of every trial that reached it, finished or not; early
            stopping censors final gaps, not these.
        clock: for ``final`` only, what is equal on both sides (a word of ``records.CLOCKS``). With another clock than
            epochs, both sides are read at the smaller of their two totals, interpolated linearly between epochs; trials
            in which this is within a side's first epoch are left out.
        against: the arm to take for the baseline, such as a control; by default the one that a trial names.

    Raises:
        TableError: ``at`` is best, and no trial has a validation accuracy.
        ValueError: ``at`` or ``clock`` is unknown, or they do not go together.
    """
    if clock not in CLOCKS:
        raise ValueError(f"clock {clock!r} is unknown; use one of {', '.join(CLOCKS)}")
    if at not in ("final", "best") and (not isinstance(at, int) or at < 0):
        raise ValueError(f"at is {at!r}; use final, best or an epoch from 0")
    if clock != "epochs" and at != "final":
        raise ValueError(f"clock {clock!r} goes with at='final' only, not {at!r}")
    if at == "best" and len(study.epochs) and study.epochs["validation_accuracy"].isna().all():
        raise TableError(
            "validation_accuracy has no value in this study, so no epoch is best by it; compare at the final epoch, or "
            "run with dataset.validation_fraction above 0"
        )
    epochs = study.epochs[[*dict.fromkeys(("trial_id", "arm", "epoch", *MEASURED))]]
    rows_of = {str(trial_id): rows for trial_id, rows in epochs.groupby("trial_id", sort=False)}
    none = epochs.iloc[:0]
    trials = study.trials if against is None else study.trials.assign(baseline=against)
    keys = config_keys(trials)
    paired, dropped = [], Counter[str]()
    seen: set[tuple[Any, ...]] = set()
    for trial in trials.to_dict("records"):
        values = tuple(None if pd.isna(trial[key]) else trial[key] for key in keys)
        try:
            sides = _sides(trial, rows_of.get(str(trial["trial_id"]), none), at, clock)
        except _Unusable as reason:
            dropped[str(reason)] += 1
            continue
        if values in seen:
            dropped["repeated another comparison, seed and all"] += 1
        else:
            seen.add(values)
            paired.append({"trial_id": trial["trial_id"], **_row(trial, *sides)})
    columns = ["trial_id", "baseline_learned"]
    columns += [f"{side}/{name}" for side in ("baseline", "treatment") for name in MEASURED]
    columns += [f"gap/{name}" for name in METRICS]
    measured = pd.DataFrame(paired, columns=columns)
    measured = measured.astype(
        dict.fromkeys(columns[2:], "float64") | {"trial_id": "string", "baseline_learned": "bool"}
    )
    frame = trials[["trial_id", "number", "configuration", *keys]].merge(measured, on="trial_id", validate="one_to_one")
    return Pairs(frame, dict(dropped.most_common()), at, clock)


def varied(frame: pd.DataFrame) -> list[str]:
    """The configuration keys that take more than one value in a frame of pairs or trials; missing is a value too."""
    ours = {"trial_id", "number", "baseline_learned"}
    keys = [key for key in config_keys(frame) if key not in ours]
    keys = [key for key in keys if not key.startswith(("baseline/", "treatment/", "gap/"))]
    return [key for key in keys if frame[key].nunique(dropna=False) > 1]


def arm_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame of pairs in long form: a row per comparison and arm with ``number``, ``arm`` and the metrics."""
    sides = [
        pd.DataFrame(
            {"number": frame["number"], "arm": frame[side]} | {name: frame[f"{side}/{name}"] for name in MEASURED}
        )
        for side in ("baseline", "treatment")
    ]
    return pd.concat(sides).sort_index(kind="stable").reset_index(drop=True)


def final_rows(study: Study, trial_id: str) -> pd.DataFrame:
    """The last row of every arm of a trial, baseline first, treatment second, the others by name.

    Raises:
        TableError: the study has no such trial.
    """
    rows = study.epochs[study.epochs["trial_id"] == trial_id]
    last = rows.groupby("arm", sort=False).tail(1).set_index("arm", drop=False)
    return last.loc[arms(study, trial_id)].reset_index(drop=True)


def arms(study: Study, trial_id: str) -> list[str]:
    """The arms that a trial has rows of: baseline first, treatment second, the others by name.

    Raises:
        TableError: the study has no such trial.
    """
    trials = study.trials[study.trials["trial_id"] == trial_id]
    if trials.empty:
        raise TableError(f"study {study.name} has no trial {trial_id!r}; its trials table lists those it has")
    trial = trials.iloc[0]
    named = [trial.get("baseline"), trial.get("treatment")]
    present = set(study.epochs.loc[study.epochs["trial_id"] == trial_id, "arm"].dropna())
    return [str(arm) for arm in named if arm in present] + sorted(present - set(named))


def last_gap(study: Study, trial_id: str, metric: str) -> tuple[float, int] | None:
    """The gap of one trial in ``metric`` at the last epoch that both its sides have, and that epoch; None without one.

    Whatever the trial's status is: of one that was stopped, this is the gap that it was stopped with.
    """
    trial = study.trials[study.trials["trial_id"] == trial_id]
    if trial.empty:
        return None
    rows = study.epochs[study.epochs["trial_id"] == trial_id]
    sides = [
        rows[rows["arm"] == trial.iloc[0].get(role)].drop_duplicates("epoch").set_index("epoch")[metric]
        for role in ("treatment", "baseline")
    ]
    both = pd.concat(sides, axis="columns", join="inner").dropna().astype("float64")
    return None if both.empty else (gap(metric, *both.to_numpy()[-1]), int(both.index[-1]))


def _sides(
    trial: Mapping[Any, Any], rows: pd.DataFrame, at: Literal["final", "best"] | int, clock: str
) -> tuple[Mapping[Any, Any], Mapping[Any, Any]]:
    """The row of each side to compare.

    Raises:
        _Unusable: there are none.
    """
    status = str(trial["status"])
    if isinstance(at, str) and status != "finished":
        raise _Unusable(_reason(status, rows))
    if rows.duplicated(["arm", "epoch"]).any():
        raise _Unusable("duplicate rows for one arm and epoch")
    names = [trial.get(role) for role in ("baseline", "treatment")]
    if not all(isinstance(name, str) for name in names):
        raise _Unusable("the configuration names no baseline or no treatment")
    sides = [rows[rows["arm"] == name] for name in names]
    if any(side.empty for side in sides) and len(rows):
        raise _Unusable("an arm is missing")
    if isinstance(at, int):
        sides = [side[side["epoch"] == at] for side in sides]
        if any(side.empty for side in sides):
            ended = "trained for fewer epochs" if status == "finished" else _reason(status, rows)
            raise _Unusable(f"{ended}, before epoch {at}")
    else:
        due = _whole(trial.get("epochs"))
        last = [_whole(side["epoch"].max()) for side in sides]
        if None in last or last[0] != last[1] or due not in (None, last[0]):
            raise _Unusable("the last epoch is missing")
    if at == "final":
        sides = [side.tail(1) for side in sides] if clock == "epochs" else _at_equal(sides, clock)
    if at == "best":
        if any(side["validation_accuracy"].isna().all() for side in sides):
            raise _Unusable("no validation accuracy")
        sides = [side.loc[[side["validation_accuracy"].idxmax()]] for side in sides]
    lost = [str(name) for name, side in zip(names, sides, strict=True) if not _finite(side)]
    if lost:
        raise _Unusable(f"diverged: {', '.join(lost)}")
    baseline, treatment = (side.to_dict("records")[0] for side in sides)
    return baseline, treatment


def _at_equal(sides: Sequence[pd.DataFrame], clock: str) -> list[pd.DataFrame]:
    """Both sides at the smaller of their totals on ``clock``: one row each, interpolated between epochs."""
    column = CLOCKS[clock]
    if any(side[column].isna().any() for side in sides):
        raise _Unusable(f"{clock} were not recorded")
    budget = min(float(side[column].max()) for side in sides)
    if any(budget < float(side.loc[side["epoch"] > 0, column].min()) for side in sides):
        raise _Unusable(f"one arm's whole training takes fewer {clock} than the other's first epoch")
    return [
        pd.DataFrame(
            {
                name: [np.interp(budget, side[column].to_numpy("float64"), side[name].to_numpy("float64"))]
                for name in MEASURED
            }
        )
        for side in sides
    ]


def _finite(rows: pd.DataFrame) -> bool:
    return bool(np.isfinite(rows["train_mean_loss"]).all())


def _reason(status: str, rows: pd.DataFrame) -> str:
    """In words, why a trial of this status has no final gap."""
    if status == "diverged":
        names = sorted(str(arm) for arm, of_arm in rows.groupby("arm") if not _finite(of_arm))
        return f"diverged: {', '.join(names)}" if names else "diverged"
    words = {"running": "still running", "stopped": STATUSES["stopped"]}
    return words.get(status, status)


def _whole(value: Any) -> int | None:
    return None if value is None or pd.isna(value) else int(value)


def _row(trial: Mapping[Any, Any], baseline: Mapping[Any, Any], treatment: Mapping[Any, Any]) -> dict[str, Any]:
    classes = _whole(trial.get("dataset.classes")) or CLASSES.get(str(trial.get("dataset.name")), 10)
    accuracy = _number(baseline["test_accuracy"])
    row: dict[str, Any] = {"baseline_learned": accuracy >= LEARNED / classes}
    for name in MEASURED:
        row[f"baseline/{name}"] = _number(baseline[name])
        row[f"treatment/{name}"] = _number(treatment[name])
    for name in METRICS:
        row[f"gap/{name}"] = gap(name, row[f"treatment/{name}"], row[f"baseline/{name}"])
    return row


def _number(value: Any) -> float:
    return math.nan if pd.isna(value) else float(value)
