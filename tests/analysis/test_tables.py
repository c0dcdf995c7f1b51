import numpy as np
import pandas as pd
import pytest

from analysis.gaps import summarize
from analysis.pairs import arm_rows, final_rows, pair
from analysis.tables import cell, gap_table, thesis_table, to_markdown, to_text


def test_the_thesis_form_has_train_test_and_their_ratio(mixed):
    table = thesis_table(final_rows(mixed, "trial0"))
    assert table["", "Arm"].tolist() == ["archetype", "filtered"]
    assert table["Accuracy", "Train"].tolist() == pytest.approx([0.82, 0.92])
    assert table["Accuracy", "Test"].tolist() == [0.8, 0.9]
    assert table["Accuracy", "Ratio"].tolist() == pytest.approx([0.8 / 0.82, 0.9 / 0.92])
    assert table["Worst loss", "Ratio"].tolist() == pytest.approx([0.5, 0.5])
    assert [top for top, low in table.columns if low == "Ratio"] == [
        "Accuracy",
        "Mean loss",
        "Q=0.9 loss",
        "Worst loss",
    ]


def test_a_ratio_to_nothing_is_missing(mixed):
    rows = final_rows(mixed, "trial0").assign(train_mean_loss=[0.0, 0.5])
    assert thesis_table(rows)["Mean loss", "Ratio"].isna().tolist() == [True, False]


def test_pairs_in_the_thesis_form_name_their_trial(mixed):
    table = thesis_table(arm_rows(pair(mixed).frame))
    assert table["", "Trial"].tolist() == [0, 0, 1, 1, 2, 2]


def test_gaps_as_text(mixed):
    frame = pair(mixed).frame.assign(**{"optimizer.lr": [0.1, 0.2, 0.3]})
    summary = summarize(frame, ["test_accuracy", "test_mean_loss"], np.random.default_rng(0))
    table = gap_table(summary)
    assert list(table) == ["Metric", "Comparisons", "Won", "Median gap", "Mean gap", "95% interval", "Range"]
    row = table.iloc[0]
    assert row["Metric"] == "test accuracy"
    assert row["Won"] == "50% (1 tied)"
    assert row["Median gap"] == "0.00 pp"
    assert row["Mean gap"] == "+1.67 pp"
    assert row["Range"] == "−5.00 to +10.00 pp"
    assert table.iloc[1]["Range"] == "−0.0500 to +0.100 nats"


def test_configurations_have_a_column_where_their_seeds_are_averaged(mixed):
    frame = pair(mixed).frame  # gaps of +10 pp at one rate, and of −5 and 0 pp at another
    table = gap_table(summarize(frame, ["test_accuracy"], np.random.default_rng(0)))
    columns = ["Comparisons", "Median gap", "Configurations", "Mean gap", "95% interval"]
    assert table[columns].iloc[0].tolist() == ["3", "0.00 pp", "2", "+3.75 pp", "–"]
    assert "Configurations" not in gap_table(summarize(frame.iloc[1:], ["test_accuracy"], np.random.default_rng(0)))


def test_wins_over_unlearned_baselines_have_a_column_where_there_are_some(trial, study):
    frame = pair(study(trial(0, {"archetype": [0.1, 0.1], "filtered": [0.1, 0.5]}))).frame
    table = gap_table(summarize(frame, ["test_accuracy"], np.random.default_rng(0), ["optimizer.lr"]))
    assert table.iloc[0].to_dict() == {
        "optimizer.lr": "0.1",
        "Metric": "test accuracy",
        "Comparisons": "1",
        "Won": "100%",
        "Won over unlearned": "1",
        "Median gap": "+40.00 pp",
        "Mean gap": "+40.00 pp",
        "95% interval": "–",
        "Range": "+40.00 to +40.00 pp",
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.500"), (0.0, "0.000"), (1e-5, "1e-05"), (3, "3"), (None, "–"), (float("inf"), "∞"), ("a", "a")],
)
def test_cells(value, text):
    assert cell(value) == text


TABLE = pd.DataFrame({"arm": ["a|b", "c"], "loss": [1.5, 12.25]})


def test_plain_text_is_aligned():
    assert to_text(TABLE) == "arm    loss\n---  ------\na|b   1.500\nc    12.250\n"


def test_markdown_aligns_numbers_and_escapes_pipes():
    assert to_markdown(TABLE) == "| arm | loss |\n| --- | ---: |\n| a\\|b | 1.500 |\n| c | 12.250 |\n"


def test_two_levels_of_headings_become_one(mixed):
    text = to_text(thesis_table(final_rows(mixed, "trial0")))
    assert text.splitlines()[0].split("  ")[0] == "Arm"
    assert "Accuracy Train" in text
