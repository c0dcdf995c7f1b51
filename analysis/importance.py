"""Which hyperparameters drive the gap: two measures of importance, each beside what chance reaches among all keys.

Both are shares of a variance between configurations, each averaged over its seeds. A key is seen through the groups of
:func:`analysis.gaps.bins`: no scale (linear or logarithmic) has to be guessed, and "not set" is a group like any other.

- *fANOVA* (Hutter et al. 2014, "An efficient approach for assessing hyperparameter importance"): a random forest learns
  the gap, and a key's importance is the share of the variance of what the forest says that the key explains on its own,
  averaged over all others. What all keys together lack to 1 is interactions. It speaks of the gap everywhere and in its
  unit: a few huge gaps count for much.
- *PED-ANOVA* (Watanabe et al. 2023, arXiv:2304.10255): how much the key on its own tells whether a configuration is
  among the quarter with the largest gaps, as a share of the variance of that yes-or-no. It speaks of where filtering
  does best, and by rank: neither how large a gap is nor what happens among the other three quarters matters. Optuna
  smooths over neighbouring groups, so that the share comes out too small, above all with few configurations.

What chance reaches is a line for each key. All keys' values are shuffled together among the configurations, 39 times,
and the lines are the same number of deviations above each key's mean importance in these shuffles (Westfall & Young
1993, the largest of the standardized statistics): just so many that one shuffle in 20, compared with the others, has
any key above its line. So where no key has to do with the gap, one study in 20 has a key above its line, however many
keys there are.

Neither measure says in which direction a key drives the gap (:mod:`analysis.rules` does), nor that it drives it at all
outside the space that was searched. Keys that always change together cannot be told apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

from analysis.gaps import bins, hyperparameters
from analysis.outcomes import finite_gaps
from analysis.pairs import STUDY
from analysis.statistics import Values, configurations, gaps_of

TOP = 0.25
"""The share of configurations that PED-ANOVA tells from the others."""

FEWEST = 20
"""With fewer configurations there are no importances: PED-ANOVA asks for 5 among the best, which are a quarter."""

MOST = 500
"""So many configurations are drawn where there are more: the forests would take minutes, and find the same."""

LEVELS = 8
"""A key of up to so many values has a group for each; else there are so many ranges of about equally many values."""

SHUFFLES = 39
"""Of the keys among the configurations, each with a forest of its own."""

EXCEED = 2
"""So many of the shuffles and the study itself, which are 40, may have a key that reaches its line: 5%."""

TREES, DEPTH = 10, 6
"""Of each forest. Deeper ones learn noise and cost a multiple."""

SHUFFLED = "\0"
"""What precedes a key's name, as often as its values have been shuffled; no key of a configuration begins so."""

DTYPES = {
    "key": "object",
    "fanova": "float64",
    "fanova_chance": "float64",
    "fanova_above": "bool",
    "ped_anova": "float64",
    "ped_chance": "float64",
    "ped_above": "bool",
    "configurations": "int64",
}


def importances(frame: pd.DataFrame, metric: str, seed: int) -> pd.DataFrame:
    """How much each hyperparameter that varies has to do with the gap of ``metric``.

    Args:
        frame: pairs; gaps that are not finite are not counted.
        metric: a metric that has a direction.
        seed: of the shuffles and the forests.

    Returns:
        A row per key, the largest ``fanova`` first: ``key``; ``fanova`` and ``ped_anova`` (NaN where gaps tie, so that
        no quarter is best); ``fanova_chance`` and ``ped_chance``, what the key reaches by chance; ``fanova_above`` and
        ``ped_above``, whether it exceeds that (where no key has to do with the gap, any key does in 5% of studies);
        ``configurations`` used, at most 500. No rows with fewer than 20 configurations, with equal gaps throughout, or
        where nothing varies.

    Raises:
        TableError: ``metric`` has no gap.
    """
    table = averaged(frame, metric)
    rng = np.random.default_rng(seed)
    if len(table) > MOST:
        table = table.iloc[rng.choice(len(table), MOST, replace=False)]
    keys = [str(name) for name in table.columns if name not in ("gap", "comparisons")]
    gaps = table["gap"].to_numpy()
    if len(table) < FEWEST or not keys or np.ptp(gaps) == 0:
        return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in DTYPES.items()})
    groups = pd.DataFrame({key: bins(table[key], most=LEVELS, ranges=LEVELS).cat.codes for key in keys})
    # Whole rows are shuffled, so that what hangs together among the keys still does (after Kursa & Rudnicki 2010).
    orders = [np.arange(len(gaps)), *(rng.permutation(len(gaps)) for _ in range(SHUFFLES))]
    with _quiet():
        ped = _ped_anova(groups, gaps, orders)
        fanova = np.array([_fanova(groups.iloc[order], gaps, int(rng.integers(2**31))) for order in orders])
    ped_chance, fanova_chance = chance(ped[1:]), chance(fanova[1:])
    found = pd.DataFrame(
        {
            "key": keys,
            "fanova": fanova[0],
            "fanova_chance": fanova_chance,
            "fanova_above": fanova[0] > fanova_chance,
            "ped_anova": ped[0],
            "ped_chance": ped_chance,
            "ped_above": ped[0] > ped_chance,
            "configurations": len(table),
        }
    )
    return found.astype(DTYPES).sort_values("fanova", ascending=False, kind="stable", ignore_index=True)


