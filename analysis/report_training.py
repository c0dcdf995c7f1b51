"""The report's sixth and seventh question: how soon an accuracy is reached, and how far it holds on new samples."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from analysis.charts import SOFT, Axis, Chart, forest_chart, slug, thinned
from analysis.curve_charts import reached_chart
from analysis.curves import AXES as ALONG
from analysis.database import counted
from analysis.findings import Findings, percent, times
from analysis.gap_charts import LEARNED, UNLEARNED, described, scatter_chart
from analysis.gaps import p_value, settings
from analysis.overfitting import ratios, summarize_ratios
from analysis.page import Block, Cell, Missing, Section, Table, Text, choice, grid
from analysis.speed import reached, speeds, targets, time_to
from trainables.records import SIDES, title

HOW_FAST = (
    "An arm that ends below an accuracy has not failed to reach it: it was not trained for longer, and counts as "
    "censored there. Curves are the share that has reached it (Kaplan and Meier 1958), with 95% intervals. The ratio "
    "is the treatment's time over the baseline's in the median comparison in which both reach it: below 1 the "
    "treatment is faster. Which is first is counted where it can be decided; p is of a sign test over configurations, "
    "corrected by Holm for the table."
)
CENSORED = (
    "Trials were stopped early here: those that would have taken longest are missing, which makes both sides look fast."
)
HOW_RATIOS = (
    "The test value over the training value of one arm at its last epoch. A loss on test is larger than on the "
    "training samples when a model has learned these by heart, so a smaller ratio means less overfitting; but a model "
    "that has learned nothing has a ratio of 1, which is no merit: the table also counts where the ratio is closer to "
    "1 and the test value is better. Means are geometric, over configurations."
)


def speed(found: Findings) -> Section:
    """Question 6: how soon is an accuracy reached?"""
    heading = "Which is faster?"
    goals = targets(found.study)
    table = speeds(found.study, goals, list(found.clocks))
    table = table[table["comparisons"] > 0]
    if table.empty:
        nothing = "No test accuracy of 10% or more was reached by enough arms within training; train for longer."
        return Section("speed", heading, "Not known: no common accuracy was reached.", [Missing(nothing)])
    names = dict(zip(("baseline", "treatment"), found.names, strict=True))
    options = []
    for clock in found.clocks:
        times = [(goal, time_to(found.study, goal, clock)) for goal in goals]
        options.append((clock, grid(*(reached_chart(reached(rows), names, goal, clock) for goal, rows in times))))
    blocks: list[Block] = [Text(HOW_FAST, note=True)]
    if (found.study.trials["status"] == "stopped").any():
        blocks.append(Text(CENSORED, note=True))
    return Section("speed", heading, _fastest(table, names), [*blocks, *choice("Along", options), _speed_table(table)])


def _fastest(table: pd.DataFrame, names: dict[str, str]) -> str:
    """How many times the baseline's cost the treatment takes, for the highest target that both reach in half of all."""
    both = table[np.isfinite(table["ratio"])]
    if both.empty:
        return "In no comparison do both arms reach the same accuracy."
    often = both[2 * both["both"] >= both["comparisons"]]
    goal = both["target"].min() if often.empty else often["target"].max()
    rows = both[both["target"] == goal].set_index("clock")
    parts = [f"{rows.loc[clock, 'ratio']:.2g} times the {clock}" for clock in rows.index]
    said = ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1]
    count = counted(int(rows["both"].max()), "comparison")
    treatment, baseline = names["treatment"], names["baseline"]
    return f"To {100 * goal:g}% test accuracy, {treatment} takes {said} of {baseline} (medians of {count})."


def _speed_table(table: pd.DataFrame) -> Table:
    cells = [
        [
            Cell(ALONG[row["clock"]]),
            Cell(f"{100 * row['target']:g}%", row["target"]),
            Cell(f"{row['baseline_reached']:,} of {row['comparisons']:,}", row["baseline_reached"]),
            Cell(f"{row['treatment_reached']:,} of {row['comparisons']:,}", row["treatment_reached"]),
            Cell(_time(row["baseline_median"]), row["baseline_median"]),
            Cell(_time(row["treatment_median"]), row["treatment_median"]),
            Cell(f"{row['ratio']:.2f}" if math.isfinite(row["ratio"]) else "–", row["ratio"]),
            Cell(f"{percent(row['first'])} of {row['decided']:,}", row["first"]),
            Cell(p_value(row["p_holm"]), row["p_holm"]),
        ]
        for row in table.to_dict("records")
    ]
    heads = ["Clock", "Accuracy", "Baseline reaches", "Treatment reaches", "Baseline, median", "Treatment, median"]
    return Table("How soon each arm reaches an accuracy", [*heads, "Ratio", "Treatment first", "p (Holm)"], cells)


