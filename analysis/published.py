"""The published figures of the thesis as studies, to be mined like our own.

Each published row is one run, whose seed is not printed. ``docs/published.md`` says what is known of the figures, and
what they show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.load import DTYPES, Study
from analysis.pairs import pair
from trainables.records import COLUMNS, TRIAL_COLUMNS, Column

FOLDER = Path(__file__).parent / "thesis"
APPENDIX = "appendix_ii.csv"
TABLES = "tables_4_4_to_4_9.csv"

DAMAGED: Mapping[int, str] = {
    134: "the accuracies stand in place of mean and worst loss",
    139: "the accuracies stand in place of mean and worst loss",
}
"""Rows of Appendix II whose figures cannot be right, and why."""

SETTINGS: Mapping[str, tuple[str, str]] = {
    "dataset": ("dataset.name", "str"),
    "model": ("model.name", "str"),
    "batch_size": ("batch_size", "int"),
    "optimizer": ("optimizer.name", "str"),
    "lr_scheduler": ("schedule.name", "str"),
    "epochs": ("epochs", "int"),
    "lr": ("optimizer.lr", "float"),
    "momentum": ("optimizer.momentum", "float"),
    "weight_decay": ("optimizer.weight_decay", "float"),
    "gamma": ("schedule.gamma", "float"),
    "milestone": ("schedule.every", "int"),
    "augmentation": ("augmentation", "str"),
}
"""Columns of Appendix II, our names of them, and their types."""

FLAG = "unlabelled_flag"
ARMS: Mapping[tuple[str, str], str] = {
    ("false", "false"): "archetype",
    ("true", "false"): "batchwise",
    ("false", "true"): "epochwise",
    ("true", "true"): "epoch+batch",
}
"""What an arm is called, by whether it filters batches and epochs."""

GRANULARITY = {"archetype": "none", "batchwise": "batch", "epochwise": "epoch", "epoch+batch": "epoch+batch"}
FIGURES = tuple(
    f"{split}_{name}" for name in ("accuracy", "mean_loss", "q90_loss", "worst_loss") for split in ("train", "test")
)
"""The metrics that are printed."""

UNCERTAIN = (
    "every row is one run; its seed is not printed",
    "learning rates and weight decays are rounded to three decimals: a weight decay of 0.001 is 0.0005 (Table 4.1), a "
    "learning rate of 0 is one below 0.0005",
    "the header of Appendix II is lost; which column is which was found by Tables 4.4 to 4.9, and the meaning of the "
    "column unlabelled_flag was not",
    "some configurations stand there more than once with very different figures, so that a setting that matters is not "
    "printed",
    "augmentation is printed as a flag, without its strength",
)
SOURCE = (
    "a master's thesis on strategic data sampling by accuracy, NTNU, Department of Computer Science, 2020-2021; "
    "its title page is not in the text that the figures are from"
)


def thesis() -> Study:
    """Appendix II: a comparison per configuration, an epoch row per published row, at the last epoch.

    Arms are archetype (the baseline), batchwise (the treatment), epochwise and epoch+batch. A configuration that is
    printed more than once has several rows of an arm, and :func:`analysis.pairs.pair` leaves it out. Damaged rows are
    left out here.
    """
    rows = _appendix()
    rows = rows[~rows["row"].isin(DAMAGED)]
    damage = tuple(f"{APPENDIX}, row {row}: {why}; left out" for row, why in DAMAGED.items())
    keys = [*(key for key, _ in SETTINGS.values()), FLAG]
    first = rows.groupby(keys, dropna=False, sort=False)["row"].transform("first")
    return _study("thesis-appendix-ii", rows, "row" + first.astype("string"), keys, "Appendix II", damage)


def tables() -> Study:
    """Tables 4.4 to 4.9: a comparison per table, model and batch size.

    Each of their rows stands in Appendix II with the same eight figures, whence schedule, epochs and the like, and the
    batch size where a table does not say it. Here the thesis itself has put the two sides together, also of
    configurations that Appendix II prints more than once.
    """
    printed = pd.read_csv(FOLDER / TABLES, dtype="string").rename(columns={"filtering": "arm"})
    printed["dataset.name"] = printed["dataset"].str.lower()
    printed["arm"] = printed["arm"].replace("none", "archetype")
    printed[list(FIGURES)] = printed[list(FIGURES)].astype("float64")
    printed = printed.rename(columns={"model": "model.name"})
    on = ["dataset.name", "model.name", "arm", *FIGURES]
    rows = printed[["table", *on]].merge(_appendix(), on=on, validate="one_to_one")
    names = "table" + rows["table"] + "-" + rows["model.name"] + "-" + rows["batch_size"].astype("string")
    keys = ["table", *(key for key, _ in SETTINGS.values())]
    return _study("thesis-tables", rows, names, keys, "Tables 4.4 to 4.9", ())


def claims() -> pd.DataFrame:
    """The frame of :func:`analysis.pairs.pair` for published comparisons with one row of each side, each once.

    Those are the configurations of Appendix II with one archetype and one batchwise row, and the comparisons of Tables
    4.4 to 4.9 that are not among these. ``trial_id`` says where they stand.
    """
    appendix, table = pair(thesis()).frame, pair(tables()).frame
    table["trial_id"] = "Table " + table["table"]
    appendix["trial_id"] = appendix["trial_id"].str.replace("row", "row ")
    keys = [key for key, _ in SETTINGS.values()]
    return pd.concat([appendix, table], ignore_index=True).drop_duplicates(keys, ignore_index=True)


def _appendix() -> pd.DataFrame:
    """The rows of Appendix II: ``row``, ``arm``, our names of the settings, the flag, and the figures."""
    printed = pd.read_csv(FOLDER / APPENDIX, dtype="string")
    filters = zip(printed["batch_filtering"], printed["epoch_filtering"], strict=True)
    rows: dict[str, Any] = {"row": printed["row"].astype("int64")}
    rows["arm"] = pd.Series([ARMS[flags] for flags in filters], dtype="string")
    for column, (key, type) in SETTINGS.items():
        rows[key] = printed[column].astype(DTYPES[type])
    rows["dataset.name"] = rows["dataset.name"].str.lower()
    rows["augmentation"] = rows["augmentation"].map({"true": "on", "false": "none"}).astype("string")
    rows["optimizer.momentum"] = rows["optimizer.momentum"].where(rows["optimizer.name"] == "SGD")  # footnote 5
    rows[FLAG] = (printed[FLAG] == "true").astype("boolean")
    return pd.DataFrame(rows | {name: printed[name].astype("float64") for name in FIGURES})


def _study(
    name: str, rows: pd.DataFrame, trial_ids: pd.Series[Any], keys: Sequence[str], part: str, damage: tuple[str, ...]
) -> Study:
    rows = rows.assign(trial_id=trial_ids.astype("string")).reset_index(drop=True)
    first = rows.drop_duplicates("trial_id").reset_index(drop=True)
    constant = {f"arms.{arm}.granularity": value for arm, value in GRANULARITY.items() if arm in set(rows["arm"])}
    constant |= {"baseline": "archetype", "treatment": "batchwise", "status": "finished"}
    trials = first[["trial_id", *keys]].assign(number=first.index, configuration=first["trial_id"], **constant)
    given = trials[[*keys, *(key for key in constant if key != "status")]].dropna(axis="columns", how="all")
    trials = _declared(trials, TRIAL_COLUMNS).join(given)
    epochs = _declared(rows.assign(epoch=rows["epochs"]), COLUMNS)
    return Study(
        name=name,
        trials=trials.astype(dict.fromkeys(constant, "string")),
        epochs=epochs.sort_values(["trial_id", "epoch", "arm"], ignore_index=True, kind="stable"),
        manifest={"name": name, "source": SOURCE, "part": part, "uncertain": list(UNCERTAIN)},
        experiment="",
        path=FOLDER,
        damage=damage,
    )


def _declared(frame: pd.DataFrame, columns: Sequence[Column]) -> pd.DataFrame:
    """The declared columns with their types; missing values in those that the frame lacks."""
    types = {column.name: DTYPES[column.type] for column in columns}
    return frame.reindex(columns=list(types)).astype(types)
