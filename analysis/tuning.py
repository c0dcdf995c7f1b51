"""The same configuration, or each arm at its own best: what tuning both sides with the same number of trials leaves.

A method that is compared where its own search led beats a baseline that nobody tuned. Here both arms are chosen from
the same configurations of a cell, on validation, and reported on test. Seeds are averaged before anything is chosen:
choosing among them would be choosing luck. An arm that diverged or ran out of memory has chance accuracy in that, so
that a configuration does not gain by the seeds that broke off; the other arm has what it had reached by then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.gaps import CELL, label
from analysis.outcomes import WITHOUT_UPDATES, reached
from analysis.pairs import varied
from analysis.statistics import configurations, gaps_of
from trainables.records import BUILT_IN, SIDES, Columns

UNTRAINED, LOST, TIED, UNLEARNED, UNTUNED, WON = STANDINGS = (
    "treatment without updates",
    "lost",
    "tied",
    "won over an unlearned baseline",
    "won over an untuned baseline",
    "won",
)
"""How a comparison can stand, from the worst to the best."""

EVERY = 32
"""Up to so many trials :func:`best_of_n` has a row for each; from there on for about as many more."""


@dataclass(frozen=True)
class Tuned:
    """Each arm at its own best hyperparameters within one cell, out of the same configurations.

    Attributes:
        cell: the settings that make the cell and vary in the study; empty where there is one cell.
        chosen_by: the metric that chose: ``validation_accuracy``, or ``train_accuracy`` with nothing held out.
        trials: configurations that each arm was chosen from, each averaged over its seeds.
        baseline_trial: ``number`` of the first trial of the configuration that was chosen for the baseline.
        treatment_trial: ``number`` of the first trial of the one that was chosen for the treatment.
        baseline_test: mean test accuracy of the chosen baseline, as a fraction.
        treatment_test: mean test accuracy of the chosen treatment, as a fraction.
    """

    cell: dict[str, Any]
    chosen_by: str
    trials: int
    baseline_trial: int
    treatment_trial: int
    baseline_test: float
    treatment_test: float

    @property
    def gap(self) -> float:
        """How much better the tuned treatment is than the tuned baseline, in test accuracy."""
        return self.treatment_test - self.baseline_test


def tuned(frame: pd.DataFrame) -> list[Tuned]:
    """Tuned against tuned: for each cell with at least 2 configurations, its best baseline and its best treatment.

    Each arm is chosen on its validation accuracy (training accuracy where nothing is held out) at the epoch that was
    paired, and reported on test. Comparisons that differ in seeds alone are draws of one configuration, and averaged.
    """
    rows = _configured(frame, "test_accuracy")
    rows = rows[rows["trials"] > 1]
    names = [key for key in varied(frame) if key in CELL]
    baselines, treatments = (_best(rows, side).to_dict("records") for side in SIDES)
    return [
        Tuned(
            cell=_settings(frame, baseline["place"], names),
            chosen_by=str(baseline["chosen_by"]),
            trials=int(baseline["trials"]),
            baseline_trial=int(baseline["number"]),
            treatment_trial=int(treatment["number"]),
            baseline_test=float(baseline["baseline/measured"]),
            treatment_test=float(treatment["treatment/measured"]),
        )
        for baseline, treatment in zip(baselines, treatments, strict=True)
    ]


def at_best(frame: pd.DataFrame) -> pd.DataFrame:
    """Where each arm is at its best in the cell of every comparison, chosen as in :func:`tuned`.

    A cell with one configuration has that one.

    Returns:
        On the frame's index, columns ``baseline`` and ``treatment``: the ``trial_id`` of the first comparison of the
        configuration that is best for that side; missing where nothing was measured that could choose.
    """
    rows = _configured(frame, "test_accuracy")
    cell, ids = cells(frame), frame["trial_id"].to_numpy("object")
    picked = {side: cell.map(_best(rows, side)["place"]) for side in SIDES}
    found = {
        side: [None if np.isnan(place) else ids[int(place)] for place in places] for side, places in picked.items()
    }
    return pd.DataFrame(found, index=frame.index, dtype="object")


def best_of_n(frame: pd.DataFrame) -> pd.DataFrame:
    """What each arm is expected to reach on test after a search of ``n`` trials, for the same ``n`` on both sides.

    For each cell with at least 2 configurations: the mean, over all ways to draw ``n`` of its N configurations without
    replacement, of the test accuracy of the drawn one that is best on validation (on training accuracy where nothing
    is held out); of several that are equally good each is as likely. In closed form: the configuration that comes i-th
    from the bottom is the best drawn with probability C(i-1, n-1) / C(N, n). Dodge et al. (2019, Show Your Work) draw
    with replacement, which is biased; Tang et al. (2020, Showing Your Work Doesn't Always Work) without, as here.
    With n = 1 the gap is the mean gap at the same configuration. Large n rest on few configurations, and with n = N on
    one draw, which is that of :func:`tuned` where no two configurations are equally good.

    Returns:
        A row per cell, side and n: ``cell`` (its settings in words, "all" where there is one), ``side`` (baseline or
        treatment), ``arm``, ``configurations`` (N), ``n`` (1 to 32, then up to 32 steps to N), ``expected`` (test
        accuracy, as a fraction), and ``gap_at_n`` (treatment minus baseline, on both sides' rows).
    """
    rows = _configured(frame, "test_accuracy")
    rows = rows.dropna(subset=[f"{side}/measured" for side in SIDES])
    rows = rows.assign(trials=rows.groupby("cell")["cell"].transform("size"))
    names = [key for key in varied(frame) if key in CELL]
    parts = []
    for size, of_size in rows[rows["trials"] > 1].groupby("trials"):
        trials = int(str(size))
        n, weights = _weights(trials)
        first = of_size.sort_values("cell").drop_duplicates("cell")
        texts = np.array([_text(_settings(frame, place, names)) for place in first["place"]], dtype="object")
        expected = {side: _ranked(of_size, side).reshape(-1, trials) @ weights.T for side in SIDES}  # [cell, n]
        gaps = expected["treatment"] - expected["baseline"]
        cell = np.repeat(np.arange(len(first)), len(n))
        for side in SIDES:
            arms = frame[side].iloc[first["place"]].to_numpy()
            columns = {"number": first["cell"].to_numpy()[cell], "cell": texts[cell], "side": side, "arm": arms[cell]}
            columns |= {"configurations": trials, "n": np.tile(n, len(first))}
            parts.append(pd.DataFrame(columns | {"expected": expected[side].ravel(), "gap_at_n": gaps.ravel()}))
    if not parts:
        return pd.DataFrame(columns=["cell", "side", "arm", "configurations", "n", "expected", "gap_at_n"])
    table = pd.concat(parts).sort_values(["number", "side", "n"], ignore_index=True)
    return table.drop(columns="number")


def standing(frame: pd.DataFrame, metric: str = "test_accuracy", columns: Columns = BUILT_IN) -> pd.Series[Any]:
    """How each comparison stands in ``metric``: an ordered categorical of :data:`STANDINGS`, on the frame's index.

    A treatment that diverged or ran out of memory lost. One that made too few updates to learn anything
    (:data:`analysis.outcomes.WITHOUT_UPDATES`) lost too, and is named apart, for that says little about the method. A
    win is "over an unlearned baseline" where that diverged, ran out of memory or did not learn
    (:data:`analysis.outcomes.LEARNED`), and "over an untuned baseline" where the treatment, averaged over its
    configuration's seeds, stays below what the cell's tuned baseline reaches at another configuration, chosen as in
    :func:`tuned`. In a cell with one configuration the baseline passes for tuned. Missing where there is no gap.

    Raises:
        TableError: ``metric`` has no gap.
    """
    gaps = gaps_of(frame, metric)
    rows = _configured(frame, metric, columns)
    best = _best(rows, "baseline")
    cell, configuration = cells(frame), configurations(frame)
    ours = (
        reached(frame, "treatment", metric, columns)
        .groupby([cell, configuration])
        .transform("mean")
        .to_numpy("float64")
    )
    theirs = cell.map(best["baseline/measured"]).to_numpy("float64")
    other = (cell.map(best["configuration"]) != configuration).to_numpy("bool")
    with np.errstate(invalid="ignore"):
        short = columns.by_name[metric].direction * (ours - theirs) < 0
    learned = frame["baseline_learned"].to_numpy("bool")
    untrained = (frame["outcome"] == f"treatment {WITHOUT_UPDATES}").to_numpy("bool")
    cases = [np.isnan(gaps), untrained, gaps < 0, gaps == 0, ~learned, other & short]
    places = np.select(cases, range(-1, len(STANDINGS) - 1), default=len(STANDINGS) - 1)
    values = pd.Categorical.from_codes(places.tolist(), dtype=pd.CategoricalDtype(list(STANDINGS), ordered=True))
    return pd.Series(values, index=frame.index, name="standing")


def cells(frame: pd.DataFrame) -> pd.Series[int]:
    """A number for the cell of each comparison, in order of appearance."""
    keys = [key for key in CELL if key in frame]
    return frame.groupby(keys, dropna=False, sort=False).ngroup() if keys else pd.Series(0, index=frame.index)


def _configured(frame: pd.DataFrame, metric: str, declared: Columns = BUILT_IN) -> pd.DataFrame:
    """A row per cell and configuration, averaged over its seeds, of the comparisons that can be chosen from.

    Columns ``cell``, ``configuration``, ``place`` (of its first comparison in ``frame``), ``number`` (of that),
    ``chosen_by``, ``trials`` (configurations of the cell), and ``SIDE/choice`` and ``SIDE/measured``: the metric that
    chooses, and ``metric``.
    """
    cell = cells(frame)
    read = frame[[f"{side}/epoch" for side in SIDES]].notna().to_numpy()
    held_out = (frame[[f"{side}/validation_accuracy" for side in SIDES]].notna() | ~read).all(axis="columns")
    chosen_by = held_out.groupby(cell).transform("all").map({True: "validation_accuracy", False: "train_accuracy"})
    columns: dict[str, Any] = {"cell": cell, "configuration": configurations(frame), "place": np.arange(len(frame))}
    columns |= {"number": frame["number"], "chosen_by": chosen_by}
    for side in SIDES:
        validation, train = (reached(frame, side, name) for name in ("validation_accuracy", "train_accuracy"))
        columns[f"{side}/choice"] = validation.where(chosen_by == "validation_accuracy", train)
        columns[f"{side}/measured"] = reached(frame, side, metric, declared)
    rows = pd.DataFrame(columns).dropna(subset=[f"{side}/choice" for side in SIDES])
    first = dict.fromkeys(("place", "number", "chosen_by"), "first")
    averaged = {f"{side}/{name}": "mean" for side in SIDES for name in ("choice", "measured")}
    rows = rows.groupby(["cell", "configuration"], sort=False, as_index=False).agg(first | averaged)
    return rows.assign(trials=rows.groupby("cell")["cell"].transform("size"))


def _best(rows: pd.DataFrame, side: str) -> pd.DataFrame:
    """Of each cell the configuration that is best for ``side``, the first of several; indexed by cell."""
    return rows.loc[rows.groupby("cell")[f"{side}/choice"].idxmax()].set_index("cell", drop=False)


def _ranked(rows: pd.DataFrame, side: str) -> np.ndarray[Any, Any]:
    """What each configuration reaches, cell after cell, from the worst choice to the best; equals have their mean."""
    ties = rows.groupby(["cell", f"{side}/choice"])[f"{side}/measured"]
    ranked = rows.assign(measured=ties.transform("mean")).sort_values(["cell", f"{side}/choice"])
    return ranked["measured"].to_numpy("float64")


def _weights(trials: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Numbers of draws, and for each the probability that a configuration is the best drawn, by its rank from below."""
    every = min(trials, EVERY)
    n = np.unique(np.concatenate([np.arange(1, every + 1), np.geomspace(every, trials, EVERY).round()])).astype("int64")
    rank = np.arange(trials, 1, -1)
    down = np.maximum(rank - n[:, None], 0) / (rank - 1)  # of a rank's probability, what the rank below has
    top = (n / trials)[:, None]
    return n, (top * np.cumprod(np.hstack([np.ones_like(top), down]), axis=1))[:, ::-1]


def _settings(frame: pd.DataFrame, place: int, names: list[str]) -> dict[str, Any]:
    return {name: frame[name].iloc[place] for name in names}


def _text(cell: dict[str, Any]) -> str:
    return ", ".join(f"{key} {label(value)}" for key, value in cell.items()) or "all"
