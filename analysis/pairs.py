"""Baseline and treatment of every comparison, side by side on one row; what cannot be paired is counted, not hidden.

A comparison that one arm lost by what became of it (:mod:`analysis.outcomes`) is a row like any other. One that both
arms lost has no winner and is dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.load import Study, TableError, config_keys
from analysis.outcomes import (
    DIVERGED,
    LEARNED,
    OUT_OF_MEMORY,
    WITHOUT_UPDATES,
    Bools,
    Floats,
    Objects,
    classes,
    outcomes,
    without_updates,
)
from trainables.records import BUILT_IN, CLOCKS, SIDES, STATUSES, Columns, out_of_memory

Ints = np.ndarray[Any, np.dtype[np.int64]]

STUDY = "study"
"""The column of trials that names their study, where several are read at once; it is no part of a configuration."""

MEASURED = BUILT_IN.compared
"""The columns that a pair holds for each side, in a study without metrics of its own."""


@dataclass(frozen=True)
class Pairs:
    """Comparisons that can be judged, and how many cannot.

    Attributes:
        frame: a row per comparison: ``trial_id``, ``number``, ``configuration`` (shared by comparisons that differ in
            seed alone), the configuration keys, ``outcome`` (see :func:`analysis.outcomes.outcomes`),
            ``baseline_learned``, and for each metric ``baseline/METRIC``, ``treatment/METRIC`` and ``gap/METRIC``
            (positive: the treatment is better); for each clock's column, ``baseline/COLUMN`` and
            ``treatment/COLUMN``. Where the outcome is not "measured", gaps of what was learned are -inf (the treatment
            lost) or +inf, gaps of costs are NaN, a side that diverged or ran out of memory has no values, and the
            other has those of its last epoch.
        dropped: the number of trials left out, by reason.
        at: what was compared: the final epoch, each arm's best, or a given epoch.
        clock: what the two sides have in common: a word of ``records.CLOCKS``.
        study: whose comparisons they are; None for a frame that was made otherwise.
        roles: the arms that were taken for ``baseline`` or ``treatment`` in the place of those that a trial names.
    """

    frame: pd.DataFrame
    dropped: Mapping[str, int]
    at: Literal["final", "best"] | int = "final"
    clock: str = "epochs"
    study: Study | None = None
    roles: Mapping[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> Columns:
        """What the metrics are."""
        return self.study.columns if self.study else BUILT_IN


def pair(
    study: Study,
    at: Literal["final", "best"] | int = "final",
    clock: str = "epochs",
    against: str | None = None,
    treatment: str | None = None,
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
        treatment: the arm to take for the treatment; by default the one that a trial names.

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
    given = {role: name for role, name in (("baseline", against), ("treatment", treatment)) if name is not None}
    trials = study.trials.assign(**given).reset_index(drop=True)
    keys = config_keys(trials)
    found = _find(trials, study.epochs, at, clock)
    values = {
        role: {name: _read(study.epochs[name], places) for name in study.columns.compared}
        for role, places in found.places.items()
    }
    for role in SIDES:
        idle = (found.fates[role] == "") & without_updates(values[role], classes(trials))
        found.fates[role][idle] = WITHOUT_UPDATES
    _drop(found.reasons, np.logical_and.reduce([fate != "" for fate in found.fates.values()]), _both(trials, found))
    again = np.zeros(len(trials), dtype="bool")
    usable = np.flatnonzero(found.reasons == "")
    again[usable] = trials.loc[usable, [key for key in keys if key != STUDY]].duplicated().to_numpy()
    found.reasons[again] = "repeated another comparison, seed and all"
    kept = np.flatnonzero(found.reasons == "")
    measured: dict[str, Any] = {"outcome": pd.array(outcomes(found.fates), dtype="string")}
    measured["baseline_learned"] = values["baseline"]["test_accuracy"] >= LEARNED / classes(trials)
    for role in SIDES:
        measured |= {f"{role}/{name}": values[role][name] for name in study.columns.compared}
    for name in study.columns.metrics:
        anywhere = bool(study.epochs[name].notna().any())
        measured[f"gap/{name}"] = _gaps(study.columns, name, values, found.fates, anywhere)
    frame = pd.concat([trials, pd.DataFrame(measured, index=trials.index)], axis="columns")
    frame = frame.loc[kept, ["trial_id", "number", "configuration", *keys, *measured]].reset_index(drop=True)
    dropped = Counter(str(reason) for reason in found.reasons if reason)
    return Pairs(frame, dict(dropped.most_common()), at, clock, study, given)


def varied(frame: pd.DataFrame) -> list[str]:
    """The configuration keys that take more than one value in a frame of pairs or trials; missing is a value too."""
    ours = {"trial_id", "number", "outcome", "baseline_learned"}
    keys = [key for key in config_keys(frame) if key not in ours]
    keys = [key for key in keys if not key.startswith(("baseline/", "treatment/", "gap/"))]
    return [key for key in keys if frame[key].nunique(dropna=False) > 1]


def arm_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame of pairs in long form: a row per comparison and arm with ``number``, ``arm`` and the metrics."""
    names = [name.removeprefix("baseline/") for name in map(str, frame) if name.startswith("baseline/")]
    sides = [
        pd.DataFrame(
            {"number": frame["number"], "arm": frame[side]} | {name: frame[f"{side}/{name}"] for name in names}
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
    return None if both.empty else (study.columns.gap(metric, *both.to_numpy()[-1]), int(both.index[-1]))


@dataclass(frozen=True)
class _Places:
    """Where to read one side of every trial: between two rows of the epoch table, ``weight`` of the way to the second.

    All three have a value for each trial; those of trials that cannot be paired mean nothing. A weight of NaN: there is
    nothing to read.
    """

    first: Ints
    second: Ints
    weight: Floats


@dataclass(frozen=True)
class _Found:
    """What can be said of each trial.

    Attributes:
        reasons: why it cannot be paired, "" where it can.
        fates: what became of each side, so that it lost; "" where it trained.
        places: where each side is to be read.
    """

    reasons: Objects
    fates: Mapping[str, Objects]
    places: Mapping[str, _Places]


@dataclass(frozen=True)
class _Side:
    """The rows of one side, in order of trials and then of epochs.

    Attributes:
        rows: their places in the epoch table.
        trial: the trial of each.
        start: for each trial, where its rows begin in ``rows``.
        count: for each trial, how many they are.
    """

    rows: Ints
    trial: Ints
    start: Ints
    count: Ints

    @property
    def last(self) -> Ints:
        """For each trial the place of its last row in the epoch table; any row where there is none."""
        return self.at(self.start + self.count - 1)

    def at(self, places: Ints) -> Ints:
        """Rows of the epoch table by their places in ``rows``; any row for a place that is none."""
        return self.rows[np.clip(places, 0, len(self.rows) - 1)] if len(self.rows) else np.zeros_like(places)


def _find(trials: pd.DataFrame, epochs: pd.DataFrame, at: Literal["final", "best"] | int, clock: str) -> _Found:
    """Where each trial's sides are to be read, or why not: the first reason of several counts."""
    n = len(trials)
    reasons = np.full(n, "", dtype="object")
    trial = pd.Index(trials["trial_id"]).get_indexer(pd.Index(epochs["trial_id"]))
    arm, arms = pd.factorize(epochs["arm"])
    epoch = epochs["epoch"].to_numpy("int64")
    status = trials["status"].to_numpy("object").astype("str")
    ended = _endings(trials, status, trial, epochs)
    order = np.lexsort((epoch, arm, trial))
    names = {role: _names(trials, role) for role in SIDES}
    wanted = {role: pd.Index(arms).get_indexer(pd.Index(names[role])) for role in SIDES}
    sides = {role: _side(trial, arm, order, wanted[role]) for role in SIDES}
    fates = {role: _fate(trials, status, names[role], sides[role], epochs) for role in SIDES}
    lost = np.logical_or.reduce([fate != "" for fate in fates.values()])
    if isinstance(at, str):
        _drop(reasons, (status != "finished") & ~lost, ended)
    same = np.logical_and.reduce([key[order][1:] == key[order][:-1] for key in (trial, arm, epoch)])
    _drop(reasons, _any(trial[order][1:][same], n), "an arm has several rows for one epoch")
    unnamed = np.logical_or.reduce([name.isna() for name in names.values()])
    _drop(reasons, unnamed, "the configuration names no baseline or no treatment")
    empty = np.logical_or.reduce([side.count == 0 for side in sides.values()])
    _drop(reasons, empty & _any(trial, n), "an arm is missing")
    rows = {role: side.last for role, side in sides.items()}
    if isinstance(at, int):
        places = {role: _reaching(side, epoch, at, n) for role, side in sides.items()}
        missing = np.logical_or.reduce([found < 0 for found in places.values()])
        ended[status == "finished"] = "trained for fewer epochs"
        _drop(reasons, missing & ~lost, ended + f", before epoch {at}")
        rows = {role: np.where(missing, rows[role], sides[role].at(found)) for role, found in places.items()}
        for fate in fates.values():
            fate[~missing] = ""  # what became of it later does not count here
    else:
        last = {role: _take(epochs["epoch"], side.last) for role, side in sides.items()}
        due = trials["epochs"].astype("Float64") if "epochs" in trials else pd.Series(pd.NA, trials.index, "Float64")
        late = (due.notna() & (due != last["baseline"])).to_numpy("bool", na_value=False)
        late |= empty | (last["baseline"] != last["treatment"])
        _drop(reasons, late & ~lost, "the last epoch is missing")
    if at == "best":
        accuracy = epochs["validation_accuracy"].to_numpy("float64")
        best = {role: _best(side, accuracy, n) for role, side in sides.items()}
        unknown = np.logical_or.reduce([found < 0 for found in best.values()])
        _drop(reasons, unknown & ~lost, "no validation accuracy")
        rows = {role: np.where(lost, rows[role], sides[role].at(found)) for role, found in best.items()}
    found = {role: _Places(row, row, np.zeros(n)) for role, row in rows.items()}
    if clock != "epochs":
        spent = epochs[CLOCKS[clock]].to_numpy("float64", na_value=np.nan)
        found = _at_equal(sides, spent, epoch, clock, lambda which, why: _drop(reasons, which & ~lost, why))
        found = {role: _at_end(places, sides[role], lost) for role, places in found.items()}
    bad = pd.Series(without_loss(epochs), epochs.index)
    for role, side in sides.items():
        fates[role][(fates[role] == "") & (side.count > 0) & (_read(bad, found[role]) != 0)] = DIVERGED
        found[role].weight[(fates[role] != "") | (side.count == 0)] = np.nan
    return _Found(reasons, fates, found)


def _drop(reasons: Objects, which: Bools, why: str | Objects) -> None:
    """Note why some trials cannot be paired, unless there was a reason already."""
    which = which & (reasons == "")
    reasons[which] = why if isinstance(why, str) else why[which]


def _fate(trials: pd.DataFrame, status: Objects, names: pd.Series[Any], side: _Side, epochs: pd.DataFrame) -> Objects:
    """What became of one side of each trial by the end of its comparison; "" where nothing ended it."""
    bad = np.append(without_loss(epochs), False)  # that of no row
    diverged = (status == "diverged") & (side.count > 0) & bad[side.last]
    errors = trials["error"].astype("string").fillna("")
    full = np.array(
        [out_of_memory(str(name)) in error for name, error in zip(names, errors, strict=True)], dtype="bool"
    )
    return np.select([diverged, (status == "failed") & full], [DIVERGED, OUT_OF_MEMORY], "").astype("object")


def _both(trials: pd.DataFrame, found: _Found) -> Objects:
    """In words, for each trial, what became of both sides."""
    words = []
    for baseline, treatment, *fates in zip(
        *(trials.get(role, pd.Series("", trials.index)) for role in SIDES), *found.fates.values(), strict=True
    ):
        alike = fates[0] == fates[1]
        words.append(
            f"{fates[0]}: {baseline}, {treatment}" if alike else f"{fates[0]}: {baseline}; {fates[1]}: {treatment}"
        )
    return np.array(words, dtype="object")


def _gaps(
    columns: Columns,
    name: str,
    values: Mapping[str, Mapping[str, Floats]],
    fates: Mapping[str, Objects],
    measured: bool,
) -> Floats:
    """The gaps of a metric; of one that was ``measured`` in the study, infinite where an outcome decides."""
    decided = {role: fate != "" for role, fate in fates.items()}
    with np.errstate(invalid="ignore"):
        gaps = columns.by_name[name].direction * (values["treatment"][name] - values["baseline"][name])
    end = np.inf if measured and name in columns.evaluations else np.nan
    return np.where(decided["treatment"], -end, np.where(decided["baseline"], end, gaps))


def without_loss(rows: pd.DataFrame) -> Bools:
    """Which epoch rows have a training loss that is not finite; where training was not measured, none is missing."""
    loss = rows["train_mean_loss"].to_numpy("float64", na_value=np.nan)
    return ~np.isfinite(loss) & rows["train_accuracy"].notna().to_numpy("bool")


def _endings(trials: pd.DataFrame, status: Any, trial: Ints, epochs: pd.DataFrame) -> Objects:
    """In words, for each trial, why one of its status has no final gap."""
    words = {"running": "still running", "stopped": STATUSES["stopped"]}
    ended = np.array([words.get(str(one), str(one)) for one in status], dtype="object")
    bad = without_loss(epochs) & (trial >= 0)
    bad[bad] = status[trial[bad]] == "diverged"
    arms = pd.DataFrame({"trial": trial[bad], "arm": epochs["arm"].to_numpy("object")[bad]}).drop_duplicates()
    joined = arms.sort_values("arm").groupby("trial")["arm"].agg(", ".join)
    ended[joined.index.to_numpy("int64")] = ("diverged: " + joined).to_numpy("object")
    return ended


def _names(trials: pd.DataFrame, role: str) -> pd.Series[Any]:
    """The arm in this role, for each trial; missing where none is named."""
    given = trials[role] if role in trials else pd.Series(pd.NA, trials.index)
    return given.where(given.map(lambda name: isinstance(name, str))).astype("string")


def _side(trial: Ints, arm: Ints, order: Ints, wanted: Ints) -> _Side:
    """The rows of the arm that each trial wants (-1 is none), of rows that ``order`` puts in order."""
    rows = order[(trial[order] >= 0) & (arm[order] >= 0)]
    rows = rows[wanted[trial[rows]] == arm[rows]]
    count = np.bincount(trial[rows], minlength=len(wanted))
    return _Side(rows, trial[rows], np.cumsum(count) - count, count)


def _reaching(side: _Side, epoch: Ints, at: int, n: int) -> Ints:
    """For each trial the place in ``side.rows`` of epoch ``at``; -1 where it has none."""
    places = np.flatnonzero(epoch[side.rows] == at)
    found = np.full(n, -1)
    found[side.trial[places]] = places
    return found


def _best(side: _Side, accuracy: Floats, n: int) -> Ints:
    """For each trial the place in ``side.rows`` of the first epoch of best ``accuracy``; -1 where it has none."""
    values = accuracy[side.rows]
    best = np.full(n, -np.inf)
    np.fmax.at(best, side.trial, values)
    places = np.flatnonzero(values == best[side.trial])[::-1]
    found = np.full(n, -1)
    found[side.trial[places]] = places
    return found


def _at_equal(
    sides: Mapping[str, _Side], spent: Floats, epoch: Ints, clock: str, drop: Callable[[Bools, str], None]
) -> dict[str, _Places]:
    """Both sides where the smaller of their totals on ``clock`` is spent, between two epochs."""
    n = len(next(iter(sides.values())).count)
    budget = np.full(n, np.inf)
    for side in sides.values():
        drop(_any(side.trial[np.isnan(spent[side.rows])], n), f"{clock} were not recorded")
        total = np.full(n, -np.inf)
        np.fmax.at(total, side.trial, spent[side.rows])
        budget = np.minimum(budget, total)
    found = {}
    for role, side in sides.items():
        least = np.full(n, np.inf)
        later = epoch[side.rows] > 0
        np.fmin.at(least, side.trial[later], spent[side.rows][later])
        drop(
            np.isfinite(least) & (budget < least),
            f"one arm's whole training takes fewer {clock} than the other's first epoch",
        )
        within = side.trial[spent[side.rows] <= budget[side.trial]]
        place = side.start + np.bincount(within, minlength=n) - 1
        first = side.at(place)
        second = side.at(np.minimum(place + 1, side.start + side.count - 1))
        here, there = (spent[rows] if len(spent) else np.zeros(n) for rows in (first, second))
        between = np.flatnonzero((there > here) & (budget > here))
        weight = np.zeros(n)
        weight[between] = (budget - here)[between] / (there - here)[between]
        found[role] = _Places(first, second, weight)
    return found


def _at_end(places: _Places, side: _Side, which: Bools) -> _Places:
    """The same places, but for some trials the side's last row."""
    first, second = (np.where(which, side.last, rows) for rows in (places.first, places.second))
    return _Places(first, second, np.where(which, 0.0, places.weight))


def _read(column: pd.Series[Any], places: _Places) -> Floats:
    """The values of an epoch column where ``places`` says, one for each trial."""
    values = _take(column, places.first)
    between = np.flatnonzero(places.weight)
    with np.errstate(invalid="ignore"):
        further = _take(column, places.second[between]) - values[between]
        values[between] += places.weight[between] * further
    return values


def _take(column: pd.Series[Any], rows: Ints) -> Floats:
    """The values of an epoch column in some rows, as numbers; NaN where missing, and of a table without rows."""
    if not len(column):
        return np.full(len(rows), np.nan)
    return np.array(column.take(rows).to_numpy("float64", na_value=np.nan))


def _any(trial: Ints, n: int) -> Bools:
    """For each of ``n`` trials, whether it is among ``trial``."""
    return np.bincount(trial[trial >= 0], minlength=n) > 0
