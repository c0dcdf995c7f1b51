"""Where the gap is large and where it is small, as a handful of readable rules: the leaves of a shallow tree.

The tree (Breiman et al. 1984, "Classification and regression trees") splits configurations, each averaged over its
seeds, by their hyperparameters so that gaps differ most between the parts. Rules are found on the same gaps that they
are told with: their medians are too far apart and their intervals too narrow. What they are worth on configurations
that they have not seen is :attr:`Rules.explained`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import RepeatedKFold
from sklearn.tree import DecisionTreeRegressor

from analysis.database import counted
from analysis.gaps import NOT_SET, amount, label
from analysis.importance import averaged
from analysis.statistics import Values, gaps_of, interval, median

DEPTH = 3
"""Conditions that a rule has at most, before those on one key are merged."""

LEAVES = 6
"""Rules that there are at most."""

LEAF = 5
"""Configurations that a rule holds for at least; where a twentieth of them is more, that."""

LEAST = 0.01
"""The share of the gaps' variance that a split explains at least."""

SHUFFLES = 40
"""Of the gaps among the configurations, to see what a split explains of nothing."""

FOLDS, REPEATS = 5, 5
"""Of the cross-validation."""

EVERYWHERE = "all"
"""The rule without a condition."""

DTYPES = {
    "rule": "object",
    "comparisons": "int64",
    "configurations": "int64",
    "median": "float64",
    "median_low": "float64",
    "median_high": "float64",
    "says": "object",
}

Mask = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Rules:
    """A division of the comparisons by their hyperparameters.

    Attributes:
        rows: a row per rule, the largest median gap first; each comparison obeys exactly one. ``rule`` (its conditions
            in words, plain text), ``comparisons``, ``configurations``, ``median`` gap over configurations with its 95%
            interval ``median_low`` to ``median_high`` (NaN for fewer than 6), in the metric's unit, and ``says``, all
            in a sentence.
        explained: out-of-sample R²: the share of the variance of gaps between configurations that rules found without
            them predict. 0 or less is no better than the mean of all; NaN with fewer than 10 configurations, or where
            gaps do not differ.
    """

    rows: pd.DataFrame
    explained: float


@dataclass(frozen=True)
class _Column:
    """What the tree can split by: a number for each value that a key takes, and last for its absence."""

    key: str
    numbers: Values


@dataclass(frozen=True)
class _Key:
    """A hyperparameter: its distinct values in order, and for each configuration the place of its value there.

    The place after the last is that of "not set".
    """

    name: str
    values: Sequence[Any]
    ordered: bool
    places: np.ndarray[Any, np.dtype[np.int64]]

    @property
    def incomplete(self) -> bool:
        """Whether some configurations lack it."""
        return bool((self.places == len(self.values)).any())


def rules(frame: pd.DataFrame, metric: str, seed: int) -> Rules:
    """The rules that divide the gaps of ``metric`` best.

    There are up to 6 rules of up to 3 conditions, each for at least 5 configurations and a twentieth of them. A
    condition is there only if it explains more of what the others leave unexplained than the best one does when gaps
    are shuffled among the configurations (in 19 of 20 shuffles). Where there is none, and with fewer than 10
    configurations, the one rule is "all".

    Args:
        frame: pairs; gaps that are not finite are not counted.
        metric: a metric that has a direction.
        seed: of the folds, of the shuffles, and of the choice between splits that are equally good.

    Raises:
        TableError: ``metric`` has no gap.
    """
    table = averaged(frame, metric)
    gaps, comparisons = table["gap"].to_numpy(), table["comparisons"].to_numpy()
    if not len(table):
        return Rules(pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in DTYPES.items()}), math.nan)
    keys = [_key(table[name]) for name in table.columns if name not in ("gap", "comparisons")]
    columns = [column for key in keys for column in _columns(key)]
    found = [(EVERYWHERE, np.full(len(table), True))]
    explained = math.nan
    if columns and len(table) >= 2 * LEAF and np.ptp(gaps) > 0:
        places = {key.name: key.places for key in keys}
        features = np.column_stack([column.numbers[places[column.key]] for column in columns])
        chance = _chance(features, gaps, seed)
        tree = _tree(features, gaps, chance, seed)
        leaves = tree.apply(features)
        found = [(_text(keys, allowed), leaves == leaf) for leaf, allowed in _leaves(tree, columns, keys)]
        explained = _explained(features, gaps, chance, seed)
    singles = np.sort(gaps_of(frame, metric))
    rows = []
    for text, inside in found:
        units = gaps[inside] if len(table) > 1 else singles[np.isfinite(singles)]  # of one configuration, its seeds
        middle, number = median(units), int(comparisons[inside].sum())
        says = f"{text} → {amount(metric, middle)} ({counted(number, 'comparison')})"
        rows.append((text, number, int(inside.sum()), middle, *interval(units), says))
    told = pd.DataFrame(rows, columns=list(DTYPES)).astype(DTYPES)
    return Rules(told.sort_values("median", ascending=False, kind="stable", ignore_index=True), explained)


def threshold(below: float, above: float) -> str:
    """The shortest number that separates two values: larger than ``below``, and no larger than ``above``.

    ``above`` itself where it has up to 3 digits; else their middle (on a logarithmic scale if both are positive),
    rounded to the fewest digits that still separate them.
    """
    if float(f"{above:.3g}") == above:
        return label(float(above))
    middle = math.sqrt(below) * math.sqrt(above) if below > 0 else (below + above) / 2
    for digits in range(1, 17):
        rounded = float(f"{middle:.{digits}g}")
        if below < rounded <= above:
            return f"{rounded:.0f}" if rounded.is_integer() and abs(rounded) < 1e15 else f"{rounded:.{digits}g}"
    return repr(float(above))


