import math
import re
from itertools import product

import numpy as np
import pandas as pd
import pytest

from analysis.export import export
from analysis.load import config_keys, load
from analysis.pairs import pair
from analysis.published import APPENDIX, DAMAGED, FIGURES, FOLDER, TABLES, claims, tables, thesis
from trainables.config import TrialConfig
from trainables.records import COLUMNS, TRIAL_COLUMNS

HALF = 0.0005 + 1e-9
"""What a figure with three decimals can be off by."""

CONFIGURED = (
    "dataset model batch_size optimizer lr gamma momentum lr_scheduler epochs weight_decay augmentation milestone"
)


@pytest.fixture(scope="module")
def printed():
    """Appendix II as it is printed: text, but for the figures."""
    frame = pd.read_csv(FOLDER / APPENDIX, dtype="string", keep_default_na=False).set_index("row", drop=False)
    return frame.astype(dict.fromkeys(FIGURES, "float64"))


@pytest.fixture(scope="module")
def pairs():
    return pair(thesis())


@pytest.fixture(scope="module")
def gaps(pairs):
    return pairs.frame.set_index("trial_id", drop=False)


def flags(frame):
    return frame["batch_filtering"] + frame["epoch_filtering"]


def test_counts_of_pairs_are_those_counted_by_hand(printed, pairs):
    ones, several, missing = 0, 0, 0
    sound = printed[~printed["row"].isin([str(row) for row in DAMAGED])]
    for _, rows in sound.groupby([*CONFIGURED.split(), "unlabelled_flag"]):
        of_arm = flags(rows).value_counts()
        if of_arm.max() > 1:
            several += 1
        elif of_arm.get("falsefalse") == 1 and of_arm.get("truefalse") == 1:
            ones += 1
        else:
            missing += 1
    assert (ones, several, missing) == (68, 5, 14)
    assert len(pairs.frame) == 68
    assert sorted(pairs.dropped.values()) == [5, 14]


@pytest.mark.parametrize(
    ("first", "accuracy", "mean", "q90", "worst"),
    [
        ("row102", 0.565 - 0.480, 2.339 - 1.647, 6.437 - 4.413, 15.910 - 14.732),  # Table 4.8, 512
        ("row100", 0.470 - 0.425, 2.185 - 1.932, 4.947 - 4.116, 13.316 - 10.369),  # Table 4.8, 128
        ("row7", 0.521 - 0.578, 1.225 - 1.278, 3.134 - 2.139, 11.017 - 8.714),  # Table 4.6, 16
        ("row128", 0.968 - 0.982, 0.061 - 0.623, 0.069 - 0.998, 6.629 - 3.135),  # Table 4.5, FCNet3000
        ("row178", 0.558 - 0.405, 2.364 - 1.569, 5.512 - 3.562, 16.486 - 13.461),
    ],
)
def test_gaps_are_those_of_the_printed_figures(gaps, first, accuracy, mean, q90, worst):
    names = ["gap/test_accuracy", "gap/test_mean_loss", "gap/test_q90_loss", "gap/test_worst_loss"]
    assert list(gaps.loc[first, names]) == pytest.approx([accuracy, mean, q90, worst])


def test_a_study_like_any_other(tmp_path):
    for study in (thesis(), tables()):
        assert list(study.trials)[: len(TRIAL_COLUMNS)] == [column.name for column in TRIAL_COLUMNS]
        assert list(study.epochs) == [column.name for column in COLUMNS]
        assert list(study.trials["number"]) == list(range(len(study.trials)))
        export(study, tmp_path / study.name, "parquet")
        again = load(tmp_path / study.name)
        pd.testing.assert_frame_equal(again.epochs, study.epochs)
        keep = [key for key in study.trials if key != "table"]  # "4.4" is a number elsewhere
        pd.testing.assert_frame_equal(again.trials[keep], study.trials[keep])
        assert again.manifest == study.manifest
        assert not again.damage


def test_settings_have_the_names_and_values_of_a_configuration():
    known = TrialConfig().to_dotted().keys() | {"schedule.gamma", "schedule.every"}
    trials = thesis().trials
    named = {key for key in config_keys(trials) if not key.startswith("arms.")}
    assert named - known == {"unlabelled_flag"}
    arms = {key: {"granularity": trials[f"arms.{key}.granularity"].iloc[0]} for key in ("archetype", "batchwise")}
    for row in trials[trials["optimizer.lr"] > 0].to_dict("records"):
        values = {key: row[key] for key in named - {"unlabelled_flag", "augmentation"} if pd.notna(row[key])}
        config = TrialConfig.from_dotted({**values, "arms": arms})
        assert config.optimizer.weight_decay == row["optimizer.weight_decay"]
        assert config.schedule.name == row["schedule.name"]


