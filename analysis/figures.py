"""The thesis's figures, the distribution of gaps, and accuracy by budget."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from analysis.behaviour import QUANTITIES
from analysis.charts import OTHERS, TEXT, TREATMENT, Key, thinned
from analysis.curve_charts import LOOKS, behaviour_chart, budget_chart, looks, panel_charts
from analysis.curves import MOST_VALUES, accumulation, panel_rows, variations
from analysis.drawing import Figure, figure
from analysis.gap_charts import gaps_chart, points
from analysis.gaps import amount, hyperparameters, label, settings
from analysis.load import Study
from analysis.pairs import arms, last_gap
from trainables.records import title

SETTINGS = (TREATMENT, *OTHERS, "#e69f00", "#56b4e9")
"""Colours of the values of a setting: as many as are drawn."""
MOST_PROBLEMS = 4
"""Panels of a figure that has one for each problem."""
EFFECTS = {
    "raw_batches_per_step": "raw batches per filtered batch",
    "overflow": "overflow (share of kept samples)",
    "acceptance": "acceptance ratio (share of samples kept)",
}
"""Headings of what batch accumulation does."""


def thesis_figures(study: Study, frame: pd.DataFrame, trial_ids: Sequence[str]) -> dict[str, Figure]:
    """A study in the forms of the thesis, by readable names that can be those of files.

    For each of ``trial_ids``: the nine panels against epochs and against time, and what accumulating its batches took.
    Of the whole study: the nine panels of variations of every setting that comparisons differ in alone, and what
    accumulating batches took in all comparisons. What there are no data for is not there.

    Args:
        study: its tables.
        frame: its pairs.
        trial_ids: comparisons to draw in full.

    Raises:
        TableError: the study has no such trial.
    """
    made = {}
    for trial_id in dict.fromkeys(trial_ids):
        arms(study, trial_id)  # says if there is no such trial
        name = f"trial-{label(study.trials.loc[study.trials['trial_id'] == trial_id, 'number'].iloc[0])}"
        for clock in ("epochs", "seconds"):
            if _curved(panel_rows(study, trial_id)):
                made[f"{name}-{clock}"] = nine_panels(study, trial_id, clock)
        if len(accumulation(study, trial_id)):
            made[f"{name}-accumulation"] = accumulation_figure(study, trial_id)
    for key in hyperparameters(frame):
        found = variations(study, frame, key)
        if len(found.trial_ids) > 1 and _curved(found.rows):
            made[f"variations-{_file_name(key)}"] = variations_figure(study, frame, key)
    if len(accumulation(study)):
        made["accumulation"] = accumulation_figure(study)
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


def nine_panels(study: Study, trial_id: str, clock: str = "epochs") -> Figure:
    """All arms of one comparison in nine panels (Figures 4.1 to 4.9).

    Raises:
        TableError: the study has no such trial.
        ValueError: ``clock`` is no word of ``records.CLOCKS``.
    """
    kinds = looks(arms(study, trial_id))
    charts = panel_charts(panel_rows(study, trial_id), kinds, clock, "nine", study.columns)
    return figure(charts, kinds, caption(study, trial_id))


def variations_figure(study: Study, frame: pd.DataFrame, key: str, clock: str = "epochs") -> Figure:
    """Comparisons that differ in ``key`` alone in nine panels (Figure 4.7).

    A colour for each value of the key, a dash for each side; see :func:`analysis.curves.variations` for which
    comparisons.

    Raises:
        TableError: the comparisons have no such key.
        ValueError: ``clock`` is no word of ``records.CLOCKS``.
    """
    found = variations(study, frame, key)
    values = dict.fromkeys(setting for setting, _ in found.curves.values())
    sides = dict.fromkeys(arm for _, arm in found.curves.values())
    colors = dict(zip(values, SETTINGS, strict=False))
    shapes = dict(zip(sides, (shape for _, shape in LOOKS), strict=False))
    kinds = [Key(name, colors[setting], shapes[arm]) for name, (setting, arm) in found.curves.items()]
    entries = [Key(f"{key} {setting}", color, "line") for setting, color in colors.items()]
    entries += [Key(arm, TEXT, shape) for arm, shape in shapes.items()]
    heading = f"Variations of {key}" + (f"; all else alike: {found.alike}" if found.alike else "")
    if found.values > MOST_VALUES:
        heading += f" ({MOST_VALUES} of {found.values} values)"
    return figure(panel_charts(found.rows, kinds, clock, "variations", study.columns), entries, heading)


def accumulation_figure(study: Study, trial_id: str | None = None) -> Figure:
    """What filling filtered batches took, in three panels (Figure 6).

    A line at the median and a band between the quartiles: of all comparisons, or of the updates of ``trial_id``.
    """
    rows = accumulation(study, trial_id)
    kinds = looks(["", *dict.fromkeys(rows["arm"])])[1:]
    charts = {EFFECTS[quantity]: behaviour_chart(rows, quantity, EFFECTS[quantity], kinds) for quantity in QUANTITIES}
    if trial_id is None:
        heading = "Batch accumulation: median and quartiles of comparisons"
    else:
        heading = f"Batch accumulation, {caption(study, trial_id).partition(';')[0]}"
        heading += "; median and quartiles of updates" if (study.steps["trial_id"] == trial_id).any() else ""
    return figure(charts, kinds, heading)


def budget_figure(rows: pd.DataFrame) -> Figure:
    """What each arm reaches along what it has spent.

    Args:
        rows: of :func:`analysis.budgets.accuracy_by_budget`; a panel for each of the first four problems and clocks.
            Medians of test accuracy, with a band where there are intervals.
    """
    groups = [*rows.groupby(["problem", "clock"], sort=False)][:MOST_PROBLEMS]
    charts = {
        f"{problem or 'test accuracy'} by {clock}": budget_chart(group, str(problem), str(clock))
        for (problem, clock), group in groups
    }
    kinds = looks(list(dict.fromkeys(rows["arm"])))
    heading = "Test accuracy (%) against budget: medians, with 95% intervals"
    return figure(charts, kinds, heading, columns=min(len(groups), 2))


def gap_distribution(frame: pd.DataFrame, metrics: Sequence[str], by: str | None = None, seed: int = 0) -> Figure:
    """The gaps of each metric: a dot per comparison, a bar at each median.

    Args:
        frame: pairs.
        metrics: a panel each, on its own scale; right of 0 the treatment is better.
        by: the configuration key whose groups are drawn apart.
        seed: of the choice of dots, where there are too many to see.
    """
    few, note = thinned(frame, seed)
    dots = points(few, metrics, [by] if by else [])
    charts = {title(metric): gaps_chart(frame, dots, metric, by) for metric in metrics}
    heading = "Gap of each comparison" + (f" by {by}" if by else "") + "; right of 0 the treatment is better"
    entries = {entry: None for chart in charts.values() if chart for entry in chart.legend}
    return figure(charts, [*entries], f"{heading}. {note}".strip(), columns=min(2, len(metrics)))


def _curved(rows: pd.DataFrame) -> bool:
    """Whether there is more to see than one point of each arm."""
    return bool((rows.groupby("arm").size() > 1).any())


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text)
