"""A report's figures and tables for print: PNG and PDF, LaTeX and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis.budgets import budget_table
from analysis.figures import budget_figure, gap_distribution, thesis_figures
from analysis.findings import DRAWN_METRICS, HEADLINE, Findings
from analysis.gaps import CELL, summarize
from analysis.outcomes import SIDES
from analysis.tables import gap_table, thesis_form, to_latex, to_markdown
from analysis.writing import write_text

FORMED_BY = 2
"""Settings that the thesis's form of table is grouped by, at most."""


def draw_stills(found: Findings, trial_ids: Sequence[str], folder: Path) -> list[Path]:
    """Draw the gaps, the thesis's figures and tables to files of readable names in ``folder``.

    Args:
        found: the report's findings; nothing is written where no comparison has finished.
        trial_ids: comparisons to draw in full.
        folder: that is there.

    Returns:
        The PNG and LaTeX files; beside each stands a PDF or Markdown file of its name.

    Raises:
        OSError: ``folder`` cannot be written.
    """
    frame = found.frame
    if frame.empty:
        return []
    made = []
    if metrics := [metric for metric in DRAWN_METRICS if metric in found.measured]:
        made.append(gap_distribution(frame, metrics).save(folder / "gaps.png"))
    if HEADLINE in found.measured and found.keys:
        grouped = gap_distribution(frame, [HEADLINE], by=found.keys[0])
        made.append(grouped.save(folder / "gaps-by-hyperparameter.png"))
    made += thesis_figures(found.study, frame, folder, trial_ids)
    by = [key for key in found.keys if key in CELL and key not in SIDES][:FORMED_BY]
    tables = {
        "table-gaps": (gap_table(summarize(frame, found.measured), found.study.columns), 0),
        "table-thesis": (thesis_form(frame, by), len(by)),
    }
    if not found.budgets.empty:
        tables["table-budgets"] = (budget_table(found.budgets), 0)
        made.append(budget_figure(found.budgets).save(folder / "budgets.png"))
    for name, (table, groups) in tables.items():
        made.append(write_text(folder / f"{name}.tex", to_latex(table, groups)))
        write_text(folder / f"{name}.md", to_markdown(table))
    return made
