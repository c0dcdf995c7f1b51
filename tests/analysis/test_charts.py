import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from landscape import made_up

from analysis import report
from analysis.behaviour import over_time
from analysis.charts import Axis, Key, bars_chart, field, forest_chart, scale, slug, thinned
from analysis.curve_charts import (
    MOST_MOMENTS,
    behaviour_chart,
    best_of_n_chart,
    lines_chart,
    looks,
    panel_charts,
    reached_chart,
)
from analysis.curves import evenly, panel_rows
from analysis.gap_charts import (
    LEARNED,
    UNLEARNED,
    described,
    gaps_chart,
    points,
    scatter_chart,
    win_map_chart,
    zero_lines,
)
from analysis.gaps import win_map
from analysis.load import TableError
from analysis.pairs import pair
from analysis.speed import reached, time_to
from analysis.tuning import best_of_n

NAMES = {"baseline": "archetype", "treatment": "filtered"}


@pytest.fixture(scope="module")
def study():
    return made_up(12, 2, epochs=4)


@pytest.fixture(scope="module")
def frame(study):
    return pair(study).frame


def layers(spec):
    return [spec, *(inner for layer in spec.get("layer", ()) for inner in layers(layer))]


def fields(part):
    """The columns that a part of a specification names, as the data have them."""
    if isinstance(part, dict):
        own = [re.sub(r"\\(.)", r"\1", part["field"])] if isinstance(part.get("field"), str) else []
        return own + [name for value in part.values() for name in fields(value)]
    return [name for value in part for name in fields(value)] if isinstance(part, list) else []


def check(chart):
    """The specification is plain data, and names no column that its rows lack."""
    json.dumps(chart.spec, allow_nan=False)
    for layer in layers(chart.spec):
        rows = layer.get("data", {}).get("values", None)
        there = set(rows[0]) if rows else set(chart.data.columns)
        made = {step["as"] for step in layer.get("transform", ()) if "as" in step}
        own = {name: part for name, part in layer.items() if name not in ("layer", "data")}
        assert set(fields(own)) <= there | made
    assert chart.alt.endswith(".")
    assert chart.title
    return chart


def test_charts_of_gaps_name_their_numbers(frame):
    dots = points(frame, ["test_accuracy"], ["dataset.label_noise"])
    chart = check(gaps_chart(frame, dots, "test_accuracy"))
    gaps = 100 * frame["gap/test_accuracy"]
    assert chart.alt.startswith("Gaps of 24 comparisons in test accuracy, a dot each, from")
    assert f"the median is {gaps.median():+.2f} pp".replace("-", "−") in chart.alt
    assert chart.spec["layer"][2]["data"]["values"][0]["median"] == pytest.approx(gaps.median())
    assert chart.data is dots
    assert [key.name for key in chart.legend] == ["a comparison", "median"]
    by = check(gaps_chart(frame, dots, "test_accuracy", "dataset.label_noise", "so many."))
    medians = gaps.groupby(frame["dataset.label_noise"]).median()
    marks = by.spec["layer"][2]["data"]["values"]
    assert [mark["group"] for mark in marks] == ["0", "0.2"]
    assert [mark["median"] for mark in marks] == pytest.approx(list(medians))
    assert by.note == "so many."
    assert by.id != chart.id


def test_unlearned_baselines_are_marked(frame):
    some = frame.assign(baseline_learned=[False, *[True] * 23])
    chart = gaps_chart(some, points(some, ["test_accuracy"], []), "test_accuracy")
    assert "its baseline did not learn" in [key.name for key in chart.legend]


