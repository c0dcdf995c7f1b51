import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import published
from analysis.database import TableError
from analysis.gaps import summarize
from analysis.pairs import arm_rows, final_rows, pair
from analysis.tables import cell, gap_table, span, thesis_form, thesis_table, to_latex, to_markdown, to_records, to_text
from trainables.records import Column, Columns


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
    summary = summarize(frame, ["test_accuracy", "test_mean_loss"])
    table = gap_table(summary)
    assert list(table) == [
        "Metric",
        "Comparisons",
        "Won",
        "Median gap",
        "95% interval of the median",
        "Mean gap",
        "p (Holm)",
        "Range",
    ]
    row = table.iloc[0]
    assert row["Metric"] == "test accuracy"
    assert row["Won"] == "50% (1 tied)"
    assert row["Median gap"] == "0.00 pp"
    assert row["Mean gap"] == "+1.67 pp"
    assert row["Range"] == "−5.00 to +10.00 pp"
    assert table.iloc[1]["Range"] == "−0.0500 to +0.100 nats"


def test_configurations_have_a_column_where_their_seeds_are_averaged(mixed):
    frame = pair(mixed).frame  # gaps of +10 pp at one rate, and of −5 and 0 pp at another
    table = gap_table(summarize(frame, ["test_accuracy"]))
    columns = ["Comparisons", "Configurations", "Median gap", "95% interval of the median", "Mean gap"]
    assert table[columns].iloc[0].tolist() == ["3", "2", "+3.75 pp", "–", "+3.75 pp"]
    assert "Configurations" not in gap_table(summarize(frame.iloc[1:], ["test_accuracy"]))


