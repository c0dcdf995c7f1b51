import pandas as pd
import pytest

from analysis.database import TableError
from analysis.export import export
from analysis.gaps import summarize
from analysis.load import load
from analysis.pairs import pair
from analysis.sources import combine, narrow, read
from trainables.records import out_of_memory

GOOD = {"archetype": [0.1, 0.6], "filtered": [0.1, 0.7]}
BAD = {"archetype": [0.1, 0.6], "filtered": [0.1, 0.5]}


@pytest.fixture
def two(trial, database, tmp_path):
    """Two study directories: one comparison won at lr 0.1, one lost at lr 0.2; their trials share ids and numbers."""
    return [
        str(database(tmp_path / "one", [trial(0, GOOD)])),
        str(database(tmp_path / "two", [trial(0, BAD, config={"optimizer.lr": 0.2, "optimizer.name": "Adam"})])),
    ]


def test_one_source_is_that_study(two):
    assert read(two[:1]).name == "one"
    assert "study" not in read(two[:1]).trials
    assert read([two[0], two[0]]).trials["trial_id"].tolist() == ["trial0"]


def test_several_studies_are_one_and_every_trial_says_whose_it_is(two):
    study = read(two)
    assert study.name == "one and two"
    assert study.trials["study"].tolist() == ["one", "two"]
    assert study.trials["number"].tolist() == [0, 1]
    assert study.trials["trial_id"].tolist() == ["one.trial0", "two.trial0"]
    assert len(study.epochs) == 8
    assert list(study.manifest["studies"]) == ["one", "two"]
    frame = pair(study).frame
    assert frame["gap/test_accuracy"].tolist() == pytest.approx([0.1, -0.1])
    groups = summarize(frame, ["test_accuracy"], ["study"])
    assert groups["study"].tolist() == ["one", "two"]
    assert groups["wins"].tolist() == [1, 0]


def test_a_comparison_that_stands_in_two_studies_counts_once(trial, database, tmp_path):
    folders = [str(database(tmp_path / name, [trial(0, GOOD)])) for name in ("one", "two")]
    pairs = pair(read(folders))
    assert len(pairs.frame) == 1
    assert pairs.dropped == {"repeated another comparison, seed and all": 1}


def test_studies_of_one_name_are_told_apart_by_their_folders(two, tmp_path):
    for folder in two:
        (tmp_path / folder / "manifest.json").write_text('{"name": "quickstart"}')
    assert read(two).trials["study"].tolist() == [f"quickstart ({folder})" for folder in two]


def test_what_is_damaged_names_its_study(two, tmp_path):
    (tmp_path / "two" / "manifest.json").write_text("[")
    assert read(two).damage == ("two: manifest.json: is not a JSON object; left out",)


def test_a_table_stands_for_its_study_and_pairs_for_themselves(trial, database, tmp_path):
    diverged = {"status": "diverged", "changes": {("filtered", 1): {"train_mean_loss": None}}}
    trials = [trial(0, GOOD), trial(1, BAD, config={"optimizer.lr": 0.2}), trial(2, BAD, **diverged)]
    trials.append(trial(3, {}, status="failed", error=out_of_memory("archetype")))
    whole = load(database(tmp_path / "one", trials))
    assert pair(whole).frame["outcome"].tolist()[2:] == ["treatment diverged", "baseline out of memory"]
    for format in ("parquet", "csv"):
        folder = tmp_path / format
        assert [file.name for file in export(whole, folder, format)] == [
            f"{name}.{format}" for name in ("trials", "epochs", "pairs", "columns")
        ]
        pd.testing.assert_frame_equal(read([str(folder / f"epochs.{format}")]).epochs, load(folder).epochs)
        pairs, alone = pair(whole).frame, pair(read([str(folder / f"pairs.{format}")])).frame
        same = [name for name in pairs if name in alone]
        pd.testing.assert_frame_equal(pairs[same], alone[same])
        assert pairs.drop(columns=same).isna().all(axis=None)  # a key that has no value is no column


def test_pairs_that_lack_a_column_are_refused(two, tmp_path):
    export(read(two[:1]), tmp_path / "out", "csv")
    table = pd.read_csv(tmp_path / "out" / "pairs.csv").drop(columns=["treatment", "epochs"])
    table.to_csv(tmp_path / "pairs.csv", index=False)
    with pytest.raises(TableError, match="lacks the columns epochs, treatment"):
        read([str(tmp_path / "pairs.csv")])


def test_all_sources_that_cannot_be_read_are_named_at_once(two, tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(TableError) as error:
        read([*two, "nowhere", str(tmp_path / "notes.txt"), "published:paper"])
    lines = str(error.value).splitlines()
    assert lines[0] == "nowhere is not there; give a study directory, an export folder or one of its tables"
    assert "notes.txt is no table of a study" in lines[1]
    assert lines[2] == "published:paper is not published here; known are published:thesis, published:tables"


def test_only_trials_that_match_a_condition_are_kept(two):
    study = read(two, 'optimizer.name == "adam"')
    assert study.trials["study"].tolist() == ["two"]
    assert study.epochs["trial_id"].unique().tolist() == ["two.trial0"]
    assert narrow(study, "optimizer.lr < 1").trials.equals(study.trials)
    with pytest.raises(TableError, match=r"no trial matches --where optimizer.lr > 1; without it there are 2"):
        read(two, "optimizer.lr > 1")


@pytest.mark.parametrize("name", ["published:thesis", "published:tables"])
def test_published_figures_are_read_beside_a_study(two, name):
    study = read([two[0], name])
    assert study.trials["study"].nunique() == 2
    frame = pair(combine([read(two), read([name])])).frame
    assert {"filtered", "batchwise"} <= set(frame["treatment"])
