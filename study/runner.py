"""Run an experiment: on Ray Tune, or one comparison of it in this process; from its start, or from what is recorded.

To go on with a study is a new Tune run, made from the study's own record and checkpoints. Tune's files are never read
back, so that a study can be moved, copied, or opened with another Ray, and nothing can start over in silence.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from shlex import quote
from types import MappingProxyType
from typing import Any

import psutil
import ray
import torch
from optuna import Study
from ray import tune

from study import cluster, code, manifest, private, references, schedulers, storage, trackers
from study.environment import environment
from study.experiment import Experiment
from study.history import History
from study.limits import available_cpus
from study.preflight import check_resources, runtime, under_ray
from study.queue import Planned, Queue
from study.recorder import Recorder, RecordError
from study.searcher import JOURNAL, Listed, Proposer, open_journal, propose
from study.source import check_workers
from study.trackers.base import Tracker
from study.watch import Broken, Display, TuneWatch, Watch, breaking
from trainables import imports
from trainables.checkpoints import Checkpoints
from trainables.comparison import prepare, report
from trainables.config import TrialConfig
from trainables.errors import UserError
from trainables.places import Place
from trainables.tune import ComparisonTrainable

TUNE_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}
"""Environment variables that Ray Tune reads during a run."""
INTERRUPTED = 130


class Interrupted(UserError):
    """The study was interrupted; what it had recorded is readable."""

    exit_code = INTERRUPTED


@contextmanager
def watching(experiment: Experiment, folder: Path, display: Display, say: Callable[[str], None]) -> Iterator[Watch]:
    """The watch over a study in ``folder``; on leaving, everything is written and what still trains is interrupted.

    ``say`` is told of trouble with trackers.

    Raises:
        Interrupted: by Ctrl-C or SIGTERM.
        RecordError: the study's record cannot be written.
    """
    opened = trackers.opened(experiment, folder, say)
    with ExitStack() as stack:
        recorder = stack.enter_context(Recorder(folder, experiment.columns))
        for tracker in opened:
            stack.callback(_close, tracker, say)
        scheduled, columns = experiment.scheduled[0], experiment.columns
        watch = Watch(recorder, opened, display, scheduled, columns, experiment.proposed_by)
        stack.callback(watch.tell)
        try:
            yield watch
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; what was recorded is in {folder}. Go on with: filter-study resume {quote(str(folder))}"
            ) from None
        except Broken as error:
            raise RecordError(str(error)) from None


def _close(tracker: Tracker, say: Callable[[str], None]) -> None:
    tracker.close()
    if tracker.failure:
        say(tracker.failure)


def run(
    experiment: Experiment,
    folder: Path,
    display: Display,
    say: Callable[[str], None] = print,
    history: History | None = None,
    address: str | None = None,
    trainable: type[ComparisonTrainable] = ComparisonTrainable,
) -> Counter[str]:
    """Run the study in ``folder``, from where ``history`` ends; how many comparisons ended in which status in this run.

    If this process uses a Ray already, the study runs on it and leaves it as it is; otherwise on the cluster at
    ``address``, or else on a Ray of its own. ``say`` is told of trouble that does not end the study. ``trainable`` is
    what trains; a benchmark of all the rest gives one whose training is free.

    In the main thread the first Ctrl-C or SIGTERM ends the study in good order. In another thread no signal is taken:
    raise KeyboardInterrupt from a method of ``display`` to the same effect.

    Raises:
        Interrupted: by Ctrl-C or SIGTERM, or by ``display``.
        RecordError: the study's record cannot be written.
        ClusterError: the cluster cannot be joined.
        StorageError: the study's checkpoints cannot be kept, or those that are there are not its own.
        SourceError: Ray's workers would run other code than this process.
        CodeError: a folder of the researcher's own code is missing.
        ExperimentError: one comparison asks for more than any node has, or a reference cannot be measured.
    """
    imports.provide(experiment.code)
    root = storage.claim(experiment, folder)
    interrupts = Interrupts(say)
    with (
        interrupts.heeded(),
        _ray_for(experiment, address) as folders,
        interrupts.heeded(),  # again, for ray.init takes SIGTERM for itself
        _tune_settings(experiment),
        _tune_folder() as scaffolding,
        watching(experiment, folder, display, say) as watch,
    ):
        measure = partial(
            references.measure_under_ray, experiment=experiment, runtime=under_ray(experiment), folders=folders
        )
        known = referenced(experiment, folder, measure)
        tuner(experiment, folder, root, scaffolding, watch, history or History(), say, trainable, folders, known).fit()
    with contextlib.suppress(OSError):
        storage.release(root, folder)
    return watch.statuses


def referenced(
    experiment: Experiment, folder: Path, measure: Callable[[Mapping[str, TrialConfig]], references.Known]
) -> references.Known:
    """The references of the study in ``folder``: those that it needs and lacks are measured, and kept in its manifest.

    So they are measured once, before the first comparison, and every run of the study has the same clock.

    Raises:
        ExperimentError: one cannot be measured.
    """
    known = manifest.references(folder)
    if references.needed(experiment):
        asked = references.asked(experiment, runtime(experiment).data_dir)
        if lacking := {key: config for key, config in asked.items() if key not in known}:
            known |= measure(lacking)
            manifest.write({**manifest.read(folder), manifest.REFERENCE: known}, folder)
    return known


@contextmanager
def _ray_for(experiment: Experiment, address: str | None) -> Iterator[tuple[str, ...]]:
    """The Ray that this process uses, the cluster at ``address``, or one of its own: fit for the experiment.

    Yields the folders of the researcher's own code, as its workers find them.
    """
    elsewhere = address and not ray.is_initialized()
    with code.staged(experiment.code if elsewhere else ()) as package, _ray(experiment, address, package):
        folders = code.shipped(package, experiment.code)
        check_resources(experiment)
        check_workers()
        code.check_workers(experiment, folders)
        yield folders


def _ray(experiment: Experiment, address: str | None, package: Path | None) -> AbstractContextManager[None]:
    asked = experiment.resources
    bundle = {"CPU": asked.cpu, "GPU": asked.gpu} if asked.gpu else {"CPU": asked.cpu}
    if ray.is_initialized():
        return cluster.shared_ray(address, bundle)
    if address:
        return cluster.joined_ray(address, package)
    return cluster.local_ray(available_cpus(), torch.cuda.device_count() if asked.gpu else 0)


@contextmanager
def _tune_settings(experiment: Experiment) -> Iterator[None]:
    """Ray Tune's settings for this run; afterwards they are as they were before."""
    # With one pending trial at a time, Tune gives a trial whose worker is still starting the worker of one that has
    # ended, and drops the new one: where comparisons are shorter than a start, only one would ever train at a time.
    pending = {"TUNE_MAX_PENDING_TRIALS_PG": str(_slots(experiment))}
    logger = logging.getLogger("ray.tune")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # what goes wrong is recorded and said
    try:
        with environment({**TUNE_SETTINGS, **pending}):
            yield
    finally:
        logger.setLevel(level)


