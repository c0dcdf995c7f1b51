"""The report's third and fourth question: against other arms, and with each arm at its best."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.charts import Axis, Chart, bars_chart, forest_chart, slug, thinned
from analysis.curve_charts import best_of_n_chart
from analysis.database import counted
from analysis.findings import HEADLINE, Findings, at_random, forest_rows, headline_rows, summary_table, told
from analysis.gap_charts import LEARNED, described, scatter_chart, zero_lines
from analysis.gaps import amount, label, settings, summarize
from analysis.page import Block, Cell, Heading, Missing, Section, Table, Text, capped, choice, grid
from analysis.tuning import STANDINGS, UNLEARNED, UNTUNED, WON, Tuned, best_of_n, standing, tuned
from trainables.records import title

NO_CONTROL = (
    "No control arm was run, so it is not known whether the treatment does what it does by which samples it keeps, or "
    "merely by training on fewer. To find out, add to the experiment: "
    "arms.random: {selector: {name: random, like: filtered}}, with the name of your own arm for filtered."
)
HOW_TUNED = (
    "A gap at the same configuration can come from a baseline that is badly tuned there. Here each arm has its own "
    "best hyperparameters within a cell (a problem with its budget), chosen on validation and reported on test."
)
CELLS = 6
"""Cells whose curves are drawn, those with the most configurations."""


def controls(found: Findings) -> Section:
    """Question 3: is it the method, or just fewer samples?"""
    heading = "Is it the method, or just fewer samples?"
    if not found.others:
        return Section("controls", heading, "Not known: no control arm was run.", [Missing(NO_CONTROL)])
    baseline, treatment = found.names
    ways = {f"{treatment} against {baseline}": found.pairs}
    for arm, (against, instead) in found.others.items():
        ways |= {f"{treatment} against {arm}": against, f"{arm} against {baseline}": instead}
    rows = headline_rows(ways, "Arms")
    chart = forest_chart(
        forest_rows(list(rows["Arms"]), rows),
        "controls",
        f"Median gap in {title(HEADLINE)} between every two arms",
        "median gap (pp)",
        f"Median gaps in {title(HEADLINE)} with 95% intervals, between arms.",
    )
    lines = []
    random = [arm for arm in found.others if at_random(found.study.trials, arm)]
    for arm in random or found.others:
        against, _ = found.others[arm]
        row = summarize(against.frame, [HEADLINE]).iloc[0]
        if row["comparisons"]:
            of = counted(int(row["comparisons"]), "comparison")
            lines.append(f"against {arm} in {row['wins']:.0%} of {of}, with {told(row)}")
    if not lines:
        nothing = "No comparison has finished with the treatment and another arm."
        return Section("controls", heading, "Not known yet.", [Missing(nothing)])
    answer = f"{treatment} wins {'; '.join(lines)}."
    note = (
        "A win over the baseline is worth little if an arm that picks its samples at random, as many of them, wins as "
        "well. In the plane, dots to the right of 0 are wins over the baseline, dots above 0 wins over the other arm."
    )
    blocks: list[Block] = [Text(note, note=True)]
    if not random:
        answer, blocks = f"Not known: none of the arms picks its samples at random. {answer}", [Missing(NO_CONTROL)]
    options = [(arm, grid(_plane(found, arm))) for arm in found.others]
    planes = choice("Other arm", options) if len(options) > 1 else options[0][1]
    tables = [
        summary_table(
            f"Gaps of {treatment} against {arm}", summarize(against.frame, found.measured), declared=found.study.columns
        )
        for arm, (against, _) in found.others.items()
        if not against.frame.empty
    ]
    caption = f"Gap in {title(HEADLINE)} between every two arms, at the last epoch"
    blocks += [*grid(chart), summary_table(caption, rows, metric=False), *planes, *tables]
    return Section("controls", heading, answer, blocks)


def _plane(found: Findings, arm: str) -> Chart | None:
    """Gaps against the baseline across, and against another arm upwards."""
    columns = ["trial_id", f"gap/{HEADLINE}"]
    other = found.others[arm][0].frame[columns].rename(columns={columns[1]: "other"})
    both = found.frame.merge(other, on="trial_id")
    baseline, treatment = found.names
    rows, note = thinned(both, found.seed)
    dots = pd.DataFrame(
        {
            "number": rows["number"],
            "settings": described(rows, settings(found.frame)),
            "against baseline": 100 * rows[f"gap/{HEADLINE}"],
            "against other": 100 * rows["other"],
            "what": LEARNED.name,
        }
    )
    x = Axis("against baseline", f"gap to {baseline} (pp)")
    y = Axis("against other", f"gap to {arm} (pp)")
    wins = both[both[f"gap/{HEADLINE}"] > 0]
    also = f"; of {counted(len(wins), 'win')} over {baseline}, {(wins['other'] > 0).mean():.0%} are also won over {arm}"
    alt = f"Gaps of {treatment} to {baseline} across and to {arm} upwards, in {title(HEADLINE)}, a dot each of "
    alt += f"{counted(len(both), 'comparison')}{also if len(wins) else ''}."
    heading = f"Gaps to {baseline} and to {arm}"
    tooltip = ["number", "settings"]
    return scatter_chart(
        dots, slug("plane", arm), heading, alt, x, y, "what", [LEARNED], zero_lines(x, y), tooltip, note
    )


def tuning(found: Findings) -> Section:
    """Question 4: the same configuration, or each at its best?"""
    heading = "The same configuration, or each at its best?"
    baseline, treatment = found.names
    if found.frame.empty:
        return Section("tuning", heading, "No comparison has finished yet.")
    cells = [cell for cell in tuned(found.frame) if math.isfinite(cell.gap)]
    answer = "No cell has two configurations, so the arms cannot be compared at their own best hyperparameters."
    blocks: list[Block] = [Text(HOW_TUNED, note=True)]
    if cells:
        ahead = sum(cell.gap > 0 for cell in cells)
        gap = amount(HEADLINE, float(np.median([cell.gap for cell in cells])))
        ahead_in = "" if len(cells) == 1 else f" in {ahead} of {len(cells)} cells"
        side = "ahead of" if ahead or len(cells) > 1 else "not ahead of"
        kind = "gap" if len(cells) == 1 else "median gap"
        answer = f"Each at its own best, {treatment} is {side} {baseline}{ahead_in}: the {kind} on test is {gap}."
        blocks.append(_tuned_table(cells))
    standings = standing(found.frame).value_counts().reindex(STANDINGS, fill_value=0)
    rows = pd.DataFrame({"label": list(STANDINGS), "value": standings.to_numpy()})
    said = ", ".join(f"{count} {name}" for name, count in standings.items())
    chart = bars_chart(
        rows,
        "standings",
        f"How comparisons stand in {title(HEADLINE)}",
        "comparisons",
        f"How comparisons stand: {said}.",
    )
    if cells:
        wins = int(standings[[UNLEARNED, UNTUNED, WON]].sum())
        answer += f" Of {counted(wins, 'win')}, {standings[WON]:,} over a baseline that learned and was tuned."
    blocks += grid(chart)
    curves = best_of_n(found.frame)
    sizes = curves.groupby("cell", sort=False)["configurations"].first()
    largest = sizes.sort_values(ascending=False, kind="stable").index[:CELLS]
    drawn = grid(*(best_of_n_chart(curves[curves["cell"] == cell], place) for place, cell in enumerate(largest)))
    if drawn:
        note = (
            "What each arm is expected to reach on test when its best of n configurations, drawn without replacement, "
            "is chosen on validation. The two arms draw from the same configurations."
        )
        blocks += [Heading("For the same budget of tuning"), Text(note, note=True), *drawn]
    return Section("tuning", heading, answer, blocks)


def _tuned_table(cells: Sequence[Tuned]) -> Table:
    rows = [
        [
            Cell(", ".join(f"{key} {label(value)}" for key, value in cell.cell.items()) or "all"),
            Cell(title(cell.chosen_by)),
            Cell(f"{cell.trials:,}", cell.trials),
            Cell(f"{cell.baseline_test:.1%} (trial {cell.baseline_trial})", cell.baseline_test),
            Cell(f"{cell.treatment_test:.1%} (trial {cell.treatment_trial})", cell.treatment_test),
            Cell(amount(HEADLINE, cell.gap), cell.gap),
        ]
        for cell in cells
    ]
    heads = ["Cell", "Chosen by", "Configurations", "Best baseline, test", "Best treatment, test", "Gap"]
    text = "Each arm at its own best hyperparameters within a cell, from the same configurations"
    return capped(Table(text, heads, rows), 100)