def test_there_is_no_chart_without_a_number(frame, study):
    none = frame.assign(**{"gap/test_accuracy": math.nan})
    assert gaps_chart(none, points(none, ["test_accuracy"], []), "test_accuracy") is None
    rows = pd.DataFrame({"label": ["a"], "value": [math.nan], "low": [math.nan], "high": [math.nan], "said": ["–"]})
    assert forest_chart(rows, "a", "A", "a", "About.") is None
    assert bars_chart(pd.DataFrame({"label": ["a"], "value": [0]}), "a", "A", "a", "About.") is None
    assert win_map_chart(win_map(none, "test_accuracy", ("model.name", "seed")), ("model.name", "seed"), "x") is None
    assert best_of_n_chart(best_of_n(frame.iloc[:0]), 0) is None
    assert reached_chart(reached(time_to(study, 0.5, "epochs").iloc[:0]), NAMES, 0.5, "epochs") is None
    assert behaviour_chart(over_time(study).iloc[:0], "acceptance", "acceptance", []) is None


def test_many_groups_are_shown_in_part(frame):
    names = [f"arm {number:02}" for number in range(30)]
    many = pd.concat([frame.head(1).assign(**{"model.name": name}) for name in names], ignore_index=True)
    chart = check(gaps_chart(many, points(many, ["test_accuracy"], ["model.name"]), "test_accuracy", "model.name"))
    assert "The first 24 of 30 groups are shown." in chart.note
    rows = pd.DataFrame({"label": names, "value": 1.0, "low": 0.5, "high": 1.5, "said": "1"})
    chart = check(forest_chart(rows, "many", "Many", "value", "Values."))
    assert chart.note == "The first 24 of 30 are shown."
    assert len(chart.data) == 24


def test_points_hold_settings_and_groups(frame):
    dots = points(frame, ["test_accuracy"], ["optimizer.lr"])
    assert len(dots) == 24
    assert dots["optimizer.lr (group)"].nunique() == 4
    assert dots["spread"].abs().max() <= 1
    first = frame.iloc[0]
    assert f"model.name {first['model.name']}" in dots["settings"].iloc[0]
    assert described(frame, []) == [""] * 24
    unset = pd.DataFrame({"a": [None, "x"], "b": [1.0, 0.25]})
    assert described(unset, ["a", "b"]) == ["b 1", "a x, b 0.25"]


def test_forests_draw_what_is_infinite_up_to_the_edge_and_mark_what_chance_reaches():
    rows = pd.DataFrame({"label": ["a", "b"], "value": [1.0, -math.inf], "low": [-math.inf] * 2, "high": [3.0, 2.0]})
    rows = rows.assign(said=["one", "−∞"])
    chart = check(forest_chart(rows, "id", "Title", "value", "About."))
    assert chart.data[["value", "low", "high"]].to_numpy().tolist() == [[1, 0, 3], [0, 0, 2]]
    assert chart.alt == "About. a: one; b: −∞."
    chart = check(forest_chart(rows.assign(chance=[0.5, 1.5]), "id", "Title", "value", "About."))
    assert [key.name for key in chart.legend] == ["with 95% interval", "what it reaches by chance"]
    assert "chance" in [layer["encoding"]["x"].get("field") for layer in chart.spec["layer"]]


def test_forests_tell_their_values():
    rows = pd.DataFrame({"label": ["a", "b"], "value": [1.0, 2.0], "low": [0.5, math.nan], "high": [2.0, math.nan]})
    rows["said"] = ["one", "two"]
    chart = check(forest_chart(rows, "id", "Title", "value", "About.", reference=1, log=True))
    assert chart.alt == "About. a: one; b: two."
    assert [key.name for key in chart.legend] == ["with 95% interval"]
    assert chart.spec["layer"][0]["encoding"]["x"]["datum"] == 1
    without = forest_chart(rows.assign(low=math.nan, high=math.nan), "id", "Title", "value", "About.")
    assert without.legend == ()
    assert len(without.spec["layer"]) == len(chart.spec["layer"]) - 1


