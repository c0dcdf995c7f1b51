"""Logging to MLflow from the driver: one run a comparison, metrics named as everywhere.

A comparison that a resumed study continues goes on in its run, which is found by its tags. Of MLflow only the client is
used; what it would send to its makers is switched off.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from study.environment import environment
from study.experiment import Mlflow
from study.trackers.base import Forgiving, forgiven, numbers
from trainables.places import is_uri

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # a server that is gone ends tracking, and does not hold up the study
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
"""Environment variables that MLflow reads, set while it is called."""
STUDY, COMPARISON, STATUS = "filter_study.study", "filter_study.comparison", "filter_study.status"
"""Tags of a run."""
EPOCH = "epoch"
"""The metric that says how far a run has come."""
ENDS = {"failed": "FAILED", "diverged": "FAILED", "interrupted": "KILLED"}
"""MLflow's words for how a run ends; any other way is FINISHED."""
MOST_PARAMETERS, LONGEST = 100, 500
"""Parameters that one call may hold, and letters of a value: MLflow's limits."""


def address(uri: str) -> str:
    """MLflow's own address of a tracking server or store; a folder stands for an SQLite file in it."""
    return uri if is_uri(uri) else f"sqlite:///{Path(uri).expanduser().absolute() / 'mlflow.db'}"


class MlflowTracker(Forgiving):
    """Writes a run for every comparison; a :class:`~study.trackers.base.Tracker`.

    Arguments:
        settings: where to, and the MLflow experiment.
        study: the study's id, by which runs are found again.
    """

    name = "MLflow"

    def __init__(self, settings: Mlflow, study: str) -> None:
        super().__init__()
        self._settings = settings
        self._study = study
        self._client: Any = None
        self._runs: dict[str, str] = {}
        self._next: dict[str, int] = {}

    @forgiven
    def start(self, trial_id: str, config: Mapping[str, Any]) -> None:
        """Open the run of a comparison, or go on with the one that it has."""
        with _quiet():
            if self._client is None:
                self._client, self._home = _connected(self._settings)
            query = f"tags.`{STUDY}` = '{self._study}' and tags.`{COMPARISON}` = '{trial_id}'"
            found = self._client.search_runs([self._home], query)
            if found:
                run = found[0].info.run_id
                self._client.update_run(run, status="RUNNING")
                steps = [metric.step for metric in self._client.get_metric_history(run, EPOCH)]
                self._next[trial_id] = max(steps, default=-1) + 1
            else:
                run = self._created(trial_id, config)
                self._next[trial_id] = 0
            self._runs[trial_id] = run

    def _created(self, trial_id: str, config: Mapping[str, Any]) -> str:
        from mlflow.entities import Param

        tags = {STUDY: self._study, COMPARISON: trial_id}
        run: str = self._client.create_run(self._home, run_name=trial_id, tags=tags).info.run_id
        parameters = [Param(key, str(value)[:LONGEST]) for key, value in config.items() if value is not None]
        for first in range(0, len(parameters), MOST_PARAMETERS):
            self._client.log_batch(run, params=parameters[first : first + MOST_PARAMETERS])
        return run

    @forgiven
    def log(self, trial_id: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log one epoch of a comparison, unless it was logged before."""
        if trial_id not in self._runs or epoch < self._next[trial_id]:
            return
        with _quiet():
            from mlflow.entities import Metric

            now = int(time.time() * 1000)
            known = numbers(metrics) | {EPOCH: float(epoch)}
            points = [Metric(name, value, now, epoch) for name, value in known.items()]
            self._client.log_batch(self._runs[trial_id], metrics=points)
        self._next[trial_id] = epoch + 1

    @forgiven
    def end(self, trial_id: str, status: str) -> None:
        """Close the run of a comparison."""
        run = self._runs.pop(trial_id, None)
        if run is not None:
            with _quiet():
                self._client.set_tag(run, STATUS, status)
                self._client.set_terminated(run, ENDS.get(status, "FINISHED"))

    @forgiven
    def close(self) -> None:
        """Close what is still open."""
        for trial_id in list(self._runs):
            self.end(trial_id, "interrupted")


def _connected(settings: Mlflow) -> tuple[Any, str]:
    """MLflow's client, and the id of the MLflow experiment, which is made if it is not there."""
    from mlflow.tracking import MlflowClient

    assert settings.uri is not None
    if not is_uri(settings.uri):
        Path(settings.uri).expanduser().mkdir(parents=True, exist_ok=True)
    client = MlflowClient(tracking_uri=address(settings.uri))
    known = client.get_experiment_by_name(settings.experiment)
    return client, known.experiment_id if known else client.create_experiment(settings.experiment)


@contextmanager
def _quiet() -> Iterator[None]:
    """Let MLflow say what goes wrong alone, send nothing about its use, and give up soon."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    try:
        with environment(SETTINGS):
            import mlflow  # noqa: F401  # which sets the level of its logger

            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
