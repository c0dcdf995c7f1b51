"""The sentences that the gaps of a study allow, and no others."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.budgets import Budget, budget, clocks_of, of_comparisons, shared, spending
from analysis.database import counted
from analysis.gaps import amount, p_value, summarize
from analysis.outcomes import LEARNED, counted_by_arm, decided, finite_gaps
from analysis.pairs import STUDY, Pairs, pair
from analysis.statistics import ENOUGH, better, configurations, improvement, units, unseen
from analysis.stopped import Stopping, stopping
from analysis.stopping_rule import POPULATION
from analysis.tuning import UNTUNED, Tuned, standing, tuned
from trainables.records import BUILT_IN, SIDES, Columns, title

SPENT: Mapping[str, str] = {
    "epochs": "passes over the data",
    "steps": "number of updates",
    "samples": "number of samples trained on",
    "compute": "compute",
    "reference_seconds": "reference seconds",
}
"""What is the same on a budget's clock, in words."""

CONSTANT = "none"
"""The schedule that leaves the learning rate as it is."""


def verdict(pairs: Pairs, metric: str = "test_accuracy", early: Stopping | None = None) -> str:
    """What the comparisons allow to say about one metric; never more than that.

    ``early`` is what :func:`analysis.stopped.stopping` says of the pairs, where the caller has it already.

    The first line names the metric, the budget or the clock, the comparisons counted and how many were stopped early,
    the share won, and the median gap with its interval. Where both arms had the same budget on another clock than
    epochs, the gap at equal passes over the data follows. Each further line is one caveat: what early stopping chose
    and what can be said of all comparisons (see :mod:`analysis.stopped`), too few, what the median does not say (rare
    large gaps), how sure (the sign test and the probability of improvement; study by study where there are several),
    what the treatment cost where the arms were not compared at the same cost, how unfinished a schedule is at another
    clock than epochs, wins over baselines that did not learn or are not tuned, tuned against tuned, trials left out and
    why.
    """
    frame, columns = pairs.frame, pairs.columns
    early = stopping(pairs) if early is None else early
    row = summarize(frame, [metric]).iloc[0]
    n, units = int(row["comparisons"]), int(row["units"])
    names = [" or ".join(sorted(early.reached[side].unique())) if len(early.reached) else side for side in SIDES]
    baseline, treatment = names
    if n == 0:
        nothing = f"No comparison can be judged by {title(metric)}, so there is no verdict."
        return "\n".join([nothing, *_with_stopped(early, metric, treatment, baseline), *_left_out(pairs)])
    ties, wins = int(row["ties"]), round(row["wins"] * n - row["ties"] / 2)
    share = f"{row['wins']:.0%}, a tie counting half" if ties else f"{row['wins']:.0%}"
    claim = (
        f"Measured by {title(metric)} {_where(pairs)}, {treatment} beats {baseline} in {wins} of "
        f"{counted(n, 'comparison')}{f' and ties in {ties}' if ties else ''} ({share}){_stopped(early)}. "
        f"The median gap is {amount(metric, row['median'], columns)}"
    )
    counts = counted(n, "comparison") if units == n else counted(units, "configuration")
    over = "" if units == n else f" (over {counts}, each averaged over its seeds)"
    if units < ENOUGH:
        few = f"{counts}: too few to tell which arm is better; a 95% interval of the median takes {ENOUGH}."
        lines = [f"{claim}{_mean(row, columns)}{over}.", few]
    else:
        low, high = (amount(metric, row[name], columns) for name in ("median_low", "median_high"))
        lines = [f"{claim} with a 95% interval from {low} to {high}{_mean(row, columns)}{over}."]
        lines += _told(row, _measured(frame, metric), early, treatment, baseline, counts)
        lines.append(_how_sure(row, improvement(frame, metric), treatment, counts))
    lines[1:1] = [*_at_equal_passes(pairs, metric), *_with_stopped(early, metric, treatment, baseline)]
    lines += _without_gap(frame, metric)
    if STUDY in frame and frame[STUDY].nunique() > 1:
        lines.append(_by_study(frame, metric, treatment))
    lines += _unequal_cost(pairs, treatment, baseline)
    if pairs.clock != "epochs":
        beside = "with its whole budget" if any(map(_fair, of_comparisons(frame, shared))) else "at equal epochs"
        lines.append(f"At equal {pairs.clock}, {unfinished(pairs)}. Read this beside the gap {beside}.")
    unlearned = int(row["unlearned_wins"])
    if unlearned:
        lines.append(
            f"{unlearned} of the wins {'is' if unlearned == 1 else 'are'} over a baseline that did not learn "
            f"(test accuracy below {LEARNED} times chance)."
        )
    untuned = int((standing(frame, metric, columns) == UNTUNED).sum())
    if untuned:
        lines.append(
            f"{untuned} of the wins {'is' if untuned == 1 else 'are'} over an untuned baseline: at its own best "
            f"configuration in the same cell {baseline} does better than {treatment} did there."
        )
    return "\n".join([*lines, _tuned_line(early, treatment, baseline), *_left_out(pairs)])


