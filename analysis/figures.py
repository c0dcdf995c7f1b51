"""The thesis's figures and the distribution of gaps, drawn as PNG with a PDF beside; their data are in ``curves``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.curves import MOST_VALUES, Array, Band, Panel, Strip, accumulation, panels, strips, variations
from analysis.drawing import (
    DASHES,
    MARKERS,
    NEUTRAL,
    PALETTE,
    PlainLogFormatter,
    Style,
    dress,
    entry,
    head,
    legend,
    save,
    short,
    style,
)
from analysis.gaps import amount, hyperparameters, label, settings, title
from analysis.load import Study
from analysis.pairs import arms, last_gap
from trainables.records import BUILT_IN

SAME_SCALE = ((0, 1), (3, 4), (6, 7), (2, 5))
"""Panels of the same metric on train and test, to be read against each other."""
AXES = {
    "epochs": "epoch",
    "passes": "passes over the data",
    "steps": "updates",
    "samples": "samples trained on",
    "compute": "compute (forward-equivalents)",
    "seconds": "time for probing and updates (s)",
    "reference_seconds": "reference seconds (s)",
}
"""What stands below a panel, by clock."""
HEADINGS = {"cumulative_seconds": "time for probing and updates", "epoch": "passes over the data"}
"""Of the panels that are not metrics by name."""
MOST_PROBLEMS = 4
"""Panels of a figure that has one for each problem."""
EFFECTS = {
    "raw_batches_per_step": "raw batches per filtered batch",
    "overflow": "overflow (share of kept samples)",
    "acceptance": "acceptance ratio (share of samples kept)",
}
"""Headings of what batch accumulation does."""


def thesis_figures(study: Study, frame: pd.DataFrame, folder: Path, trial_ids: Sequence[str]) -> list[Path]:
    """Draw a study in the forms of the thesis, to PNG files of readable names in ``folder`` and PDF files beside them.

    For each of ``trial_ids``: the nine panels against epochs and against time, and what accumulating its batches took.
    Of the whole study: the nine panels of variations of every setting that comparisons differ in alone, and what
    accumulating batches took in all comparisons. What there are no data for is not drawn.

    Args:
        study: its tables.
        frame: its pairs.
        folder: made where it is not there.
        trial_ids: comparisons to draw in full.

    Returns:
        The PNG files.

    Raises:
        TableError: the study has no such trial.
        OSError: ``folder`` cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for trial_id in dict.fromkeys(trial_ids):
        arms(study, trial_id)  # says if there is no such trial
        name = f"trial-{label(study.trials.loc[study.trials['trial_id'] == trial_id, 'number'].iloc[0])}"
        for clock in ("epochs", "seconds"):
            if _curved(panels(study, trial_id, clock)):
                made.append(nine_panels(study, trial_id, folder / f"{name}-{clock}.png", clock))
        if any(accumulation(study, trial_id).values()):
            made.append(accumulation_figure(study, folder / f"{name}-accumulation.png", trial_id))
    for key in hyperparameters(frame):
        found = variations(study, frame, key)
        if len(found.trial_ids) > 1 and _curved(found.panels):
            made.append(variations_figure(study, frame, key, folder / f"variations-{_file_name(key)}.png"))
    if any(accumulation(study).values()):
        made.append(accumulation_figure(study, folder / "accumulation.png"))
    return made


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


def nine_panels(study: Study, trial_id: str, path: Path, clock: str = "epochs") -> Path:
    """Draw all arms of one comparison in nine panels (Figures 4.1 to 4.9) to the PNG ``path``, and a PDF beside it.

    Raises:
        TableError: the study has no such trial.
        ValueError: ``clock`` is no word of ``records.CLOCKS``.
    """
    drawn = panels(study, trial_id, clock)
    styles = {(curve.arm, ""): style(place) for place, curve in enumerate(drawn[0].curves)}
    entries = [entry(arm, style) for (arm, _), style in styles.items()]
    return _draw_nine(drawn, styles, entries, caption(study, trial_id), clock, path)


def variations_figure(study: Study, frame: pd.DataFrame, key: str, path: Path, clock: str = "epochs") -> Path:
    """Draw comparisons that differ in ``key`` alone in nine panels (Figure 4.7): to the PNG ``path``, and a PDF beside.

    A colour for each value of the key, a dash for each side; see :func:`analysis.curves.variations` for which
    comparisons.

    Raises:
        TableError: the comparisons have no such key.
        ValueError: ``clock`` is no word of ``records.CLOCKS``.
    """
    found = variations(study, frame, key, clock)
    curves = found.panels[0].curves
    colors = dict(zip(dict.fromkeys(curve.setting for curve in curves), PALETTE, strict=False))
    dashes = dict(zip(dict.fromkeys(curve.arm for curve in curves), DASHES, strict=False))
    styles = {(curve.arm, curve.setting): (colors[curve.setting], dashes[curve.arm]) for curve in curves}
    entries = [entry(f"{key} {setting}", (color, "-")) for setting, color in colors.items()]
    entries += [entry(arm, ("black", dash)) for arm, dash in dashes.items()]
    heading = f"Variations of {key}" + (f"; all else alike: {found.alike}" if found.alike else "")
    if found.values > MOST_VALUES:
        heading += f" ({MOST_VALUES} of {found.values} values)"
    return _draw_nine(found.panels, styles, entries, heading, clock, path)


