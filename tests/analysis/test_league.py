"""The league of all arms, against numbers that can be worked out by hand."""

import math

import pytest

from analysis.database import TableError
from analysis.league import critical_difference, how_soon, league, league_table, told, written
from analysis.load import load

ARMS = ("archetype", "filtered", "random", "mine")
THEIRS = "arms.random.granularity", "arms.mine.granularity"


@pytest.fixture
def study(database, trial, tmp_path):
    """A study of these test accuracies at the last of two epochs, an arm each, a trial each."""

    def made(*ends, **changes):
        config = dict.fromkeys(THEIRS, "batch")
        trials = []
        for number, of_arms in enumerate(ends):
            values = {arm: [0.1, (0.1 + end) / 2, end] for arm, end in zip(ARMS, of_arms, strict=False)}
            trials.append(trial(number, values, config=config, **changes))
        return load(database(tmp_path / "study", trials))

    return made


@pytest.mark.parametrize(("arms", "blocks", "expected"), [(4, 14, 1.25), (5, 30, 1.11)])
def test_the_critical_difference_is_that_of_the_paper(arms, blocks, expected):
    assert critical_difference(arms, blocks) == pytest.approx(expected, abs=0.01)  # Demšar 2006, section 3.2.5


def test_arms_are_ranked_within_comparisons_and_ties_share_a_rank(study):
    found = league(study((0.5, 0.6, 0.5, 0.9), (0.5, 0.4, 0.3, 0.9), (0.5, 0.6, 0.4, 0.5)))
    assert found is not None
    assert found.blocks == 3
    ranks = dict(zip(found.rows["arm"], found.rows["rank"], strict=True))
    assert ranks == pytest.approx(
        {"mine": (1 + 1 + 2.5) / 3, "filtered": (2 + 3 + 1) / 3, "archetype": 8 / 3, "random": (3.5 + 4 + 4) / 3}
        | {"archetype": (3.5 + 2 + 2.5) / 3}
    )
    assert list(found.rows["rank"]) == sorted(found.rows["rank"])
    rows = found.rows.set_index("arm")
    assert rows.loc["mine", "gap"] == pytest.approx(0.4)
    assert rows.loc["mine", "wins"] == pytest.approx((2 + 0.5) / 3)
    assert rows.loc["random", "gap"] == pytest.approx(-0.1)
    assert rows.loc["archetype", "median"] == pytest.approx(0.5)
    assert rows["compute"].to_dict() == pytest.approx({"archetype": 1, "filtered": 0.5, "random": 0.5, "mine": 0.5})
    assert rows["p"].isna().all()  # fewer than six


def test_gaps_are_told_to_the_arm_that_is_asked_for(study):
    found = league(study((0.5, 0.6, 0.4, 0.9), (0.5, 0.7, 0.4, 0.9)), against="random")
    assert found is not None
    rows = found.rows.set_index("arm")
    assert rows.loc["filtered", "gap"] == pytest.approx(0.25)
    assert rows.loc["archetype", "gap"] == pytest.approx(0.1)
    assert math.isnan(rows.loc["random", "gap"])
    assert list(rows.index) == ["mine", "filtered", "archetype", "random"]


def test_of_a_metric_of_which_less_is_better_the_least_comes_first(study):
    found = league(study((0.5, 0.6, 0.4, 0.9)), metric="test_worst_loss")
    assert found is not None
    assert list(found.rows["arm"]) == ["mine", "filtered", "archetype", "random"]
    assert league_table(found)["Gap to archetype"].tolist()[0] == "+0.400 nats"


def test_p_values_are_corrected_over_all_arms(study):
    found = league(study(*[(0.5, 0.6 + n / 100, 0.4, 0.5 + (-1) ** n / 100) for n in range(8)]))
    assert found is not None
    p = found.rows.set_index("arm")["p"]
    assert p["filtered"] == pytest.approx(3 * 2 / 2**8)
    assert p["random"] == pytest.approx(3 * 2 / 2**8)
    assert p["mine"] == 1
    assert found.p < 0.001


def test_only_comparisons_with_all_arms_are_blocks(study):
    found = league(study((0.5, 0.6, 0.4, 0.9), (0.5, 0.6, 0.4), (0.5, 0.6, 0.3, 0.8)))
    assert found is not None
    assert (found.blocks, found.left_out) == (2, 1)
    assert found.rows.set_index("arm").loc["random", "gap"] == pytest.approx(-0.15)


def test_a_study_without_trials_is_no_league(study):
    assert league(study()) is None


def test_two_arms_are_no_league(study):
    two = study((0.5, 0.6))
    assert league(two) is None
    with pytest.raises(TableError, match="takes three arms"):
        written(two, "test_accuracy", "epochs", None, [])
    with pytest.raises(TableError, match="no arm 'nobody'; arms: archetype, filtered"):
        league(two, against="nobody")


def test_a_comparison_that_an_arm_ended_is_left_out_and_said(trial, database, tmp_path):
    ends = {arm: [0.1, 0.5] for arm in ARMS[:3]} | {"mine": [0.1, 0.2]}
    config = dict.fromkeys(THEIRS, "batch")
    diverged = trial(
        1,
        ends,
        status="diverged",
        error="training loss is not finite: mine",
        config=config,
        changes={("mine", 1): {"train_mean_loss": None}},
    )
    found = league(load(database(tmp_path / "diverged", [trial(0, ends, config=config), diverged])))
    assert found is not None
    assert (found.blocks, found.left_out) == (1, 1)
    assert told(found).endswith("1 comparison that ended before all arms had finished is left out.")


def test_how_soon_each_arm_reaches_a_target(study):
    found = how_soon(study((0.5, 0.9, 0.3, 0.5), (0.5, 0.9, 0.3, 0.3)), 0.5, "seconds").set_index("arm")
    assert found["reached"].to_dict() == {"archetype": 1, "filtered": 1, "random": 0, "mine": 0.5}
    assert found["median"]["archetype"] == 4  # at the second epoch's end
    assert found["median"]["filtered"] == pytest.approx(2)  # 0.1 -> 0.5 within the first
    assert math.isnan(found["median"]["random"])


def test_it_is_written_in_words(study):
    made = study((0.5, 0.6, 0.4, 0.9), (0.5, 0.7, 0.4, 0.9))
    found = league(made)
    assert found is not None
    assert told(found).startswith("4 arms in 2 comparisons. Mean ranks that differ by less than 3.3 are not told apart")
    assert told(found).endswith("Beside the first, mine, 3 arms cannot be told from it, and the other 0 rank below.")
    text = written(made, "test_accuracy", "epochs", None, [0.5], "markdown")
    assert "| mine | 1.0 | 90.00% | +40.00 pp | – | 100% | – | +0.400 nats | 0.50 | 1.00 |" in text
    assert "| archetype | 3.0 | 50.00% | – |" in text
    assert text.count("| Arm |") == 3