def test_wins_over_unlearned_baselines_have_a_column_where_there_are_some(trial, study):
    frame = pair(study(trial(0, {"archetype": [0.1, 0.1], "filtered": [0.1, 0.5]}))).frame
    table = gap_table(summarize(frame, ["test_accuracy"], ["optimizer.lr"]))
    assert table.iloc[0].to_dict() == {
        "optimizer.lr": "0.1",
        "Metric": "test accuracy",
        "Comparisons": "1",
        "Won": "100%",
        "Won over unlearned": "1",
        "Median gap": "+40.00 pp",
        "Mean gap": "+40.00 pp",
        "95% interval of the median": "–",
        "p (Holm)": "–",
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


@pytest.fixture(scope="module")
def seeds(trial, study):
    """Batch sizes of two seeds, one and one, with a control; test accuracies 0.8 and 0.6, 0.5, and 0.9."""
    sizes = [(16, 0.8), (16, 0.6), (128, 0.5), (1024, 0.9)]
    return study(
        *(
            trial(
                number,
                {"archetype": [0.1, accuracy], "filtered": [0.1, accuracy - 0.1], "control": [0.1, accuracy - 0.2]},
                config={"batch_size": size, "seed": number},
            )
            for number, (size, accuracy) in enumerate(sizes)
        )
    )


def test_the_thesis_form_groups_by_a_setting_and_averages_over_seeds(seeds):
    table = thesis_form(seeds, ["batch_size"])
    assert table["", "batch_size"].tolist() == ["16"] * 3 + ["128"] * 3 + ["1024"] * 3
    assert table["", "Arm"].tolist() == ["archetype", "filtered", "control"] * 3
    assert table["", "Comparisons"].tolist() == [2, 2, 2, 1, 1, 1, 1, 1, 1]
    assert table["Accuracy", "Test"].tolist() == pytest.approx([0.7, 0.6, 0.5, 0.5, 0.4, 0.3, 0.9, 0.8, 0.7])
    assert table["Accuracy", "Ratio"][0] == pytest.approx(0.7 / 0.72)
    assert table["Worst loss", "Train"][0] == pytest.approx(0.6)


def test_a_setting_with_many_seeds_weighs_no_more_than_another(trial, study):
    loaded = study(
        *(
            trial(number, {"archetype": [0.1, accuracy], "filtered": [0.1, 0.5]}, config={"optimizer.lr": rate})
            for number, (rate, accuracy) in enumerate([(0.1, 0.9), (0.1, 0.9), (0.1, 0.9), (0.2, 0.5)])
        )
    )
    table = thesis_form(loaded, ["model.name"])
    assert table["Accuracy", "Test"].tolist() == pytest.approx([0.7, 0.5])
    assert table["", "Comparisons"].tolist() == [4, 4]


def test_the_thesis_form_of_pairs_has_their_two_sides_as_they_were_paired(seeds):
    at_start = thesis_form(pair(seeds, at=0).frame, ["batch_size"])
    assert at_start["", "Arm"].tolist() == ["archetype", "filtered"] * 3
    assert at_start["Accuracy", "Test"].tolist() == pytest.approx([0.1] * 6)
    frame = pair(seeds).frame
    of_pairs, whole = thesis_form(frame, ["batch_size"]), thesis_form(seeds, ["batch_size"])
    both = whole[whole["", "Arm"] != "control"].reset_index(drop=True)
    pd.testing.assert_frame_equal(of_pairs, both)
    pd.testing.assert_frame_equal(thesis_form(frame.iloc[::-1], ["batch_size"]), of_pairs)


def test_an_arm_that_diverged_is_left_out_of_the_thesis_form(trial, study):
    lost = {("control", 1): {"train_mean_loss": None}}
    arms = {"archetype": [0.1, 0.8], "filtered": [0.1, 0.7], "control": [0.1, 0.9]}
    table = thesis_form(study(trial(0, arms, changes=lost), trial(1, arms)), [])
    assert table["", "Arm"].tolist() == ["archetype", "filtered", "control"]
    assert table["", "Comparisons"].tolist() == [2, 2, 1]


def test_the_thesis_form_of_nothing_is_empty(seeds):
    assert thesis_form(pair(seeds).frame.iloc[:0], ["batch_size"]).empty
    with pytest.raises(TableError, match=r"no comparison has the key colour; use one .*model\.name"):
        thesis_form(seeds, ["batch_size", "colour"])


def test_the_published_tables_come_back_in_their_own_form():
    table = thesis_form(published.tables(), ["table", "model.name", "batch_size"])
    line = table[(table["", "table"] == "4.6") & (table["", "batch_size"] == "1024")]
    assert line["", "Arm"].tolist() == ["archetype", "batchwise"]
    assert line["Accuracy", "Test"].tolist() == [0.849, 0.787]
    assert line["Worst loss", "Ratio"].tolist() == pytest.approx([1.393, 1.653], abs=6e-4)
    assert "Comparisons" not in table[""]


def test_the_thesis_form_in_latex(seeds):
    lines = to_latex(thesis_form(seeds, ["batch_size"])[["", "Accuracy"]], groups=1).splitlines()
    assert lines == [
        r"% \usepackage{booktabs}",
        r"\begin{tabular}{llrrrr}",
        r"\toprule",
        r" &  &  & \multicolumn{3}{c}{Accuracy} \\",
        r"\cmidrule(lr){4-6}",
        r"batch\_size & Arm & Comparisons & Train & Test & Ratio \\",
        r"\midrule",
        r"16 & archetype & 2 & 0.720 & 0.700 & 0.972 \\",
        r" & filtered & 2 & 0.620 & 0.600 & 0.968 \\",
        r" & control & 2 & 0.520 & 0.500 & 0.962 \\",
        r"\addlinespace",
        r"128 & archetype & 1 & 0.520 & 0.500 & 0.962 \\",
        r" & filtered & 1 & 0.420 & 0.400 & 0.952 \\",
        r" & control & 1 & 0.320 & 0.300 & 0.938 \\",
        r"\addlinespace",
        r"1024 & archetype & 1 & 0.920 & 0.900 & 0.978 \\",
        r" & filtered & 1 & 0.820 & 0.800 & 0.976 \\",
        r" & control & 1 & 0.720 & 0.700 & 0.972 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_gaps_in_latex_are_numbers_to_the_right():
    table = pd.DataFrame({"Metric": ["test loss", "a"], "Gap": ["−2.40 pp", "–"], "Won": ["12% (1 tied)", "0%"]})
    lines = to_latex(table).splitlines()
    assert lines[1] == r"\begin{tabular}{lrr}"
    assert lines[5] == r"test loss & $-$2.40 pp & 12\% (1 tied) \\"
    assert lines[6] == r"a & \textendash{} & 0\% \\"


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("a_b & 5% of $1 #2 {x}", r"a\_b \& 5\% of \$1 \#2 \{x\}"),
        ("C:\\x~y^z", r"C:\textbackslash{}x\textasciitilde{}y\textasciicircum{}z"),
        ("1 ± 2 ≥ −3", r"1 $\pm$ 2 $\geq$ $-$3"),
        ("a--b---c - d", "a-{}-b-{}-{}-c - d"),
        ("[x]* <|>", r"{[}x{]}{*} \textless{}\textbar{}\textgreater{}"),
        ("two\nlines", "two lines"),
    ],
)
def test_what_means_something_in_latex_is_escaped(text, latex):
    assert latex in to_latex(pd.DataFrame({"a": [text]})).splitlines()[5]