def test_rows_are_numbered_by_the_first_of_their_configuration(printed):
    trials = thesis().trials.set_index("trial_id")
    assert list(trials.index[:3]) == ["row1", "row3", "row5"]
    assert trials.loc["row85", "optimizer.momentum"] == 0.9
    assert pd.isna(trials.loc["row178", "optimizer.momentum"])  # Adam has none
    assert pd.isna(trials.loc["row178", "schedule.gamma"])
    assert trials.loc["row83", "schedule.every"] == 200
    assert trials.loc["row130", ["dataset.name", "augmentation"]].tolist() == ["mnist", "none"]
    epochs = thesis().epochs
    assert len(epochs) == len(printed) - len(DAMAGED)
    arms = epochs[epochs["trial_id"] == "row85"].set_index("arm")
    assert arms["test_accuracy"].to_dict() == {
        "archetype": 0.771,
        "epochwise": 0.658,
        "epoch+batch": 0.609,
        "batchwise": 0.698,
    }
    assert set(arms["epoch"]) == {1000}
    assert arms["validation_accuracy"].isna().all()


def broken(rows):
    """Which rows no network's cross-entropy can have, whatever was trained: rules by split, within rounding."""
    classes = np.where(rows["dataset"] == "CIFAR100", 100, 10)
    found = pd.Series(False, index=rows.index)
    for split in ("train", "test"):
        accuracy, mean, q90, worst = (
            rows[f"{split}_{name}"] for name in ("accuracy", "mean_loss", "q90_loss", "worst_loss")
        )
        found |= (accuracy < 0) | (accuracy > 1) | (mean < 0) | (q90 < 0) | (worst < 0)
        found |= (mean > worst + 2 * HALF) | (q90 > worst + 2 * HALF)
        found |= mean + HALF < 0.1 * (q90 - HALF)  # a tenth of the samples loses q90 or more
        found |= mean - HALF > 0.9 * (q90 + HALF) + 0.1 * (worst + HALF)
        found |= mean + HALF < (1 - accuracy - HALF) * math.log(2)  # the right class has at most half of the belief
        found |= (accuracy < 0.9 - HALF) & (q90 + HALF < math.log(2))
        found |= (accuracy > 0.9 + HALF) & (q90 - HALF > np.log(classes))  # what is right has the largest belief
    return found


def test_damaged_rows_are_the_ones_that_cannot_be(printed):
    assert list(printed.index[broken(printed)]) == [str(row) for row in DAMAGED]
    same = sum(
        (printed[f"{split}_accuracy"] == printed[f"{split}_{loss}"]).astype(int)
        for split, loss in product(("train", "test"), ("mean_loss", "worst_loss"))
    )
    assert list(printed.index[same > 1]) == [str(row) for row in DAMAGED]
    assert [re.search(r"row (\d+)", line)[1] for line in thesis().damage] == ["134", "139"]


def test_printed_ratios_are_those_of_the_printed_figures():
    rows = pd.read_csv(FOLDER / TABLES)
    for name in ("accuracy", "mean_loss", "q90_loss", "worst_loss"):
        train, test, ratio = rows[f"train_{name}"], rows[f"test_{name}"], rows[f"{name}_ratio"]
        assert ((test - HALF) / (train + HALF) - HALF <= ratio).all()
        assert (ratio <= (test + HALF) / (train - HALF) + HALF).all()


def test_tables_stand_in_the_appendix(printed):
    study = tables()
    assert len(study.epochs) == len(pd.read_csv(FOLDER / TABLES)) == 48
    assert len(study.trials) == 21
    frame = pair(study).frame.set_index("trial_id")
    assert frame.loc["table4.8-ResNet18-1024", "gap/test_accuracy"] == pytest.approx(0.560 - 0.512)
    assert frame.loc["table4.4-LeNet-1024", "gap/test_worst_loss"] == pytest.approx(12.640 - 4.684)
    assert frame.loc["table4.6-ResNet18-16", "batch_size"] == 16
    epochwise = pair(study, treatment="epochwise").frame.set_index("trial_id")
    assert epochwise.loc["table4.4-DLA-1024", "gap/test_accuracy"] == pytest.approx(0.986 - 0.996)
    figures = set(printed[list(FIGURES)].itertuples(index=False, name=None))
    assert set(study.epochs[list(FIGURES)].itertuples(index=False, name=None)) <= figures


def test_claims_hold_every_comparison_once():
    found = claims()
    assert len(found) == 68 + 4  # of the tables: LeNet, ResNet18 and DLA on MNIST; batch size 1024 of Table 4.8
    assert found.loc[found["table"].notna(), "trial_id"].tolist() == ["Table 4.4"] * 3 + ["Table 4.8"]