def _slots(experiment: Experiment) -> int:
    return max(cluster.slots(cluster.nodes(), experiment.resources.cpu, experiment.resources.gpu), 1)


@contextmanager
def _tune_folder() -> Iterator[Path]:
    """Where Tune keeps files of its own, which nothing reads; they go in the end."""
    folder = private.make()
    try:
        yield folder
    finally:
        private.remove(folder)


def tuner(
    experiment: Experiment,
    folder: Path,
    root: Place,
    scaffolding: Path,
    watch: Watch,
    history: History,
    say: Callable[[str], None],
    trainable: type[ComparisonTrainable] = ComparisonTrainable,
    folders: Sequence[str] = (),
    known: Mapping[str, tuple[float, float]] = MappingProxyType({}),
) -> Any:
    """The Tune run of what is left of an experiment, its checkpoints under ``root``; Ray must have been started.

    ``folders`` are those of the researcher's own code, as workers find them; ``known`` are the study's references.
    """
    _population_has_one_disk(experiment)

    def changed(trial_id: str, epoch: int, config: Mapping[str, Any], parent: str) -> None:
        with breaking():
            watch.change(trial_id, epoch, config, parent)

    scheduler = schedulers.build(experiment, changed)
    if isinstance(scheduler, schedulers.Remembering):
        history = _judged(history, scheduler, watch, experiment.scheduler.name)
    with storage.explained(experiment):
        _match(root, history, watch)
    shared = {
        "runtime": under_ray(experiment, known).model_dump(),
        "objective": experiment.objective.model_dump(),
        "dead_run": experiment.dead_run.model_dump(),
        "recovery": experiment.recovery.model_dump(),
        "code": list(folders),
        "each": list(experiment.each),
    }

    def trainable_config(planned: Planned) -> dict[str, Any]:
        place = asdict(root / planned.trial_id)  # plain values, for it travels to the workers
        own = {"number": planned.number, "trial": dict(planned.config), "checkpoints": place}
        return {**own, **shared}

    def reject(planned: Planned, error: str) -> None:
        watch.start(planned)
        watch.end(planned.trial_id, "failed", 0, None, f"this configuration cannot be: {error}")

    proposer = _proposer(experiment, folder, history, say)
    return tune.Tuner(
        tune.with_resources(trainable, {"cpu": experiment.resources.cpu, "gpu": experiment.resources.gpu}),
        tune_config=tune.TuneConfig(
            search_alg=Queue(proposer, experiment.seeds, history, trainable_config, reject, _slots(experiment)),
            scheduler=scheduler,
            num_samples=experiment.trials,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="ray",
            storage_path=str(scaffolding),
            verbose=0,
            callbacks=[TuneWatch(watch, experiment.scheduler.name, partial(storage.clean, root), say)],
            failure_config=tune.FailureConfig(max_failures=experiment.recovery.max_failures),
            checkpoint_config=tune.CheckpointConfig(  # a population's, of which another may still need the one before
                num_to_keep=2, checkpoint_frequency=0, checkpoint_at_end=False
            ),
        ),
    )


