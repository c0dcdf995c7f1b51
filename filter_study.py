"""filter-study from Python: run studies, read what they left behind, and train a comparison in this process.

    >>> import filter_study
    >>> study = filter_study.load("studies/few")
    >>> study.gaps(by=["dataset.samples_per_class"])
    >>> rows = filter_study.compare({"model.name": "LeNet", "epochs": 3})
    >>> study = filter_study.run("quickstart", set={"search.trials": 30})

Reading needs neither torch nor Ray: they are imported when something trains.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from analysis import answer, figures, report, sources, tables
from analysis import league as leagues
from analysis.budgets import accuracy_by_budget
from analysis.database import TableError
from analysis.drawing import Figure
from analysis.gaps import settings
from analysis.load import Study as Tables
from analysis.outcomes import SIDES
from trainables.errors import UserError

__all__ = [
    "Arm",
    "Comparison",
    "Figure",
    "Objective",
    "Study",
    "TableError",
    "UserError",
    "compare",
    "confirm",
    "from_objective",
    "from_result_grid",
    "load",
    "objective",
    "optuna_space",
    "resume",
    "run",
    "tune_space",
]
__version__ = metadata.version("filter-study")

if TYPE_CHECKING:
    import optuna
    from ray.tune import ResultGrid

    from study.experiment import Experiment
    from study.plain_optuna import Objective
    from study.plain_tune import Arm, Comparison

At = Literal["final", "best"] | int
Settings = Mapping[str, Any]
"""Dotted keys, as in an experiment file, and their values."""
Device = Literal["auto", "cpu", "cuda"]


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
    def trials(self) -> pd.DataFrame:
        """A row per comparison: its status, times and configuration, a column for each dotted key."""
        return self.tables.trials

    @property
    def epochs(self) -> pd.DataFrame:
        """A row per comparison, arm and epoch. ``docs/tables.md`` has every column."""
        return self.tables.epochs

    @property
    def steps(self) -> pd.DataFrame:
        """A row per update; empty unless the experiment had ``trace: true``."""
        return self.tables.steps

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
        pandas drops such rows from ``groupby`` unless ``dropna=False`` is given, and :meth:`gaps` does not.

        Args:
            at: ``final``, ``best`` (each arm's own best validation epoch) or the number of an epoch.
            clock: what both sides have spent alike, such as ``compute``.
            against: the arm to take for the baseline.
            treatment: the arm to take for the treatment.

        Raises:
            TableError: a name is unknown, or things do not go together.
        """
        return self._answer((), (), at, clock, against, treatment).pairs.frame

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
        return self._answer(metrics, by, at, clock, against, treatment).summary

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


def compare(
    config: Settings | None = None,
    experiment: str | Path = "quickstart",
    on_epoch: Callable[[pd.DataFrame], object] | None = None,
    data_dir: str | Path | None = None,
    device: Device = "auto",
    threads: int = 1,
) -> pd.DataFrame:
    """Train one comparison in this process, without Ray and without a record: an experiment's own settings.

    It takes no signals, so that it works in any thread, in a notebook and beside a Ray that is running. The same
    settings and number of threads give the same rows, bit for bit on one kind of CPU.

    Args:
        config: dotted keys and their values, set over the experiment's: ``{"optimizer.lr": 0.1}``.
        experiment: the name of a built-in one, or a file.
        on_epoch: is called with the rows of every epoch, one per arm, as they come.
        data_dir: folder or URI that data sets are read from.
        device: auto: CUDA where there is one.
        threads: CPU threads; for the whole process.

    Returns:
        A row per arm and epoch, as in :attr:`Study.epochs`.

    Raises:
        UserError: a setting cannot be, data are missing; of several errors all are named.
    """
    from study import preflight
    from trainables import imports
    from trainables.comparison import prepare
    from trainables.config import TrialConfig

    alone = {"scheduler.name": "none", "resources.cpu": threads}
    settled = _experiment(experiment, dict(config or {}) | alone, data_dir).alone()
    preflight.check_data(settled, device)
    imports.provide(settled.code)
    trial = TrialConfig.from_dotted(settled.trial)
    comparison = prepare(trial, preflight.runtime(settled, device))
    rows: list[dict[str, Any]] = []
    while not comparison.done:
        epoch = comparison.step()
        rows += epoch
        if on_epoch:
            on_epoch(pd.DataFrame(epoch))
    return pd.DataFrame(rows)


