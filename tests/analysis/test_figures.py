import numpy as np
import pytest
from matplotlib.image import imread

from analysis.figures import caption, gap_distribution, nine_panels, panels, strips
from analysis.load import TableError
from analysis.pairs import pair


def test_nine_panels_have_every_arm_against_epochs(trial, study):
    loaded = study(trial(0, {"control": [0.1, 0.3], "filtered": [0.1, 0.6], "archetype": [0.1, 0.5]}))
    nine = panels(loaded, "trial0")
    assert [panel.metric for panel in nine] == [
        *("train_accuracy", "test_accuracy", "train_worst_loss"),
        *("train_mean_loss", "test_mean_loss", "test_worst_loss"),
        *("train_q90_loss", "test_q90_loss", "cumulative_seconds"),
    ]
    assert all(list(panel.curves) == ["archetype", "filtered", "control"] for panel in nine)
    epochs, accuracies = nine[1].curves["filtered"]
    assert epochs.tolist() == [0, 1]
    assert accuracies.tolist() == [0.1, 0.6]
    assert nine[8].curves["archetype"][1].tolist() == [0, 2]
    assert nine[8].unit == "s"


@pytest.mark.slow
def test_the_legend_of_many_arms_stays_within_the_picture(trial, study, tmp_path):
    arms = {f"arm_with_a_long_name_{number}": [0.1, 0.5] for number in range(12)}
    loaded = study(trial(0, {"archetype": [0.1, 0.5], "filtered": [0.1, 0.6], **arms}))
    ink = imread(nine_panels(loaded, "trial0", tmp_path / "nine.png"))[..., :3].min(axis=2) < 0.5
    assert not ink[:, [0, 1, -2, -1]].any()


def test_losses_are_logarithmic_where_they_are_positive(trial, study):
    changes = {("filtered", 1): {"train_mean_loss": 0.0}, ("archetype", 1): {"test_q90_loss": None}}
    nine = panels(study(trial(0, {"archetype": [0.1, 0.5], "filtered": [0.1, 0.6]}, changes=changes)), "trial0")
    logarithmic = {panel.metric for panel in nine if panel.log}
    assert logarithmic == {"train_worst_loss", "test_worst_loss", "test_mean_loss", "train_q90_loss", "test_q90_loss"}


def test_a_caption_has_settings_and_gap(mixed):
    assert caption(mixed, "trial1") == (
        "Trial 1: optimizer.lr 0.2, seed 1, epochs 2; test accuracy gap −5.00 pp at epoch 2"
    )
    assert caption(mixed, "trial5") == "Trial 5: optimizer.lr 0.1, seed 5, epochs 10"
    with pytest.raises(TableError, match="no trial 'nine'"):
        panels(mixed, "nine")


def test_strips_are_groups_of_ordered_gaps(mixed):
    frame = pair(mixed).frame
    (strip,) = strips(frame, "test_accuracy")
    assert strip.gaps.tolist() == pytest.approx([-0.05, 0, 0.1])
    assert strip.learned.tolist() == [True, False, True]
    assert [(strip.label, len(strip.gaps)) for strip in strips(frame, "test_accuracy", "optimizer.lr")] == [
        ("0.1", 1),
        ("0.2", 2),
    ]


def _ink(path):
    """The share of a picture that is not white."""
    return float((imread(path)[..., :3].min(axis=-1) < 0.9).mean())


@pytest.mark.slow
@pytest.mark.parametrize("trial_id", ["trial0", "trial5", "trial6"])
def test_any_trial_can_be_drawn(mixed, tmp_path, trial_id):
    path = nine_panels(mixed, trial_id, tmp_path / "nine.png")
    assert list(tmp_path.iterdir()) == [path]
    assert _ink(path) > 0.01


def test_an_odd_number_of_metrics_and_no_gaps_can_be_drawn(mixed, tmp_path):
    frame = pair(mixed).frame
    assert _ink(gap_distribution(frame, ["test_accuracy"], tmp_path / "one.png", "optimizer.lr")) > 0.01
    metrics = ["test_accuracy", "test_mean_loss", "test_q90_loss"]
    three = gap_distribution(frame, metrics, tmp_path / "three.png")
    assert strips(frame.iloc[:0], "test_accuracy") == ()
    none = gap_distribution(frame.iloc[:0], metrics, tmp_path / "none.png")
    assert _ink(three) > _ink(none) > 0


@pytest.mark.slow
def test_the_same_data_give_the_same_picture(mixed, tmp_path):
    first, again = (nine_panels(mixed, "trial0", tmp_path / name) for name in ("a.png", "b.png"))
    assert np.array_equal(imread(first), imread(again))