def accumulation_figure(study: Study, path: Path, trial_id: str | None = None) -> Path:
    """Draw what filling filtered batches took (Figure 6): three panels to the PNG ``path``, and a PDF beside it.

    A line at the median and a band between the quartiles: of all comparisons, or of the updates of ``trial_id``.
    """
    drawn = accumulation(study, trial_id)
    figure = Figure(figsize=(11, 3.7), layout="constrained")
    names = [band.arm for band in next(iter(drawn.values()))]
    for (quantity, bands), axis in zip(drawn.items(), figure.subplots(1, len(drawn)), strict=True):
        for place, band in enumerate(bands):
            _draw_band(band, style(place + 1), axis)
        dress(axis, EFFECTS[quantity], "epoch", any(np.isfinite(band.median).any() for band in bands))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.set_ylim(bottom=0)
    legend(figure, [entry(name, style(place + 1)) for place, name in enumerate(names)])
    if trial_id is None:
        heading = "Batch accumulation: median and quartiles of comparisons"
    else:
        heading = f"Batch accumulation, {caption(study, trial_id).partition(';')[0]}"
        heading += "; median and quartiles of updates" if (study.steps["trial_id"] == trial_id).any() else ""
    head(figure, heading)
    return save(figure, path)


def budget_figure(rows: pd.DataFrame, path: Path) -> Path:
    """Draw what each arm reaches along what it has spent to the PNG ``path``, and a PDF beside it.

    Args:
        rows: of :func:`analysis.budgets.accuracy_by_budget`; a panel for each of the first four problems and clocks.
            Medians of test accuracy, with a band where there are intervals.
        path: where the picture goes.
    """
    groups = [*rows.groupby(["problem", "clock"], sort=False)][:MOST_PROBLEMS]
    styles = {arm: style(place) for place, arm in enumerate(dict.fromkeys(rows["arm"]))}
    figure = Figure(figsize=(max(5.5 * len(groups), 8.0), 4.6), layout="constrained")
    axes = figure.subplots(1, len(groups), squeeze=False)
    for ((problem, clock), group), axis in zip(groups, axes.flat, strict=True):
        for arm, points in group.groupby("arm", sort=False):
            color, dash = styles[arm]
            spent, percents = points["spent"], 100 * points[["median", "low", "high"]].astype("float64")
            axis.plot(spent, percents["median"], dash, color=color, marker="o", markersize=4, linewidth=1.8)
            axis.fill_between(spent, percents["low"], percents["high"], color=color, alpha=0.15, linewidth=0)
        axis.set_xscale("log")
        ticks = [*group["budget"].drop_duplicates()]
        axis.set_xticks(ticks, [short(float(f"{tick:.3g}")) for tick in ticks])
        axis.minorticks_off()
        dress(axis, str(problem), AXES[str(clock)], drawn=True)
    legend(figure, [entry(str(arm), look) for arm, look in styles.items()])
    head(figure, "Test accuracy (%) against budget: medians, with 95% intervals")
    return save(figure, path)


def _draw_nine(
    drawn: Sequence[Panel],
    styles: Mapping[tuple[str, str], Style],
    entries: Sequence[Line2D],
    heading: str,
    clock: str,
    path: Path,
) -> Path:
    figure = Figure(figsize=(11, 8.6), layout="constrained")
    axes = figure.subplots(3, 3)
    for place, (panel, axis) in enumerate(zip(drawn, axes.flat, strict=True)):
        _draw_panel(panel, styles, AXES[clock] if place >= 6 else "", axis)
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=clock == "epochs", min_n_ticks=1))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    for first, second in SAME_SCALE:
        if drawn[first].log == drawn[second].log:
            axes.flat[first].sharey(axes.flat[second])
            axes.flat[first].autoscale()
    legend(figure, entries)
    head(figure, heading)
    return save(figure, path)


def _draw_panel(panel: Panel, styles: Mapping[tuple[str, str], Style], below: str, axis: Axes) -> None:
    for curve in panel.curves:
        color, dash = styles[curve.arm, curve.setting]
        marker = MARKERS[dash] if len(curve.x) < 2 else ""
        axis.plot(curve.x, curve.y, dash, color=color, marker=marker, linewidth=1.8)
    heading = f"{HEADINGS.get(panel.metric, title(panel.metric))} ({panel.unit})"
    if panel.log:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(PlainLogFormatter(labelOnlyBase=False, minor_thresholds=(1.5, 0.5)))
    dress(axis, heading, below, any(np.isfinite(curve.y).any() for curve in panel.curves))


def _draw_band(band: Band, style: Style, axis: Axes) -> None:
    color, dash = style
    axis.fill_between(band.epoch, band.low, band.high, color=color, alpha=0.2, linewidth=0)
    axis.plot(
        band.epoch, band.median, dash, color=color, marker=MARKERS[dash] if len(band.epoch) < 2 else "", linewidth=1.8
    )


def _curved(drawn: Sequence[Panel]) -> bool:
    """Whether there is more to see than one point of each arm."""
    return any(len(curve.x) > 1 for curve in drawn[0].curves)


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text)


def gap_distribution(frame: pd.DataFrame, metrics: Sequence[str], path: Path, by: str | None = None) -> Path:
    """Draw the gaps of each metric to the PNG ``path``, and a PDF beside: a dot per comparison, a bar at each median.

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
    return save(figure, path)


def _draw_strips(of_metric: Sequence[Strip], metric: str, axis: Axes) -> None:
    scale, unit = (100, "pp") if BUILT_IN.unit(metric) == "fraction" else (1, BUILT_IN.unit(metric))
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
