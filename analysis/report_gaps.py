"""The report's first two questions: where the treatment wins, and how sure that is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.budgets import of_comparisons, shared
from analysis.charts import forest_chart
from analysis.database import counted
from analysis.findings import (
    DRAWN_METRICS,
    HEADLINE,
    Findings,
    equals,
    forest_rows,
    headline_rows,
    percent,
    percents,
    summary_table,
    told,
)
from analysis.gap_charts import gaps_chart, win_map_chart
from analysis.gaps import amount, label, p_value, summarize, win_map
from analysis.page import Block, Cell, Heading, Missing, Section, Table, Text, capped, choice, grid
from analysis.statistics import evidence
from analysis.tables import span
from trainables.records import title

HOW_GAPS = (
    "A gap is the treatment's value minus the baseline's, turned so that positive always means that the treatment is "
    "better; pp are percentage points, fwd-eq forward-equivalents (1 per probed and 3 per trained sample). A tie "
    "counts as half a win; a baseline is unlearned when it diverged or its test accuracy is below 1.5 times chance. A "
    "comparison in which an arm diverged, ran out of memory or made too few updates to learn has no gap; it counts as "
    "lost by that arm, by more than any gap (−∞ or +∞), and the mean is of the others. Intervals are 95% "
    "intervals of the median, which hold for gaps of any distribution; fewer than 6 have none. The mean has none: with "
    "so few gaps, none holds where large losses are rare. Where configurations have several seeds, these are averaged "
    "first, and median, interval and mean are of the configurations. Intervals take these as independent, which those "
    "of one search are not quite."
)
HOW_CLOCKS = (
    "An epoch is one pass over the raw training data, in which arms take different numbers of steps, or, with a budget "
    "on another clock, an equal share of that budget. On another clock than epochs, both arms are read where the one "
    "that spent less has ended, interpolated between epochs and before the other's schedule has ended; comparisons too "
    "unequal for that are left out."
)
HOW_SURE = (
    "p is of the sign test that the median gap is 0, a tie counting against either side, then corrected by Holm for "
    "the metrics in the table. The probability of improvement is the share of a configuration's seeds in which the "
    "treatment is better, a tie counting half, averaged over configurations (Agarwal et al. 2021). Both take a "
    "configuration, averaged over its seeds, as one observation. Better and worse are said of the median gap, where "
    "its interval leaves out 0 and p (Holm) is below 0.05. There are too few to tell where no outcome could have "
    "passed the test."
)
MAPPED_KEYS = 6
"""Settings whose pairs have a win map: the first, so 15 maps at most."""


def where(found: Findings) -> Section:
    """Question 1: does filtering win, and where?"""
    baseline, treatment = found.names
    heading = f"Does {treatment} win, and where?"
    if found.frame.empty:
        nothing = Missing("No comparison has finished with both arms, so there are no final gaps.")
        return Section("where", heading, "No comparison has finished yet.", [nothing, *_rungs(found)])
    summary = summarize(found.frame, found.measured)
    rows = summary[summary["metric"] == HEADLINE].to_dict("records")
    answer = f"{title(HEADLINE).capitalize()} was not measured."
    if rows:
        row = rows[0]
        answer = (
            f"{treatment} beats {baseline} in {row['wins']:.0%} of {counted(row['comparisons'], 'comparison')}, with "
            f"{told(row)}."
        )
    top = found.rules.rows.head(1).to_dict("records") if len(found.rules.rows) > 1 else []
    answer += "".join(f" It does best where {row['says'].replace(' → ', ': ')}." for row in top)
    declared = found.study.columns
    blocks: list[Block] = [Text(HOW_GAPS, note=True)]
    blocks.append(
        summary_table("Gaps at the last epoch; positive: the treatment is better", summary, declared=declared)
    )
    drawn = (gaps_chart(found.frame, found.dots, metric, note=found.note) for metric in DRAWN_METRICS)
    blocks += grid(*drawn)
    if found.best and not found.best.frame.empty:
        best = summarize(found.best.frame, found.measured)
        blocks.append(summary_table("Gaps at each arm's best epoch by validation accuracy", best, declared=declared))
    blocks += _clocks(found)
    blocks += _rungs(found)
    blocks += [Heading("By setting"), *_by_key(found), *_maps(found)]
    return Section("where", heading, answer, blocks)


def _clocks(found: Findings) -> list[Block]:
    rows = headline_rows(found.clocks, "Clock")
    end = _end(found)
    names = [end if clock == "epochs" else f"at equal {clock}" for clock in rows["Clock"]]
    if found.best:
        best = headline_rows({"best": found.best}, "Clock")
        rows, names = pd.concat([rows, best], ignore_index=True), [*names, "at each arm's best epoch"]
    chart = forest_chart(
        forest_rows(names, rows),
        "clocks",
        f"Median gap in {title(HEADLINE)}, by where the arms are compared",
        "median gap (pp)",
        f"Median gaps in {title(HEADLINE)} with 95% intervals.",
    )
    clocks = rows[rows["Clock"] != "best"]
    table = summary_table(f"Gap in {title(HEADLINE)} where both arms have spent the same", clocks, metric=False)
    return [Heading("At equal clocks"), Text(HOW_CLOCKS, note=True), *grid(chart), table]


def _end(found: Findings) -> str:
    """What both arms have spent at their last epoch, in a few words."""
    fair = {of.clock for of in of_comparisons(found.frame, shared) if of and of.clock != "epochs"}
    return f"at the end, with a budget of {' or '.join(sorted(fair)).replace('_', ' ')}" if fair else "at equal epochs"


def _rungs(found: Findings) -> list[Block]:
    if not found.rungs:
        return []
    early = found.stopping
    ways = {str(epoch): pairs for epoch, pairs in found.rungs.items()}
    lost = {"left out": sum(found.pairs.dropped.values()) - early.read}
    ways["the last that each reached"] = replace(found.pairs, frame=early.reached, dropped=lost)
    rows = headline_rows(ways, "Epoch")
    text = f"Gap in {title(HEADLINE)} of all trials that reached an epoch, finished or not"
    note = "A trial stopped early has no final gap. This table counts it at the epochs that it reached."
    heading = Heading("At equal epochs, with the trials that were stopped")
    return [heading, Text(note, note=True), summary_table(text, rows, metric=False)]


def _by_key(found: Findings) -> list[Block]:
    if not found.keys:
        return [Text("No hyperparameter varies among the finished comparisons.")]
    note = (
        f"Gaps in {title(HEADLINE)} for each setting that varies. Settings vary together, and many groups are looked "
        "at: a difference here is a hint, to be confirmed on fresh seeds."
    )
    options = []
    for key in found.keys:
        summary = summarize(found.frame, [HEADLINE], [key])
        table = capped(summary_table(f"Gap in {title(HEADLINE)} by {key}", summary, metric=False), 50)
        chart = gaps_chart(found.frame, found.dots, HEADLINE, key, found.note)
        options.append((key, [*grid(chart), table]))
    return [Text(note, note=True), *choice("Group by", options)]


def _maps(found: Findings) -> list[Block]:
    pairs = itertools.combinations(found.keys[:MAPPED_KEYS], 2)
    options = []
    for keys in pairs:
        chart = win_map_chart(win_map(found.frame, HEADLINE, keys), keys, HEADLINE)
        options.append((f"{keys[0]} and {keys[1]}", grid(chart)))
    drawn = choice("Settings", options)
    note = f"The share of comparisons won in {title(HEADLINE)}, and on it the median gap in percentage points."
    return [Heading("Win map"), Text(note, note=True), *drawn] if drawn else []


def sure(found: Findings) -> Section:
    """Question 2: how sure is it?"""
    heading = "How sure is that?"
    if found.frame.empty:
        return Section("sure", heading, "There is nothing to be sure of yet.")
    table, declared = evidence(found.frame, found.measured), found.study.columns
    rows = [
        [
            Cell(title(row["metric"])),
            Cell(_says(found, row)),
            Cell(f"{row['units']:,}", row["units"]),
            Cell(label(row["seeds"]), row["seeds"]),
            Cell(amount(row["metric"], row["median"], declared), row["median"]),
            Cell(span(row["metric"], row["median_low"], row["median_high"], declared), row["median_low"]),
            Cell(p_value(row["p"]), row["p"]),
            Cell(p_value(row["p_holm"]), row["p_holm"]),
            Cell(percent(row["improvement"]), row["improvement"]),
            Cell(percents(row["improvement_low"], row["improvement_high"]), row["improvement_low"]),
        ]
        for row in table.to_dict("records")
    ]
    heads = [
        "Metric",
        "The treatment is",
        "Units",
        "Seeds",
        "Median gap",
        "95% interval of the median",
        "p",
        "p (Holm)",
    ]
    heads += ["Probability of improvement", "95% interval of that"]
    told_rows = pd.DataFrame(
        {
            "label": [title(metric) for metric in table["metric"]],
            "value": 100 * table["improvement"],
            "low": 100 * table["improvement_low"],
            "high": 100 * table["improvement_high"],
            "said": [percent(share) for share in table["improvement"]],
        }
    )
    chart = forest_chart(
        told_rows,
        "improvement",
        "Probability that the treatment does better",
        "probability of improvement (%)",
        "Probability of improvement in each metric, with 95% intervals; 50% is no difference.",
        reference=50,
    )
    lines = table[table["metric"] == HEADLINE].to_dict("records") or table.to_dict("records")[:1]
    answer = "Nothing was measured."
    if lines:
        row = lines[0]
        answer = f"In {title(row['metric'])}: {_says(found, row)}."
        if math.isfinite(row["p_holm"]):
            answer = (
                f"{answer[:-1]}; the median gap's 95% interval is "
                f"{span(row['metric'], row['median_low'], row['median_high'], declared)}, p "
                f"{equals(row['p_holm'])} after Holm's correction, the probability of improvement "
                f"{percent(row['improvement'])}."
            )
    return Section(
        "sure", heading, answer, [Text(HOW_SURE, note=True), *grid(chart), Table("Evidence by metric", heads, rows)]
    )


def _says(found: Findings, row: Mapping[Any, Any]) -> str:
    """What the evidence says of the treatment; of all comparisons only where stopped ones cannot change it."""
    sign = {"better": 1, "worse": -1}.get(row["says"])
    if sign is None or found.stopping.settles(row["metric"], sign):
        return str(row["says"])
    return f"{row['says']} among those that {found.stopping.which}"
