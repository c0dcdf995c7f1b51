"""The sentences that the gaps of a study allow, and no others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.database import counted
from analysis.gaps import amount, p_value, summarize, title
from analysis.pairs import LEARNED, SIDES, STUDY, Pairs
from analysis.statistics import ENOUGH, FEW, better, improvement
from analysis.stopped import POPULATION, Stopping, stopping
from analysis.tuning import UNTUNED, Tuned, standing, tuned


def verdict(pairs: Pairs, rng: np.random.Generator, metric: str = "test_accuracy") -> str:
    """What the comparisons allow to say about one metric; never more than that.

    The first line names the metric, the clock, the comparisons counted and how many were stopped early, the share won
    and the gap with its interval. Each further line is one caveat: what early stopping chose and what can be said of
    all comparisons (see :mod:`analysis.stopped`), too few, how sure (Wilcoxon's test and the probability of
    improvement; study by study where there are several), another clock than epochs, wins over baselines that did not
    learn or are not tuned, tuned against tuned, trials left out and why.
    """
    frame = pairs.frame
    early = stopping(pairs)
    row = summarize(frame, [metric], rng).iloc[0]
    n, units = int(row["comparisons"]), int(row["units"])
    names = [" or ".join(sorted(early.reached[side].unique())) if len(early.reached) else side for side in SIDES]
    baseline, treatment = names
    if n == 0:
        nothing = f"No comparison can be judged by {title(metric)}, so there is no verdict."
        return "\n".join([nothing, *_with_stopped(early, metric, rng, treatment, baseline), *_left_out(pairs)])
    ties, wins = int(row["ties"]), round(row["wins"] * n - row["ties"] / 2)
    share = f"{row['wins']:.0%}, a tie counting half" if ties else f"{row['wins']:.0%}"
    claim = (
        f"Measured by {title(metric)} {_where(pairs)}, {treatment} beats {baseline} in {wins} of "
        f"{counted(n, 'comparison')}{f' and ties in {ties}' if ties else ''} ({share}){_stopped(early)}. "
        f"The median gap is {amount(metric, row['median'])}"
    )
    counts = counted(n, "comparison") if units == n else counted(units, "configuration")
    if units < FEW:
        lines = [f"{claim}.", f"{counts}: too few to tell which arm is better."]
    else:
        low, high = amount(metric, row["low"]), amount(metric, row["high"])
        over = "" if units == n else f" (over {counts}, each averaged over its seeds)"
        lines = [f"{claim}, the mean {amount(metric, row['mean'])} with a 95% interval from {low} to {high}{over}."]
        ahead, behind = (treatment, baseline) if row["mean"] > 0 else (baseline, treatment)
        if row["low"] <= 0 <= row["high"]:
            lines.append("The interval includes 0: these comparisons do not tell which arm is better on average.")
        elif units < ENOUGH:
            lines.append(f"The interval leaves out 0, but {counts} are few; confirm it on fresh seeds.")
        elif early.stopped:
            settled = early.settles(metric, row["mean"])
            lines.append(_among_finished(early, ahead, behind, settled))
        else:
            lines.append(f"On average over these comparisons, {ahead} is better than {behind}.")
        lines.append(_how_sure(row, improvement(frame, metric, rng), treatment, counts))
    lines[1:1] = _with_stopped(early, metric, rng, treatment, baseline)
    if STUDY in frame and frame[STUDY].nunique() > 1:
        lines.append(_by_study(frame, metric, rng, treatment))
    if pairs.clock != "epochs":
        lines.append(
            f"At equal {pairs.clock} an arm that has spent more is read before its end, between two epochs and before "
            "its schedule has run out, which favours the other; read this beside the gap at equal epochs."
        )
    unlearned = int(row["unlearned_wins"])
    if unlearned:
        lines.append(
            f"{unlearned} of the wins {'is' if unlearned == 1 else 'are'} over a baseline that did not learn "
            f"(test accuracy below {LEARNED} times chance)."
        )
    untuned = int((standing(frame, metric) == UNTUNED).sum())
    if untuned:
        lines.append(
            f"{untuned} of the wins {'is' if untuned == 1 else 'are'} over an untuned baseline: at its own best "
            f"configuration in the same cell {baseline} does better than {treatment} did there."
        )
    return "\n".join([*lines, _tuned_line(early, treatment, baseline), *_left_out(pairs)])


def _stopped(early: Stopping) -> str:
    return f"; {early.stopped} more were stopped early and do not count" if early.stopped else ""


def _among_finished(early: Stopping, ahead: str, behind: str, settled: bool) -> str:
    claim = f"On average over the comparisons that {early.which}, {ahead} is better than {behind}"
    if settled:
        return f"{claim}; in most of all {early.count} it is, whatever the stopped ones would have come to."
    return f"{claim}. For all {early.count} this is not known: it depends on what the stopped ones would have come to."


def _with_stopped(
    early: Stopping, metric: str, rng: np.random.Generator, treatment: str, baseline: str
) -> Sequence[str]:
    """The caveat of early stopping in full, and what can be said of all comparisons."""
    if early.rule.name == POPULATION:
        return [
            f"Population-based training moved these comparisons towards what is best by {early.rule.looks_at}, one "
            "from another's state: their gaps are those of a search, and are not independent."
        ]
    if not early.stopped:
        return []
    lines = [early.full(baseline, treatment)]
    if early.read:
        row = summarize(early.reached, [metric], rng).iloc[0]
        interval = f" (95% interval from {amount(metric, row['low'])} to {amount(metric, row['high'])})"
        lines.append(
            f"With {early.read} stopped ones at the last epoch that they reached, {treatment} wins {row['wins']:.0%} "
            f"of {row['comparisons']}, with a median gap of {amount(metric, row['median'])} and a mean of "
            f"{amount(metric, row['mean'])}{interval if math.isfinite(row['low']) else ''}; these gaps are not final."
        )
    bounds = early.bounds(metric)
    lines.append(
        f"Whatever the stopped ones would have come to, {treatment} wins between {bounds.share[0]:.0%} and "
        f"{bounds.share[1]:.0%} of all {early.count}, with a median gap {_between(metric, *bounds.median)}."
    )
    return lines


def _between(metric: str, low: float, high: float) -> str:
    if math.isfinite(low) and math.isfinite(high):
        return f"between {amount(metric, low)} and {amount(metric, high)}"
    if math.isfinite(high):
        return f"of {amount(metric, high)} at most"
    return f"of {amount(metric, low)} at least" if math.isfinite(low) else "of any size"


def _how_sure(row: pd.Series[Any], improved: tuple[float, float, float], treatment: str, counts: str) -> str:
    if row["units"] < ENOUGH:
        least = 2.0 ** (1 - row["units"])
        return f"A signed-rank test cannot tell from {counts}: whatever their gaps, its p is {least:.3g} at least."
    share, low, high = improved
    p = p_value(row["p"])
    return (
        f"Wilcoxon's signed-rank test over {counts}, taken alone, has p {p if p.startswith('<') else f'= {p}'}; the "
        f"probability that {treatment} does better is {share:.0%} (95% interval from {low:.0%} to {high:.0%})."
    )


def _by_study(frame: pd.DataFrame, metric: str, rng: np.random.Generator, treatment: str) -> str:
    rows = summarize(frame, [metric], rng, [STUDY]).to_dict("records")
    told = [better(row["low"], row["high"], row["p_holm"], row["wins"]) for row in rows]
    return (
        f"Study by study, with p corrected by Holm for {len(rows)} studies, {treatment} is better in {told.count(1)}, "
        f"worse in {told.count(-1)}, and not told apart in {told.count(0)}."
    )


def _tuned_line(early: Stopping, treatment: str, baseline: str) -> str:
    line = _tuned_verdict(tuned(early.pairs.frame), treatment, baseline)
    if not early.stopped:
        return line
    gaps = [cell.gap for cell in tuned(early.reached) if math.isfinite(cell.gap)]
    also = (
        f"; with the stopped ones as far as they came it is {amount('test_accuracy', np.median(gaps))}" if gaps else ""
    )
    return f"{line} Only comparisons that {early.which} were chosen from{also}."


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
    ends = pairs.frame["baseline/epoch"].unique()
    last = f"the last, {ends[0]:.0f}" if len(ends) == 1 else "the last of each trial"
    return f"at equal epochs ({last})"


def _left_out(pairs: Pairs) -> list[str]:
    if not pairs.dropped:
        return []
    reasons = "; ".join(f"{count} {reason}" for reason, count in pairs.dropped.items())
    return [f"{counted(sum(pairs.dropped.values()), 'trial')} could not be counted: {reasons}."]