def test_win_maps_class_the_share_won(frame):
    keys = ("dataset.label_noise", "model.name")
    table = win_map(frame, "test_accuracy", keys)
    chart = check(win_map_chart(table, keys, "test_accuracy"))
    best = table.loc[table["wins"].idxmax()]
    assert f"Most is won, {best['wins']:.0%} of {best['comparisons']}, at dataset.label_noise" in chart.alt
    assert len(chart.data) == len(table)
    edges = table.head(1).assign(wins=[1.0])
    assert win_map_chart(edges, keys, "test_accuracy").data["class"].tolist() == ["80–100%"]
    assert win_map_chart(edges.assign(wins=0.2), keys, "test_accuracy").data["class"].tolist() == ["20–40%"]


def test_scatters_have_a_layer_for_each_kind_that_is_there():
    dots = pd.DataFrame({"x": [1.0, 2.0], "y": [1.0, 3.0], "what": LEARNED.name, "number": [0, 1]})
    x, y = Axis("x", "across"), Axis("y", "up")
    kinds = [LEARNED, UNLEARNED]
    chart = check(scatter_chart(dots, "s", "S", "About.", x, y, "what", kinds, zero_lines(x, y), ["number"]))
    assert len(chart.spec["layer"]) == 3
    assert chart.legend == (LEARNED,)
    assert scatter_chart(dots.assign(x=math.nan), "s", "S", "A.", x, y, "what", kinds, [], []) is None


def test_curves_of_tuning_end_at_the_tuned_arms(frame):
    curves = best_of_n(frame)
    cell = curves[curves["cell"] == curves["cell"].iloc[0]]
    chart = check(best_of_n_chart(cell, 3))
    assert chart.id == "best-of-n-3"
    last = cell[cell["n"] == cell["n"].max()].set_index("arm")["expected"]
    assert f"archetype {last['archetype']:.1%}, filtered {last['filtered']:.1%}" in chart.alt
    assert chart.data["expected"].max() > 1  # percent


def test_curves_of_shares_begin_at_nothing_and_are_thinned(study):
    curves = reached(time_to(study, 0.6, "compute"))
    chart = check(reached_chart(curves, NAMES, 0.6, "compute"))
    assert chart.title == "60% test accuracy"
    assert chart.data.groupby("arm")["value"].first().tolist() == [0, 0]
    assert chart.data["share"].max() <= 100
    long = pd.concat([curves] * 100, ignore_index=True)
    assert len(reached_chart(long, NAMES, 0.6, "compute").data) <= 2 * MOST_MOMENTS + 2


def test_behaviour_has_a_band_where_there_are_quartiles(study):
    rows = over_time(study)
    kinds = [Key("filtered", "var(--treatment)", "line")]
    acceptance = check(behaviour_chart(rows, "acceptance", "acceptance ratio", kinds))
    assert [layer["mark"]["type"] for layer in acceptance.spec["layer"]] == ["area", "line", "point"]
    assert set(acceptance.data["arm"]) == {"filtered"}
    without = behaviour_chart(rows, "epochs_without_update", "without", kinds)
    assert [layer["mark"]["type"] for layer in without.spec["layer"]] == ["line", "point"]


def test_nine_panels_share_scales_of_train_and_test(study):
    rows = panel_rows(study, "trial0")
    names = ["archetype", "filtered", "random"]
    charts = [check(chart) for chart in panel_charts(rows, looks(names), "epochs", "example").values()]
    assert [chart.id for chart in charts][:2] == ["example-epochs-train_accuracy", "example-epochs-test_accuracy"]
    assert len(charts) == 9
    assert all(chart.data is rows for chart in charts)
    domains = [chart.spec["layer"][0]["encoding"]["y"]["scale"].get("domain") for chart in charts]
    assert domains[0] == domains[1]
    assert domains[0] is not None
    last = rows[rows["epoch"] == 4].set_index("arm")["test_accuracy"]
    assert f"at the end: archetype {last['archetype']:.4g}, filtered {last['filtered']:.4g}" in charts[1].alt
    along_seconds = [*panel_charts(rows, looks(names), "seconds", "example").values()]
    assert along_seconds[-1].id == "example-seconds-epoch"
    with pytest.raises(TableError, match="no trial 'none'"):
        panel_rows(study, "none")


