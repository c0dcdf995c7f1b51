"""The columns of the tables that a study exports, and the page that documents them: ``python -m analysis.schema``.

What ``trainables.records`` declares is not said again here; the table ``pairs`` and what may be missing are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from analysis.load import NEEDED
from analysis.outcomes import LEARNED
from analysis.pairs import MEASURED
from trainables.records import (
    BY_NAME,
    CLOCKS,
    COLUMNS,
    DECLARATIONS,
    METRICS,
    STATUSES,
    STEP_COLUMNS,
    TRIAL_COLUMNS,
    Column,
)

TYPES = {"int": "whole number", "float": "number", "str": "text", "bool": "yes or no"}
"""What the types are called on the page."""

BETTER = {1: "larger", -1: "smaller", 0: ""}

MISSING = {
    "configuration": "in tables of older versions",
    "error": "where nothing went wrong and nothing was stopped",
    "ended": "while the trial runs",
    "objective": "before the first epoch is told, and where it is not a number",
    "proposed_by": "where one search proposes for both arms, and in tables of older versions",
    **{column.name: "with nothing held out" for column in COLUMNS if column.name.startswith("validation_")},
    "unit": "where there is none, in CSV",
    "acceptance": "at epoch 0, and where nothing was kept or rejected",
    "raw_batches_per_step": "at epoch 0, and in an epoch without an update",
    **{column.name: "without an NVIDIA GPU" for column in COLUMNS if column.name.startswith("gpu_")},
}
"""When a column has no value though nothing is wrong; the columns that always have one are ``load.NEEDED``."""


@dataclass(frozen=True)
class Field:
    """One column of an exported table; ``direction`` as in ``trainables.records``."""

    name: str
    type: Literal["int", "float", "str", "bool"]
    unit: str
    meaning: str
    direction: Literal[-1, 0, 1] = 0

    @property
    def missing(self) -> str:
        """When the column has no value, in words."""
        side, _, name = self.name.rpartition("/")
        if name in NEEDED:
            return "where the side has no values" if side else "never"
        return MISSING.get(name, "")


@dataclass(frozen=True)
class Table:
    """An exported table.

    Attributes:
        name: of its file, without the ending.
        row: what there is a row of.
        key: the columns that no two rows share.
        before: its columns ahead of the configuration keys.
        configured: whether there is a column for every dotted configuration key.
        after: its columns after them.
    """

    name: str
    row: str
    key: tuple[str, ...]
    before: tuple[Field, ...]
    configured: bool = False
    after: tuple[Field, ...] = ()

    def columns(self, config_keys: Sequence[str]) -> list[str]:
        """The names of its columns in order, for a study with these configuration keys."""
        keys = config_keys if self.configured else ()
        return [*(field.name for field in self.before), *keys, *(field.name for field in self.after)]


def _fields(columns: Iterable[Column]) -> tuple[Field, ...]:
    return tuple(Field(column.name, column.type, column.unit, column.meaning, column.direction) for column in columns)


def _side(role: Literal["baseline", "treatment"]) -> tuple[Field, ...]:
    columns = [BY_NAME[name] for name in MEASURED]
    return tuple(
        Field(f"{role}/{column.name}", "float", column.unit, f"{column.meaning}; of the {role}", column.direction)
        for column in columns
    )


PAIR_COLUMNS = (
    Field("outcome", "str", "", "`measured`, or the side that lost and why, such as `treatment diverged`"),
    Field("baseline_learned", "bool", "", f"whether the baseline's test accuracy is at least {LEARNED} times chance"),
    *_side("baseline"),
    *_side("treatment"),
    *(
        Field(
            f"gap/{name}", "float", BY_NAME[name].unit, f"{BY_NAME[name].meaning}; how much better the treatment is", 1
        )
        for name in METRICS
    ),
)
"""The columns of the table ``pairs`` after the configuration keys."""

SCHEMA = (
    Table("trials", "trial (a comparison, finished or not)", ("trial_id",), _fields(TRIAL_COLUMNS), configured=True),
    Table("epochs", "trial, arm and epoch", ("trial_id", "arm", "epoch"), _fields(COLUMNS)),
    Table("steps", "trial, arm, epoch and update", ("trial_id", "arm", "epoch", "step"), _fields(STEP_COLUMNS)),
    Table(
        "pairs",
        "comparison that can be judged at its last epoch",
        ("trial_id",),
        _fields(column for column in TRIAL_COLUMNS if column.name in ("trial_id", "number", "configuration")),
        configured=True,
        after=PAIR_COLUMNS,
    ),
    Table("columns", "column of `trials`, `epochs` and `steps`", ("table", "name"), _fields(DECLARATIONS)),
)

HEAD = """\
# Tables

<!-- Made by `python -m analysis.schema`; a test keeps it true. -->

`filter-study export DIR` writes these tables of a study, of a running one too, as Parquet or CSV files.
`analysis.load.load` reads `trials`, `epochs`, `steps` and `columns` back; `pairs` follows from them.

