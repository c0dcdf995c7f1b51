import json
import math

import pandas as pd
import pytest

from analysis.charts import Chart, Key, columnar
from analysis.page import (
    Cell,
    Choice,
    Grid,
    Section,
    Table,
    Text,
    capped,
    choice,
    embedded,
    grid,
    plain,
    render,
)
from analysis.page import library as script


def chart(id="a", data=None, legend=()):
    data = pd.DataFrame({"x": [1.0]}) if data is None else data
    return Chart(id, f"Title of {id}", f"In words {id}.", data, {"mark": "point"}, legend)


def test_columns_become_lists_that_json_knows():
    frame = pd.DataFrame(
        {
            "float": [1 / 3, math.nan, math.inf],
            "whole": pd.array([1, None, 3], dtype="Int64"),
            "truth": [True, False, True],
            "text": pd.array(["a", None, "<b>"], dtype="string"),
            "group": pd.Categorical(["x", "y", None]),
            "object": ["a", None, 2],
        }
    )
    columns = columnar(frame)
    assert columns == {
        "float": [0.3333333, None, None],
        "whole": [1, None, 3],
        "truth": [True, False, True],
        "text": ["a", None, "<b>"],
        "group": ["x", "y", None],
        "object": ["a", None, "2"],
    }
    json.dumps(columns, allow_nan=False)


def test_shared_data_stand_on_the_page_once():
    rows = pd.DataFrame({"x": ["</script><script>alert(1)</script>"]})
    text = embedded([chart("a", rows), chart("b", rows), chart("c")])
    assert "<" not in text
    page = json.loads(text)
    assert {name: part["data"] for name, part in page["charts"].items()} == {
        "a": "data-0",
        "b": "data-0",
        "c": "data-1",
    }
    assert page["data"]["data-0"] == {"x": ["</script><script>alert(1)</script>"]}


def test_two_charts_of_one_name_are_a_mistake():
    with pytest.raises(ValueError, match="two charts are called 'a'"):
        embedded([chart("a"), chart("a")])


def test_tables_are_cut_at_even_distances():
    table = plain("Numbers", ["n"], ([str(n)] for n in range(101)))
    assert capped(table, 101) is table
    cut = capped(table, 11)
    assert [row[0].text for row in cut.rows] == [str(n) for n in range(0, 101, 10)]
    assert cut.note.startswith("11 of 101 rows shown")


def test_what_has_nothing_to_show_is_no_block():
    assert grid(None, None) == []
    assert choice("By", [("a", [])]) == []
    one = chart()
    assert grid(None, one) == [Grid([one])]
    assert choice("By", [("a", []), ("b", grid(one))]) == [Choice("By", [("b", [Grid([one])])])]


def test_charts_share_a_legend_where_it_is_the_same():
    keys = (Key("arm", "red"),)
    assert Grid([chart("a", legend=keys), chart("b", legend=keys)]).legend == keys
    assert Grid([chart("a", legend=keys), chart("b")]).legend == ()
    assert Grid([chart("a", legend=keys)]).legend == ()
    assert [Grid([chart()] * n).columns for n in (1, 2, 3, 4, 9)] == [1, 2, 3, 2, 3]


def test_the_library_can_stand_in_a_script_element():
    assert "vegaEmbed" in script()
    assert "</script" not in script()
    assert "<!--" not in script()
    assert script() is script()


def test_text_is_escaped_wherever_it_stands():
    hostile = "<script>alert(1)</script>\"'"
    table = Table(hostile, [hostile], [[Cell(hostile, 1.5), Cell("–", math.nan)]], [(hostile, 2)], note=hostile)
    drawn = Chart("id", hostile, hostile, pd.DataFrame({hostile: [hostile]}), {}, (Key(hostile, "red"),), hostile)
    blocks = [Text(hostile), table, Choice(hostile, [(hostile, [Grid([drawn])])])]
    section = Section("s", hostile, hostile, blocks)
    values = {"name": hostile, "question": hostile, "verdict": [hostile, hostile], "numbers": {hostile: hostile}}
    values |= {"sections": [section], "before": [], "after": [], "others": [], "experiment": hostile, "manifest": table}
    source = render("report.html.j2", values, blocks)
    assert source.count("<script") == 3
    assert "alert(1)<" not in source
    assert 'data-value="1.5"' in source
    assert '<td data-value="">–</td>' in source