def _stopped(early: Stopping) -> str:
    return f"; {early.stopped} more were stopped early and do not count" if early.stopped else ""


def _among_finished(early: Stopping, ahead: str, behind: str, settled: bool) -> str:
    claim = f"In the median of the comparisons that {early.which}, {ahead} is better than {behind}"
    if settled:
        return f"{claim}; in most of all {early.count} it is, whatever the stopped ones would have come to."
    return f"{claim}. For all {early.count} this is not known: it depends on what the stopped ones would have come to."


def _with_stopped(early: Stopping, metric: str, treatment: str, baseline: str) -> Sequence[str]:
    """The caveat of early stopping in full, and what can be said of all comparisons."""
    if early.rule.name == POPULATION:
        return [
            f"Population-based training moved these comparisons towards what is best by {early.rule.looks_at}, one "
            "from another's state: their gaps are those of a search, and are not independent."
        ]
    if not early.stopped:
        return []
    lines, columns = [early.full(baseline, treatment)], early.pairs.columns
    if early.read:
        row = summarize(early.reached, [metric]).iloc[0]
        middle, mean = (amount(metric, row[name], columns) for name in ("median", "mean"))
        low, high = (amount(metric, row[name], columns) for name in ("median_low", "median_high"))
        interval = "" if math.isnan(row["median_low"]) else f" (95% interval from {low} to {high})"
        lines.append(
            f"With {early.read} stopped ones at the last epoch that they reached, {treatment} wins {row['wins']:.0%} "
            f"of {row['comparisons']}, with a median gap of {middle}{interval} and a mean of "
            f"{mean}; these gaps are not final."
        )
    bounds = early.bounds(metric)
    lines.append(
        f"Whatever the stopped ones would have come to, {treatment} wins between {bounds.share[0]:.0%} and "
        f"{bounds.share[1]:.0%} of all {early.count}, with a median gap {_between(metric, columns, *bounds.median)}."
    )
    return lines


def _between(metric: str, columns: Columns, low: float, high: float) -> str:
    if math.isfinite(low) and math.isfinite(high):
        return f"between {amount(metric, low, columns)} and {amount(metric, high, columns)}"
    if math.isfinite(high):
        return f"of {amount(metric, high, columns)} at most"
    return f"of {amount(metric, low, columns)} at least" if math.isfinite(low) else "of any size"


def _mean(row: pd.Series[Any], columns: Columns) -> str:
    if math.isnan(row["mean"]):
        return ""
    which = "the mean of the finite gaps" if math.isinf(row["max"] - row["min"]) else "the mean"
    return f", {which} {amount(row['metric'], row['mean'], columns)}"


def _measured(frame: pd.DataFrame, metric: str) -> pd.Series[Any]:
    """The summary of the comparisons that have a gap."""
    return summarize(frame[~decided(frame)], [metric]).iloc[0]


def _sign(row: pd.Series[Any]) -> int:
    return better(row["median_low"], row["median_high"], row["p"])