def _key(values: pd.Series[Any]) -> _Key:
    ordered = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    named = values.astype("float64") if ordered else values.map(label, na_action="ignore").astype("object")
    places, distinct = pd.factorize(named, sort=True)
    return _Key(str(values.name), distinct.tolist(), ordered, np.where(places < 0, len(distinct), places))


def _columns(key: _Key) -> list[_Column]:
    """Numbers by their rank, and where some are missing, these once below and once above all; others one-hot."""
    count = len(key.values)
    ranks = np.arange(count + 1.0)
    if not key.ordered:
        return [_Column(key.name, np.equal(ranks, rank).astype("float64")) for rank in ranks[: count + key.incomplete]]
    below = np.where(ranks < count, ranks, -1.0)
    return [_Column(key.name, numbers) for numbers in ([below, ranks] if key.incomplete else [ranks])]


def _tree(features: Values, gaps: Values, chance: float, seed: int) -> Any:
    """A tree, each of whose splits explains more than chance does of what all splits together leave unexplained."""
    unexplained = float(gaps.var(ddof=1))
    for _ in range(DEPTH):  # a split need not stand out against what another explains
        least = max(LEAST * float(gaps.var()), chance * unexplained)
        tree = _splitter(len(gaps), DEPTH, least, seed).fit(features, gaps)
        unexplained = float(((gaps - tree.predict(features)) ** 2).sum()) / (len(gaps) - tree.get_n_leaves())
    return tree


def _chance(features: Values, gaps: Values, seed: int) -> float:
    """The share of the variance that the best split explains of shuffled gaps, in 19 of 20 shuffles at most."""
    rng = np.random.default_rng(seed)
    shuffles = (rng.permutation(gaps) for _ in range(SHUFFLES))
    shares = [_splitter(len(gaps), 1, 0, seed).fit(features, gaps).score(features, gaps) for gaps in shuffles]
    return float(np.quantile(shares, 0.95))


def _splitter(configurations: int, depth: int, least: float, seed: int) -> DecisionTreeRegressor:
    return DecisionTreeRegressor(
        max_depth=depth,
        max_leaf_nodes=LEAVES,
        min_samples_leaf=max(LEAF, math.ceil(configurations / 20)),
        min_impurity_decrease=least,
        random_state=seed,
    )


def _explained(features: Values, gaps: Values, chance: float, seed: int) -> float:
    """1 less the ratio of squared errors: of the tree, and of the mean, both of the other folds."""
    errors = spread = 0.0
    for seen, unseen in RepeatedKFold(n_splits=FOLDS, n_repeats=REPEATS, random_state=seed).split(features):
        predicted = _tree(features[seen], gaps[seen], chance, seed).predict(features[unseen])
        errors += float(((gaps[unseen] - predicted) ** 2).sum())
        spread += float(((gaps[unseen] - gaps[seen].mean()) ** 2).sum())
    return 1 - errors / spread


def _leaves(tree: Any, columns: Sequence[_Column], keys: Sequence[_Key]) -> Iterator[tuple[int, dict[str, Mask]]]:
    """Each leaf's number, and which places of each key lead there."""
    nodes = tree.tree_
    whole = {key.name: np.arange(len(key.values) + 1) < len(key.values) + key.incomplete for key in keys}
    waiting: list[tuple[int, dict[str, Mask]]] = [(0, whole)]
    while waiting:
        node, allowed = waiting.pop()
        if nodes.children_left[node] < 0:
            yield node, allowed
            continue
        column = columns[nodes.feature[node]]
        left = column.numbers <= nodes.threshold[node]
        for child, side in ((nodes.children_right[node], ~left), (nodes.children_left[node], left)):
            waiting.append((int(child), allowed | {column.key: allowed[column.key] & side}))


def _text(keys: Sequence[_Key], allowed: dict[str, Mask]) -> str:
    conditions = [_condition(key, allowed[key.name]) for key in keys]
    return " and ".join(filter(None, conditions)) or EVERYWHERE


def _condition(key: _Key, allowed: Mask) -> str:
    """In words, that the key has one of the allowed values; empty where it has no other."""
    count = len(key.values)
    if allowed[: count + key.incomplete].all():
        return ""
    if not key.ordered:
        names = [*key.values, NOT_SET][: count + key.incomplete]
        inside = [name for name, holds in zip(names, allowed, strict=False) if holds]
        outside = [name for name, holds in zip(names, allowed, strict=False) if not holds]
        if outside == [NOT_SET]:
            return f"{key.name} is set"
        if len(inside) <= len(outside):
            return f"{key.name} is {_listed(inside)}"
        return f"{key.name} is {'not' if len(outside) == 1 else 'neither'} {_listed(outside, 'nor')}"
    places = np.flatnonzero(allowed[:count])
    if len(places) in (0, count):
        return f"{key.name} is {'set' if len(places) else NOT_SET}"
    first, last = int(places[0]), int(places[-1])
    low = threshold(key.values[first - 1], key.values[first]) if first else ""
    high = threshold(key.values[last], key.values[last + 1]) if last < count - 1 else ""
    if first == last:
        said = f"{key.name} is {label(key.values[first])}"
    elif low and high:
        said = f"{low} ≤ {key.name} < {high}"
    else:
        said = f"{key.name} ≥ {low}" if low else f"{key.name} < {high}"
    return f"{said} (or {NOT_SET})" if allowed[count] else said


def _listed(names: Sequence[str], last: str = "or") -> str:
    return f" {last} ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
