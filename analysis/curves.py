"""What the figures show, as numbers: the nine panels, variations of one setting, batch accumulation, and all gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.behaviour import QUANTITIES, over_time
from analysis.database import TableError
from analysis.gaps import bins, label, settings
from analysis.load import Study
from analysis.outcomes import SIDES
from analysis.pairs import arms
from trainables.records import BY_NAME, CLOCKS

Array = np.ndarray[Any, np.dtype[np.float64]]

PANELS = (
    *("train_accuracy", "test_accuracy", "train_worst_loss"),
    *("train_mean_loss", "test_mean_loss", "test_worst_loss"),
    *("train_q90_loss", "test_q90_loss", "cumulative_seconds"),
)
"""Three rows of three, train left of test, or above it. Against seconds, the last has the epochs passed."""

MOST_VALUES = 6
"""So many values of a setting are drawn at most: as many as there are colours."""


@dataclass(frozen=True)
class Curve:
    """One arm of one comparison, in order of epochs.

    Attributes:
        arm: its name.
        setting: the value of the setting that varies; empty where none does.
        x: what was spent on the clock, without missing values.
        y: the metric.
    """

    arm: str
    setting: str
    x: Array
    y: Array


@dataclass(frozen=True)
class Panel:
    """One panel of the nine.

    Attributes:
        metric: the column drawn.
        unit: its unit.
        log: whether the axis is logarithmic: losses, where all values are positive.
        curves: the same arms and settings in all nine.
    """

    metric: str
    unit: str
    log: bool
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class Variations:
    """Comparisons that differ in one configuration key and agree in all others.

    Attributes:
        key: what varies.
        trial_ids: the comparisons, in order of the key's values.
        values: how many values could have been drawn; more than there are comparisons where these were too many.
        alike: the other settings that vary in the study, and their values in these comparisons.
        panels: the nine, with the baseline and the treatment of each comparison.
    """

    key: str
    trial_ids: tuple[str, ...]
    values: int
    alike: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Band:
    """A quantity of one arm over its epochs: median and quartiles, of comparisons or of updates.

    ``low`` and ``high`` equal ``median`` where there is one value to an epoch.
    """

    arm: str
    epoch: Array
    low: Array
    median: Array
    high: Array


@dataclass(frozen=True)
class Strip:
    """The gaps of one group of comparisons, in ascending order, and which of their baselines had learned."""

    label: str
    gaps: Array
    learned: np.ndarray[Any, np.dtype[np.bool_]]


def panels(study: Study, trial_id: str, clock: str = "epochs") -> tuple[Panel, ...]:
    """The nine panels of one comparison (section 4.3): all arms, baseline first, against a word of ``records.CLOCKS``.

    Raises:
        TableError: the study has no such trial.
        ValueError: the clock is unknown.
    """
    rows = study.epochs[study.epochs["trial_id"] == trial_id]
    return _panels([(name, "", rows[rows["arm"] == name]) for name in arms(study, trial_id)], clock)


def variations(study: Study, frame: pd.DataFrame, key: str, clock: str = "epochs") -> Variations:
    """The largest set of comparisons that differ in ``key`` alone, such as the batch size (Figure 4.7).

    Seeds agree too. Of sets of equal size, and of comparisons with the same value, the earliest counts; of more than
    ``MOST_VALUES`` values, that many are taken at even distances, the ends among them.

    Args:
        study: its epochs are drawn.
        frame: pairs of the same study.
        key: a configuration key.
        clock: a word of ``records.CLOCKS``.

    Raises:
        TableError: the comparisons have no such key.
        ValueError: the clock is unknown.
    """
    if key not in frame:
        raise TableError(f"no comparison has the key {key!r}; those that vary: {', '.join(settings(frame)) or 'none'}")
    others = [other for other in settings(frame) if other != key]
    ordered = frame.sort_values("number", kind="stable")
    sets = ordered.groupby(others, dropna=False, sort=False).ngroup() if others else pd.Series(0, index=ordered.index)
    distinct = (
        ordered[[*dict.fromkeys(("trial_id", key, *SIDES, *others))]].assign(set=sets).drop_duplicates(["set", key])
    )
    sizes = distinct.groupby("set").size()
    chosen = distinct[distinct["set"] == sizes.idxmax()] if len(sizes) else distinct
    chosen = chosen.sort_values(key, kind="stable")
    taken = np.linspace(0, len(chosen) - 1, min(len(chosen), MOST_VALUES)).round().astype("int")
    drawn = chosen.iloc[taken].to_dict("records")
    one_name = {side: chosen[side].nunique() == 1 for side in SIDES}
    rows = study.epochs[study.epochs["trial_id"].isin(chosen["trial_id"].iloc[taken])]
    parts = [
        (
            str(trial[side]) if one_name[side] else side,
            label(trial[key]),
            rows[(rows["trial_id"] == trial["trial_id"]) & (rows["arm"] == trial[side])],
        )
        for trial in drawn
        for side in SIDES
    ]
    alike = ", ".join(f"{other} {label(drawn[0][other])}" for other in others) if drawn else ""
    return Variations(key, tuple(str(trial["trial_id"]) for trial in drawn), len(chosen), alike, _panels(parts, clock))


def _panels(parts: Sequence[tuple[str, str, pd.DataFrame]], clock: str) -> tuple[Panel, ...]:
    """The nine panels of arms: the name, the setting and the epoch rows of each."""
    if clock not in CLOCKS:
        raise ValueError(f"clock {clock!r} is unknown; use one of {', '.join(CLOCKS)}")
    spent = CLOCKS[clock]
    parts = [(arm, setting, rows[rows[spent].notna()].sort_values("epoch")) for arm, setting, rows in parts]
    made = []
    for metric in PANELS:
        if metric == spent:
            metric = "epoch"
        curves = tuple(
            Curve(arm, setting, _numbers(rows[spent]), _numbers(rows[metric])) for arm, setting, rows in parts
        )
        values = np.concatenate([np.empty(0), *(curve.y for curve in curves)])
        finite = values[np.isfinite(values)]
        log = metric.endswith("_loss") and finite.size > 0 and bool((finite > 0).all())
        made.append(Panel(metric, BY_NAME[metric].unit, log, curves))
    return tuple(made)


def _numbers(values: pd.Series[Any]) -> Array:
    return values.to_numpy("float64", na_value=np.nan)


def accumulation(study: Study, trial_id: str | None = None) -> dict[str, tuple[Band, ...]]:
    """For each of ``QUANTITIES``, the arms that probe over their epochs, treatments first: Figure 6 of the appendix.

    Args:
        study: its tables.
        trial_id: one comparison instead of all: where its updates were traced, the quartiles are of the updates of an
            epoch, and an epoch without an update has none.
    """
    if trial_id is not None:
        tables = (study.trials, study.epochs, study.steps)
        trials, epochs, steps = (table[table["trial_id"] == trial_id].reset_index(drop=True) for table in tables)
        study = replace(study, trials=trials, epochs=epochs, steps=steps)
    traced = trial_id is not None and len(study.steps) > 0
    table = _of_updates(study.steps) if traced else over_time(study)
    table = table.sort_values("epoch", kind="stable")
    treatments = set(study.trials["treatment"]) if "treatment" in study.trials else set()
    names = sorted(set(table["arm"]), key=lambda name: (name not in treatments, name))
    columns = ("epoch", "low", "median", "high")
    made = {}
    for quantity in QUANTITIES:
        rows = table[table["quantity"] == quantity]
        made[quantity] = tuple(
            Band(str(name), *(_numbers(rows.loc[rows["arm"] == name, column]) for column in columns)) for name in names
        )
    return made


def _of_updates(steps: pd.DataFrame) -> pd.DataFrame:
    """Quartiles of each quantity over the updates of every epoch: ``arm``, ``epoch``, ``quantity`` and the three."""
    steps = steps[steps["samples_probed"] > 0]
    counts = ("raw_batches", "samples_probed", "samples_kept", "samples_overflowed")
    batches, probed, kept, overflowed = (steps[name].astype("float64") for name in counts)
    values = (batches, overflowed / kept.where(kept > 0), kept / probed)
    long = pd.concat(
        [steps[["arm", "epoch"]].assign(quantity=name, value=of) for name, of in zip(QUANTITIES, values, strict=True)]
    )
    by_epoch = long.dropna().groupby(["arm", "epoch", "quantity"])["value"]
    quartiles = {"low": 0.25, "median": 0.5, "high": 0.75}
    return pd.DataFrame({name: by_epoch.quantile(share) for name, share in quartiles.items()}).reset_index()


def strips(frame: pd.DataFrame, metric: str, by: str | None = None) -> tuple[Strip, ...]:
    """The finite gaps of ``metric`` in a frame of pairs, for each group of ``by`` (all together without one)."""
    frame = frame[np.isfinite(frame[f"gap/{metric}"])].sort_values(f"gap/{metric}", kind="stable")
    groups = [("all", frame)] if by is None else list(frame.groupby(bins(frame[by]), observed=True, sort=True))
    return tuple(
        Strip(str(name), group[f"gap/{metric}"].to_numpy(), group["baseline_learned"].to_numpy(dtype=bool))
        for name, group in groups
        if len(group)
    )
