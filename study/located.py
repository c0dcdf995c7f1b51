"""The paths that an experiment names, absolute: a study is at home in no working directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from study.experiment import Experiment, ExperimentError
from trainables.places import Place, is_uri

PATHS = ("data_dir", "storage")


def located(experiment: Experiment) -> Experiment:
    """The experiment with every path that it names made absolute, seen from the working directory; URIs stay.

    Raises:
        ExperimentError: a path leads nowhere.
    """
    places: dict[str, Any] = {}
    errors = []
    for key, named in _named(experiment).items():
        try:
            places[key] = Place.of(named).root
        except ValueError as error:
            errors.append(f"{key}: {named!r}: {error}")
    if errors:
        raise ExperimentError(experiment.name, errors)
    if (uri := experiment.mlflow.uri) is not None and not is_uri(uri):
        places["mlflow"] = experiment.mlflow.model_copy(update={"uri": str(Path(uri).expanduser().absolute())})
    code = tuple(str(Path(folder).expanduser().absolute()) for folder in experiment.code)
    return experiment.model_copy(update={**places, "code": code})


def relative(experiment: Experiment) -> list[str]:
    """A line for each relative path that an experiment names: what it is, and what it is taken for."""
    return [
        f"{key}: {named!r} is a relative path; seen from {Path.cwd()}, where this command runs, it is {Place.of(named)}"
        for key, named in _named(experiment).items()
        if not is_uri(named) and not named.startswith(("/", "~"))
    ]


def _named(experiment: Experiment) -> dict[str, str]:
    return {key: named for key in PATHS if (named := getattr(experiment, key)) is not None}
