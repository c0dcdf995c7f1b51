import math
from dataclasses import replace

import pytest

from analysis.confirmation_claims import claims
from analysis.confirmations import (
    BEST,
    WINNER,
    chosen_by,
    confirmations,
    confirmed,
    confirms_tuned,
    is_confirmation,
)
from analysis.load import load

HELD = (0.0, 0.04, 0.04, 0.06, 0.06, 0.1)
LOST = (-0.1, -0.05, 0.0, 0.0, 0.05, 0.1)


def test_searched_and_confirmed_gaps(search, confirm):
    confirm(aaaaaaaa=HELD, bbbbbbbb=LOST)
    (confirmation,) = confirmations(search)
    frame = confirmed(load(search), confirmation, "validation_accuracy")
    assert list(frame) == [
        *("configuration", "optimizer.lr", "searched", "roles", "runs", "seeds", "decided"),
        *("median", "median_low", "median_high"),
        *("excludes_zero", "behind", "tuned_seeds", "tuned", "tuned_low", "tuned_high"),
    ]
    assert frame["configuration"].tolist() == ["aaaaaaaa", "bbbbbbbb"]
    assert frame["optimizer.lr"].tolist() == [0.1, 0.2]
    assert frame["searched"].tolist() == pytest.approx([0.2, 0.1])
    assert frame["seeds"].tolist() == [6, 6]
    assert frame["median"].tolist() == pytest.approx([0.05, 0])
    assert frame["median_low"].tolist() == pytest.approx([0, -0.1])
    assert frame["median_high"].tolist() == pytest.approx([0.1, 0.1])
    assert frame["excludes_zero"].tolist() == [False, False]


@pytest.mark.parametrize(("gaps", "excludes"), [((0.1,) * 6, True), ((-0.1,) * 6, True), (HELD, False)])
def test_an_interval_leaves_out_zero_on_either_side(search, confirm, gaps, excludes):
    frame = confirmed(load(search), load(confirm(aaaaaaaa=gaps)), "validation_accuracy")
    assert frame["excludes_zero"].tolist() == [excludes]


def test_another_metric_than_the_searched_one_comes_from_the_tables(search, confirm):
    confirmation = load(confirm(aaaaaaaa=HELD))
    row = confirmed(load(search), confirmation, "test_accuracy").iloc[0]
    assert (row["searched"], row["median"]) == pytest.approx((0.2, 0.04))
    assert math.isnan(confirmed(None, confirmation, "test_accuracy").iloc[0]["searched"])
    assert confirmed(None, confirmation, "validation_accuracy").iloc[0]["searched"] == 0.2


def test_a_searched_gap_is_of_all_its_comparisons_and_stopped_ones_too(trial, database, tmp_path, search, confirm):
    runs = [
        trial(
            0, {"archetype": [0.1, 0.5], "filtered": [0.1, 0.7]}, config={"optimizer.lr": 0.1}, configuration="aaaaaaaa"
        ),
        trial(
            1,
            {"archetype": [0.1, 0.5], "filtered": [0.1, 0.6]},
            config={"optimizer.lr": 0.1},
            configuration="aaaaaaaa",
            status="stopped",
        ),
    ]
    both = load(database(tmp_path / "both", runs))
    confirmation = load(confirm(aaaaaaaa=HELD))
    confirmation.manifest["confirms"]["configurations"]["aaaaaaaa"]["trials"] = ["trial0", "trial1", "gone"]
    row = confirmed(both, confirmation, "validation_accuracy").iloc[0]
    assert row["searched"] == pytest.approx(0.15)


def test_a_confirmation_that_cannot_be_read_says_why(search, confirm):
    confirm(aaaaaaaa=HELD)
    (search / "confirmations" / "zzz").mkdir()
    (search / "confirmations" / "zzz" / "study.sqlite").write_text("no database")
    (search / "confirmations" / "notes.txt").write_text("not a folder")
    found = confirmations(search)
    assert sorted(study.name for study in found) == ["top-2", "zzz"]
    (damaged,) = [study for study in found if study.damage]
    assert "zzz/study.sqlite cannot be read" in damaged.damage[0]
    assert claims(load(search), found, "validation_accuracy")[0].startswith("Confirmed on 6 fresh seeds")


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


ROLES = {"aaaaaaaa": [WINNER], "bbbbbbbb": [BEST["baseline"]], "cccccccc": [BEST["treatment"]]}
A = [(0.50, 0.88), (0.52, 0.90), (0.48, 0.86)] * 2
B = [(0.90, 0.80), (0.92, 0.80), (0.91, 0.80)] * 2
C = [(0.80, 0.90), (0.80, 0.91), (0.80, 0.89)] * 2


