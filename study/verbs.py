"""Begin a study, go on with one, confirm what one found: for the command line and for Python alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import ray

from analysis.database import DATABASE, repair
from study import code, folder, manifest, messages, preflight, runner, schedulers, storage, trackers
from study import history as histories
from study.cluster import joined_ray, nodes
from study.experiment import Experiment
from study.history import History
from study.located import relative
from study.watch import Display


class Audience(Protocol):
    """Who is told of a study while it runs, and what is done when its comparisons have ended."""

    def tell(self, text: str) -> None:
        """What is being done."""

    def complain(self, text: str) -> None:
        """Of trouble that does not end the study."""

    def display(self, experiment: Experiment, ended: int, found: list[float]) -> AbstractContextManager[Display]:
        """What shows its progress.

        Args:
            experiment: the study's.
            ended: comparisons that ended in an earlier run.
            found: the objectives of those that finished in one.
        """

    def conclude(self, folder: Path) -> None:
        """All comparisons have ended; the study's folder is still held."""


class Ended(NamedTuple):
    """What a run of a study came to.

    Attributes:
        folder: the study's.
        statuses: how many of all its comparisons ended in which status.
    """

    folder: Path
    statuses: Counter[str]

    @property
    def fruitless(self) -> bool:
        """Whether no comparison got through."""
        return not self.statuses["finished"] + self.statuses["stopped"]


def begin(experiment: Experiment, to: Path | None, audience: Audience, address: str | None = None) -> Ended:
    """Run a new study.

    Args:
        experiment: what is to run.
        to: an empty folder, or one to be made; None: a new one in ``studies``.
        audience: is told of it.
        address: of a Ray cluster, HOST:PORT or auto; None: a Ray of its own.

    Raises:
        UserError: of several errors before the start, all are named.
    """
    _check(experiment, audience, address)
    to = folder.made(to) if to else folder.new(folder.STUDIES, experiment.name)
    with folder.locked(to), messages.kept(to, audience.complain) as say:
        folder.create(to, experiment)
        audience.tell(f"{experiment.about.title}: {experiment.extent}, recorded in {to}")
        if said := schedulers.bias(experiment):
            audience.complain(said)
        return _run(experiment, to, audience, say, address=address)


def go_on(
    of: Path,
    audience: Audience,
    overrides: Sequence[str] = (),
    add_trials: int = 0,
    retry_failed: bool = False,
    from_start: bool = False,
    address: str | None = None,
    allow_changed_code: bool = False,
) -> Ended:
    """Go on with the study in ``of``; there is nothing to do where all its comparisons have ended.

    Args:
        of: the study's folder.
        audience: is told of it.
        overrides: ``key=value`` for keys that change no result.
        add_trials: configurations to try beyond those planned.
        retry_failed: whether failed comparisons are tried again.
        from_start: whether comparisons whose checkpoints are lost train from epoch 0 again.
        address: of a Ray cluster, HOST:PORT or auto; None: a Ray of its own.
        allow_changed_code: whether to go on though code of the researcher's own has changed.

    Raises:
        UserError: of several errors before the start, all are named.
    """
    with folder.locked(folder.existing(of)), messages.kept(of, audience.complain) as say:
        recorded_as, experiment = folder.recorded(of), folder.reopen(of, overrides, add_trials)
        for line in relative(experiment):
            say(line)
        recorded = (of / DATABASE).is_file()
        repaired = repair(of / DATABASE) if recorded else ()
        history = histories.read(of) if recorded else History()  # it broke off while Ray started
        if retry_failed:
            history = histories.retrying(history)
        changed = _changed_code(experiment, of, allow_changed_code)
        _check(experiment, audience, address, begun=True)
        storage.check(experiment, of)
        if not from_start:
            storage.demand(experiment, of, history, recorded_as.recovery.checkpoint_seconds)
        folder.keep(of, experiment)
        if changed:
            folder.allow_changed_code(of, changed)
        for damage in (*repaired, *history.damage):
            say(f"damaged: {damage}")
        unfinished = sum(past.unfinished for past in history.comparisons)
        ended = len(history.comparisons) - unfinished
        if ended == experiment.trials:
            audience.tell(f"All {ended} comparisons have ended; to go on: --add-trials N")
            return _came(of, Counter(past.status for past in history.comparisons), say)
        rest = f"{unfinished} go on, {experiment.trials - ended - unfinished} are new"
        audience.tell(f"{experiment.about.title}: of {experiment.trials} comparisons {ended} have ended, {rest}")
        return _run(experiment, of, audience, say, history, address)


