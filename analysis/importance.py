"""Which hyperparameters drive the gap: two measures of importance, each beside what chance reaches.

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

Neither says in which direction a key drives the gap (:mod:`analysis.rules` does), nor that it drives it at all outside
the space that was searched. Keys that always change together cannot be told apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

from analysis.gaps import bins, hyperparameters
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

RESAMPLES = 20
"""Bootstrap resamples of the configurations, each with a forest and a shuffle of its own."""

TREES, DEPTH = 10, 6
"""Of each forest: 200 trees in all. Deeper ones learn noise and cost a multiple."""

SHUFFLED = "\0shuffled "
"""What precedes a key's name where its values are shuffled; no key of a configuration begins so."""

DTYPES = {
    "key": "object",
    "ped_anova": "float64",
    "ped_noise": "float64",
    "fanova": "float64",
    "fanova_low": "float64",
    "fanova_high": "float64",
    "noise": "float64",
    "above_noise": "bool",
    "configurations": "int64",
}


def importances(frame: pd.DataFrame, metric: str, seed: int) -> pd.DataFrame:
    """How much each hyperparameter that varies has to do with the gap of ``metric``.

    Args:
        frame: pairs; gaps that are not finite are not counted.
        metric: a metric that has a direction.
        seed: of the resamples, the forests and the shuffles.

    Returns:
        A row per key, the largest ``fanova`` first: ``key``; ``ped_anova`` (NaN where gaps tie, so that no quarter is
        best); ``fanova``, the mean over 20 bootstrap resamples of the configurations, with ``fanova_low`` and
        ``fanova_high`` (5% and 95% quantiles over these); ``ped_noise`` and ``noise``, which 19 of 20 shuffles of the
        key's own values among the configurations stay below; ``above_noise``, whether ``fanova`` exceeds ``noise`` (so
        1 of 20 keys that do nothing is marked by chance); ``configurations`` used, at most 500. No rows with fewer than
        20 configurations, with equal gaps throughout, or where nothing varies.

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
    with _quiet():
        ped, ped_noise = _ped_anova(groups, gaps, rng)
        forests = pd.DataFrame([_fanova(groups, gaps, rng) for _ in range(RESAMPLES)])
    fanova = forests[keys]
    noise = forests[[SHUFFLED + key for key in keys]].quantile(0.95).to_numpy()
    found = pd.DataFrame(
        {
            "key": keys,
            "ped_anova": ped,
            "ped_noise": ped_noise,
            "fanova": fanova.mean().to_numpy(),
            "fanova_low": fanova.quantile(0.05).to_numpy(),
            "fanova_high": fanova.quantile(0.95).to_numpy(),
            "noise": noise,
            "above_noise": fanova.mean().to_numpy() > noise,
            "configurations": len(table),
        }
    )
    return found.astype(DTYPES).sort_values("fanova", ascending=False, kind="stable", ignore_index=True)


def averaged(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The configurations of ``frame`` that have a finite gap, each averaged over its seeds.

    Returns:
        A row per configuration: the hyperparameters that vary, ``gap`` (mean, in the metric's unit) and
        ``comparisons``. In which order the comparisons come does not matter.

    Raises:
        TableError: ``metric`` has no gap.
    """
    finite = frame[np.isfinite(gaps_of(frame, metric))].sort_values("trial_id", ignore_index=True)
    number = configurations(finite)
    by_number = finite[f"gap/{metric}"].groupby(number.to_numpy(), sort=False)
    keys = [key for key in hyperparameters(finite) if key != STUDY]
    # Rounded, so that gaps which differ by rounding errors alone are equal.
    gap, comparisons = by_number.mean().round(12).to_numpy(), by_number.size().to_numpy()
    return finite.loc[~number.duplicated(), keys].reset_index(drop=True).assign(gap=gap, comparisons=comparisons)


def _ped_anova(groups: pd.DataFrame, gaps: Values, rng: np.random.Generator) -> tuple[Values, Values]:
    """The importance of each key, and the 95% quantile of that of its values shuffled."""
    cutoff = np.sort(gaps)[::-1][math.ceil(TOP * len(gaps)) - 1]
    top = float((gaps >= cutoff).mean())
    if top == 1:
        nothing = np.full(groups.shape[1], np.nan)
        return nothing, nothing
    # A key is measured without regard to the others, so that all shuffles fit into one study.
    copies = pd.DataFrame(
        {
            f"{SHUFFLED * n}{key}": rng.permutation(values) if n else values.to_numpy()
            for key, values in groups.items()
            for n in range(RESAMPLES + 1)
        }
    )
    # Not as categories: Optuna weighs their prior as much as all configurations of a group together, and a key that
    # tells the best quarter exactly would get 0.1 in place of 1.
    study = _study(copies, gaps, lambda last: IntDistribution(0, last))
    measured = PedAnovaImportanceEvaluator(target_quantile=TOP).evaluate(study)
    # Optuna's figure is the variance of the chance to be in the top share; a yes-or-no's own variance is this.
    shares = np.array([measured[str(name)] for name in copies]) / (top * (1 - top))
    by_key = shares.reshape(groups.shape[1], RESAMPLES + 1)
    return by_key[:, 0], np.quantile(by_key[:, 1:], 0.95, axis=1)


def _fanova(groups: pd.DataFrame, gaps: Values, rng: np.random.Generator) -> dict[str, float]:
    """The importance of each key, and of all keys shuffled, in a bootstrap resample of the configurations."""
    # Shuffled as whole rows, so that what hangs together among the keys still does (after Kursa & Rudnicki 2010).
    shuffled = groups.iloc[rng.permutation(len(groups))].set_axis(groups.index).add_prefix(SHUFFLED)
    both = pd.concat([groups, shuffled], axis="columns")
    # Each group is as wide as another, so that all weigh the same. As categories they would be one-hot columns, of
    # which Optuna goes through all combinations, impossible ones too: 2 to the power of the number of groups.
    drawn = rng.integers(len(gaps), size=len(gaps))
    study = _study(both.iloc[drawn], gaps[drawn], lambda last: FloatDistribution(-0.5, last + 0.5))
    evaluator = FanovaImportanceEvaluator(n_trees=TREES, max_depth=DEPTH, seed=int(rng.integers(2**31)))
    try:
        return evaluator.evaluate(study)
    except RuntimeError:  # no tree found anything to split by: nearly all gaps are equal
        return {str(name): 0.0 for name in both}


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
