"""Published values of other methods beside what a study measured."""

import math

import pytest

from analysis.load import load
from analysis.peer_claims import beside_claims, claims, claims_table
from study.experiment import built_in
from study.experiment import load as experiment
from trainables.config import TrialConfig


@pytest.fixture
def study(database, trial, tmp_path):
    """A study by that name, of these test accuracies of archetype and Ordered SGD, a trial each."""

    def made(name, *ends):
        config = {"treatment": "ordered_sgd", "arms.ordered_sgd.granularity": "epoch"}
        trials = [
            trial(number, {"archetype": [0.1, one], "ordered_sgd": [0.1, other]}, config=config)
            for number, (one, other) in enumerate(ends)
        ]
        folder = database(tmp_path / "study", trials)
        (folder / "manifest.json").write_text(f'{{"name": "{name}"}}')
        return load(folder)

    return made


def test_every_claim_is_of_an_arm_and_a_metric_of_a_built_in_experiment():
    for row in claims().to_dict("records"):
        assert row["study"] in built_in()
        arms = TrialConfig.from_dotted(experiment(row["study"]).trial).arms
        assert row["arm"] in arms
        assert row["metric"] in ("test_accuracy", "acceptance")
        assert 0 < row["claimed"] < 1
        assert row["source"]
        assert row["differs"]


def test_measured_values_stand_beside_claimed_ones(study):
    found = beside_claims(study("published_ordered_sgd", *[(0.90 + n / 100, 0.91 + n / 100) for n in range(7)]))
    found = found.set_index("arm")
    assert list(found.index) == ["archetype", "ordered_sgd"]  # the third arm has no rows
    assert found.loc["archetype", "measured"] == pytest.approx(0.93)
    assert found.loc["ordered_sgd", "measured"] == pytest.approx(0.94)
    assert found.loc["ordered_sgd", ["low", "high"]].tolist() == pytest.approx([0.91, 0.97])
    assert found.loc["ordered_sgd", "gap"] == pytest.approx(0.01)
    assert math.isnan(found.loc["archetype", "gap"])
    assert (found["runs"] == 7).all()


def test_the_share_of_samples_that_an_arm_keeps_has_no_gap(database, trial, tmp_path):
    config = {"treatment": "selective_backprop", "arms.selective_backprop.granularity": "batch"}
    changes = {("selective_backprop", 1): {"acceptance": 0.25}}
    ends = {"archetype": [0.1, 0.5], "selective_backprop": [0.1, 0.6]}
    folder = database(tmp_path / "study", [trial(0, ends, config=config, changes=changes)])
    (folder / "manifest.json").write_text('{"name": "published_selective_backprop"}')
    (row,) = claims_table(beside_claims(load(folder))).to_dict("records")
    assert (row["Metric"], row["Claimed"], row["Measured median"]) == ("acceptance", "24.70%", "25.00%")
    assert row["Gap to the baseline"] == "–"


def test_they_are_told_in_words(study):
    table = claims_table(beside_claims(study("published_ordered_sgd", (0.9, 0.92))))
    row = table.to_dict("records")[1]
    assert row["Claimed"] == "92.45%"
    assert row["Measured median"] == "92.00%"
    assert row["95% interval"] == "–"
    assert row["Gap to the baseline"] == "+2.00 pp"


def test_a_study_of_another_setting_has_no_claims(study):
    assert beside_claims(study("mine", (0.9, 0.92))).empty