def run(
    experiment: str | Path = "quickstart",
    set: Settings | None = None,
    dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    code: Sequence[str | Path] = (),
    smoke: bool = False,
    fair: bool = False,
    address: str | None = None,
    report: bool = True,
    progress: bool = True,
) -> Study:
    """Run a study, as ``filter-study run`` does: on the Ray that this process uses, or else on one of its own.

    In the main thread Ctrl-C, or a notebook's *interrupt*, ends it in good order; :func:`resume` goes on with it.

    Args:
        experiment: the name of a built-in one, or a file.
        set: keys to set over the file's: ``{"search.trials": 30, "optimizer.name": "Adam"}``.
        dir: an empty folder, or one to be made; none: ``studies/NAME-TIME``.
        data_dir: folder or URI that data sets are read from.
        code: folders with code of one's own.
        smoke: whether to run the experiment's short form.
        fair: whether every arm spends the compute that the baseline spends, each schedule run to its end.
        address: of a Ray cluster to join, HOST:PORT or auto.
        report: whether tables and report are written in the end.
        progress: whether a bar and a line for each comparison are printed. Trouble is always said.

    Raises:
        UserError: a setting cannot be, or data are missing; of several errors all are named.
    """
    from study import scripted, verbs

    settled = _experiment(experiment, set, data_dir, code, smoke, fair)
    ended = verbs.begin(settled, _folder(dir), scripted.Script(report, progress), address)
    return load(ended.folder)


def resume(
    study: str | Path | Study,
    set: Settings | None = None,
    add_trials: int = 0,
    retry_failed: bool = False,
    from_start: bool = False,
    address: str | None = None,
    allow_changed_code: bool = False,
    report: bool = True,
    progress: bool = True,
) -> Study:
    """Go on with a study after an interruption or a crash, or extend one that has ended, as ``filter-study resume``.

    Args:
        study: it, or its folder.
        set: keys that change no result: of ``resources``, ``recovery``, ``wandb``; ``data_dir``, ``storage``, ``code``.
        add_trials: configurations to try beyond those planned.
        retry_failed: whether failed comparisons are tried again.
        from_start: whether comparisons whose checkpoints are lost train from their start again.
        address: of a Ray cluster to join, HOST:PORT or auto.
        allow_changed_code: whether to go on though code of one's own has changed.
        report: whether tables and report are written in the end.
        progress: whether a bar and a line for each comparison are printed.

    Raises:
        UserError: it is no study, or cannot go on; of several errors all are named.
    """
    from study import scripted, verbs

    audience = scripted.Script(report, progress)
    ended = verbs.go_on(
        _home(study), audience, _overrides(set), add_trials, retry_failed, from_start, address, allow_changed_code
    )
    return load(ended.folder)


def confirm(
    study: str | Path | Study,
    top: int = 5,
    seeds: int = 6,
    dir: str | Path | None = None,
    address: str | None = None,
    allow_changed_code: bool = False,
    progress: bool = True,
) -> Study:
    """Run a study's best configurations again on fresh seeds, as ``filter-study confirm``; the study of these runs.

    Args:
        study: it, or its folder; its report is written anew.
        top: configurations to confirm, the best ones; beside them run those that are best for either arm.
        seeds: fresh ones, for each configuration; fewer than 6 give no interval.
        dir: an empty folder, or one to be made; none: ``confirmations/TIME`` in the study's.
        address: of a Ray cluster to join, HOST:PORT or auto.
        allow_changed_code: whether to run though code of one's own has changed.
        progress: whether a bar and a line for each comparison are printed.

    Raises:
        UserError: it is no study, or nothing of it has finished.
    """
    from study import scripted, verbs

    audience = scripted.Script(True, progress)
    confirmed = verbs.confirm(_home(study), audience, top, seeds, _folder(dir), (), address, allow_changed_code)
    return load(confirmed.folder)


def objective(
    experiment: str | Path = "quickstart",
    set: Settings | None = None,
    data_dir: str | Path | None = None,
    device: Device = "auto",
    threads: int = 1,
    pruned_by: str | None = None,
) -> Objective:
    """A function of a trial for ``optuna.Study.optimize``: it trains the comparison that the trial suggests.

    The study is Optuna's own: its sampler, its storage, and its pruner, which hears of every epoch. What the experiment
    says of search and scheduler does not count. ``optuna.create_study(directions=objective.directions)`` has the right
    directions, and :func:`from_objective` makes a study of what was trained.

    Args:
        experiment: the name of a built-in one, or a file: its space, its settings, its objective and its seeds.
        set: keys to set over the file's.
        data_dir: folder or URI that data sets are read from.
        device: auto: CUDA where there is one.
        threads: CPU threads; for the whole process.
        pruned_by: the metric that the pruner hears of, such as ``better/validation_accuracy``, by which comparisons are
            stopped that do badly in both arms; none: the objective. A pruner that looks at the gap flatters the gap.

    Raises:
        UserError: the experiment cannot be an objective, or data are missing; of several errors all are named.
    """
    from study import preflight
    from study.plain_optuna import Objective
    from trainables import imports

    own = {"scheduler.name": "none", "resources.cpu": threads}
    settled = _experiment(experiment, dict(set or {}) | own, data_dir)
    preflight.check_data(settled, device)
    imports.provide(settled.code)
    return Objective(settled, preflight.runtime(settled, device), pruned_by)


