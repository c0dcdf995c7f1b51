"""A comparison, or one of its arms, in a ``tune.Tuner`` of one's own; what such a Tuner left as a study's tables.

For those who have their own way with Ray Tune. This program's engine is another: it keeps every epoch in a database as
it comes, and goes on with a study bit for bit after anything. ``docs/python.md`` says what Ray's own way loses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
from ray import tune

from analysis.database import TableError
from search_spaces.tune_domains import ABSENT
from study import plain
from study.plain import Trained
from trainables.config import TrialConfig
from trainables.tune import ComparisonTrainable

RESULTS = "result.json"
"""Where Tune keeps what a trial reported, a line for each report."""
ARM = "arm"
"""The key of a flat configuration that names the one arm to train."""
OWN = ("data_dir", "objective", "device", "code")
"""Keys of a flat configuration that are no settings of the comparison."""
METRIC = "validation_accuracy"
"""What is to be as high as possible, unless it is said."""


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
        super().setup(_nested(config, _cpus(self), f"gap/{METRIC}"))

    def step(self) -> dict[str, Any]:
        """Advance every arm by one epoch."""
        return _reported(super().step())


class Arm(ComparisonTrainable):
    """One arm of a comparison alone, with a configuration as :class:`Comparison` has.

    A further key, ``arm``, names it: ``archetype``, by default ``filtered``, or any whose settings the configuration
    has (``arms.NAME.selector.name``). An arm that another leads, such as ``random`` that selects as many samples as
    ``filtered``, trains beside its leader. Where two trials differ in ``arm`` alone,
    :func:`filter_study.from_result_grid` takes them for one comparison: an arm's numbers are the same as there.

    A report has the arm's metrics by their own names (``test_accuracy``), and ``objective`` is one of them, by default
    ``validation_accuracy``.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Fill in what the flat configuration leaves out.

        Raises:
            ValueError: a setting cannot be, or there is no such arm.
        """
        self.arm = _arm(config)
        given = _without_arm(config) | {"objective": f"{self.arm}/{config.get('objective', METRIC)}"}
        super().setup(_nested(given, _cpus(self), "") | {"only": self.arm})
        self.trial.needed(self.arm)

    def step(self) -> dict[str, Any]:
        """Advance the arm by one epoch."""
        report = _reported(super().step())
        own = {name.partition("/")[2]: value for name, value in report.items() if name.startswith(f"{self.arm}/")}
        return own | {name: value for name, value in report.items() if "/" not in name}


def _nested(config: Mapping[str, Any], cpus: float, objective: str) -> dict[str, Any]:
    """A flat configuration as :class:`ComparisonTrainable` has it."""
    return {
        "trial": _settings(config),
        "runtime": {
            "data_dir": str(config.get("data_dir", "data")),
            "device": config.get("device", "auto"),
            "threads": max(int(cpus), 1),
        },
        "objective": {"metric": config.get("objective", objective)},
        "dead_run": {},
        "recovery": {},
        "code": config.get("code", ()),
        "checkpoints": None,  # Tune's own, where it is asked for them
    }


def _cpus(trainable: tune.Trainable) -> float:
    """The cores that Tune gives a trial."""
    resources = trainable.trial_resources
    return resources.head_cpus if resources is not None else 1


def _arm(config: Mapping[str, Any]) -> str:
    """The one arm that a configuration is of."""
    return str(config.get(ARM, "filtered"))


def _without_arm(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of :class:`Arm` as :class:`Comparison` takes it."""
    return {key: value for key, value in config.items() if key != ARM}


def _reported(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report that Tune's loggers take."""
    kept = {name: value for name, value in report.items() if name not in ("objectives", "steps")}
    return kept | {"rows": json.dumps(report["rows"])}


def tables(grid: tune.ResultGrid) -> dict[str, pd.DataFrame]:
    """What a Tuner left of :class:`Comparison` or :class:`Arm`, as the tables ``trials`` and ``epochs`` of a study.

    Of a trial that Tune took back to an earlier epoch, the last report of each epoch counts. One that ended before its
    last epoch was stopped by Tune's scheduler. Of one that failed before its first report, Tune keeps no settings.

    Raises:
        TableError: a trial is of another trainable, or its reports are gone.
    """
    groups: dict[tuple[Any, ...], dict[str, Trained]] = {}
    for number, result in enumerate(grid):
        one, config = _trained(result), result.config or {}
        if ARM not in config:
            groups[(number,)] = {"": one}
            continue
        same, arm = json.dumps(one.settings, sort_keys=True), _arm(config)
        times = next(n for n in count() if arm not in groups.get((same, n), {}))
        groups.setdefault((same, times), {})[arm] = one
    return plain.tables([_together([*arms.values()]) for arms in groups.values()])


def _trained(result: tune.Result) -> Trained:
    """What one trial of a Tuner came to."""
    reports = _reports(Path(result.path))
    rows = {(row["epoch"], row["arm"]): row for report in reports for row in json.loads(report["rows"])}
    last: Mapping[str, Any] = reports[-1] if reports else {}
    settings = _whole(_settings(_without_arm(result.config or {})))
    return Trained(
        settings=settings,
        rows=list(rows.values()),
        status=_status(last, settings.get("epochs"), result.error),
        error=str(result.error) if result.error else last.get("reason"),
        started=reports[0]["timestamp"] - reports[0]["time_this_iter_s"] if reports else None,
        ended=last.get("timestamp"),
        objective=last.get("objective"),
    )


def _together(arms: Sequence[Trained]) -> Trained:
    """Arms that were trained apart, of the same settings, as one comparison; the first that fell short says how."""
    if len(arms) == 1:
        return arms[0]
    rows = {(row["epoch"], row["arm"]): row for one in arms for row in one.rows}
    short = next((one for one in arms if one.status != "finished"), arms[0])
    times = [time for one in arms for time in (one.started, one.ended) if time is not None]
    return replace(
        short,
        rows=[rows[key] for key in sorted(rows)],
        started=min(times, default=None),
        ended=max(times, default=None),
        objective=None,
    )


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of a flat configuration, the settings of the comparison."""
    return {key: value for key, value in config.items() if key not in OWN and value != ABSENT}


def _whole(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with every default; as they are where they cannot be, which is why their trial failed."""
    try:
        return TrialConfig.from_dotted(settings).to_dotted() if settings else {}
    except ValueError:
        return dict(settings)


def _reports(folder: Path) -> list[dict[str, Any]]:
    file = folder / RESULTS
    try:
        reports = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        return []  # it failed before its first report
    except (OSError, ValueError) as error:
        raise TableError(f"{file} cannot be read: {error}") from None
    if any("rows" not in report for report in reports):
        raise TableError(
            f"{folder} is of another trainable than filter_study.Comparison or Arm; its reports have no rows"
        )
    return reports


def _status(last: Mapping[str, Any], epochs: int | None, error: Exception | None) -> str:
    if error or not last:
        return "failed"
    if last["status"] == "running":
        return "finished" if last["epoch"] == epochs else "stopped"
    return str(last["status"])
