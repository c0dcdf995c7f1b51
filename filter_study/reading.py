"""Studies that are there: what they found, as tables, sentences and figures. Needs neither torch nor Ray."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from analysis import answer, figures, report, sources, tables
from analysis import league as leagues
from analysis.budgets import accuracy_by_budget
from analysis.database import TableError
from analysis.drawing import Figure
from analysis.gaps import settings
from analysis.load import Study as Tables
from trainables.records import SIDES

At = Literal["final", "best"] | int


class Frame(pd.DataFrame):
    """A DataFrame whose ``groupby`` keeps the rows that have no value of a key, unless it is told ``dropna=True``.

    A key has no value where it does not exist, such as the momentum of Adam, and where none is its default, such as
    ``raw_batch_size``. pandas would drop such comparisons in silence.
    """

    @property
    def _constructor(self) -> type[Frame]:
        return Frame

    def groupby(  # type: ignore[override]
        self,
        by: Any = None,
        level: Any = None,
        as_index: bool = True,
        sort: bool = True,
        group_keys: bool = True,
        observed: bool = True,
        dropna: bool = False,
    ) -> Any:
        """As :meth:`pandas.DataFrame.groupby`, with another default of ``dropna``."""
        how: Any = {
            "as_index": as_index,
            "sort": sort,
            "group_keys": group_keys,
            "observed": observed,
            "dropna": dropna,
        }
        return super().groupby(by, level, **how)


@dataclass(frozen=True, repr=False)
class Study:
    """A study, or several read as one. Everything is computed from ``tables`` when it is asked for.

    Attributes:
        tables: what was recorded.
        home: the study's folder; None of several, of a part of one, and of what is published.
    """

    tables: Tables
    home: Path | None = None

    @property
    def name(self) -> str:
        """What the study is called."""
        return self.tables.name

    @property
    def trials(self) -> Frame:
        """A row per comparison: its status, times and configuration, a column for each dotted key."""
        return Frame(self.tables.trials)

    @property
    def epochs(self) -> Frame:
        """A row per comparison, arm and epoch. ``docs/tables.md`` has every column."""
        return Frame(self.tables.epochs)

    @property
    def steps(self) -> Frame:
        """A row per update; empty unless the experiment had ``trace: true``."""
        return Frame(self.tables.steps)

    @property
    def arms(self) -> list[str]:
        """The names of the arms, in the order in which they first occur."""
        return [str(arm) for arm in self.epochs["arm"].dropna().unique()]

    @property
    def searched(self) -> list[str]:
        """The configuration keys that vary between comparisons."""
        return settings(self.trials)

    def where(self, condition: str) -> Study:
        """The study with the comparisons alone that match, such as ``"batch_size <= 64 and seed == 0"``.

        Raises:
            TableError: the condition cannot be understood, or nothing matches it.
        """
        return Study(sources.narrow(self.tables, condition))

    def pairs(
        self, at: At = "final", clock: str = "epochs", against: str | None = None, treatment: str | None = None
    ) -> pd.DataFrame:
        """A row per comparison that counts, with both sides and their gap of every metric.

        Columns are the configuration keys, ``baseline/METRIC``, ``treatment/METRIC`` and ``gap/METRIC`` (positive: the
        treatment is better). A key that a comparison has no value of, such as the momentum of Adam, is missing there;
        see :class:`Frame`.

        Args:
            at: ``final``, ``best`` (each arm's own best validation epoch) or the number of an epoch.
            clock: what both sides have spent alike, such as ``compute``.
            against: the arm to take for the baseline.
            treatment: the arm to take for the treatment.

        Raises:
            TableError: a name is unknown, or things do not go together.
        """
        return Frame(self._answer((), (), at, clock, against, treatment).pairs.frame)

    def gaps(
        self,
        metrics: Sequence[str] = (),
        by: Sequence[str] = (),
        at: At = "final",
        clock: str = "epochs",
        against: str | None = None,
        treatment: str | None = None,
    ) -> pd.DataFrame:
        """Statistics of the gaps, a row for each group and metric: medians with intervals, wins, p.

        Args:
            metrics: those to compare; none: test accuracy, losses and compute.
            by: configuration keys to group by.
            at: as for :meth:`pairs`, and so the others.
            clock: what both sides have spent alike.
            against: the arm to take for the baseline.
            treatment: the arm to take for the treatment.

        Raises:
            TableError: a name is unknown, or things do not go together.
        """
        return Frame(self._answer(metrics, by, at, clock, against, treatment).summary)

    def verdict(self, metric: str = "test_accuracy", clock: str = "epochs", against: str | None = None) -> list[str]:
        """What the comparisons allow to say of a metric, a sentence or caveat each.

        Raises:
            TableError: a name is unknown.
        """
        return list(self._answer([metric], (), "final", clock, against, None).verdict)

    def league(
        self, metric: str = "test_accuracy", clock: str = "epochs", against: str | None = None
    ) -> pd.DataFrame | None:
        """All arms by their mean rank, with their gaps to one of them; None where there are fewer than three.

        Raises:
            TableError: a name is unknown.
        """
        found = leagues.league(self.tables, metric, clock, against)
        return None if found is None else found.rows

    def plot_gaps(
        self,
        metrics: Sequence[str] = ("test_accuracy",),
        by: str | None = None,
        at: At = "final",
        clock: str = "epochs",
        against: str | None = None,
        treatment: str | None = None,
    ) -> Figure:
        """A dot for the gap of each comparison, for each of ``metrics``; the others as for :meth:`gaps`.

        Raises:
            TableError: a name is unknown, or things do not go together.
        """
        found = self._answer(metrics, [by] if by else [], at, clock, against, treatment)
        return figures.gap_distribution(found.pairs.frame, metrics, by)

    def plot_comparison(self, number: int, clock: str = "epochs") -> Figure:
        """The nine panels of a comparison (section 4.3 of the thesis): all arms along a clock.

        Args:
            number: of the comparison, as in :attr:`trials`.
            clock: epochs, passes, steps, samples, compute, seconds or reference_seconds.

        Raises:
            TableError: the study has no such comparison.
            ValueError: the clock is unknown.
        """
        found = self.trials.loc[self.trials["number"] == number, "trial_id"]
        if found.empty:
            raise TableError(f"{self.name} has no comparison {number}; they go from 0 to {len(self.trials) - 1}")
        return figures.nine_panels(self.tables, str(found.iloc[0]), clock)

    def plot_budgets(self) -> Figure:
        """What each arm reaches along what it has spent, where comparisons had several budgets.

        Raises:
            TableError: no problem was trained with two budgets.
        """
        rows = accuracy_by_budget(self.tables)
        if rows.empty:
            raise TableError(f"{self.name} trained no problem with two budgets; vary epochs with budget.of set")
        return figures.budget_figure(rows)

    def report(self, to: str | Path | None = None) -> Path:
        """Write ``report.html`` and its figures; the path of the page.

        Args:
            to: a folder; none: the study's own.

        Raises:
            TableError: the folder cannot be written; or none is given, and there is none of several studies, of a part
                of one, or of what is published.
        """
        folder = Path(to) if to is not None else self.home
        if folder is None:
            raise TableError(f"{self.name}, as it is read here, has no folder of its own; give one: report(to=FOLDER)")
        return report.write(self.tables, folder)

    def _answer(
        self,
        metrics: Sequence[str],
        by: Sequence[str],
        at: At,
        clock: str,
        against: str | None,
        treatment: str | None,
    ) -> answer.Answer:
        return answer.answer(self.tables, metrics, by, str(at), clock, against, treatment)

    def __repr__(self) -> str:
        counts = self.trials["status"].value_counts()
        told = ", ".join(f"{number} {status}" for status, number in counts.items())
        lines = [f"{self.name}: {len(self.trials)} comparisons ({told})" if len(self.trials) else f"{self.name}: empty"]
        lines.append(f"arms: {', '.join(self.arms) or 'none'}")
        lines.append(f"searched: {', '.join(self.searched) or 'nothing'}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """For notebooks: what it is, and the table of gaps."""
        heads = "".join(f"<div>{html.escape(line)}</div>" for line in repr(self).splitlines())
        if not all(side in self.trials for side in SIDES):
            return heads
        return heads + tables.gap_table(self.gaps(), self.tables.columns).to_html(index=False)


def load(*paths: str | Path, where: str | None = None) -> Study:
    """Read a study; several are taken together. Nothing is written, and a study may still be running.

    Args:
        paths: folders of studies, exported tables, ``published:thesis`` or ``published:tables``.
        where: which comparisons to keep; see :meth:`Study.where`.

    Raises:
        TableError: there is none, something cannot be read, or nothing is left.
    """
    if not paths:
        raise TableError("load needs the folder of a study, such as load('studies/quickstart-20260101-120000')")
    named = [str(path) for path in paths]
    return Study(sources.read(named, where), sources.home(named, where))