| table | a row for each | key | |
|---|---|---|---|
"""

NOTES = {
    "trials": "every comparison of the study, whatever became of it, in order of `number`",
    "epochs": "what every arm had reached after every epoch, epoch 0 (before training) included",
    "steps": "what every update took; there with `trace: true` only",
    "pairs": "baseline and treatment side by side, less the repetitions of a configuration, seed and all, and the "
    "comparisons that both arms lost",
    "columns": "what every column means, those of the study's own metrics among them",
}

FORMATS = """
| type | Parquet | CSV |
|---|---|---|
| text | `large_string` | as it is, UTF-8; in double quotes where it has commas, quotes or line breaks |
| whole number | `int64` | digits |
| number | `double` | decimal point, as many digits as it takes to read the same number; `inf` where infinite |
| yes or no | `bool` | `True` or `False` |

What is missing is null in Parquet and empty in CSV. That includes every measured value that is not a number, as of an
arm that diverged, and whatever a version or source did not record. Columns that always have a value say "never" under
"missing". *Better* says which values are better; where it is empty, neither are.

**Configuration keys.** `trials` and `pairs` have a column for every dotted key of an experiment file that any trial
sets, such as `optimizer.lr`, `model.name` or `arms.filtered.filter.name`; [the guide](guide.md) describes them. A
column's type is the first of yes or no, whole number, number and text that all its values are; lists are text in JSON;
a key that a trial does not set is missing. `baseline` and `treatment` are among them and name arms of `epochs`. Where
several studies are exported as one, a further column `study` names the study of each trial.

**Metrics of one's own.** A study whose experiment has [`metrics`](extending.md) has further columns: in `epochs`
`train_`*M*, `validation_`*M* and `test_`*M*, in `pairs` those of both sides and their gaps. The table `columns` says
what they are; without it beside `epochs` they are left out. Tables of earlier versions have none.

**Reading tables back.** `gaps`, `report`, `export` and `published` read a study directory, a folder of tables or one
table by name. The file that is named is the one that is read, whatever lies beside it; the others come from files of
the same form in its folder. Rows that were taken out of `trials` are taken out of the study. Of a folder with both
forms, Parquet is read.

CSV is also understood as spreadsheets and statistics programs save it: with a byte order mark in UTF-8 or UTF-16;
separated by commas, semicolons or tabs, whichever separates `trial_id` from its neighbours in the head; everything in
quotes; lines that end in CR LF; `TRUE` and `FALSE` in any case. Where semicolons or tabs separate, numbers may have
decimal commas, all of them: a file with decimal commas and points is refused. `NaN`, `NA`, `N/A` and `null` among
numbers are missing values. Thousands separators, dates and ids that a spreadsheet has changed are not mended; rows
that they spoil are left out and named.
"""


def markdown() -> str:
    """The page that documents all tables: ``docs/tables.md``."""
    tables = "".join(
        f"| `{table.name}` | {table.row} | {_names(table.key)} | {NOTES[table.name]} |\n" for table in SCHEMA
    )
    parts = [HEAD + tables + FORMATS]
    for table in SCHEMA:
        place = "\nThe configuration keys follow.\n" if table.configured else ""
        parts.append(f"\n## {table.name}\n\n{_listed(table.before)}{place}")
        if table.name == "trials":
            parts.append("\n| `status` | |\n|---|---|\n" + "".join(f"| `{k}` | {v} |\n" for k, v in STATUSES.items()))
        if table.after:
            parts.append(_pairs())
    return "".join(parts)


def _pairs() -> str:
    """The columns of ``pairs`` after the configuration keys, those of each metric in one line."""
    clocks = ", ".join(f"`{column}` ({word})" for word, column in CLOCKS.items())
    measured = tuple(replace(field, type="float") for field in _fields(COLUMNS) if field.name in MEASURED)
    return f"""
{_listed(PAIR_COLUMNS[:2])}
A comparison has an outcome other than `measured` where the baseline or the treatment `diverged`, ran `out of memory`,
or is `without updates`: it made fewer updates than epochs, and its test accuracy is below {LEARNED} times chance. That
side has lost. Then `gap/`*M* is `-inf` (the treatment lost) or `inf` for accuracies and losses, and missing for what
training cost. A side that diverged or ran out of memory has no values; the other has those of its last epoch.

For every *M* of the list below, `baseline/`*M* and `treatment/`*M* hold what the two arms reached at the last epoch.
Where the list says what is better, `gap/`*M* is `treatment/`*M* − `baseline/`*M* if larger is better and the opposite
if smaller is: **a positive gap always means that the treatment is better**. All have the unit of *M*. They stand in the
order of the list, first all of `baseline/`, then `treatment/`, then `gap/`. The clocks are among them: {clocks}.

{_listed(measured)}"""


def _listed(fields: Iterable[Field]) -> str:
    lines = [
        f"| `{f.name}` | {TYPES[f.type]} | {f.unit} | {BETTER[f.direction]} | {f.meaning} | {f.missing} |\n"
        for f in fields
    ]
    return "| column | type | unit | better | meaning | missing |\n|---|---|---|---|---|---|\n" + "".join(lines)


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    print(markdown(), end="")