def _population_has_one_disk(experiment: Experiment) -> None:
    if experiment.scheduler.name == "pbt" and (nodes := sum(node["Alive"] for node in ray.nodes())) > 1:
        raise cluster.ClusterError(
            f"scheduler.name: pbt hands states on through the disk of one machine, and the cluster has {nodes} nodes; "
            "run it without --address, or take another scheduler"
        )


def _proposer(experiment: Experiment, folder: Path, history: History, say: Callable[[str], None]) -> Proposer:
    listed = experiment.configurations
    if listed is not None:
        return Listed(listed)
    try:
        journals = _journals(experiment, folder)
    except OSError as error:
        say(f"no journal for optuna-dashboard can be written: {error}")
        journals = None
    return propose(experiment, len(history.comparisons) // experiment.seeds, journals)


def _journals(experiment: Experiment, folder: Path) -> Sequence[Study]:
    """What optuna-dashboard shows of the study: one file, with a study for each search."""
    path, name = folder / JOURNAL, manifest.identity(folder)
    if not experiment.each:
        return [open_journal(path, name, experiment.modes)]
    own = enumerate(experiment.each.items())
    return [open_journal(path, f"{name}: {metric}", [mode], fresh=not side) for side, (metric, mode) in own]


def _judged(history: History, scheduler: schedulers.Remembering, watch: Watch, name: str) -> History:
    """Tell the scheduler what it heard before; what it had decided to stop when the study broke off is ended."""
    kept = {past.trial_id: past.epoch for past in history.comparisons if past.unfinished}
    reports = [report for report in history.reports if report.epoch <= kept.get(report.trial_id, report.epoch)]
    ended = {p.trial_id: p.epoch for p in history.comparisons if p.status in ("finished", "diverged")}
    stopped = scheduler.replay(reports, ended) & kept.keys()
    comparisons = []
    for past in history.comparisons:
        if past.trial_id in stopped:
            watch.stopped(past.trial_id, f"stopped by {name} after epoch {past.epoch}")
            past = replace(past, status="stopped")
        comparisons.append(past)
    return replace(history, comparisons=tuple(comparisons))


def _match(root: Place, history: History, watch: Watch) -> None:
    """Make record and checkpoints of what goes on agree: neither is ahead of the other."""
    for past in history.comparisons:
        if past.unfinished:
            watch.rewind(past.trial_id, past.epoch)
            Checkpoints(root / past.trial_id).forget(after=past.epoch)
    storage.remove_strays(root, [p.trial_id for p in history.comparisons if p.unfinished or p.status == "failed"])


def train(
    experiment: Experiment,
    folder: Path,
    display: Display,
    device: str,
    on_epoch: Callable[[dict[str, float]], None],
    say: Callable[[str], None] = print,
) -> str:
    """Run one comparison, the experiment's own settings, in this process without Ray; the status it ends in.

    In another thread than the main one no signal is taken: raise KeyboardInterrupt from ``on_epoch`` to interrupt it.

    Raises:
        Interrupted: by Ctrl-C or SIGTERM, or by ``on_epoch``.
        RecordError: the study's record cannot be written.
        ExperimentError: a reference cannot be measured.
    """
    imports.provide(experiment.code)
    config = TrialConfig.from_dotted(experiment.trial)
    planned = Planned(0, config.to_dotted())
    known = referenced(experiment, folder, partial(references.measure_here, runtime=runtime(experiment, device)))
    comparison = prepare(config, runtime(experiment, device, known))
    with Interrupts(say).heeded(), watching(experiment, folder, display, say) as watch:
        watch.start(planned)
        objectives = [float("nan")]
        while not comparison.done:
            rows = comparison.step()
            metrics = report(rows, config.baseline, config.treatment, config.columns)
            objectives = experiment.objective.values(metrics, config.baseline)
            steps = comparison.trace() if experiment.trace else []
            watch.add(planned.trial_id, {"rows": rows, "steps": steps, "objectives": objectives, **metrics})
            watch.tell()
            on_epoch(metrics)
        if comparison.note:
            say(comparison.note)
        watch.end(planned.trial_id, comparison.status, comparison.epoch, objectives[0], comparison.reason)
    return comparison.status


class Interrupts:
    """The first Ctrl-C or SIGTERM ends a study in good order, the second at once.

    A terminal that closes, SIGHUP, is like the first, however often it is said; under nohup it is ignored, as ever.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._count = 0

    def __call__(self, number: int, _: object) -> None:
        """Take a signal."""
        if number == signal.SIGHUP and self._count:
            return  # a shell and the kernel may both send it
        self._count += 1
        if self._count > 1:
            leave()
        self._say("stopping; once more to leave at once")
        raise KeyboardInterrupt

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Take signals until the block ends; in another thread than the main one that is left to the caller."""
        if not cluster.in_main_thread():
            yield
            return
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, self) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def leave() -> None:
    """End this process and its children now. What is recorded is whole: every write is one transaction."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
    private.remove_all()
    os._exit(INTERRUPTED)
