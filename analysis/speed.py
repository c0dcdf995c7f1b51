"""How soon each arm reaches a test accuracy, on every clock; arms that were not watched for long enough are censored.

An arm that ends below the target may have reached it later: its time is *censored*, known to be past its end. Two views
allow for that. :func:`reached` estimates for each side what share has reached the target by when (Kaplan and Meier
1958, doi:10.1080/01621459.1958.10501452). :func:`speeds` asks in how many comparisons the treatment is first, of those
in which this is certain whatever would have come after the ends.

Both take an arm's end to say nothing about its future. A scheduler that looks at accuracy breaks this: its censoring is
informative, for the arms that it stops are those that would have taken the longest. Shares reached are then too high,
more so on a side that it alone looks at, and the comparisons that can be decided are no chance sample. Only a study
without early stopping is free of this doubt.

The thesis sees more epochs per second with filtering (4.4) and suggests more progress per update (4.4.5).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.database import TableError
from analysis.load import Study, config_keys
from analysis.outcomes import Bools, Floats
from analysis.pairs import STUDY, Ints, without_loss
from analysis.statistics import configurations, holm, units
from trainables.records import CLOCKS, SIDES

WINNERS = ("treatment", "tied", "baseline", "undecided")
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
"""Test accuracies that make readable targets."""

FAIR = 0.25
"""A target is worth a question when at least this share of the arms reaches it."""

AT_ONCE = 0.1
"""A target is none when more than this share of the arms has it before training."""

MOST = 4
"""So many targets at most."""


@dataclass(frozen=True)
class _Side:
    """One side of every trial.

    Attributes:
        rows: places in the epoch table, in order of trials and then of epochs, (rows,).
        trial: the trial of each, (rows,).
        diverged: for each trial, whether this side diverged, (trials,).
    """

    rows: Ints
    trial: Ints
    diverged: Bools


def time_to(study: Study, target: float, clock: str, against: str | None = None) -> pd.DataFrame:
    """When each side's test accuracy first reaches ``target``, interpolated linearly between epochs.

    Every trial counts in which both sides were watched from epoch 0 on, whatever its status: one that was stopped or
    interrupted or is still running is censored where it ended. An arm that diverged will never reach the target: its
    end is infinite. Of trials that repeat another, seed and all, the one with the most rows counts.

    Args:
        study: its tables.
        target: a test accuracy as a fraction; one that an arm has before training is reached at 0.
        clock: a word of ``records.CLOCKS``.
        against: the arm to take for the baseline; by default the one that a trial names.

    Returns:
        A row per comparison: ``trial_id``, ``number``, ``configuration`` (a number that those share which differ in
        seeds alone), ``baseline`` and ``treatment`` (when each reaches it, in the clock's unit; NaN if never),
        ``baseline_end`` and ``treatment_end`` (where each was last watched), and ``winner``: "treatment", "baseline" or
        "tied" where both reach it, or one does before the other's end; else "undecided".

    Raises:
        TableError: ``target`` is no fraction, or ``clock`` is unknown.
    """
    return _times(*_watched(study, against), study.epochs, target, clock)


def reached(times: pd.DataFrame) -> pd.DataFrame:
    """The share of each side that has reached the target by each moment, by Kaplan and Meier's estimator.

    Args:
        times: rows of :func:`time_to`.

    Returns:
        For each side, baseline first, a row per moment at which an arm reaches the target or was last watched, in
        order: ``side``, ``value`` (on the clock), ``share``, ``low`` and ``high`` (95% interval by the exponential
        Greenwood formula, which has none where the share is 0 or 1: NaN), and ``at_risk`` (arms still watched that had
        not reached it before). The share keeps its value until the next row. The interval takes comparisons as
        independent, and is too narrow where configurations have several seeds.
    """
    return pd.concat([_curve(times, side) for side in SIDES], ignore_index=True)


def targets(study: Study, against: str | None = None) -> list[float]:
    """Readable test accuracies to ask for: those that a fair share of the arms reaches, but not all; at most 4.

    Of more, an even choice that holds the lowest and the highest. Where every level is reached by all arms or by too
    few, the highest that all reach by training. Arms of different problems count together.
    """
    trials, sides = _watched(study, against)
    accuracy = study.epochs["test_accuracy"].to_numpy("float64", na_value=np.nan)
    best, first = np.full((2, len(SIDES), len(trials)), -np.inf)
    for place, side in enumerate(sides.values()):
        np.fmax.at(best[place], side.trial, accuracy[side.rows])
        first[place, side.trial[::-1]] = accuracy[side.rows[::-1]]
    best, first = best[np.isfinite(best)], first[np.isfinite(best)]
    asked = [level for level in LEVELS if len(first) and (first >= level).mean() <= AT_ONCE]
    shares = {level: float((best >= level).mean()) for level in asked}
    found = [level for level, share in shares.items() if FAIR <= share < 1]
    if not found:
        return [level for level, share in shares.items() if share == 1][-1:]
    places = np.linspace(0, len(found) - 1, min(len(found), MOST)).round().astype(int)
    return [found[place] for place in places]


def speeds(study: Study, targets: Sequence[float], clocks: Sequence[str], against: str | None = None) -> pd.DataFrame:
    """Which side reaches each target first on each clock.

    Returns:
        A row per clock and target, in this order: ``clock``, ``target``, ``comparisons`` (watched),
        ``baseline_reached`` and ``treatment_reached`` (of these), ``baseline_median`` and ``treatment_median`` (the
        moment by which half of the arms have reached it, by :func:`reached`; NaN where that was not seen), ``both``
        (comparisons in which both do), ``ratio`` (median of the treatment's time over the baseline's in these; below 1
        the treatment is faster; NaN without one in which both take longer than 0), ``decided`` and ``ties``
        (comparisons), ``first`` (share of the decided in which the treatment is first, a tie counting half), ``least``
        and ``most`` (that share of the comparisons in which either side reaches it, with all that are undecided given
        to the baseline or to the treatment), ``units``, ``p`` and ``p_holm``. The units of the two-sided sign test are
        configurations, each for the side that is first in more of its seeds, or comparisons where all are of one
        configuration; those even are not counted. ``p_holm`` is corrected over all rows (Holm 1979).

    An arm that spends less on a clock is watched for less of it: where it misses a target that the other reaches later,
    the comparison is undecided, so that ``first`` favours it, and ``least`` and ``most`` are far apart.

    Raises:
        TableError: a target is no fraction, or a clock is unknown.
    """
    trials, sides = _watched(study, against)
    rows = [
        {"clock": clock, "target": float(target), **_speed(_times(trials, sides, study.epochs, target, clock))}
        for clock in clocks
        for target in targets
    ]
    nothing = _speed(_times(trials, sides, study.epochs, 1.0, "epochs").iloc[:0])
    table = pd.DataFrame(rows, columns=["clock", "target", *nothing])
    return table.assign(p_holm=holm(table["p"].to_numpy("float64")))


def _watched(study: Study, against: str | None) -> tuple[pd.DataFrame, dict[str, _Side]]:
    """All trials, and the sides of those that count."""
    trials = (study.trials if against is None else study.trials.assign(baseline=against)).reset_index(drop=True)
    n = len(trials)
    trial = pd.Index(trials["trial_id"]).get_indexer(pd.Index(study.epochs["trial_id"]))
    arm, arms = pd.factorize(study.epochs["arm"])
    epoch = study.epochs["epoch"].to_numpy("int64")
    lost = without_loss(study.epochs)
    usable = np.ones(n, dtype="bool")
    lengths = np.zeros(n, dtype="int64")
    sides = {}
    for role in SIDES:
        wanted = pd.Index(arms).get_indexer(pd.Index(trials[role])) if role in trials else np.full(n, -1)
        rows = np.flatnonzero((trial >= 0) & (arm >= 0))
        rows = rows[wanted[trial[rows]] == arm[rows]]
        order = trial[rows] * (epoch.max(initial=0) + 1) + epoch[rows]
        sorting = np.argsort(order, kind="stable")
        rows, order = rows[sorting], order[sorting]
        last = np.full(n, -1)
        last[trial[rows]] = rows
        diverged = (last >= 0) & (trials["status"] == "diverged").to_numpy("bool")
        diverged[diverged] = lost[last[diverged]]
        sides[role] = _Side(rows, trial[rows], diverged)
        usable &= last >= 0
        usable[trial[rows[1:][order[1:] == order[:-1]]]] = False  # which of two rows of one epoch holds is not known
        lengths += np.bincount(trial[rows], minlength=n)
    longest = trials.iloc[np.lexsort((-lengths, ~usable))]
    keys = [key for key in config_keys(trials) if key != STUDY]
    usable[longest.index[longest.duplicated(keys) if keys else []]] = False
    kept = {role: usable[side.trial] for role, side in sides.items()}
    return trials, {r: _Side(side.rows[kept[r]], side.trial[kept[r]], side.diverged) for r, side in sides.items()}


def _times(
    trials: pd.DataFrame, sides: Mapping[str, _Side], epochs: pd.DataFrame, target: float, clock: str
) -> pd.DataFrame:
    if clock not in CLOCKS:
        raise TableError(f"clock {clock!r} is unknown; use one of {', '.join(CLOCKS)}")
    if not 0 <= target <= 1:
        raise TableError(f"target {target} is no test accuracy; give a fraction from 0 to 1")
    epoch, accuracy, spent = (
        epochs[name].to_numpy("float64", na_value=np.nan) for name in ("epoch", "test_accuracy", CLOCKS[clock])
    )
    found = {role: _reach(side, target, epoch, accuracy, spent) for role, side in sides.items()}
    usable = np.logical_and.reduce([~np.isnan(end) for _, end in found.values()])
    trials = trials[usable]
    (baseline, baseline_end), (treatment, treatment_end) = ((at[usable], end[usable]) for at, end in found.values())
    theirs, ours = (np.where(np.isnan(at), np.inf, at) for at in (baseline, treatment))
    first = (ours < theirs) & (ours <= baseline_end)
    second = (theirs < ours) & (theirs <= treatment_end)
    tied = np.isfinite(ours) & (ours == theirs)
    winner = np.select([first, tied, second], WINNERS[:3], WINNERS[3])
    return (
        trials[["trial_id", "number"]]
        .reset_index(drop=True)
        .assign(
            configuration=configurations(trials).to_numpy(),
            baseline=baseline,
            treatment=treatment,
            baseline_end=baseline_end,
            treatment_end=treatment_end,
            winner=pd.Categorical(winner, categories=WINNERS),
        )
    )


def _reach(side: _Side, target: float, epoch: Floats, accuracy: Floats, spent: Floats) -> tuple[Floats, Floats]:
    """For each trial the moment of the target, NaN if never, and of the side's end, NaN without an epoch 0."""
    n = len(side.diverged)
    known = np.isfinite(accuracy[side.rows]) & np.isfinite(spent[side.rows])
    rows, trial = side.rows[known], side.trial[known]
    epoch, accuracy, spent = epoch[rows], accuracy[rows], spent[rows]
    end = np.full(n, np.nan)
    end[trial] = spent  # the last of a trial's rows stays
    end[side.diverged] = np.inf
    end[np.bincount(trial[epoch == 0], minlength=n) == 0] = np.nan
    hits = np.flatnonzero(accuracy >= target)[::-1]
    first = np.full(n, -1)
    first[trial[hits]] = hits
    place = first[first >= 0]
    value = spent[place]
    within = np.flatnonzero((place > 0) & (trial[place - 1] == trial[place]))
    low, high = place[within] - 1, place[within]
    share = (target - accuracy[low]) / (accuracy[high] - accuracy[low])
    value[within] = np.minimum(spent[low] + share * (spent[high] - spent[low]), spent[high])  # not past it by rounding
    moment = np.full(n, np.nan)
    moment[first >= 0] = value
    return moment, end


def _curve(times: pd.DataFrame, side: str) -> pd.DataFrame:
    """The rows of :func:`reached` of one side.

    An arm that diverged is censored after all others, at a moment beyond these: it stays unreached for good.
    """
    moment, end = times[side].to_numpy("float64"), times[f"{side}_end"].to_numpy("float64")
    moment, censored = moment[~np.isnan(moment)], end[np.isnan(moment)]
    moments = np.sort(np.concatenate([moment, censored[np.isfinite(censored)]]))
    right = np.where(np.isfinite(censored), censored, 2 * moments.max(initial=0) + 1)
    share = stats.ecdf(stats.CensoredData(uncensored=moment, right=right)).cdf
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The confidence interval is undefined", RuntimeWarning)
        bounds = share.confidence_interval(method="log-log")
    curve = {
        "side": side,
        "value": share.quantiles,
        "share": share.probabilities,
        "low": bounds.low.probabilities,
        "high": bounds.high.probabilities,
        "at_risk": len(times) - np.searchsorted(moments, share.quantiles),
    }
    return pd.DataFrame(curve)[share.quantiles <= moments.max(initial=-np.inf)]


def _speed(times: pd.DataFrame) -> dict[str, float]:
    baseline, treatment = (times[side].to_numpy("float64") for side in SIDES)
    winner = times["winner"].cat.codes.to_numpy()
    decided = winner != WINNERS.index("undecided")
    sign = 1.0 - winner[decided]  # 1 for the treatment, 0 for a tie, -1 for the baseline
    of_units = units(sign, times["configuration"].to_numpy()[decided])
    ahead, counted = int((of_units > 0).sum()), int((of_units != 0).sum())
    halves = [curve.loc[curve["share"] >= 0.5, "value"].min() for curve in (_curve(times, side) for side in SIDES)]
    both = (baseline > 0) & (treatment > 0)
    points, either = float((1 + sign).sum() / 2), int((~np.isnan(baseline) | ~np.isnan(treatment)).sum())
    return {
        "comparisons": len(times),
        "baseline_reached": int(np.isfinite(baseline).sum()),
        "treatment_reached": int(np.isfinite(treatment).sum()),
        "baseline_median": float(halves[0]),
        "treatment_median": float(halves[1]),
        "both": int((np.isfinite(baseline) & np.isfinite(treatment)).sum()),
        "ratio": float(np.median(treatment[both] / baseline[both])) if both.any() else math.nan,
        "decided": len(sign),
        "ties": int((sign == 0).sum()),
        "first": points / len(sign) if len(sign) else math.nan,
        "least": points / either if either else math.nan,
        "most": (points + either - len(sign)) / either if either else math.nan,
        "units": counted,
        "p": float(stats.binomtest(ahead, counted).pvalue) if counted else math.nan,
    }