@given(st.lists(st.tuples(st.text(), st.text()), max_size=4), st.text(), st.integers(0, 2))
def test_any_text_gives_sound_latex(rows, top, groups):
    columns = pd.MultiIndex.from_tuples([(top, "a"), (top, "b")])
    lines = to_latex(pd.DataFrame(rows, columns=columns, dtype="object"), groups).split("\n")
    assert lines[0] == r"% \usepackage{booktabs}"
    assert lines[-1] == ""
    spans = [line for line in lines if line.endswith(r" \\")]
    assert len(spans) == len(rows) + 1 + bool(top)
    for line in spans:
        bare = re.sub(r"\\[&%$#_{}`\\]", "", line.removesuffix(r" \\"))
        merged = sum(int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d)\}", bare))
        assert bare.count("&") + merged == 1, line
        assert bare.count("$") % 2 == 0
        assert not set(bare) & set('%#_~^<>|`"−±–')
        depth = np.cumsum([{"{": 1, "}": -1}.get(mark, 0) for mark in bare])
        assert depth[-1] == 0
        assert depth.min() >= 0


def test_records_are_what_json_can_hold(mixed):
    summary = summarize(pair(mixed).frame, ["test_accuracy"], ["optimizer.lr"])
    records = to_records(summary.assign(tied=summary["ties"] > 0, far=[-np.inf, 1.5], gone=[None, pd.NA]))
    assert json.loads(json.dumps(records, allow_nan=False)) == records
    assert [record["optimizer.lr"] for record in records] == ["0.1", "0.2"]
    assert [record["mean"] for record in records] == pytest.approx([0.1, -0.025])
    assert [record["median_low"] for record in records] == [None, None]
    assert [record["tied"] for record in records] == [False, True]
    assert [record["far"] for record in records] == ["-inf", 1.5]
    assert [record["gone"] for record in records] == [None, None]
    assert type(records[0]["comparisons"]) is int
    two_levels = to_records(thesis_table(final_rows(mixed, "trial0")))
    assert two_levels[1]["Accuracy Test"] == 0.9
    assert to_records(summary.iloc[:0]) == []


def test_both_ends_of_a_span_have_the_unit_of_a_metric_of_ones_own():
    columns = Columns((Column("test_ece", "float", "fraction", "", -1),))
    assert span("test_ece", 0.01, 0.02, columns) == "+1.00 to +2.00 pp"
    assert span("test_ece", 0.01, math.inf, columns).startswith("+1.00 pp to ")