def _told(
    row: pd.Series[Any], measured: pd.Series[Any], early: Stopping, treatment: str, baseline: str, counts: str
) -> list[str]:
    """Which arm is better in the median comparison, if that can be told, and what this does not say.

    It is not told where it turns on the comparisons without a gap: both must say the same, ``row``, which counts them,
    and ``measured``, which leaves them out.
    """
    sign, without = _sign(row), _sign(measured)
    if sign != without:
        words = {1: f"{treatment} is better in the median comparison", 0: "the arms are not told apart"}
        words[-1] = f"{baseline} is better in the median comparison"
        left = words[without] if measured["comparisons"] else "no comparison is left"
        return [
            "Which arm is better turns on the comparisons without a gap: if they are counted, "
            f"{words[sign]}; if they are left out, {left}."
        ]
    if not sign:
        return ["The interval includes 0: these comparisons do not tell which arm is better in the median comparison."]
    ahead, behind = (treatment, baseline) if sign > 0 else (baseline, treatment)
    extreme = f"below the worst of these, {amount(row['metric'], row['min'], early.pairs.columns)}"
    if sign < 0:
        extreme = f"above the best of these, {amount(row['metric'], row['max'], early.pairs.columns)}"
    claim = f"In the median comparison, {ahead} is better than {behind}."
    if early.stopped:
        claim = _among_finished(early, ahead, behind, early.settles(row["metric"], sign))
    lines = [claim]
    if math.isfinite(row["min"] if sign > 0 else row["max"]):
        lines.append(
            f"The median says nothing of rare large gaps: {counts} do not rule out that up to "
            f"{unseen(row['units']):.0%} of such gaps lie {extreme} (95% bound)."
        )
    if sign * row["mean"] < 0:
        lines.append(f"The mean gap has the other sign: a few large gaps in favour of {behind} outweigh the rest.")
    return lines


def _without_gap(frame: pd.DataFrame, metric: str) -> list[str]:
    """Which comparisons an arm lost without a gap, and the mean with chance accuracy in its place."""
    frame = frame[frame[f"gap/{metric}"].notna()]
    lost = counted_by_arm(frame)
    if not lost:
        return []
    number, said = sum(lost.values()), "; ".join(f"{what} in {count}" for what, count in lost.items())
    verb = "has no gap and counts" if number == 1 else "have no gap and count"
    lines = [f"{number} of the {counted(len(frame), 'comparison')} {verb} as lost by the arm named: {said}."]
    if BUILT_IN.unit(metric) == "fraction":
        mean = float(np.mean(units(finite_gaps(frame, metric), configurations(frame).to_numpy())))
        lines.append(f"With chance accuracy in place of the arms named, the mean gap is {amount(metric, mean)}.")
    return lines


def _how_sure(row: pd.Series[Any], improved: tuple[float, float, float], treatment: str, counts: str) -> str:
    share, low, high = improved
    p = p_value(row["p"])
    return (
        f"The sign test over {counts}, taken alone, has p {p if p.startswith('<') else f'= {p}'}; the "
        f"probability that {treatment} does better is {share:.0%} (95% interval from {low:.0%} to {high:.0%})."
    )


def _by_study(frame: pd.DataFrame, metric: str, treatment: str) -> str:
    rows = summarize(frame, [metric], [STUDY]).to_dict("records")
    measured = {row[STUDY]: row for row in summarize(frame[~decided(frame)], [metric], [STUDY]).to_dict("records")}
    told = []
    for row in rows:
        signs = [
            better(of["median_low"], of["median_high"], of["p_holm"]) for of in (row, measured.get(row[STUDY])) if of
        ]
        told.append(signs[0] if len(signs) == 2 and signs[0] == signs[1] else 0)
    return (
        f"Study by study, with p corrected by Holm for {len(rows)} studies, {treatment} is better in {told.count(1)}, "
        f"worse in {told.count(-1)}, and not told apart in {told.count(0)}."
    )


