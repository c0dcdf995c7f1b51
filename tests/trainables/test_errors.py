"""Every error of this program is one that the command line tells without a traceback."""

import importlib
import inspect
import pkgutil

import analysis
import search_spaces
import study
import trainables
from trainables.errors import UserError

PACKAGES = (trainables, search_spaces, analysis, study)


def test_every_error_that_the_packages_declare_is_a_users() -> None:
    found = set()
    for package in PACKAGES:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                members = inspect.getmembers(importlib.import_module(module.name), inspect.isclass)
                found |= {kind for name, kind in members if issubclass(kind, Exception) and not name.startswith("_")}
    own = {package.__name__ for package in PACKAGES}
    ours = {kind for kind in found if kind.__module__.partition(".")[0] in own}
    assert {"ExperimentError", "TableError", "PrecisionError", "SpaceError"} <= {kind.__name__ for kind in ours}
    assert not [kind for kind in ours if not issubclass(kind, UserError)]
