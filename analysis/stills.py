"""A report's figures and tables for print: PNG and PDF, LaTeX and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis.budgets import budget_table
from analysis.drawing import Figure
from analysis.figures import budget_figure, gap_distribution, thesis_figures
from analysis.findings import DRAWN_METRICS, HEADLINE, Findings
from analysis.gaps import CELL, summarize
from analysis.tables import gap_table, thesis_form, to_latex, to_markdown
from analysis.writing import write_text
from trainables.records import SIDES

FORMED_BY = 2
"""Settings that the thesis's form of table is grouped by, at most."""


def stills(found: Findings, trial_ids: Sequence[str]) -> dict[str, Figure]:
    """The gaps and the thesis's figures, by readable names that can be those of files.

    Args:
        found: the report's findings; there are no figures where no comparison has finished.
        trial_ids: comparisons to draw in full.
    """
    frame = found.frame
    if frame.empty:
        return {}
    made = {}
    if metrics := [metric for metric in DRAWN_METRICS if metric in found.measured]:
        made["gaps"] = gap_distribution(frame, metrics)
    if HEADLINE in found.measured and found.keys:
        made["gaps-by-hyperparameter"] = gap_distribution(frame, [HEADLINE], by=found.keys[0])
    made |= thesis_figures(found.study, frame, trial_ids)
    if not found.budgets.empty:
        made["budgets"] = budget_figure(found.budgets)
    return made


def write_tables(found: Findings, folder: Path) -> list[Path]:
    """Write tables of the gaps, in the thesis's form, and of budgets to ``folder``, which is there.

    Returns:
        The LaTeX files, none where no comparison has finished; beside each stands a Markdown file of its name.

    Raises:
        OSError: ``folder`` cannot be written.
    """
    frame = found.frame
    if frame.empty:
        return []
    by = [key for key in found.keys if key in CELL and key not in SIDES][:FORMED_BY]
    tables = {
        "table-gaps": (gap_table(summarize(frame, found.measured), found.study.columns), 0),
        "table-thesis": (thesis_form(frame, by), len(by)),
    }
    if not found.budgets.empty:
        tables["table-budgets"] = (budget_table(found.budgets), 0)
    made = []
    for name, (table, groups) in tables.items():
        made.append(write_text(folder / f"{name}.tex", to_latex(table, groups)))
        write_text(folder / f"{name}.md", to_markdown(table))
    return made
