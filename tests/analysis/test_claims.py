import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.claims import METRICS, compare, published_table
from analysis.load import Study
from analysis.published import FIGURES, tables, thesis
from analysis.tables import to_markdown, to_text
from trainables.records import COLUMNS

ROW_102 = {  # what Appendix II says of rows 102 and 103: a gap of 0.565 - 0.480 in accuracy
    "dataset.name": "cifar100",
    "dataset.validation_fraction": 0.0,
    "model.name": "ResNet18",
    "augmentation": "thesis",
    "batch_size": 512,
    "optimizer.name": "SGD",
    "optimizer.lr": 0.1,
    "optimizer.momentum": 0.9,
    "optimizer.weight_decay": 0.0005,  # printed as 0.001
    "optimizer.nesterov": False,
    "schedule.name": "none",
    "epochs": 300,
    "arms.archetype.granularity": "none",
    "arms.filtered.granularity": "batch",
    "arms.filtered.filter.name": "hard",
    "arms.filtered.selector.name": "all",
    "arms.filtered.batch": "stable",
    "baseline": "archetype",
    "treatment": "filtered",
}


def ours(gaps, *configs, base=ROW_102):
    """A study with a comparison per test accuracy gap; all other figures of both arms are 0.5."""
    configs = configs or [{}] * len(gaps)
    trials, epochs = [], []
    for number, (gap, config) in enumerate(zip(gaps, configs, strict=True)):
        own = {"trial_id": f"trial{number}", "number": number, "configuration": "one", "status": "finished"}
        trials.append(own | {"error": None, "seed": number} | base | config)
        for arm, accuracy in ((trials[-1]["baseline"], 0.5), (trials[-1]["treatment"], 0.5 + gap)):
            row = {"trial_id": f"trial{number}", "arm": arm, "epoch": trials[-1]["epochs"]}
            epochs.append(row | dict.fromkeys(FIGURES, 0.5) | {"test_accuracy": accuracy})
    frame = pd.DataFrame(epochs, columns=[column.name for column in COLUMNS]).astype(
        {"epoch": "Int64", "arm": "string"}
    )
    numbers = [column.name for column in COLUMNS if column.type == "float"]
    return Study("ours", pd.DataFrame(trials), frame.astype(dict.fromkeys(numbers, "float64")), {}, "", thesis().path)


def accuracy(study):
    return compare(study, ["test_accuracy"])


@pytest.mark.parametrize(
    ("gaps", "agrees"),
    [
        ([0.08, 0.085, 0.09] * 2, "yes"),
        ([0.0855] * 6, "yes"),  # the interval is a point; the claim is rounded
        ([0.0871] * 6, "sign only"),
        ([0.02, 0.021, 0.022] * 2, "sign only"),
        ([-0.02, -0.021, -0.022] * 2, "no"),
        ([-0.09, 0.0, 0.09] * 2, "yes"),  # so wide that it says nothing against the claim
        ([-0.003, 0.0, 0.003] * 2, "no"),
        ([0.085] * 5, "too few to tell"),
    ],
)
def test_a_claim_is_held_against_the_interval(gaps, agrees):
    row = accuracy(ours(gaps)).iloc[0]
    assert row["claimed"] == pytest.approx(0.565 - 0.480)
    assert (row["published"], row["source"]) == (1, "row 102")
    assert row["measured"] == pytest.approx(np.median(gaps))
    assert row["comparisons"] == len(gaps)
    assert row["differs"] == ""
    assert row["agrees"] == agrees
    assert row["cell"] == "cifar100, ResNet18, batch size 512, SGD, no schedule"
    if len(gaps) >= 6:
        assert row["median_low"] <= row["measured"] <= row["median_high"]


def test_a_claim_of_a_loss_is_turned_like_its_gap():
    table = compare(ours([0.01] * 6)).set_index("metric")
    assert list(table.index) == list(METRICS)
    assert table.loc["test_q90_loss", "claimed"] == pytest.approx(6.437 - 4.413)
    assert table.loc["test_q90_loss", "agrees"] == "no"
    assert compare(ours([0.01]), ["train_accuracy"])["claimed"].item() == pytest.approx(0.885 - 0.631)


@pytest.mark.parametrize("study", [thesis(), tables()], ids=["thesis", "tables"])
def test_published_figures_agree_with_themselves(study):
    table = compare(study)
    assert (table["claimed"] == table["measured"]).all()
    assert (table["differs"] == "").all()
    assert (table["published"] == 1).all()
    accuracies = table[table["metric"] == "test_accuracy"]
    assert len(accuracies) == {"thesis-appendix-ii": 68, "thesis-tables": 21}[study.name]
    assert accuracies["cell"].is_unique


def test_differences_are_said():
    config = {
        "dataset.samples_per_class": 20,
        "dataset.validation_fraction": 0.1,
        "optimizer.lr": 0.05,
        "optimizer.nesterov": True,
        "epochs": 10,
        "arms.filtered.overflow": "carry",
        "arms.filtered.raw_batch_size": "adaptive",
    }
    assert accuracy(ours([0.01], config))["differs"].item().split("; ") == [
        "epochs 10 instead of 300",
        "optimizer.lr 0.05 instead of 0.1",
        "dataset.samples_per_class 20",
        "dataset.validation_fraction 0.1",
        "optimizer.nesterov yes",
        "treatment's overflow carry",
        "treatment's raw_batch_size adaptive",
    ]