def _time(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if math.isfinite(value) else "–"


def overfitting(found: Findings) -> Section:
    """Question 7: how far does what was learned hold beyond the training samples?"""
    heading = "Does it overfit less?"
    table = summarize_ratios(found.frame)
    table = table[table["comparisons"] > 0]
    if table.empty:
        nothing = "No comparison has finished with both arms measured on training and on test samples."
        return Section("overfitting", heading, "Not known yet.", [Missing(nothing)])
    rows = pd.DataFrame(
        {
            "label": [title(metric) for metric in table["metric"]],
            "value": table["factor"],
            "low": table["factor_low"],
            "high": table["factor_high"],
            "said": [times(factor) for factor in table["factor"]],
        }
    )
    chart = forest_chart(
        rows,
        "ratios",
        "The treatment's test/train ratio over the baseline's",
        "ratio of ratios",
        "The treatment's test/train ratio over the baseline's, medians; 1 is no difference.",
        reference=1,
        log=True,
    )
    values = ratios(found.frame)
    metrics = sorted(table["metric"], key="accuracy".__eq__)
    planes = [(title(metric), grid(_ratio_plane(found, values, metric))) for metric in metrics]
    blocks = [Text(HOW_RATIOS, note=True), *grid(chart), _ratio_table(table), *choice("Ratio of", planes)]
    baseline, treatment = found.names
    said = [
        f"{row['factor']:.2f} times that of {baseline} in {title(row['metric'])}"
        + (
            f" (95% interval {_interval(row['factor_low'], row['factor_high'])})"
            if not math.isnan(row["factor_low"])
            else ""
        )
        for row in table.to_dict("records")
        if row["metric"] in ("mean_loss", "worst_loss")
    ]
    answer = (
        f"Test over train, the ratio of {treatment} is {' and '.join(said)}." if said else "Losses were not measured."
    )
    return Section("overfitting", heading, answer, blocks)


def _interval(low: float, high: float) -> str:
    if math.isnan(low):
        return "–"
    return f"{low:.2f} to {high:.2f}" if math.isfinite(high) else f"{low:.2f} to ∞"


def _ratio_plane(found: Findings, values: pd.DataFrame, metric: str) -> Chart | None:
    """The two sides' ratios of each comparison, and the line where they are equal."""
    sides = [f"{side}/{metric}" for side in SIDES]
    both = values[(values[sides] > 0).all(axis="columns")]
    rows, note = thinned(both, found.seed)
    if rows.empty:
        return None
    frame = found.frame.loc[rows.index]
    learned = np.where(frame["baseline_learned"], LEARNED.name, UNLEARNED.name)
    dots = pd.DataFrame({"number": rows["number"], "settings": described(frame, settings(found.frame))})
    dots = dots.assign(baseline=rows[sides[0]], treatment=rows[sides[1]], what=learned)
    numbers = rows[sides].to_numpy(dtype="float64")
    ends = (float(numbers.min()), float(numbers.max()))
    baseline, treatment = found.names
    domain = ends if ends[0] < ends[1] else None
    x, y = (
        Axis(side, f"test/train, {name}", log=True, domain=domain)
        for side, name in zip(SIDES, (baseline, treatment), strict=True)
    )
    diagonal = {
        "data": {"values": [dict.fromkeys(SIDES, end) for end in ends]},
        "mark": {"type": "line", "color": SOFT, "strokeWidth": 1},
        "encoding": {"x": x.channel(), "y": y.channel()},
    }
    below = float((both[sides[1]] < both[sides[0]]).mean())
    about = (
        f"Test/train ratios of {title(metric)}, {baseline} across and {treatment} upwards, a dot each of "
        f"{counted(len(both), 'comparison')}; {below:.0%} lie below the line where both are equal."
    )
    heading = f"Test/train ratio of {title(metric)}"
    tooltip, kinds = ["number", "settings"], [LEARNED, UNLEARNED]
    return scatter_chart(dots, slug("ratio", metric), heading, about, x, y, "what", kinds, [diagonal], tooltip, note)


def _ratio_table(table: pd.DataFrame) -> Table:
    cells = [
        [
            Cell(title(row["metric"])),
            Cell(f"{row['comparisons']:,}", row["comparisons"]),
            Cell(f"{row['baseline']:.3g}", row["baseline"]),
            Cell(f"{row['treatment']:.3g}", row["treatment"]),
            Cell(times(row["factor"]), row["factor"]),
            Cell(_interval(row["factor_low"], row["factor_high"]), row["factor_low"]),
            Cell(percent(row["share"]), row["share"]),
            Cell(percent(row["closer"]), row["closer"]),
            Cell(percent(row["closer_and_better"]), row["closer_and_better"]),
            Cell(p_value(row["p_holm"]), row["p_holm"]),
        ]
        for row in table.to_dict("records")
    ]
    heads = [
        "Ratio of",
        "Comparisons",
        "Baseline",
        "Treatment",
        "Factor",
        "95% interval of the factor",
        "Smaller",
        "Closer to 1",
    ]
    return Table("Test/train ratios of the two sides", [*heads, "Closer, and better on test", "p (Holm)"], cells)
