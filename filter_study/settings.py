"""Settings as Python has them, and the experiment that they make."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from study.experiment import Experiment

Settings = Mapping[str, Any]
"""Dotted keys, as in an experiment file, and their values."""
Device = Literal["auto", "cpu", "cuda"]


def experiment(
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

    keys = overrides(dict(given or {}) | ({"data_dir": str(data_dir)} if data_dir is not None else {}))
    read = same_compute.load if fair else experiments.load
    return read(str(source), keys, smoke, code=[str(folder) for folder in code])


def unscheduled(
    source: str | Path, given: Settings | None, data_dir: str | Path | None = None, threads: int = 1
) -> Experiment:
    """The same for who has a scheduler of their own, or none: the experiment's is left out."""
    return experiment(source, dict(given or {}) | {"scheduler.name": "none", "resources.cpu": threads}, data_dir)


def overrides(given: Settings | None) -> list[str]:
    """Keys and values as ``--set`` takes them."""
    return [f"{key}={json.dumps(value, default=_plain)}" for key, value in (given or {}).items()]


def _plain(value: Any) -> Any:
    """A number of numpy or pandas, such as one of a DataFrame, as Python's own; anything else as text."""
    return value.item() if hasattr(value, "item") else str(value)