def test_part_of_mnist_stands_beside_mnist():
    lenet = {"dataset.name": "mnist5k", "model.name": "LeNet", "batch_size": 1024, "augmentation": "none"}
    row = accuracy(ours([0.01], lenet)).iloc[0]
    assert row["source"] == "Table 4.4"
    assert row["claimed"] == pytest.approx(0.988 - 0.990)
    assert row["differs"] == "dataset.name mnist5k, a part of mnist"


def test_exact_counterparts_come_first_and_others_beside_the_nearest():
    grid = [{"optimizer.lr": lr, "batch_size": 1024} for lr in (0.2, 0.1, 0.3, 0.25, 0.15)]
    table = accuracy(ours([0.01, 0.02, 0.03, 0.04, 0.05], *grid))
    assert list(table["source"]) == ["Table 4.8", "Table 4.8"]  # not the pair of 150 epochs
    assert list(table["comparisons"]) == [1, 4]
    assert list(table["differs"]) == ["", "optimizer.lr 0.15–0.3 instead of 0.1"]


def test_several_nearest_are_averaged_and_named():
    far = {"batch_size": 1024, "schedule.name": "exponential", "schedule.gamma": 0.995, "epochs": 1000}
    far |= {"optimizer.momentum": 0.5}  # the thesis has 0 and 0.9
    row = accuracy(ours([0.01], far)).iloc[0]
    assert row["source"] == "row 75, row 76"
    assert row["claimed"] == pytest.approx((0.696 - 0.766 + 0.662 - 0.705) / 2)
    assert row["differs"] == "optimizer.momentum 0.5 instead of 0 or 0.9"
    assert published_table(accuracy(ours([0.01], far)))["Claimed"].item() == "−5.65 pp (median of 2)"


def test_groups_of_one_cell_are_told_apart():
    base = {"batch_size": 1024, "schedule.name": "exponential", "schedule.gamma": 0.995, "epochs": 1000}
    table = accuracy(ours([0.01, 0.02], base | {"optimizer.momentum": 0.0}, base | {"optimizer.momentum": 0.9}))
    assert [cell.rpartition(", ")[2] for cell in table["cell"]] == ["optimizer.momentum 0", "optimizer.momentum 0.9"]


@pytest.mark.parametrize(
    "config",
    [
        {"dataset.name": "fashion_mnist"},
        {"optimizer.name": "AdamW"},
        {"schedule.name": "cosine"},
        {"batch_size": 64},
        {"arms.filtered.filter.name": "soft"},
        {"arms.filtered.selector.name": "top_k"},
        {"arms.filtered.granularity": "epoch"},
        {"arms.archetype.granularity": "batch"},
        {"treatment": "random"},  # of which nothing is said
    ],
    ids=str,
)
def test_what_the_thesis_did_not_do_has_no_claim(config):
    table = compare(ours([0.01], config))
    assert table.empty
    text = published_table(table)
    assert list(text)[:3] == ["Problem", "Metric", "Claimed"]
    assert to_text(text)
    assert to_markdown(text)


def test_studies_of_nothing():
    nothing = ours([0.01])
    assert compare(replace(nothing, trials=nothing.trials[:0], epochs=nothing.epochs[:0])).empty
    assert compare(replace(nothing, trials=nothing.trials.assign(status="running"))).empty


def test_text_has_units_and_dashes():
    cells = published_table(compare(ours([0.01, 0.02]))).iloc[0].to_dict()
    assert cells == {
        "Problem": "cifar100, ResNet18, batch size 512, SGD, no schedule",
        "Metric": "test accuracy",
        "Claimed": "+8.50 pp",
        "Measured median": "+1.50 pp",
        "95% interval of the median": "–",
        "Comparisons": "2",
        "Agrees": "too few to tell",
        "Differs": "in nothing that is printed",
    }


@settings(max_examples=4, deadline=None)
@given(st.lists(st.sampled_from([-0.1, -0.02, 0.0, 0.05, 0.085]), min_size=1, max_size=6), st.randoms())
def test_order_of_rows_changes_nothing(gaps, random):
    study = ours(gaps, *({"optimizer.lr": 0.1 + 0.1 * (place % 2)} for place in range(len(gaps))))
    order = list(range(len(study.epochs)))
    random.shuffle(order)
    turned = replace(study, epochs=study.epochs.iloc[order].reset_index(drop=True), trials=study.trials[::-1])
    one, other = accuracy(study), accuracy(turned)
    pd.testing.assert_frame_equal(one, other)
    assert one["comparisons"].sum() == len(gaps)
    assert all(math.isfinite(value) for value in one["measured"])


def test_a_study_without_trials_has_no_counterpart(study):
    assert compare(study()).empty
    assert list(compare(study())) == list(compare(thesis()))