def test_what_is_best_for_either_arm_is_compared_seed_by_seed(untuned, confirm_arms):
    confirmation = load(confirm_arms(ROLES, aaaaaaaa=A, bbbbbbbb=B, cccccccc=C))
    assert confirms_tuned(confirmation)
    frame = confirmed(load(untuned), confirmation, "validation_accuracy").set_index("configuration")
    assert frame["roles"].tolist() == [(WINNER,), ("best baseline",), ("best treatment",)]
    assert frame["median"].tolist() == pytest.approx([0.38, -0.11, 0.1])
    assert frame["behind"].tolist() == pytest.approx([0.4, 0, 0.11])
    assert frame["tuned_seeds"].tolist() == [6, 6, 6]
    # Each twice: 0.90 - 0.90, 0.91 - 0.92, 0.89 - 0.91.
    assert frame["tuned"].tolist() == pytest.approx([-0.01] * 3)
    assert frame["tuned_low"].tolist() == pytest.approx([-0.02] * 3)
    assert frame["tuned_high"].tolist() == pytest.approx([0] * 3)
    worst = confirmed(load(untuned), confirmation, "test_mean_loss").set_index("configuration")
    assert worst["behind"]["aaaaaaaa"] == pytest.approx(0.4)  # a larger loss is behind, too


def test_a_seed_that_only_one_of_the_two_has_is_no_pair(untuned, confirm_arms):
    confirmation = load(confirm_arms(ROLES, aaaaaaaa=A[:3], bbbbbbbb=[B[0], None, B[2]], cccccccc=[*C[:2], None]))
    frame = confirmed(load(untuned), confirmation, "validation_accuracy")
    assert frame["runs"].tolist() == [3, 3, 3]
    assert frame["seeds"].tolist() == [3, 2, 2]
    assert frame["tuned_seeds"].tolist() == [1, 1, 1]
    assert frame["tuned"].tolist() == pytest.approx([0.0] * 3)
    assert frame["behind"][0] == pytest.approx((0.40 + 0.43) / 2)


def test_arms_are_compared_within_their_problem(trial, database, tmp_path):
    """Two problems, each with a best baseline of its own; the best of the other has nothing to say."""
    origins, trials = {}, []
    for place, (size, baseline, best) in enumerate([(32, 0.5, 0.9), (64, 0.6, 0.65)]):
        for role, end in ((WINNER, baseline), (BEST["baseline"], best)):
            name = f"{size}{role[0]}"
            ends = {"archetype": [0.1, end], "filtered": [0.1, 0.7]}
            config = {"batch_size": size, "optimizer.lr": end, "seed": 7}
            trials.append(trial(len(trials), ends, config=config, configuration=name))
            roles = [role, BEST["treatment"]] if role == WINNER else [role]
            origins[name] = {"searched": 0.2, "trials": [f"trial{place}"], "roles": roles}
    confirmation = replace(load(database(tmp_path / "two", trials)), manifest={"confirms": {"configurations": origins}})
    frame = confirmed(None, confirmation, "test_accuracy").set_index("configuration")
    assert frame["behind"].to_dict() == pytest.approx({"32w": 0.4, "32b": 0, "64w": 0.05, "64b": 0})
    assert frame["tuned"].to_dict() == pytest.approx({"32w": -0.2, "32b": -0.2, "64w": 0.05, "64b": 0.05})


def test_an_earlier_confirmation_has_the_standing_that_the_search_says(untuned, confirm_arms):
    confirmation = load(confirm_arms({}, aaaaaaaa=A, bbbbbbbb=B, cccccccc=C))
    assert not confirms_tuned(confirmation)
    frame = confirmed(load(untuned), confirmation, "validation_accuracy").set_index("configuration")
    assert frame["roles"].tolist() == [(WINNER,), (WINNER, "best baseline"), (WINNER, "best treatment")]
    assert frame["behind"].tolist() == pytest.approx([0.4, 0, 0.05])
    assert frame["tuned_seeds"].tolist() == [0, 0, 0]
    alone = confirmed(None, confirmation, "validation_accuracy")
    assert set(alone["roles"]) == {(WINNER,)}
    assert alone["behind"].isna().all()


@pytest.mark.parametrize("roles", [3, None, {}, "winner"])
def test_roles_that_are_damaged_are_none(untuned, confirm_arms, roles):
    confirmation = load(confirm_arms({"aaaaaaaa": roles}, aaaaaaaa=A))
    assert not confirms_tuned(confirmation)
    assert confirmed(load(untuned), confirmation, "test_accuracy")["roles"].tolist() == [(WINNER,)]


def test_a_fresh_seed_on_which_an_arm_diverged_is_a_loss_of_that_arm(untuned, confirm_arms):
    winner = [*[(0.4, 0.9)] * 2, *[(0.4, None)] * 4]
    folder = confirm_arms({}, aaaaaaaa=winner, bbbbbbbb=[(None, 0.9), *[(0.4, 0.9)] * 5])
    frame = confirmed(load(untuned), load(folder), "validation_accuracy")
    assert frame["seeds"].tolist() == [6, 6]
    assert frame["decided"].tolist() == [4, 1]
    assert frame["median"].tolist() == [-math.inf, pytest.approx(0.5)]
    assert frame["median_high"].tolist() == [pytest.approx(0.5), math.inf]