def confirm(
    of: Path,
    audience: Audience,
    top: int = 5,
    seeds: int = 6,
    to: Path | None = None,
    overrides: Sequence[str] = (),
    address: str | None = None,
    allow_changed_code: bool = False,
) -> Ended:
    """Run the best configurations of the study in ``of`` again, on fresh seeds, and write its report anew.

    Args:
        of: the folder of the study that searched.
        audience: is told of it.
        top: configurations to confirm, the best ones; beside them run those that are best for either arm.
        seeds: fresh ones, for each configuration.
        to: an empty folder, or one to be made; None: a new one in ``confirmations`` of the study.
        overrides: ``key=value`` for keys that change no result.
        address: of a Ray cluster, HOST:PORT or auto; None: a Ray of its own.
        allow_changed_code: whether to run though code of the researcher's own has changed.

    Raises:
        UserError: nothing has finished; or of several errors before the start, all are named.
    """
    from analysis import report, sources  # which a study that only runs does not wait for
    from analysis.pairs import pair
    from study import confirm as confirming

    searched = folder.reopen(of, overrides)
    changed = _changed_code(searched, of, allow_changed_code)
    history = histories.read(of)
    tables = sources.read([str(of)])
    for line in tables.damage:
        audience.complain(f"damaged: {line}")
    runs = confirming.chosen(history, searched, pair(tables).frame, top)
    experiment = confirming.confirmation(searched, history, runs, seeds)
    _check(experiment, audience, address)
    to = folder.made(to) if to else folder.new(of / confirming.FOLDER)
    with folder.locked(to), messages.kept(to, audience.complain) as say:
        provenance = confirming.provenance(manifest.identity(of), searched, runs)
        folder.create(to, experiment, provenance, manifest.references(of))
        if changed:
            folder.allow_changed_code(to, changed)
        audience.tell(f"{experiment.about.title}: {experiment.extent}, recorded in {to}")
        audience.tell(confirming.described(runs, seeds))
        ended = _run(experiment, to, audience, say, address=address)
        if not ended.fruitless:
            page = report.write(sources.read([str(of)]), of)
            audience.tell(f"report of the study, now with its confirmation: {page}")
        return ended


def _check(experiment: Experiment, audience: Audience, address: str | None, begun: bool = False) -> None:
    """Look for data and resources, on the cluster at ``address`` if given, before anything is written."""
    preflight.check(experiment, begun=begun, here=address is None and not ray.is_initialized())
    with joined_ray(address) if address else nullcontext():
        preflight.check_resources(experiment)
        if address and len(nodes()) > 1 and experiment.storage is None:
            audience.complain(
                "storage is not set: checkpoints stay on the node that writes them, unless the study's folder is "
                "shared, and a comparison whose node dies starts over; --set storage=FOLDER_OR_URI that all can write"
            )


def _run(
    experiment: Experiment,
    of: Path,
    audience: Audience,
    say: messages.Say,
    history: History | None = None,
    address: str | None = None,
) -> Ended:
    """Run a study whose folder is held."""
    ended = [past for past in history.comparisons if not past.unfinished] if history else []
    last = {report.trial_id: report.objectives[0] for report in history.reports} if history else {}
    found = [last[past.trial_id] for past in ended if past.status == "finished" and past.trial_id in last]
    with audience.display(experiment, len(ended), found) as display:
        statuses = runner.run(experiment, of, display, say, history, address)
    statuses.update(past.status for past in ended)
    if failed := statuses["failed"]:
        say(f"{failed} of {experiment.trials} comparisons failed; their errors are in the table trials.")
    trackers.finish(experiment, of, say)
    audience.conclude(of)
    return _came(of, statuses, say)


def _came(of: Path, statuses: Counter[str], say: messages.Say) -> Ended:
    """What a run came to; said where it is nothing."""
    came = Ended(of, statuses)
    if came.fruitless:
        say("No comparison got through.")
    return came


def _changed_code(experiment: Experiment, of: Path, allowed: bool) -> Mapping[str, Any] | None:
    """What the manifest of the study in ``of`` is to say of own code that has changed; None where it has not."""
    return code.demand_unchanged(experiment, manifest.read(of).get(code.FIELD) or {}, allowed, of)
