"""What trains: one comparison in this process, or a study under Ray. Torch and Ray are imported when it begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.database import TableError
from filter_study import settings
from filter_study.reading import Study, load
from filter_study.settings import Device, Settings
from study import extras


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
    extras.demand("train", "compare")
    from study import preflight
    from trainables import imports
    from trainables.comparison import prepare
    from trainables.config import TrialConfig

    settled = settings.unscheduled(experiment, config, data_dir, threads).alone()
    preflight.check_alone(settled, device)
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
    extras.demand("train", "run")
    from study import scripted, verbs

    settled = settings.experiment(experiment, set, data_dir, code, smoke, fair)
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
        set: keys that change no result: of ``resources``, ``recovery``, trackers; ``data_dir``, ``storage``, ``code``.
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
    extras.demand("train", "resume")
    from study import scripted, verbs

    audience = scripted.Script(report, progress)
    ended = verbs.go_on(
        _home(study),
        audience,
        settings.overrides(set),
        add_trials,
        retry_failed,
        from_start,
        address,
        allow_changed_code,
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
    extras.demand("train", "confirm")
    from study import scripted, verbs

    audience = scripted.Script(True, progress)
    confirmed = verbs.confirm(_home(study), audience, top, seeds, _folder(dir), (), address, allow_changed_code)
    return load(confirmed.folder)


def _folder(named: str | Path | None) -> Path | None:
    return None if named is None else Path(named).expanduser()


def _home(study: str | Path | Study) -> Path:
    """The folder of a study."""
    if not isinstance(study, Study):
        return Path(study).expanduser()
    if study.home is None:
        raise TableError(f"{study.name}, as it is read here, has no folder of its own; give the folder of a study")
    return study.home
