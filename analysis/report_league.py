"""The report's section on all arms: ranks, gaps to the baseline, costs, and how soon each reaches an accuracy."""

from __future__ import annotations

import pandas as pd

from analysis.budgets import clocks_of
from analysis.charts import Chart, forest_chart
from analysis.findings import Findings
from analysis.gaps import amount
from analysis.league import COSTS, HEADLINE, League, how_soon, league, league_table, soon_table, told
from analysis.page import Block, Cell, Section, Table, Text, choice, grid, plain
from analysis.speed import targets
from trainables.records import title

MANY = 4
"""Arms from which on they are ranked; of fewer, the other sections say all."""

TOLD = ("steps", *COSTS)
"""The clocks on which the arms are ranked, beside their end."""

HOW_RANKED = (
    "Within each comparison the arms are ranked by {metric}, 1 being the best; the mean of these ranks orders the "
    "table. p is that of a sign test of the gaps, corrected over all arms (Holm 1979). Compute and time are the arm's "
    "by the baseline's. All of it holds for the data and the network of this study, and for other seeds of it."
)


def leagues(found: Findings) -> Section:
    """Every arm beside every other; without blocks where there are few."""
    study, heading = found.study, "All arms"
    ended = league(study)
    if ended is None or len(ended.rows) < MANY:
        return Section("league", heading, "")
    others = [(clock, league(study, clock=clock)) for clock in TOLD if clock in clocks_of(study)]
    options = [("at the end", [_table(ended)])]
    options += [(f"at equal {clock}", [_table(one)]) for clock, one in others if one is not None]
    blocks: list[Block] = [Text(HOW_RANKED.format(metric=title(HEADLINE)), note=True), *grid(_chart(ended))]
    blocks += choice("Compared", options)
    soon = [(f"{target:.0%}, {cost}", [_how_soon(found, target, cost)]) for target in targets(study) for cost in COSTS]
    return Section("league", heading, told(ended), blocks + choice("Reaching a test accuracy of", soon))


def _how_soon(found: Findings, target: float, cost: str) -> Table:
    """What each arm had spent when it reached a test accuracy."""
    text = soon_table(how_soon(found.study, target, cost), target, cost)
    return plain(f"When half of the comparisons had reached {target:.0%}", list(text.columns), text.to_numpy().tolist())


def _chart(found: League) -> Chart | None:
    """Each arm's median gap with its interval, best rank first."""
    rows = found.rows[found.rows["arm"] != found.against]
    gaps = 100 * rows[["gap", "gap_low", "gap_high"]].astype("float64")
    frame = pd.DataFrame(
        {
            "label": rows["arm"],
            "value": gaps["gap"],
            "low": gaps["gap_low"],
            "high": gaps["gap_high"],
            "said": [amount(found.metric, gap) for gap in rows["gap"]],
        }
    )
    axis = f"median gap to {found.against} (pp)"
    about = f"Median gaps of every arm to {found.against} in {title(found.metric)}, with 95% intervals."
    return forest_chart(frame, "league", f"{title(found.metric)} of every arm beside {found.against}", axis, about)


def _table(found: League) -> Table:
    """The league, sorted by its numbers."""
    text = league_table(found)
    numbers = dict(
        zip(text.columns, [None, "rank", "median", "gap", "gap_low", "wins", "p", "worst", *COSTS], strict=True)
    )
    rows = []
    for line, row in zip(text.to_dict("records"), found.rows.to_dict("records"), strict=True):
        rows.append([Cell(str(line[head]), float(row[name]) if name else None) for head, name in numbers.items()])
    where = "at the end" if found.clock == "epochs" else f"at equal {found.clock}"
    caption = f"All arms by mean rank in {title(found.metric)}, {where} ({found.blocks} comparisons)"
    return Table(caption, [str(head) for head in text.columns], rows)
