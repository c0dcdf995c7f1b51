"""What figures of training show, as numbers: the nine panels, variations of one setting, and batch accumulation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.behaviour import QUANTITIES, over_time
from analysis.database import TableError
from analysis.gaps import label, settings
from analysis.load import Study
from analysis.pairs import arms
from trainables.records import CLOCKS, SIDES, Columns

PANELS = (
    *("train_accuracy", "test_accuracy", "train_worst_loss"),
    *("train_mean_loss", "test_mean_loss", "test_worst_loss"),
    *("train_q90_loss", "test_q90_loss", "cumulative_seconds"),
)
"""Three rows of three, train left of test, or above it. Against seconds, the last has the epochs passed."""

MOST_EPOCHS = 100
"""Epochs of a comparison that are drawn at most."""

MOST_VALUES = 6
"""So many values of a setting are drawn at most: as many as there are colours."""

SAME_SCALE = ((0, 1), (3, 4), (6, 7), (2, 5))
"""Panels of the same metric on train and test, to be read against each other."""
AXES = {
    "epochs": "epoch",
    "passes": "passes over the data",
    "steps": "updates",
    "samples": "samples trained on",
    "compute": "compute (forward-equivalents)",
    "seconds": "time for probing and updates (s)",
    "reference_seconds": "reference seconds (s)",
}
"""What stands below a panel, by clock."""
HEADINGS = {"cumulative_seconds": "time for probing and updates", "epoch": "passes over the data"}
"""Of the panels that are not metrics by name."""


@dataclass(frozen=True)
class Variations:
    """Comparisons that differ in one configuration key and agree in all others.

    Attributes:
        key: what varies.
        trial_ids: the comparisons, in order of the key's values.
        values: how many values could have been drawn; more than there are comparisons where these were too many.
        alike: the other settings that vary in the study, and their values in these comparisons.
        curves: for each curve the value of the key and the arm, or the side where the comparisons name other arms.
        rows: of :func:`panel_rows`, with the name of the curve as ``arm``.
    """

    key: str
    trial_ids: tuple[str, ...]
    values: int
    alike: str
    curves: Mapping[str, tuple[str, str]]
    rows: pd.DataFrame


def panel_rows(study: Study, trial_id: str) -> pd.DataFrame:
    """The epochs of every arm of a trial, at even distances where there are many: ``arm``, the clocks, and the metrics.

    Raises:
        TableError: the study has no such trial.
    """
    names = arms(study, trial_id)
    rows = study.epochs[(study.epochs["trial_id"] == trial_id) & study.epochs["arm"].isin(names)]
    return _drawn(rows, study.columns)


def own_panels(columns: Columns) -> list[str]:
    """The study's own metrics that a comparison has panels of: those on the training and test set."""
    return [column.name for column in columns.own if not column.name.startswith("validation_")]


def evenly(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most ``most`` of the rows, at even distances, the first and the last among them."""
    return rows.iloc[np.linspace(0, len(rows) - 1, min(len(rows), most)).round().astype(int)]


def _drawn(rows: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Of a comparison's epochs those that are drawn, and of their columns what panels show."""
    kept = evenly(rows[["epoch"]].drop_duplicates().sort_values("epoch"), MOST_EPOCHS)["epoch"]
    names = list(dict.fromkeys(["arm", *CLOCKS.values(), *PANELS, *own_panels(columns)]))
    return rows.loc[rows["epoch"].isin(kept), names].astype(dict.fromkeys(names[1:], "float64")).reset_index(drop=True)


def variations(study: Study, frame: pd.DataFrame, key: str) -> Variations:
    """The largest set of comparisons that differ in ``key`` alone, such as the batch size (Figure 4.7).

    Seeds agree too. Of sets of equal size, and of comparisons with the same value, the earliest counts; of more than
    ``MOST_VALUES`` values, that many are taken at even distances, the ends among them.

    Args:
        study: its epochs are drawn.
        frame: pairs of the same study.
        key: a configuration key.

    Raises:
        TableError: the comparisons have no such key.
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
    curves, parts = {}, [_drawn(rows.iloc[:0], study.columns)]
    for trial in drawn:
        for side in SIDES:
            setting, name = label(trial[key]), str(trial[side]) if one_name[side] else side
            curves[f"{setting}, {name}"] = (setting, name)
            of_arm = rows[(rows["trial_id"] == trial["trial_id"]) & (rows["arm"] == trial[side])]
            parts.append(_drawn(of_arm.assign(arm=f"{setting}, {name}"), study.columns))
    alike = ", ".join(f"{other} {label(drawn[0][other])}" for other in others) if drawn else ""
    ids = tuple(str(trial["trial_id"]) for trial in drawn)
    return Variations(key, ids, len(chosen), alike, curves, pd.concat(parts, ignore_index=True))


def accumulation(study: Study, trial_id: str | None = None) -> pd.DataFrame:
    """For each of ``QUANTITIES``, the arms that probe over their epochs, treatments first: Figure 6 of the appendix.

    Args:
        study: its tables.
        trial_id: one comparison instead of all: where its updates were traced, the quartiles are of the updates of an
            epoch, and an epoch without an update has none.

    Returns:
        ``arm``, ``epoch``, ``quantity``, ``low``, ``median`` and ``high``; the last three are equal where there is one
        value to an epoch.
    """
    if trial_id is not None:
        tables = (study.trials, study.epochs, study.steps)
        trials, epochs, steps = (table[table["trial_id"] == trial_id].reset_index(drop=True) for table in tables)
        study = replace(study, trials=trials, epochs=epochs, steps=steps)
    traced = trial_id is not None and len(study.steps) > 0
    table = _of_updates(study.steps) if traced else over_time(study)
    table = table[table["quantity"].isin(QUANTITIES)]
    treatments = set(study.trials["treatment"]) if "treatment" in study.trials else set()
    ordered = table.assign(other=~table["arm"].isin(treatments)).sort_values(["other", "arm", "epoch"], kind="stable")
    columns = ["arm", "epoch", "quantity", "low", "median", "high"]
    return ordered[columns].reset_index(drop=True)


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