def _tuned_line(early: Stopping, treatment: str, baseline: str) -> str:
    line = f"{_tuned_verdict(tuned(early.pairs.frame), treatment, baseline)}{_own_searches(early.pairs)}"
    if not early.stopped:
        return line
    gaps = [cell.gap for cell in tuned(early.reached) if math.isfinite(cell.gap)]
    also = (
        f"; with the stopped ones as far as they came it is {amount('test_accuracy', np.median(gaps))}" if gaps else ""
    )
    return f"{line} Only comparisons that {early.which} were chosen from{also}."


def _own_searches(pairs: Pairs) -> str:
    """That baseline and treatment were each tuned by a search of their own, where every comparison comes from one."""
    trials = pairs.study.trials if pairs.study else None
    if trials is None or "proposed_by" not in trials or trials["proposed_by"].isna().any():
        return ""
    arms = [" or ".join(sorted(trials[side].unique())) for side in SIDES]
    counts = [int(trials.loc[trials["proposed_by"] == side, "configuration"].nunique()) for side in SIDES]
    many = f"{counts[0]:,} each" if counts[0] == counts[1] else f"{counts[0]:,} and {counts[1]:,}"
    text = (
        f" Each arm was tuned on its own: of {counted(sum(counts), 'configuration')} the search for {arms[0]} and the "
        f"search for {arms[1]} proposed {many}, and both learned from all."
    )
    others = sorted({*pairs.frame[list(SIDES)].to_numpy().ravel()} - {*trials[list(SIDES)].to_numpy().ravel()})
    return f"{text} No search was for {' or '.join(others)}." if others else text


def _tuned_verdict(cells: Sequence[Tuned], treatment: str, baseline: str) -> str:
    cells = [cell for cell in cells if math.isfinite(cell.gap)]
    if not cells:
        return "No cell has two configurations, so the arms cannot be compared at their own best hyperparameters."
    held_out = all(cell.chosen_by == "validation_accuracy" for cell in cells)
    chosen = "chosen on validation" if held_out else "chosen on training accuracy, as nothing is held out"
    if len(cells) == 1:
        cell = cells[0]
        return (
            f"Tuned against tuned (each arm at its own best of {cell.trials:,} configurations, {chosen}): {treatment} "
            f"reaches {cell.treatment_test:.1%} on test and {baseline} {cell.baseline_test:.1%}, a gap of "
            f"{amount('test_accuracy', cell.gap)}."
        )
    ahead = sum(cell.gap > 0 for cell in cells)
    return (
        f"Tuned against tuned (each arm at its own best within a cell, {chosen}): {treatment} is ahead on test in "
        f"{ahead} of {len(cells)} cells, with a median gap of "
        f"{amount('test_accuracy', float(np.median([cell.gap for cell in cells])))}."
    )


def _where(pairs: Pairs) -> str:
    if pairs.at == "best":
        return "at each arm's best epoch by validation accuracy"
    if pairs.at != "final":
        return f"at epoch {pairs.at}"
    if pairs.clock != "epochs":
        return f"at equal {pairs.clock} (interpolated between epochs)"
    return _with_what_budget(pairs)


def _with_what_budget(pairs: Pairs) -> str:
    """What both arms had spent at their last epoch."""
    frame = pairs.frame
    common = of_comparisons(frame, shared)
    if all(map(_fair, common)):
        clock = [budget.clock for budget in common if budget]
        if len(set(clock)) == 1:
            ended = ", each schedule run to its end" if _schedules(frame) else ""
            return f"with the same {SPENT[clock[0]]} ({_amounts(frame)}){ended}"
        return f"each comparison with a budget that its arms share ({_counts(clock)})"
    if all(budget is not None and budget.clock == "epochs" for budget in common):
        ratio = cost_ratio(frame)
        cost = "" if math.isnan(ratio) else ", at the same cost" if _alike(ratio) else ", not at the same cost"
        return f"after equally many passes over the data ({_amounts(frame)}){cost}"
    if not any(common):
        return f"with different budgets ({'; '.join(_of_side(frame, side) for side in SIDES)})"
    return f"each comparison at the end of its budgets ({_counts([of.clock if of else 'different' for of in common])})"


