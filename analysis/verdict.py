"""The sentences that the gaps of a study allow, and no others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.database import counted
from analysis.gaps import amount, p_value, summarize, title
from analysis.outcomes import LEARNED, SIDES, counted_by_arm, decided, finite_gaps
from analysis.pairs import STUDY, Pairs
from analysis.statistics import ENOUGH, better, configurations, improvement, units, unseen
from analysis.stopped import POPULATION, Stopping, stopping
from analysis.tuning import UNTUNED, Tuned, standing, tuned
from trainables.records import BY_NAME


def verdict(pairs: Pairs, metric: str = "test_accuracy", early: Stopping | None = None) -> str:
    """What the comparisons allow to say about one metric; never more than that.

    ``early`` is what :func:`analysis.stopped.stopping` says of the pairs, where the caller has it already.

    The first line names the metric, the clock, the comparisons counted and how many were stopped early, the share won,
    and the median gap with its interval. Each further line is one caveat: what early stopping chose and what can be
    said of all comparisons (see :mod:`analysis.stopped`), too few, what the median does not say (rare large gaps), how
    sure (the sign test and the probability of improvement; study by study where there are several), another clock than
    epochs, wins over baselines that did not learn or are not tuned, tuned against tuned, trials left out and why.
    """
    frame = pairs.frame
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
        f"The median gap is {amount(metric, row['median'])}"
    )
    counts = counted(n, "comparison") if units == n else counted(units, "configuration")
    over = "" if units == n else f" (over {counts}, each averaged over its seeds)"
    if units < ENOUGH:
        few = f"{counts}: too few to tell which arm is better; a 95% interval of the median takes {ENOUGH}."
        lines = [f"{claim}{_mean(row)}{over}.", few]
    else:
        low, high = amount(metric, row["median_low"]), amount(metric, row["median_high"])
        lines = [f"{claim} with a 95% interval from {low} to {high}{_mean(row)}{over}."]
        lines += _told(row, _measured(frame, metric), early, treatment, baseline, counts)
        lines.append(_how_sure(row, improvement(frame, metric), treatment, counts))
    lines[1:1] = _with_stopped(early, metric, treatment, baseline)
    lines += _without_gap(frame, metric)
    if STUDY in frame and frame[STUDY].nunique() > 1:
        lines.append(_by_study(frame, metric, treatment))
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
    lines = [early.full(baseline, treatment)]
    if early.read:
        row = summarize(early.reached, [metric]).iloc[0]
        low, high = amount(metric, row["median_low"]), amount(metric, row["median_high"])
        interval = "" if math.isnan(row["median_low"]) else f" (95% interval from {low} to {high})"
        lines.append(
            f"With {early.read} stopped ones at the last epoch that they reached, {treatment} wins {row['wins']:.0%} "
            f"of {row['comparisons']}, with a median gap of {amount(metric, row['median'])}{interval} and a mean of "
            f"{amount(metric, row['mean'])}; these gaps are not final."
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


def _mean(row: pd.Series[Any]) -> str:
    if math.isnan(row["mean"]):
        return ""
    which = "the mean of the finite gaps" if math.isinf(row["max"] - row["min"]) else "the mean"
    return f", {which} {amount(row['metric'], row['mean'])}"


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
    extreme = f"below the worst of these, {amount(row['metric'], row['min'])}"
    if sign < 0:
        extreme = f"above the best of these, {amount(row['metric'], row['max'])}"
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
    if BY_NAME[metric].unit == "fraction":
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
