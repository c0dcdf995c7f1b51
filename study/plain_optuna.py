"""An experiment as the objective of an ``optuna.Study`` of one's own, in this process and without Ray."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence

import optuna
import pandas as pd

from search_spaces.convert import suggest
from study import plain
from study.experiment import Experiment, ExperimentError
from study.plain import Trained
from trainables.comparison import Comparison, better, dead, prepare, report
from trainables.config import Runtime, TrialConfig, metric_mode
from trainables.records import Row


class Objective:
    """Called with a trial of Optuna's, it trains the comparison that the trial suggests; its value is the objective.

    A comparison of several seeds has the mean of theirs. After every epoch Optuna's pruner hears of it, where there is
    one objective. A comparison that diverges, and one whose settings cannot be, has no value: Optuna counts it as
    failed. The trial's ``user_attrs`` say how it ended (``status``, ``reason``) and every ``gap/METRIC``.

    Attributes:
        directions: for ``optuna.create_study(directions=…)``.
        trained: what was trained so far, in the order in which it ended.
    """

    def __init__(self, experiment: Experiment, runtime: Runtime, pruned_by: str | None = None) -> None:
        """``pruned_by``: the metric that the pruner hears of, in the objective's direction; None: the objective.

        Raises:
            ExperimentError: the experiment cannot be searched so; all reasons at once.
        """
        self._experiment = experiment
        self._runtime = runtime
        self._pruned_by = pruned_by
        if errors := [*_unfit(experiment, pruned_by)]:
            raise ExperimentError(experiment.name, errors)
        self.directions = [f"{mode}imize" for mode in experiment.modes]
        self.trained: list[Trained] = []

    def __call__(self, trial: optuna.Trial) -> float | Sequence[float]:
        """Train what the trial suggests.

        Raises:
            optuna.TrialPruned: the pruner has had enough, or no arm learns (``dead_run``).
        """
        settings = suggest(trial, self._experiment.space, self._experiment.fixed)
        try:
            first = TrialConfig.from_dotted(settings)
        except ValueError as error:
            trial.set_user_attr("reason", str(error))
            self.trained.append(Trained(settings, [], "failed", str(error), None, None, None))
            return self._told([math.nan] * len(self.directions))
        seeds = range(first.seed, first.seed + self._experiment.seeds)
        runs = [_Run(TrialConfig.from_dotted({**settings, "seed": seed}), self._runtime) for seed in seeds]
        try:
            means = self._train(trial, runs)
        finally:
            self.trained += [run.left(self._experiment) for run in runs]
            trial.set_user_attr("status", ", ".join(sorted({run.status for run in runs})))
            if reasons := [run.reason for run in runs if run.reason]:
                trial.set_user_attr("reason", "; ".join(reasons))
            for name, value in _gaps(runs):
                trial.set_user_attr(name, value)
        return self._told(means)

    def tables(self) -> dict[str, pd.DataFrame]:
        """What was trained so far, as the tables ``trials`` and ``epochs`` of a study."""
        return plain.tables(self.trained)

    def _train(self, trial: optuna.Trial, runs: Sequence[_Run]) -> list[float]:
        """All comparisons epoch by epoch, side by side; their mean objectives in the end."""
        experiment = self._experiment
        while any(run.status == "running" for run in runs):
            for run in runs:
                run.step(experiment)
            means = _means([run.objectives(experiment) for run in runs])
            heard = means[0]
            if self._pruned_by is not None:  # an epoch may leave the training set unmeasured
                heard = _mean([run.metrics.get(self._pruned_by, math.nan) for run in runs])
            epoch = min(run.comparison.epoch for run in runs)
            if len(self.directions) == 1 and epoch > 0 and math.isfinite(heard):
                trial.report(heard, epoch)
            alive = [run for run in runs if run.status == "running"]
            if any(run.status == "stopped" for run in runs) or (
                alive and len(self.directions) == 1 and epoch > 0 and trial.should_prune()
            ):
                for run in alive:
                    run.stop(f"pruned by {type(trial.study.pruner).__name__} after epoch {epoch}")
                raise optuna.TrialPruned(f"after epoch {epoch}")
            if any(run.status == "diverged" for run in runs):
                for run in alive:
                    run.stop("a comparison on another seed diverged")
        return means

    def _told(self, values: Sequence[float]) -> float | Sequence[float]:
        return values[0] if len(values) == 1 else values


class _Run:
    """One comparison that trains."""

    def __init__(self, config: TrialConfig, runtime: Runtime) -> None:
        self.started = time.time()
        self.config = config
        self.comparison: Comparison = prepare(config, runtime)
        self.status = "running"
        self.reason: str | None = None
        self.rows: list[Row] = []
        self.metrics: dict[str, float] = {}

    def step(self, experiment: Experiment) -> None:
        """An epoch, if it still trains."""
        if self.status != "running":
            return
        rows = self.comparison.step()
        self.rows += rows
        roles = self.config.baseline, self.config.treatment
        told = report(rows, *roles, self.config.columns)
        self.metrics = told | better(told, *roles, self.config.columns)
        self.status, self.reason = self.comparison.status, self.comparison.reason
        if self.status == "running":
            found = dead(rows, self.comparison.chance, experiment.dead_run, self.config.evaluate.every)
            if found:
                self.stop(found)

    def stop(self, reason: str) -> None:
        """It trains no further."""
        self.status, self.reason = "stopped", reason

    def objectives(self, experiment: Experiment) -> list[float]:
        """The values of the objectives at the last epoch; not finite where an arm has diverged."""
        if self.status == "diverged":
            return [math.nan] * len(experiment.modes)
        return experiment.objective.values(self.metrics, self.config.baseline)

    def left(self, experiment: Experiment) -> Trained:
        """What it came to."""
        status = "interrupted" if self.status == "running" else self.status
        objective = self.objectives(experiment)[0] if self.rows else None
        return Trained(self.config.to_dotted(), self.rows, status, self.reason, self.started, time.time(), objective)


def _unfit(experiment: Experiment, pruned_by: str | None) -> Iterator[str]:
    """Why an experiment cannot be an objective."""
    if experiment.each:
        yield "search.each: arm: two searches take turns; filter_study.run does that. Here, set search.each: comparison"
    if pruned_by is None:
        return
    try:
        mode = metric_mode(pruned_by, experiment.columns)
    except ValueError as error:
        yield f"pruned_by: {pruned_by!r}: {error}"
        return
    if mode != experiment.modes[0]:
        yield (
            f"pruned_by: {pruned_by!r} is best at its {mode}imum, and the objective at its {experiment.modes[0]}imum; "
            "a pruner knows one direction"
        )
    if len(experiment.modes) > 1:
        yield f"pruned_by: {pruned_by!r}: Optuna prunes no search of several objectives"
    if "/validation_" in pruned_by and not experiment.validated:
        yield f"pruned_by: {pruned_by!r} needs validation data; set dataset.validation_fraction above 0"


def _gaps(runs: Sequence[_Run]) -> Iterator[tuple[str, float]]:
    """The mean gap of each metric that every comparison has."""
    for name in runs[0].metrics:
        values = [run.metrics.get(name, math.nan) for run in runs]
        if name.startswith("gap/") and all(map(math.isfinite, values)):
            yield name, _mean(values)


def _means(rows: Sequence[Sequence[float]]) -> list[float]:
    return [_mean(values) for values in zip(*rows, strict=True)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
