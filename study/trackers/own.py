"""A tracker of one's own: any object with the methods of a :class:`~study.trackers.base.Tracker`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from study.trackers.base import Forgiving, forgiven
from trainables import imports
from trainables.config.base import Used


class OwnTracker(Forgiving):
    """Hands all that a study's comparisons do to an object of the researcher's own, which it makes when one starts.

    Arguments:
        name: of the section ``trackers.NAME``.
        settings: what makes the object, called with ``folder`` (the study's), ``study`` (its id, the same when it is
            resumed, moved or renamed) and its options.
    """

    def __init__(self, name: str, settings: Used, folder: Path, study: str) -> None:
        super().__init__()
        self.name = f"trackers.{name}"
        self._settings = settings
        self._given = {"folder": folder, "study": study}
        self._made: Any = None

    @forgiven
    def start(self, trial_id: str, config: Mapping[str, Any]) -> None:
        """A comparison starts, or goes on in a study that is resumed."""
        if self._made is None:
            self._made = imports.find(self._settings.use, "trackers")(**self._given, **self._settings.options)
        self._made.start(trial_id, dict(config))

    @forgiven
    def log(self, trial_id: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """A comparison leaves an epoch; what a tracker may have lost in a crash is said again."""
        self._made.log(trial_id, epoch, dict(metrics))

    @forgiven
    def end(self, trial_id: str, status: str) -> None:
        """A comparison ends."""
        self._made.end(trial_id, status)

    @forgiven
    def close(self) -> None:
        """The study ends; what is still open was interrupted."""
        if self._made is not None:
            self._made.close()
