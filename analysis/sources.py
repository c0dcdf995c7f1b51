"""What the command line's sources name: study directories, exported tables, published figures; one or several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from analysis.database import TableError
from analysis.load import Study, load
from analysis.pairs import STUDY
from analysis.published import tables, thesis
from analysis.where import matching
from trainables.records import Column, Columns

NAMESPACE = "published:"
PUBLISHED = {"published:thesis": thesis, "published:tables": tables}
"""Figures that come with the program: Appendix II of the thesis, and its Tables 4.4 to 4.9."""


def read(sources: Sequence[str], where: str | None = None) -> Study:
    """The study, or all studies as one, that ``sources`` name.

    Args:
        sources: folders, tables or keys of :data:`PUBLISHED`.
        where: which trials to keep; see :func:`analysis.where.matching`.

    Raises:
        TableError: something cannot be read, or nothing is left; of several errors all are named.
    """
    studies, errors = [], []
    for source in dict.fromkeys(sources):
        try:
            studies.append(_one(source))
        except TableError as error:
            errors.append(str(error))
    if errors:
        raise TableError("\n".join(errors))
    study = studies[0] if len(studies) == 1 else combine(studies)
    return study if where is None else narrow(study, where)


def beside(source: Path) -> Path:
    """The folder of a study that is named by itself or by one of its tables."""
    return source if source.is_dir() else source.parent


def home(sources: Sequence[str], where: str | None = None) -> Path | None:
    """The folder of the one study that ``sources`` name; None of several, of a part of one, of published figures."""
    if len(sources) != 1 or where is not None or sources[0].startswith(NAMESPACE):
        return None
    return beside(Path(sources[0]))


def narrow(study: Study, where: str) -> Study:
    """The study with the trials alone that match the condition ``where``.

    Raises:
        TableError: the condition cannot be understood, or no trial matches it.
    """
    trials = study.trials[matching(study.trials, where)].reset_index(drop=True)
    if trials.empty:
        raise TableError(f"no trial matches --where {where}; without it there are {len(study.trials)}")
    epochs, steps = (
        table[table["trial_id"].isin(trials["trial_id"])].reset_index(drop=True)
        for table in (study.epochs, study.steps)
    )
    return replace(study, trials=trials, epochs=epochs, steps=steps)


def combine(studies: Sequence[Study]) -> Study:
    """Several studies as one, whose trials have a further column ``study``, new numbers and ids that begin with it."""
    labels = _labels(studies)
    trials, epochs, steps = [], [], []
    for label, study in zip(labels, studies, strict=True):
        own, *rest = (
            table.assign(trial_id=(f"{label}." + table["trial_id"].astype("string")).astype("string"))
            for table in (study.trials, study.epochs, study.steps)
        )
        trials.append(own.assign(**{STUDY: label}))
        epochs.append(rest[0])
        steps.append(rest[1])
    declared = _declared(labels, studies)
    together = pd.concat(trials, ignore_index=True)
    together["number"] = pd.Series(range(len(together)), dtype="Int64")
    if "budget.clock" in together:  # studies of earlier versions name no budget: they train for epochs
        together["budget.clock"] = together["budget.clock"].fillna("epochs")
    return Study(
        name=" and ".join(labels),
        trials=together.astype({STUDY: "string"}),
        epochs=pd.concat(epochs, ignore_index=True),
        manifest={"studies": dict(zip(labels, (study.manifest for study in studies), strict=True))},
        experiment="",
        path=Path(" and ".join(labels)),
        steps=pd.concat([table for table in steps if len(table)] or steps[:1], ignore_index=True),
        damage=tuple(f"{label}: {line}" for label, study in zip(labels, studies, strict=True) for line in study.damage),
        columns=declared,
    )


def _declared(labels: Sequence[str], studies: Sequence[Study]) -> Columns:
    """The columns of all studies.

    Raises:
        TableError: a metric has another direction or unit in one of them than in another.
    """
    own: dict[str, tuple[str, Column]] = {}
    for label, study in zip(labels, studies, strict=True):
        for column in study.columns.own:
            first, known = own.setdefault(column.name, (label, column))
            if (known.direction, known.unit) != (column.direction, column.unit):
                raise TableError(
                    f"{column.name} is not the same metric in {first} (direction {known.direction}, unit "
                    f"{known.unit!r}) and in {label} (direction {column.direction}, unit {column.unit!r}); read them "
                    "apart"
                )
    return Columns(tuple(column for _, column in own.values()))


def _one(source: str) -> Study:
    if source in PUBLISHED:
        return PUBLISHED[source]()
    if source.startswith(NAMESPACE):
        raise TableError(f"{source} is not published here; known are {', '.join(PUBLISHED)}")
    return load(Path(source))


def _labels(studies: Sequence[Study]) -> list[str]:
    """A name for each study: its own, with its folder's where several share one."""
    names = Counter(study.name for study in studies)
    labels = [study.name if names[study.name] == 1 else f"{study.name} ({study.path})" for study in studies]
    return [label if labels.count(label) == 1 else f"{label} {place}" for place, label in enumerate(labels)]
