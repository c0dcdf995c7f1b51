"""The nine-panel figure of section 4.3 and the distribution of gaps: first their data, then their drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogFormatter, MaxNLocator

from analysis.gaps import amount, bins, label, settings, title
from analysis.load import Study
from analysis.pairs import arms, last_gap
from trainables.records import BY_NAME

Array = np.ndarray[Any, np.dtype[np.float64]]

NEUTRAL = "#6b6b6b"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours, told apart by people with colour-blindness."""
DASHES = ("-", "--", "-.", ":")
LEGEND_WIDTH = 110
"""Characters side by side in the legend; arms that do not fit take further lines."""

PANELS = (
    *("train_accuracy", "test_accuracy", "train_worst_loss"),
    *("train_mean_loss", "test_mean_loss", "test_worst_loss"),
    *("train_q90_loss", "test_q90_loss", "cumulative_seconds"),
)
"""Three rows of three, train left of test, or above it."""
SAME_SCALE = ((0, 1), (3, 4), (6, 7), (2, 5))
"""Panels of the same metric on train and test, to be read against each other."""
DPI = 130


@dataclass(frozen=True)
class Panel:
    """One panel of the nine.

    Attributes:
        metric: the column drawn.
        unit: its unit.
        log: whether the axis is logarithmic: losses, where all values are positive.
        curves: for each arm, baseline first, its epochs and values.
    """

    metric: str
    unit: str
    log: bool
    curves: Mapping[str, tuple[Array, Array]]


@dataclass(frozen=True)
class Strip:
    """The gaps of one group of comparisons, in ascending order, and which of their baselines had learned."""

    label: str
    gaps: Array
    learned: np.ndarray[Any, np.dtype[np.bool_]]


