"""Small studies with numbers that can be worked out by hand, written as the recorder writes them."""

import json
import sqlite3
from contextlib import closing

import pytest

from analysis.load import load
from trainables.records import COLUMNS, FORMAT, TRIAL_COLUMNS

TYPES = {"int": "INTEGER", "float": "REAL", "str": "TEXT"}
CONFIG = {
    "dataset.name": "mnist5k",
    "model.name": "FCNet100",
    "optimizer.name": "SGD",
    "optimizer.lr": 0.1,
    "batch_size": 64,
    "seed": 0,
    "arms.archetype.granularity": "none",
    "arms.filtered.granularity": "batch",
    "arms.filtered.raw_batch_size": None,
    "baseline": "archetype",
    "treatment": "filtered",
}
SIDES = ("archetype", "filtered")
STEPS = {"archetype": 10}
"""Steps of an epoch; arms that are not named take 5."""


def make_trial(number, accuracies, *, status="finished", config=None, error=None, changes=None, configuration=None):
    """A trial whose arms have these test accuracies from epoch 0 on.

    Validation accuracy is the same, training accuracy 0.02 more, every loss 1 minus the accuracy (twice that on train).
    An epoch takes 10 steps of the archetype and 5 of every other arm, and 2 s. ``changes`` maps (arm, epoch) to columns
    that differ.
    """
    trial_id = f"trial{number}"
    epochs = []
    for arm, values in accuracies.items():
        for epoch, accuracy in enumerate(values):
            steps = STEPS.get(arm, 5) * epoch
            row = {"trial_id": trial_id, "arm": arm, "epoch": epoch}
            row |= {"cumulative_steps": steps, "cumulative_seconds": 2.0 * epoch}
            row |= {"cumulative_samples_trained": 64 * steps, "cumulative_compute": 3.0 * 64 * steps}
            for split in ("train", "validation", "test"):
                row[f"{split}_accuracy"] = accuracy + 0.02 * (split == "train")
                for name in ("mean", "q90", "worst"):
                    row[f"{split}_{name}_loss"] = (1 - accuracy) * (2 if split == "train" else 1)
            epochs.append(row | (changes or {}).get((arm, epoch), {}))
    due = max(map(len, accuracies.values()), default=1) - 1
    whole = {**CONFIG, "epochs": due if status == "finished" else max(due, 10), "seed": number, **(config or {})}
    row = {"trial_id": trial_id, "number": number, "configuration": configuration, "status": status, "error": error}
    row |= {"started": 100.0 * number, "ended": 100.0 * number + 60, "objective": None}
    return {"row": {**row, "config": json.dumps(whole)}, "epochs": epochs}


def write_database(folder, trials):
    """A study directory with these trials; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(folder / "study.sqlite")) as connection, connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA user_version={FORMAT}")
        columns = [f"{c.name} {TYPES[c.type]}" for c in TRIAL_COLUMNS]
        connection.execute(f"CREATE TABLE trials ({', '.join(columns)}, config TEXT, PRIMARY KEY (trial_id))")
        columns = [f"{c.name} {TYPES[c.type]}" for c in COLUMNS]
        connection.execute(f"CREATE TABLE epochs ({', '.join(columns)}, PRIMARY KEY (trial_id, arm, epoch))")
        for trial in trials:
            insert(connection, "trials", trial["row"])
            for row in trial["epochs"]:
                insert(connection, "epochs", row)
    return folder


def insert(connection, table, row):
    marks = ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))


@pytest.fixture(scope="session")
def trial():
    return make_trial


@pytest.fixture(scope="session")
def database():
    return write_database


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """Load the study of some trials."""

    def make(*trials):
        return load(write_database(tmp_path_factory.mktemp("study"), trials))

    return make


@pytest.fixture(scope="session")
def mixed(trial, study):
    """Three finished comparisons (gaps +0.1, −0.05, 0 in test accuracy) and one trial of every other kind."""
    return study(
        trial(0, {"archetype": [0.1, 0.6, 0.8], "filtered": [0.1, 0.7, 0.9]}),
        trial(1, {"archetype": [0.1, 0.6, 0.85], "filtered": [0.1, 0.5, 0.8]}, config={"optimizer.lr": 0.2}),
        trial(2, {"archetype": [0.1, 0.1, 0.1], "filtered": [0.1, 0.1, 0.1]}, config={"optimizer.lr": 0.2}),
        trial(3, {"archetype": [0.1, 0.5], "filtered": [0.1, 0.3]}, status="stopped"),
        trial(
            4,
            {"archetype": [0.1, 0.5], "filtered": [0.1, 0.3]},
            status="diverged",
            error="archetype, filtered diverged",
            changes={(arm, 1): {"train_mean_loss": None} for arm in ("archetype", "filtered")},
        ),
        trial(5, {}, status="failed", error="RuntimeError: <script>alert(1)</script>"),
        trial(6, {"archetype": [0.1], "filtered": [0.1]}, status="running"),
        trial(7, {"archetype": [0.1], "filtered": [0.1]}, status="interrupted"),
        trial(8, {"archetype": [0.1, 0.6, 0.8]}),
    )


OPTUNA = "search:\n  name: optuna\n  trials: 4\n"
RATES = {"aaaaaaaa": 0.1, "bbbbbbbb": 0.2}


def sides(gap):
    """Arms that end 0.5 and 0.5 + ``gap``, in every accuracy."""
    return {"archetype": [0.1, 0.5], "filtered": [0.1, 0.5 + gap]}


def searched(folder, name):
    """``folder``, a search of Optuna's by this name."""
    (folder / "manifest.json").write_text(json.dumps({"name": name}))
    (folder / "experiment.yaml").write_text(OPTUNA)
    return folder