def from_objective(objective: Objective, to: str | Path) -> Study:
    """The study of what an :func:`objective` of this process has trained so far.

    Args:
        objective: the function that Optuna called.
        to: an empty folder, or one to be made, for its tables, from which :func:`load` reads it again.

    Raises:
        TableError: the folder is not empty or cannot be written.
    """
    return _written(objective.tables(), to)


def tune_space(experiment: str | Path = "quickstart", set: Settings | None = None) -> dict[str, Any]:
    """An experiment's space as Ray Tune's domains, with its fixed settings: a ``param_space`` for :class:`Comparison`.

    A key that exists under a condition is drawn by a function of the others (``tune.sample_from``) and left out where
    the condition does not hold. Random and grid search take these; Ray's ``OptunaSearch`` does not: give it
    :func:`optuna_space`.

    Args:
        experiment: the name of a built-in one, or a file.
        set: keys to set over the file's.

    Raises:
        UserError: a setting cannot be; of several errors all are named.
    """
    from search_spaces import tune_domains

    settled = _experiment(experiment, dict(set or {}) | {"scheduler.name": "none"})
    return tune_domains.domains(settled.space, settled.fixed)


def optuna_space(
    experiment: str | Path = "quickstart", set: Settings | None = None
) -> Callable[[optuna.Trial], dict[str, Any]]:
    """An experiment's space as a define-by-run function: it suggests every key and returns the whole configuration.

    For an objective of one's own, and for Ray's ``OptunaSearch(space=…)``, whose configurations :class:`Comparison`
    takes.

    Args:
        experiment: the name of a built-in one, or a file.
        set: keys to set over the file's.

    Raises:
        UserError: a setting cannot be; of several errors all are named.
    """
    from search_spaces import convert

    settled = _experiment(experiment, dict(set or {}) | {"scheduler.name": "none"})
    return convert.DefineByRun(settled.space, settled.fixed)


def _experiment(
    source: str | Path,
    given: Settings | None,
    data_dir: str | Path | None = None,
    code: Sequence[str | Path] = (),
    smoke: bool = False,
    fair: bool = False,
) -> Experiment:
    """An experiment with keys that are set over its own."""
    from study import experiment as experiments
    from study import fair as same_compute

    overrides = _overrides(dict(given or {}) | ({"data_dir": str(data_dir)} if data_dir is not None else {}))
    read = same_compute.load if fair else experiments.load
    return read(str(source), overrides, smoke, code=[str(folder) for folder in code])


def _overrides(given: Settings | None) -> list[str]:
    """Keys and values as ``--set`` takes them."""
    return [f"{key}={json.dumps(value, default=_plain)}" for key, value in (given or {}).items()]


def _plain(value: Any) -> Any:
    """A number of numpy or pandas, such as one of a DataFrame, as Python's own; anything else as text."""
    return value.item() if hasattr(value, "item") else str(value)


def _folder(named: str | Path | None) -> Path | None:
    return None if named is None else Path(named).expanduser()


def _home(study: str | Path | Study) -> Path:
    """The folder of a study."""
    if not isinstance(study, Study):
        return Path(study).expanduser()
    if study.home is None:
        raise TableError(f"{study.name}, as it is read here, has no folder of its own; give the folder of a study")
    return study.home


def from_result_grid(grid: ResultGrid, to: str | Path) -> Study:
    """The study that a ``tune.Tuner`` of one's own with :class:`Comparison` or :class:`Arm` left behind.

    Trials of :class:`Arm` that differ in ``arm`` alone are one comparison.

    Args:
        grid: what ``Tuner.fit()`` returned.
        to: an empty folder, or one to be made, for its tables, from which :func:`load` reads it again.

    Raises:
        TableError: it is of another trainable, or the folder is not empty or cannot be written.
    """
    from study import plain_tune

    return _written(plain_tune.tables(grid), to)


def _written(made: Mapping[str, pd.DataFrame], to: str | Path) -> Study:
    """The study of tables that are written to a folder."""
    from study import plain

    folder = Path(to).expanduser()
    plain.write(made, folder)
    return load(folder)


def __getattr__(name: str) -> Any:
    """The classes that need Ray or torch are imported when they are asked for."""
    if name in ("Arm", "Comparison"):
        from study import plain_tune

        return getattr(plain_tune, name)
    if name == "Objective":
        from study.plain_optuna import Objective

        return Objective
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
