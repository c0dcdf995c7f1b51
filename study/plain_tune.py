"""A comparison in a ``tune.Tuner`` of one's own, and what such a Tuner left as the tables of a study.

For those who have their own way with Ray Tune. This program's engine is another: it keeps every epoch in a database as
it comes, and goes on with a study bit for bit after anything. ``docs/python.md`` says what Ray's own way loses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from ray import tune

from analysis.database import TableError
from study.queue import Planned
from trainables.config import TrialConfig
from trainables.records import BUILT_IN, TRIAL_COLUMNS
from trainables.tune import ComparisonTrainable

RESULTS = "result.json"
"""Where Tune keeps what a trial reported, a line for each report."""
OWN = ("data_dir", "objective", "device", "code")
"""Keys of a flat configuration that are no settings of the comparison."""


class Comparison(ComparisonTrainable):
    """A comparison whose configuration is flat and may leave out all but what varies.

    Its keys are the dotted ones of an experiment file: ``{"optimizer.lr": tune.loguniform(1e-3, 1), "epochs": 10}``.
    What is left out has its default; where no arm is named, there are ``archetype`` and ``filtered``. Further keys:
    ``data_dir``, ``objective`` (``gap/METRIC`` or ``ARM/METRIC``; by default ``gap/validation_accuracy``), ``device``
    (by default the GPU that Tune gives it, else the CPU) and ``code`` (folders with code of one's own).

    A report has ``objective``, ``epoch``, ``status``, every ``ARM/METRIC``, ``gap/METRIC`` and ``better/METRIC``, and
    under ``rows`` what a study would record. These are JSON, because Tune's loggers warn of every list at length.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Fill in what the flat configuration leaves out.

        Raises:
            ValueError: a setting cannot be.
        """
        resources = self.trial_resources
        cpus = resources.head_cpus if resources is not None else 1
        super().setup(
            {
                "trial": _settings(config),
                "runtime": {
                    "data_dir": str(config.get("data_dir", "data")),
                    "device": config.get("device", "auto"),
                    "threads": max(int(cpus), 1),
                },
                "objective": {"metric": config.get("objective", "gap/validation_accuracy")},
                "dead_run": {},
                "recovery": {},
                "code": config.get("code", ()),
                "checkpoints": None,  # Tune's own, where it is asked for them
            }
        )

    def step(self) -> dict[str, Any]:
        """Advance every arm by one epoch."""
        report = super().step()
        kept = {name: value for name, value in report.items() if name not in ("objectives", "steps")}
        return kept | {"rows": json.dumps(report["rows"])}


def tables(grid: tune.ResultGrid) -> dict[str, pd.DataFrame]:
    """What a Tuner left of :class:`Comparison`, as the tables ``trials`` and ``epochs`` of a study.

    Of a trial that Tune took back to an earlier epoch, the last report of each epoch counts. One that ended before its
    last epoch was stopped by Tune's scheduler. Of one that failed before its first report, Tune keeps no settings.

    Raises:
        TableError: a trial is of another trainable, or its reports are gone.
    """
    trials, epochs = [], []
    for number, result in enumerate(grid):
        planned = Planned(number, _whole(result.config))
        reports = _reports(Path(result.path))
        rows = {(row["epoch"], row["arm"]): row for report in reports for row in json.loads(report["rows"])}
        epochs += [row | {"trial_id": planned.trial_id} for row in rows.values()]
        last: Mapping[str, Any] = reports[-1] if reports else {}
        trials.append(
            {
                "trial_id": planned.trial_id,
                "number": number,
                "configuration": planned.configuration,
                "status": _status(last, planned.config.get("epochs"), result.error),
                "error": str(result.error) if result.error else last.get("reason"),
                "started": reports[0]["timestamp"] - reports[0]["time_this_iter_s"] if reports else None,
                "ended": last.get("timestamp"),
                "objective": last.get("objective"),
                **planned.config,
            }
        )
    names = [column.name for column in TRIAL_COLUMNS]
    found = pd.DataFrame(trials)
    lacking = [column.name for column in BUILT_IN.all if not any(column.name in row for row in epochs)]
    return {
        "trials": found.reindex(columns=[*names, *(name for name in found if name not in names)]),
        "epochs": pd.DataFrame(epochs).assign(**dict.fromkeys(lacking)),
    }


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of a flat configuration, the settings of the comparison."""
    return {key: value for key, value in config.items() if key not in OWN}


def _whole(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """The settings with every default; as they are where they cannot be, which is why their trial failed.

    Nothing where Tune has no configuration of a trial: one that failed before its first report.
    """
    settings = _settings(config or {})
    try:
        return TrialConfig.from_dotted(settings).to_dotted() if settings else {}
    except ValueError:
        return settings


def _reports(folder: Path) -> list[dict[str, Any]]:
    file = folder / RESULTS
    try:
        reports = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        return []  # it failed before its first report
    except (OSError, ValueError) as error:
        raise TableError(f"{file} cannot be read: {error}") from None
    if any("rows" not in report for report in reports):
        raise TableError(f"{folder} is of another trainable than filter_study.Comparison; its reports have no rows")
    return reports


def _status(last: Mapping[str, Any], epochs: int | None, error: Exception | None) -> str:
    if error or not last:
        return "failed"
    if last["status"] == "running":
        return "finished" if last["epoch"] == epochs else "stopped"
    return str(last["status"])