@pytest.fixture
def search(trial, database, tmp_path):
    """The folder of a search whose best gaps are +20 pp at rate 0.1 and +10 pp at 0.2; its other two are losses."""
    found = [(0.2, "aaaaaaaa", 0.1), (0.1, "bbbbbbbb", 0.2), (-0.1, "cccccccc", 0.3), (-0.2, "dddddddd", 0.4)]
    trials = [
        trial(number, sides(gap), config={"optimizer.lr": rate, "seed": 0}, configuration=name)
        for number, (gap, name, rate) in enumerate(found)
    ]
    return searched(database(tmp_path / "search", trials), "quick")


@pytest.fixture
def confirm(trial, database, search):
    """Add a confirmation of the first two configurations with these gaps on fresh seeds; its folder."""

    def make(name="top-2", created="2026-01-01", metric="gap/validation_accuracy", **gaps):
        runs = [(key, gap) for key, values in gaps.items() for gap in values]
        trials = [
            trial(
                number,
                sides(gap),
                config={"optimizer.lr": RATES[key], "seed": 100 + number},
                configuration=key,
                changes={("filtered", 1): {"test_accuracy": 0.5 + 0.8 * gap}},
            )
            for number, (key, gap) in enumerate(runs)
        ]
        folder = database(search / "confirmations" / name, trials)
        origins = {
            "aaaaaaaa": {"searched": 0.2, "trials": ["trial0"]},
            "bbbbbbbb": {"searched": 0.1, "trials": ["trial1"]},
        }
        confirms = {"study": "quick", "configurations": {key: origins[key] for key in gaps}, "metric": metric}
        (folder / "manifest.json").write_text(json.dumps({"name": name, "created": created, "confirms": confirms}))
        return folder

    return make


UNTUNED = {"aaaaaaaa": (0.5, 0.88), "bbbbbbbb": (0.9, 0.89), "cccccccc": (0.85, 0.895), "dddddddd": (0.3, 0.2)}
"""What the arms of a search reach whose best gap, +38 pp, is had over a baseline 40 pp below the best one."""


@pytest.fixture
def untuned(trial, database, tmp_path):
    """The folder of the search UNTUNED: another configuration is best for each arm, and tuned the gap is −0.5 pp."""
    trials = [
        trial(
            number,
            {"archetype": [0.1, baseline], "filtered": [0.1, treatment]},
            config={"optimizer.lr": (number + 1) / 10, "seed": 0},
            configuration=name,
        )
        for number, (name, (baseline, treatment)) in enumerate(UNTUNED.items())
    ]
    return searched(database(tmp_path / "untuned", trials), "untuned")


@pytest.fixture
def confirm_arms(trial, database, untuned):
    """Add a confirmation of UNTUNED with what both arms of a configuration reach on fresh seeds; its folder.

    None in place of an arm's accuracy: it diverged; in place of both: the comparison failed.
    """

    def make(roles, metric="gap/validation_accuracy", name="top", **ends):
        names = list(UNTUNED)
        runs = [(key, seed, arms) for key, of in ends.items() for seed, arms in enumerate(of)]
        trials = [
            trial(
                number,
                {arm: [0.1, end or 0.1] for arm, end in zip(SIDES, arms or (), strict=False)},
                config={"optimizer.lr": (names.index(key) + 1) / 10, "seed": 100 + seed, "epochs": 1},
                configuration=key,
                status=("diverged" if None in arms else "finished") if arms else "failed",
                changes={
                    (arm, 1): {"train_mean_loss": None} if end is None else {"test_accuracy": 2 * end - 1}
                    for arm, end in zip(SIDES, arms or (), strict=False)
                },
            )
            for number, (key, seed, arms) in enumerate(runs)
        ]
        folder = database(untuned / "confirmations" / name, trials)
        origins = {
            key: {"searched": UNTUNED[key][1] - UNTUNED[key][0], "trials": [f"trial{names.index(key)}"]} for key in ends
        }
        for key, of in roles.items():
            origins[key]["roles"] = of
        confirms = {"study": "untuned", "configurations": origins, "metric": metric}
        (folder / "manifest.json").write_text(json.dumps({"name": name, "confirms": confirms}))
        return folder

    return make
