"""filter-study from Python: run studies, read what they left behind, and train a comparison in this process.

    >>> import filter_study
    >>> study = filter_study.load("studies/few")
    >>> study.gaps(by=["dataset.samples_per_class"])
    >>> rows = filter_study.compare({"model.name": "LeNet", "epochs": 3})
    >>> study = filter_study.run("quickstart", set={"search.trials": 30})

Reading needs neither torch nor Ray: they are imported when something trains.
"""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

from analysis.database import TableError
from analysis.drawing import Figure
from filter_study.reading import Study, load
from filter_study.running import compare, confirm, resume, run
from filter_study.searching import from_objective, from_result_grid, objective, optuna_space, tune_space
from study import extras
from trainables.errors import UserError

if TYPE_CHECKING:
    from study.plain_optuna import Objective
    from study.plain_tune import Arm, Comparison

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


def __getattr__(name: str) -> Any:
    """The classes that need Ray or torch are imported when they are asked for."""
    if name in ("Arm", "Comparison", "Objective"):
        extras.demand("train", name)
    if name in ("Arm", "Comparison"):
        from study import plain_tune

        return getattr(plain_tune, name)
    if name == "Objective":
        from study.plain_optuna import Objective

        return Objective
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
