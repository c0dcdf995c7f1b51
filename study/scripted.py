"""A script or a notebook as the audience of a study."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from rich.console import Console

from analysis import export, report, sources
from study.display import NoDisplay, displayed
from study.experiment import Experiment
from study.watch import Display


class Script:
    """Prints what a study does, if asked, and its trouble; see :class:`study.verbs.Audience`.

    Arguments:
        reports: whether tables and report are written in the end.
        progress: whether more than trouble is printed.
    """

    def __init__(self, reports: bool, progress: bool) -> None:
        self._reports = reports
        self._progress = progress
        self._out = Console(highlight=False, markup=False)

    def tell(self, text: str) -> None:
        """What is being done."""
        if self._progress:
            self._out.print(text, soft_wrap=True)

    def complain(self, text: str) -> None:
        """Of trouble that does not end the study."""
        print(text, file=sys.stderr)

    def display(self, experiment: Experiment, ended: int, found: list[float]) -> AbstractContextManager[Display]:
        """A bar, and a line for each comparison."""
        return displayed(experiment, ended, found, self._out) if self._progress else nullcontext(NoDisplay())

    def conclude(self, folder: Path) -> None:
        """Tables and report."""
        if not self._reports:
            return
        study = sources.read([str(folder)])
        for line in study.damage:
            self.complain(f"damaged: {line}")
        export.export(study, folder / "tables", "parquet")
        self.tell(f"report: {report.write(study, folder)}")