def _other_roles(pairs: Pairs) -> bool:
    """Whether an arm was taken for baseline or treatment that is not the trials' own."""
    if pairs.study is None:
        return bool(pairs.roles)
    own = pairs.study.trials
    return any(set(own[side].dropna()) != {name} for side, name in pairs.roles.items() if side in own)


def _fair(budget: Budget | None) -> bool:
    """Whether arms that have this budget in common are compared at the same cost of some kind."""
    return budget is not None and budget.clock != "epochs"


def _counts(words: Sequence[str]) -> str:
    return ", ".join(f"{word} in {count}" for word, count in Counter(words).most_common())


def _of_side(frame: pd.DataFrame, side: str) -> str:
    """The arms that are one side of comparisons, and their budgets."""
    budgets = of_comparisons(frame, lambda settings: _said(budget(settings, str(settings[side]))))
    return f"{' or '.join(sorted(frame[side].unique()))}: {' or '.join(dict.fromkeys(budgets))}"


def _said(budget: Budget) -> str:
    """An arm's budget in words."""
    if budget.of:
        return f"the {SPENT[budget.clock]} of {budget.of}"
    if budget.clock == "epochs":
        return "its epochs" if budget.amount is None else _epochs([budget.amount])
    return "its budget" if budget.amount is None else spending(budget.clock, budget.amount)


def _amounts(frame: pd.DataFrame) -> str:
    """How much both arms of these comparisons may spend, on a clock that all have in common, in words."""
    common = [budget for budget in of_comparisons(frame, shared) if budget]
    epochs = [of.amount for of in common if of.clock == "epochs" and of.amount is not None]
    if len(epochs) == len(common):
        return _epochs(epochs)
    if common[0].clock == "epochs":
        return _epochs(frame["baseline/epoch"].dropna())
    if all(of.of for of in common):
        of_arm = of_comparisons(frame, lambda of: budget(of, str(getattr(shared(of), "of", ""))))
        passes = [of.amount for of in of_arm if of.clock == "epochs" and of.amount is not None]
        arm = " or ".join(dict.fromkeys(str(of.of) for of in common))
        return f"what {arm} spends" + (f" in {_epochs(passes)}" if len(passes) == len(common) else "")
    amounts = sorted({of.amount for of in common if of.amount is not None})
    return " to ".join(dict.fromkeys(spending(common[0].clock, end) for end in (amounts[0], amounts[-1])))


def _epochs(numbers: Sequence[float] | pd.Series[Any]) -> str:
    """Numbers of epochs as a span, such as "5 to 40 epochs"."""
    ends = [f"{end:g}" for end in (min(numbers), max(numbers))] if len(numbers) else ["all"]
    said = " to ".join(dict.fromkeys(ends))
    return f"{said} epoch{'' if said == '1' else 's'}"


def cost_ratio(frame: pd.DataFrame) -> float:
    """How many times the baseline's compute the treatment's is, median; NaN where it was not measured."""
    spent = [frame[f"{side}/cumulative_compute"].to_numpy("float64", na_value=np.nan) for side in SIDES]
    known = np.isfinite(spent).all(axis=0) & (spent[0] > 0)
    return float(np.median(spent[1][known] / spent[0][known])) if known.any() else math.nan


def _alike(ratio: float) -> bool:
    """Whether two arms cost the same: within a hundredth."""
    return abs(ratio - 1) <= 0.01


def _unequal_cost(pairs: Pairs, treatment: str, baseline: str) -> list[str]:
    """What the treatment cost, and how to compare at the same cost, where this was not done."""
    frame = pairs.frame
    ratio = cost_ratio(frame)
    if (pairs.at, pairs.clock) != ("final", "epochs") or pairs.study is None or math.isnan(ratio) or _alike(ratio):
        return []
    if any(map(_fair, of_comparisons(frame, shared))):
        return []
    more = f"{100 * abs(ratio - 1):.0f}% {'more' if ratio > 1 else 'less'}"
    line = f"In the median comparison {treatment} costs {more} compute than {baseline}."
    if _other_roles(pairs) or frame["baseline"].nunique() != 1 or not all(of_comparisons(frame, shared)):
        return [line]
    key = f"budget: {{clock: compute, of: {baseline}}}"
    if not pairs.study.experiment:
        return [f"{line} For the gap at the same cost, set {key} in the experiment."]
    command = shlex.join(["filter-study", "run", str(pairs.study.path), "--fair"])
    return [f"{line} For the gap at the same cost: {command} (it sets {key})."]