def test_long_curves_are_drawn_at_even_distances():
    rows = panel_rows(made_up(1, 1, epochs=250, traced=False), "trial0")
    epochs = sorted(set(rows["epoch"]))
    assert len(epochs) == 100
    assert epochs[0] == 0
    assert epochs[-1] == 250
    assert set(np.diff(epochs)) <= {2, 3}
    assert evenly(rows.iloc[:0], 5).empty


def test_lines_without_a_point_are_not_drawn():
    rows = pd.DataFrame({"x": [1.0], "y": [math.nan], "arm": ["a"]})
    assert lines_chart(rows, "l", "L", "A.", Axis("x", "x"), Axis("y", "y"), "arm", [Key("a", "b", "line")]) is None


def test_thinning_keeps_order_and_says_so():
    rows = pd.DataFrame({"a": range(50)})
    assert thinned(rows, 0, 50) == (rows, "")
    some, note = thinned(rows, 0, 10, "dots")
    assert note == "10 of 50 dots shown, drawn at random."
    assert some["a"].is_monotonic_increasing
    assert some.equals(thinned(rows, 0, 10)[0])


@given(st.lists(st.lists(st.text(max_size=6), min_size=1, max_size=3), min_size=2, max_size=2, unique_by=tuple))
def test_identifiers_are_safe_and_of_one_thing_alone(two):
    one, other = (slug(*parts) for parts in two)
    assert re.fullmatch(r"[\w.-]*", one, re.ASCII)
    assert one != other


def test_identifiers_are_readable():
    assert slug("gaps", "test_accuracy", "optimizer.lr") == "gaps-test_accuracy-optimizer.lr"
    assert slug("a b").startswith("a-b-")


def test_columns_with_dots_and_brackets_are_no_paths():
    assert field("optimizer.lr") == r"optimizer\.lr"
    assert field("a[0]'\"\\") == r"a\[0\]\'\"\\"


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis("x", "x", whole=True, domain=(1, 4)), [1, 2, 3, 4]),
        (Axis("x", "x", whole=True, domain=(1, 40)), []),
        (Axis("x", "x", log=True, domain=(0.04, 3)), [0.05, 0.1, 0.2, 0.5, 1, 2]),
        (Axis("x", "x", log=True, domain=(1e-4, 10)), [1e-4, 1e-3, 0.01, 0.1, 1, 10]),
        (Axis("x", "x", log=True, domain=(0, 3)), []),
        (Axis("x", "x"), []),
    ],
)
def test_ticks(axis, ticks):
    assert axis.ticks() == pytest.approx(ticks)


def test_gaps_are_drawn_in_points_or_their_unit():
    assert scale("test_accuracy") == (100, "pp")
    assert scale("test_worst_loss") == (1, "nats")


def luminance(color):
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """Of two colours, after WCAG 2.2."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_stand_out_from_the_page(scheme):
    style = (Path(report.__file__).with_name("report.css")).read_text()
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    colors = dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{6})", blocks[scheme == "dark"]))
    for name in ("--text", "--soft", "--accent"):
        assert contrast(colors[name], colors["--page"]) >= 4.5
        assert contrast(colors[name], colors["--band"]) >= 4.5
    for number in range(1, 6):  # with the page's colour written on it
        assert contrast(colors[f"--map-{number}"], colors["--page"]) >= 4.5
    for name in ("--baseline", "--treatment", "--other-1", "--other-2", "--other-3"):
        page, ink = (
            np.array([int(colors[of][place : place + 2], 16) for place in (1, 3, 5)]) for of in ("--page", name)
        )
        drawn = "#" + "".join(f"{int(part):02x}" for part in 0.85 * ink + 0.15 * page)
        assert contrast(drawn, colors["--page"]) >= 3