class _PlainLogFormatter(LogFormatter):
    """Labels the same ticks of a logarithmic axis as its parent, as plain numbers."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def panels(study: Study, trial_id: str) -> tuple[Panel, ...]:
    """The data of the nine panels of one comparison: all arms, against epochs (section 4.3).

    Raises:
        TableError: the study has no such trial.
    """
    names = arms(study, trial_id)
    rows = study.epochs[study.epochs["trial_id"] == trial_id]
    made = []
    for metric in PANELS:
        curves = {}
        for name in names:
            of_arm = rows[rows["arm"] == name]
            curves[name] = (of_arm["epoch"].to_numpy(dtype="float64"), of_arm[metric].to_numpy(dtype="float64"))
        values = np.concatenate([np.empty(0), *(y for _, y in curves.values())])
        finite = values[np.isfinite(values)]
        log = metric.endswith("_loss") and finite.size > 0 and bool((finite > 0).all())
        made.append(Panel(metric, BY_NAME[metric].unit, log, curves))
    return tuple(made)


def caption(study: Study, trial_id: str) -> str:
    """One comparison in a line: its number, the settings that vary in the study, and its gap in test accuracy.

    The gap is at the last epoch that both sides have; a trial without both sides has none.
    """
    trial = study.trials[study.trials["trial_id"] == trial_id].iloc[0]
    given = [key for key in settings(study.trials) if pd.notna(trial[key])]
    values = ", ".join(f"{key} {label(trial[key])}" for key in given)
    text = f"Trial {label(trial['number'])}" + (f": {values}" if values else "")
    found = last_gap(study, trial_id, "test_accuracy")
    return f"{text}; test accuracy gap {amount('test_accuracy', found[0])} at epoch {found[1]}" if found else text


def nine_panels(study: Study, trial_id: str, path: Path) -> Path:
    """Draw the nine panels of one comparison to the PNG ``path``.

    Raises:
        TableError: the study has no such trial.
    """
    figure = Figure(figsize=(11, 8.6), layout="constrained")
    axes = figure.subplots(3, 3)
    drawn = panels(study, trial_id)
    names = list(drawn[0].curves)
    for panel, axis in zip(drawn, axes.flat, strict=True):
        _draw_panel(panel, axis)
    for first, second in SAME_SCALE:
        if drawn[first].log == drawn[second].log:
            axes.flat[first].sharey(axes.flat[second])
            axes.flat[first].autoscale()
    for axis in axes[-1]:
        axis.set_xlabel("epoch")
    handles = axes.flat[0].get_lines()[: len(names)]
    columns = max(min(LEGEND_WIDTH // (max(map(len, names), default=0) + 6), len(names)), 1)
    figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False, fontsize=11)
    heading = fill(caption(study, trial_id), 105).replace("$", r"\$")  # a dollar would start a formula
    figure.suptitle(heading, fontsize=12)
    return _save(figure, path)


def _draw_panel(panel: Panel, axis: Axes) -> None:
    for place, (name, (x, y)) in enumerate(panel.curves.items()):
        color = NEUTRAL if place == 0 else PALETTE[(place - 1) % len(PALETTE)]
        marker = "o" if len(x) < 2 else ""
        axis.plot(x, y, DASHES[place % len(DASHES)], color=color, marker=marker, linewidth=1.8, label=name)
    heading = "time for probing and updates" if panel.metric == "cumulative_seconds" else title(panel.metric)
    axis.set_title(f"{heading} ({panel.unit})", fontsize=11)
    if panel.log:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(_PlainLogFormatter(labelOnlyBase=False, minor_thresholds=(1.5, 0.5)))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    if not any(np.isfinite(y).any() for _, y in panel.curves.values()):
        axis.text(0.5, 0.5, "not recorded", transform=axis.transAxes, ha="center", va="center", color=NEUTRAL)


def strips(frame: pd.DataFrame, metric: str, by: str | None = None) -> tuple[Strip, ...]:
    """The finite gaps of ``metric`` in a frame of pairs, for each group of ``by`` (all together without one)."""
    frame = frame[np.isfinite(frame[f"gap/{metric}"])].sort_values(f"gap/{metric}", kind="stable")
    groups = [("all", frame)] if by is None else list(frame.groupby(bins(frame[by]), observed=True, sort=True))
    return tuple(
        Strip(str(name), group[f"gap/{metric}"].to_numpy(), group["baseline_learned"].to_numpy(dtype=bool))
        for name, group in groups
        if len(group)
    )


def gap_distribution(frame: pd.DataFrame, metrics: Sequence[str], path: Path, by: str | None = None) -> Path:
    """Draw the gaps of each metric to the PNG ``path``: a dot per comparison, a bar at each group's median.

    Args:
        frame: pairs.
        metrics: a panel each, on its own scale; right of 0 the treatment is better.
        path: where the picture goes.
        by: the configuration key whose groups are drawn apart.
    """
    drawn = [strips(frame, metric, by) for metric in metrics]
    groups = max([1, *map(len, drawn)])
    columns = min(2, len(metrics))
    rows = -(-len(metrics) // columns)
    figure = Figure(figsize=(11, rows * (1.3 + 0.42 * groups) + 0.7), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for metric, of_metric, axis in zip(metrics, drawn, axes.flat, strict=False):
        _draw_strips(of_metric, metric, axis)
    for axis in axes.flat[len(metrics) :]:
        axis.set_visible(False)
    legends = [axis.get_legend_handles_labels() for axis in axes.flat]
    entries = {name: handle for handles, names in legends for handle, name in zip(handles, names, strict=True)}
    figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle("Gap of each comparison" + (f" by {by}" if by else "") + "; right of 0 the treatment is better")
    return _save(figure, path)


def _draw_strips(of_metric: Sequence[Strip], metric: str, axis: Axes) -> None:
    scale, unit = (100, "pp") if BY_NAME[metric].unit == "fraction" else (1, BY_NAME[metric].unit)
    axis.axvline(0, color=NEUTRAL, linewidth=1)
    for place, strip in enumerate(of_metric):
        gaps = scale * strip.gaps
        spread = place + _spread(len(gaps))
        for learned, marker, face, name in (
            (True, "o", PALETTE[0], "a comparison"),
            (False, "X", PALETTE[1], "its baseline did not learn"),
        ):
            of_kind = strip.learned == learned
            axis.plot(
                gaps[of_kind],
                spread[of_kind],
                marker,
                color=face,
                markersize=7,
                alpha=0.75,
                markeredgewidth=0,
                label=name if of_kind.any() else None,
            )
        axis.plot([np.median(gaps)] * 2, [place - 0.34, place + 0.34], color="black", linewidth=2, label="median")
    axis.set_yticks(range(len(of_metric)), [f"{strip.label} (n={len(strip.gaps)})" for strip in of_metric])
    axis.set_ylim(max(len(of_metric), 1) - 0.5, -0.5)
    axis.set_title(title(metric), fontsize=11)
    axis.set_xlabel(f"gap ({unit})" if unit else "gap")
    axis.grid(axis="x", alpha=0.3, linewidth=0.6)
    axis.spines[["top", "right", "left"]].set_visible(False)


def _spread(n: int) -> Array:
    """Heights that keep ``n`` neighbouring dots apart, always the same."""
    return 0.25 * np.sin(2.4 * np.arange(n)) if n > 1 else np.zeros(n)


def _save(figure: Figure, path: Path) -> Path:
    path = Path(path)
    partial = path.with_name(f"{path.name}.partial")
    figure.savefig(partial, dpi=DPI, format="png")
    return partial.replace(path)