def _at_equal_passes(pairs: Pairs, metric: str) -> list[str]:
    """The gap at equal passes over the data, where both arms had the same budget on another clock than epochs."""
    if (pairs.at, pairs.clock) != ("final", "epochs") or pairs.study is None or "passes" not in clocks_of(pairs.study):
        return []
    if not any(map(_fair, of_comparisons(pairs.frame, shared))):
        return []
    equal = pair(pairs.study, "final", "passes", pairs.roles.get("baseline"), pairs.roles.get("treatment"))
    row, columns = summarize(equal.frame, [metric]).iloc[0], pairs.columns
    if not row["comparisons"]:
        return ["At equal passes over the data no comparison can be read: one arm's first row has more than the other."]
    low, high = (amount(metric, row[name], columns) for name in ("median_low", "median_high"))
    sure = "" if math.isnan(row["median_low"]) else f" with a 95% interval from {low} to {high}"
    return [
        f"At equal passes over the data (interpolated between epochs), the median gap of "
        f"{counted(int(row['comparisons']), 'comparison')} is {amount(metric, row['median'], columns)}{sure}; there, "
        f"{unfinished(equal)}."
    ]


def unfinished(pairs: Pairs) -> str:
    """Which arm is read before its end where both have spent the same on a clock, and what its schedule lacks.

    The share of its epochs is a median over the comparisons that no outcome decided. Part of a sentence.
    """
    frame = pairs.frame[~decided(pairs.frame)]
    read = np.column_stack([frame[f"{side}/epoch"].to_numpy("float64", na_value=np.nan) for side in SIDES])
    share = read / _whole(pairs, frame)[:, None]
    least = np.nanmin(share, axis=1) if len(frame) else np.zeros(0)
    early = least < 1 - 1e-9
    if not early.any():
        return "neither arm is read before its end"
    sides = [SIDES[place] for place in np.nanargmin(share[early], axis=1)]
    names = [str(name) for name in (frame[early][side].iloc[row] for row, side in enumerate(sides))]
    arms = Counter(names)
    who = names[0] if len(arms) == 1 else f"the arm that has spent more ({_counts(names)})"
    where = f"{who} is read before its end, at {np.median(least[early]):.0%} of its epochs (median)"
    if "schedule.name" not in frame:
        return f"{where}; which schedule it had is not recorded"
    scheduled = _schedules(frame[early])
    if not scheduled:
        return f"{where}; its learning rate is constant, so that no schedule is unfinished there"
    some = "" if sum(scheduled.values()) == early.sum() else f" in {sum(scheduled.values())} of {early.sum()}"
    return f"{where}; its schedule ({' or '.join(scheduled)}) is unfinished there{some}, which favours the other arm"


def _schedules(frame: pd.DataFrame) -> dict[str, int]:
    """The schedules that change the learning rate, and how many comparisons have each."""
    if "schedule.name" not in frame:
        return {}
    names = Counter(str(name) for name in frame["schedule.name"].dropna())
    return {name: count for name, count in names.items() if name != CONSTANT}


def _whole(pairs: Pairs, frame: pd.DataFrame) -> Any:
    """The number of epochs of each comparison; of an early version's that does not name it, the last that it has."""
    if "epochs" in frame:
        return frame["epochs"].to_numpy("float64", na_value=np.nan)
    assert pairs.study is not None
    last = pairs.study.epochs.groupby("trial_id")["epoch"].max()
    return frame["trial_id"].map(last).to_numpy("float64", na_value=np.nan)


def _left_out(pairs: Pairs) -> list[str]:
    if not pairs.dropped:
        return []
    reasons = "; ".join(f"{count} {reason}" for reason, count in pairs.dropped.items())
    return [f"{counted(sum(pairs.dropped.values()), 'trial')} could not be counted: {reasons}."]
