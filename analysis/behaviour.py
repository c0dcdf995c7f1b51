"""What a filter does while a model trains: Figure 6 of the appendix, as median and quartiles over comparisons.

A comparison counts up to where it ended, so that later epochs stand for fewer of them: those that were not stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.load import Study

QUANTITIES = ("raw_batches_per_step", "overflow", "acceptance")
"""Panels (a), (b) and (c) of Figure 6."""

WITHOUT = "epochs_without_update"

QUARTILES = {0.25: "low", 0.5: "median", 0.75: "high"}


def over_time(study: Study) -> pd.DataFrame:
    """What each arm's filter does, epoch by epoch; arms that probe nothing in their comparison are left out.

    Returns:
        A row per arm, quantity and epoch from 1 on, in this order: ``arm``, ``epoch``, ``quantity``, ``comparisons``
        (with a value there), ``low``, ``median`` and ``high`` (quartiles over comparisons). The quantities of an epoch:

        - ``raw_batches_per_step``: raw batches for one filtered batch. Epochs without an update have none, although
          they probe, so that this is too low where there are many; of traced updates :func:`by_step` has it right.
        - ``overflow``: share of the kept samples that did not fit the filtered batch and were discarded.
        - ``acceptance``: share of the judged samples that were kept.
        - ``epochs_without_update``: ``median`` is the share of comparisons that make no update in this epoch, and has
          no quartiles. The thesis expects more of these the further training gets.
    """
    epochs = study.epochs
    arm, arms = pd.factorize(epochs["arm"], sort=True)
    trial, trials = pd.factorize(epochs["trial_id"])
    side = trial * max(len(arms), 1) + arm
    probed = (epochs["samples_probed"] > 0).to_numpy("bool", na_value=False) & (arm >= 0)
    probes = np.bincount(side[probed], minlength=len(trials) * len(arms)) > 0
    rows = np.flatnonzero((epochs["epoch"] > 0).to_numpy("bool", na_value=False) & (arm >= 0))
    rows = rows[probes[side[rows]]]
    names = ("epoch", "steps", "samples_kept", "samples_overflowed", "raw_batches_per_step", "acceptance")
    epoch, steps, kept, overflowed, batches, acceptance = (
        epochs[name].take(rows).to_numpy("float64", na_value=np.nan) for name in names
    )
    known = (kept > 0) & np.isfinite(overflowed)
    overflow = np.divide(overflowed, kept, out=np.full(len(rows), np.nan), where=known)
    keys = {"arm": np.asarray(arms, dtype="object")[arm[rows]], "epoch": epoch.astype("int64")}
    values = dict(zip(QUANTITIES, (batches, overflow, acceptance), strict=True))
    table = pd.DataFrame(keys | values | {WITHOUT: np.where(np.isnan(steps), np.nan, steps == 0)})
    quartiles = _quartiles(table, ["arm", "epoch"], QUANTITIES)
    without = table.groupby(["arm", "epoch"])[WITHOUT].agg(comparisons="count", median="mean").reset_index()
    without = without[without["comparisons"] > 0].assign(quantity=WITHOUT, low=np.nan, high=np.nan)
    return _in_order(pd.concat([quartiles, without[quartiles.columns]]), "epoch")


def by_step(study: Study, parts: int = 20) -> pd.DataFrame:
    """What it took to fill each batch, by training progress: from what a study that traced its updates left.

    Every update counts what was spent since the update before, whatever epochs that fell into. Progress is the share of
    the epochs due that have passed, an epoch's updates taken as evenly spread over it; of each comparison the updates
    of one part count together.

    Args:
        study: its tables; ``steps`` may be empty, and so is then the result.
        parts: training is divided into so many equal parts.

    Returns:
        A row per arm that probes, quantity and part: ``arm``, ``progress`` (the part's middle, 0 to 1), ``quantity``
        (of ``QUANTITIES``), ``comparisons``, ``low``, ``median`` and ``high`` (quartiles over comparisons).
    """
    names = ("raw_batches", "samples_probed", "samples_kept", "samples_overflowed")
    keys = ["trial_id", "arm"]
    steps = study.steps[[*keys, "epoch", "step", *names]].astype(dict.fromkeys(("epoch", "step", *names), "float64"))
    steps = steps[steps.groupby(keys)["samples_probed"].transform("max") > 0]
    due = study.epochs.groupby("trial_id")["epoch"].max().astype("float64")
    if "epochs" in study.trials:
        named = study.trials.set_index("trial_id")["epochs"].astype("float64")
        due = named.combine_first(due)
    within = (steps["step"] - 0.5) / steps.groupby([*keys, "epoch"])["step"].transform("max")
    progress = (steps["epoch"] - 1 + within) / steps["trial_id"].map(due).astype("float64")
    steps["progress"] = (np.floor(progress.clip(0, 1 - 1e-9) * parts) + 0.5) / parts
    sums = steps.groupby([*keys, "progress"])[list(names)].agg("sum")
    sums["updates"] = steps.groupby([*keys, "progress"]).size()
    batches, probed, kept, overflowed = (sums[name] for name in names)
    values = (batches / sums["updates"], overflowed / kept.where(kept > 0), kept / probed.where(probed > 0))
    table = pd.DataFrame(dict(zip(QUANTITIES, values, strict=True))).reset_index()
    return _in_order(_quartiles(table, ["arm", "progress"], QUANTITIES), "progress")


def _quartiles(table: pd.DataFrame, keys: Sequence[str], quantities: Sequence[str]) -> pd.DataFrame:
    """Number and quartiles of each quantity in each group of ``keys`` that has a value."""
    found = []
    for quantity in quantities:
        known = table.loc[np.isfinite(table[quantity]), [*keys, quantity]]
        groups = known.groupby(list(keys))[quantity]
        wide: Any = groups.quantile(list(QUARTILES)).unstack()
        wide = wide.reindex(columns=list(QUARTILES)).rename(columns=QUARTILES)
        wide.insert(0, "comparisons", groups.size())
        found.append(wide.reset_index().assign(quantity=quantity))
    columns = [*keys, "quantity", "comparisons", *QUARTILES.values()]
    return pd.concat(found, ignore_index=True)[columns]


def _in_order(table: pd.DataFrame, moment: str) -> pd.DataFrame:
    order = {quantity: place for place, quantity in enumerate((*QUANTITIES, WITHOUT))}
    ranks = table["quantity"].map(order)
    return table.assign(rank=ranks).sort_values(["arm", "rank", moment], ignore_index=True).drop(columns="rank")
