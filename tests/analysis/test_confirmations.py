import json
import math
import shutil
from dataclasses import replace

import pytest

from analysis.confirmations import (
    chosen_by,
    claims,
    confirmations,
    confirmed,
    is_confirmation,
    searched_in,
    unconfirmed,
)
from analysis.load import load

OPTUNA = "search:\n  name: optuna\n  trials: 4\n"
RATES = {"aaaaaaaa": 0.1, "bbbbbbbb": 0.2}


def sides(gap):
    """Arms that end 0.5 and 0.5 + ``gap``, in every accuracy."""
    return {"archetype": [0.1, 0.5], "filtered": [0.1, 0.5 + gap]}


@pytest.fixture
def search(trial, database, tmp_path):
    """The folder of a search whose best gaps are +20 pp at rate 0.1 and +10 pp at 0.2; its other two are losses."""
    found = [(0.2, "aaaaaaaa", 0.1), (0.1, "bbbbbbbb", 0.2), (-0.1, "cccccccc", 0.3), (-0.2, "dddddddd", 0.4)]
    trials = [
        trial(number, sides(gap), config={"optimizer.lr": rate, "seed": 0}, configuration=name)
        for number, (gap, name, rate) in enumerate(found)
    ]
    folder = database(tmp_path / "search", trials)
    (folder / "manifest.json").write_text('{"name": "quick"}')
    (folder / "experiment.yaml").write_text(OPTUNA)
    return folder


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


HELD = (0.0, 0.05, 0.1)
LOST = (-0.1, 0.0, 0.1)
T2 = 4.302653
"""Student's t of 2 degrees of freedom."""


def test_searched_and_confirmed_gaps(search, confirm):
    confirm(aaaaaaaa=HELD, bbbbbbbb=LOST)
    (confirmation,) = confirmations(search)
    frame = confirmed(load(search), confirmation, "validation_accuracy")
    assert list(frame) == [
        *("configuration", "optimizer.lr", "searched", "seeds", "mean", "low", "high", "excludes_zero"),
    ]
    assert frame["configuration"].tolist() == ["aaaaaaaa", "bbbbbbbb"]
    assert frame["optimizer.lr"].tolist() == [0.1, 0.2]
    assert frame["searched"].tolist() == pytest.approx([0.2, 0.1])
    assert frame["seeds"].tolist() == [3, 3]
    assert frame["mean"].tolist() == pytest.approx([0.05, 0])
    half = T2 * 0.05 / math.sqrt(3)
    assert frame["high"].tolist() == pytest.approx([0.05 + half, 2 * half], abs=1e-6)
    assert frame["excludes_zero"].tolist() == [False, False]


@pytest.mark.parametrize(("gaps", "excludes"), [((0.1, 0.11, 0.12), True), ((-0.1, -0.11, -0.12), True), (HELD, False)])
def test_an_interval_leaves_out_zero_on_either_side(search, confirm, gaps, excludes):
    frame = confirmed(load(search), load(confirm(aaaaaaaa=gaps)), "validation_accuracy")
    assert frame["excludes_zero"].tolist() == [excludes]


def test_another_metric_than_the_searched_one_comes_from_the_tables(search, confirm):
    confirmation = load(confirm(aaaaaaaa=HELD))
    row = confirmed(load(search), confirmation, "test_accuracy").iloc[0]
    assert (row["searched"], row["mean"]) == pytest.approx((0.2, 0.04))
    assert math.isnan(confirmed(None, confirmation, "test_accuracy").iloc[0]["searched"])
    assert confirmed(None, confirmation, "validation_accuracy").iloc[0]["searched"] == 0.2


def test_a_searched_gap_is_of_all_its_comparisons_and_stopped_ones_too(trial, database, tmp_path, search, confirm):
    runs = [
        trial(0, sides(0.2), config={"optimizer.lr": 0.1}, configuration="aaaaaaaa"),
        trial(1, sides(0.1), config={"optimizer.lr": 0.1}, configuration="aaaaaaaa", status="stopped"),
    ]
    both = load(database(tmp_path / "both", runs))
    confirmation = load(confirm(aaaaaaaa=HELD))
    confirmation.manifest["confirms"]["configurations"]["aaaaaaaa"]["trials"] = ["trial0", "trial1", "gone"]
    row = confirmed(both, confirmation, "validation_accuracy").iloc[0]
    assert row["searched"] == pytest.approx(0.15)


def test_the_claim_quotes_what_was_confirmed_and_how_much_was_lost(search, confirm):
    confirm(aaaaaaaa=HELD, bbbbbbbb=(0.2, 0.21, 0.22))
    said = claims(load(search), confirmations(search), "test_accuracy")
    assert said == [
        "Confirmed on 3 fresh seeds: the search's best configuration (optimizer.lr 0.1) has a mean gap of +5.00 pp in "
        "validation accuracy (95% interval from −7.42 pp to +17.42 pp, which includes 0); the search had found "
        "+20.00 pp, 75% of which did not hold.",
        "Beside it stands a mean gap of +4.00 pp in test accuracy (95% interval from −5.94 pp to +13.94 pp, which "
        "includes 0); the search had found +20.00 pp, 80% of which did not hold.",
        "Of 2 configurations with results, the whole interval lies above 0 for 1 and below 0 for 0 (validation "
        "accuracy, each taken alone).",
    ]
    assert unconfirmed(load(search)) != []  # which the caller says only where nothing is claimed