def chance(shuffled: Values) -> Values:
    """What each key reaches by chance, so that in 5% of studies without any effect a key exceeds it.

    Args:
        shuffled: importances of each key (columns) in each of 39 shuffles (rows).
    """
    n = len(shuffled)
    # Each shuffle is seen against the others, as the study itself is seen against all of them.
    mean = (shuffled.sum(axis=0) - shuffled) / (n - 1)
    square = ((shuffled**2).sum(axis=0) - shuffled**2) / (n - 1)
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    far = np.divide(shuffled - mean, deviation, out=np.zeros_like(shuffled), where=deviation > 0).max(axis=1)
    return np.minimum(shuffled.mean(axis=0) + np.sort(far)[-EXCEED] * shuffled.std(axis=0), 1)  # shares are no more


def averaged(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The configurations of ``frame`` that have a gap, each averaged over its seeds.

    A comparison that an arm lost has the gap that :func:`analysis.outcomes.finite_gaps` puts there: what makes an arm
    diverge drives the gap too.

    Returns:
        A row per configuration: the hyperparameters that vary, ``gap`` (mean, in the metric's unit) and
        ``comparisons``. In which order the comparisons come does not matter.

    Raises:
        TableError: ``metric`` has no gap.
    """
    known = frame[~np.isnan(gaps_of(frame, metric))].sort_values("trial_id", ignore_index=True)
    number = configurations(known)
    by_number = pd.Series(finite_gaps(known, metric)).groupby(number.to_numpy(), sort=False)
    keys = [key for key in hyperparameters(known) if key != STUDY]
    # Rounded, so that gaps which differ by rounding errors alone are equal.
    gap, comparisons = by_number.mean().round(12).to_numpy(), by_number.size().to_numpy()
    return known.loc[~number.duplicated(), keys].reset_index(drop=True).assign(gap=gap, comparisons=comparisons)


def _ped_anova(groups: pd.DataFrame, gaps: Values, orders: Sequence[Any]) -> Values:
    """The importance of each key (columns) with its values in each of these orders (rows)."""
    cutoff = np.sort(gaps)[::-1][math.ceil(TOP * len(gaps)) - 1]
    top = float((gaps >= cutoff).mean())
    if top == 1:
        return np.full((len(orders), groups.shape[1]), np.nan)
    # A key is measured without regard to the others, so that all shuffles fit into one study.
    copies = pd.concat(
        [groups.iloc[order].set_axis(groups.index).add_prefix(SHUFFLED * n) for n, order in enumerate(orders)],
        axis="columns",
    )
    # Not as categories: Optuna weighs their prior as much as all configurations of a group together, and a key that
    # tells the best quarter exactly would get 0.1 in place of 1.
    study = _study(copies, gaps, lambda last: IntDistribution(0, last))
    measured = PedAnovaImportanceEvaluator(target_quantile=TOP).evaluate(study)
    # Optuna's figure is the variance of the chance to be in the top share; a yes-or-no's own variance is this.
    shares = np.array([measured[str(name)] for name in copies]) / (top * (1 - top))
    return shares.reshape(len(orders), groups.shape[1])


def _fanova(groups: pd.DataFrame, gaps: Values, seed: int) -> Values:
    """The importance of each key."""
    # Each group is as wide as another, so that all weigh the same. As categories they would be one-hot columns, of
    # which Optuna goes through all combinations, impossible ones too: 2 to the power of the number of groups.
    study = _study(groups, gaps, lambda last: FloatDistribution(-0.5, last + 0.5))
    evaluator = FanovaImportanceEvaluator(n_trees=TREES, max_depth=DEPTH, seed=seed)
    try:
        measured = evaluator.evaluate(study)
    except RuntimeError:  # no tree found anything to split by: nearly all gaps are equal
        return np.zeros(groups.shape[1])
    return np.array([measured[str(name)] for name in groups])


def _study(groups: pd.DataFrame, gaps: Values, space: Callable[[int], BaseDistribution]) -> optuna.Study:
    """A study in memory that has a completed trial per row; ``space`` makes that of a key whose last group is given."""
    last = groups.max()
    # Optuna copies every trial with its spaces: those that are one object are copied once.
    shared = {group: space(group) for group in last.unique().tolist()}
    spaces = {str(name): shared[group] for name, group in last.items()}
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        optuna.trial.create_trial(params=dict(zip(spaces, row, strict=True)), distributions=spaces, value=gap)
        for row, gap in zip(groups.to_numpy().tolist(), gaps.tolist(), strict=True)
    )
    return study


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from announcing each study."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