@pytest.mark.parametrize(
    ("gaps", "words"),
    [
        (
            (-0.1, -0.1, -0.1),
            "a mean gap of −10.00 pp in validation accuracy (95% interval from −10.00 pp to −10.00 pp, ",
        ),
        ((-0.1, -0.1, -0.1), "which leaves out 0); the search had found +20.00 pp, all of which did not hold."),
        ((0.2, 0.25, 0.3), "the search had found +20.00 pp, which held."),
        ((0.05, 0.15), "+10.00 pp in validation accuracy (too few seeds for an interval); the search had found"),
    ],
)
def test_the_claim_says_no_more_than_the_seeds(search, confirm, gaps, words):
    confirm(aaaaaaaa=gaps)
    assert words in claims(load(search), confirmations(search), "validation_accuracy")[0]


def test_a_configuration_without_results_is_not_quoted(search, confirm):
    confirm(aaaaaaaa=(), bbbbbbbb=HELD)
    said = claims(load(search), confirmations(search), "validation_accuracy")
    assert len(said) == 1
    assert said[0].startswith("Confirmed on 3 fresh seeds: configuration (optimizer.lr 0.2) has a mean gap of +5.00 pp")


def test_the_newest_confirmation_with_results_speaks(search, confirm):
    confirm("a-late-one", "2026-03-01", aaaaaaaa=(0.1, 0.1, 0.1))
    confirm("b-early-one", "2026-01-01", aaaaaaaa=HELD)
    confirm("c-later-one", "2026-04-01", aaaaaaaa=())
    found = confirmations(search)
    assert [study.name for study in found] == ["b-early-one", "a-late-one", "c-later-one"]
    assert "a mean gap of +10.00 pp" in claims(load(search), found, "validation_accuracy")[0]


def test_a_confirmation_speaks_for_itself(search, confirm, tmp_path):
    folder = confirm(aaaaaaaa=HELD)
    study = load(folder)
    assert is_confirmation(study)
    assert not is_confirmation(load(search))
    assert searched_in(study).name == "quick"
    said = claims(study, [], "validation_accuracy")
    assert "the search's best configuration (optimizer.lr 0.1)" in said[0]
    assert said[1] == "This study confirms 1 configuration of quick on fresh seeds."
    alone = load(shutil.copytree(folder, tmp_path / "alone"))
    assert searched_in(alone) is None
    said = claims(alone, [], "validation_accuracy")
    assert "the search's best configuration (aaaaaaaa) has a mean gap of +5.00 pp" in said[0]
    assert "the search had found +20.00 pp" in said[0]


def test_a_confirmation_that_cannot_be_read_says_why(search, confirm):
    confirm(aaaaaaaa=HELD)
    (search / "confirmations" / "zzz").mkdir()
    (search / "confirmations" / "zzz" / "study.sqlite").write_text("no database")
    (search / "confirmations" / "notes.txt").write_text("not a folder")
    found = confirmations(search)
    assert sorted(study.name for study in found) == ["top-2", "zzz"]
    (damaged,) = [study for study in found if study.damage]
    assert "zzz/study.sqlite cannot be read" in damaged.damage[0]
    assert len(claims(load(search), found, "validation_accuracy")) == 1


def test_without_a_confirmation_nothing_is_claimed(search):
    assert confirmations(search) == []
    assert claims(load(search), [], "test_accuracy") == []


@pytest.mark.parametrize("confirms", [3, [], {}, {"configurations": 3}, {"configurations": {"a": 3}}])
def test_a_damaged_manifest_confirms_nothing(search, confirms):
    study = replace(load(search), manifest={"confirms": confirms})
    assert not is_confirmation(study)
    assert confirmed(None, study, "test_accuracy").empty
    assert claims(load(search), [study], "test_accuracy") == []
    assert chosen_by(study, "test_accuracy") == "test_accuracy"


@pytest.mark.parametrize(
    ("metric", "chosen"),
    [
        ("gap/test_worst_loss", "test_worst_loss"),
        ("filtered/test_accuracy", "test_accuracy"),
        ("gap/none", "validation_accuracy"),
        (None, "validation_accuracy"),
    ],
)
def test_the_metric_that_chose(search, confirm, metric, chosen):
    assert chosen_by(load(confirm(metric=metric, aaaaaaaa=HELD)), "validation_accuracy") == chosen


def test_the_best_gap_of_a_search_is_said_to_be_unconfirmed(search):
    study = load(search)
    assert unconfirmed(study) == [
        f"The best gap of this search is not confirmed on fresh seeds; to do so: filter-study confirm {search}"
    ]
    assert unconfirmed(replace(study, path=search / "a b"))[0].endswith(f"filter-study confirm '{search}/a b'")


@pytest.mark.parametrize(
    "experiment", ["search: {name: grid}", "search: {name: points}", "", "search", "a: [", "[" * 3000]
)
def test_where_nothing_was_searched_nothing_needs_confirming(search, experiment):
    assert unconfirmed(replace(load(search), experiment=experiment)) == []


def test_one_comparison_is_the_best_of_none(search):
    study = load(search)
    assert unconfirmed(replace(study, trials=study.trials.head(1))) == []
    assert unconfirmed(replace(study, trials=study.trials.assign(status="failed"))) == []
