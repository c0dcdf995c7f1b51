import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from analysis.curve_charts import looks, panel_charts
from analysis.curves import MOST_VALUES, accumulation, panel_rows, variations
from analysis.figures import (
    accumulation_figure,
    caption,
    gap_distribution,
    nine_panels,
    thesis_figures,
    variations_figure,
)
from analysis.load import DTYPES, TableError
from analysis.pairs import arms, pair
from trainables.records import STEP_COLUMNS


def imread(path):
    """The picture's pixels, from 0 to 1."""
    return np.asarray(Image.open(path).convert("RGB"), dtype="float64") / 255


def nine(loaded, clock="epochs"):
    """The nine panels of the first trial."""
    return panel_charts(panel_rows(loaded, "trial0"), looks(arms(loaded, "trial0")), clock, "nine")


def drawn(chart, arm):
    """What a panel draws of an arm: where, and how much."""
    line = next(layer for layer in chart.spec["layer"] if layer["mark"]["type"] == "line")
    x, y = chart.spec["encoding"]["x"]["field"], line["encoding"]["y"]["field"]
    rows = chart.data[(chart.data["arm"] == arm) & chart.data[x].notna()].sort_values(x)
    return rows[x].tolist(), rows[y].tolist()


def test_nine_panels_have_every_arm_against_epochs(trial, study):
    loaded = study(trial(0, {"control": [0.1, 0.3], "filtered": [0.1, 0.6], "archetype": [0.1, 0.5]}))
    charts = nine(loaded)
    assert list(charts) == [
        *("train accuracy (fraction)", "test accuracy (fraction)", "train worst loss (nats)"),
        *("train mean loss (nats)", "test mean loss (nats)", "test worst loss (nats)"),
        *("train q90 loss (nats)", "test q90 loss (nats)", "time for probing and updates (s)"),
    ]
    arms_drawn = [[kind.name for kind in chart.legend] for chart in charts.values()]
    assert arms_drawn == [["archetype", "filtered", "control"]] * 9
    assert drawn(charts["test accuracy (fraction)"], "filtered") == ([0, 1], [0.1, 0.6])
    assert drawn(charts["time for probing and updates (s)"], "archetype") == ([0, 1], [0, 2])


def test_nine_panels_against_another_clock(trial, study):
    changes = {("filtered", 1): {"cumulative_seconds": None}}
    loaded = study(trial(0, {"archetype": [0.1, 0.5, 0.6], "filtered": [0.1, 0.4, 0.7]}, changes=changes))
    seconds = nine(loaded, "seconds")
    assert drawn(seconds["test accuracy (fraction)"], "archetype")[0] == [0, 2, 4]
    assert drawn(seconds["test accuracy (fraction)"], "filtered") == ([0, 4], [0.1, 0.7])
    (last,) = [chart for heading, chart in seconds.items() if heading.startswith("passes over the data")]
    assert drawn(last, "archetype")[1] == [0, 1, 2]
    steps = nine(loaded, "steps")
    accuracy = steps["train accuracy (fraction)"]
    assert [drawn(accuracy, arm)[0] for arm in ("archetype", "filtered")] == [[0, 10, 20], [0, 5, 10]]
    assert "time for probing and updates (s)" in steps
    with pytest.raises(ValueError, match="clock 'hours' is unknown; use one of epochs, passes, steps"):
        nine(loaded, "hours")


def test_a_metric_that_was_not_recorded_has_no_chart(trial, study, tmp_path):
    changes = {(arm, epoch): {"test_q90_loss": None} for arm in ("archetype", "filtered") for epoch in (0, 1)}
    loaded = study(trial(0, {"archetype": [0.1, 0.5], "filtered": [0.1, 0.6]}, changes=changes))
    assert [heading for heading, chart in nine(loaded).items() if chart is None] == ["test q90 loss (nats)"]
    assert nine_panels(loaded, "trial0").save(tmp_path / "nine.png").is_file()


@pytest.mark.slow
def test_the_legend_of_many_arms_stays_within_the_picture(trial, study, tmp_path):
    arms = {f"arm_with_a_long_name_{number}": [0.1, 0.5] for number in range(12)}
    loaded = study(trial(0, {"archetype": [0.1, 0.5], "filtered": [0.1, 0.6], **arms}))
    ink = imread(nine_panels(loaded, "trial0").save(tmp_path / "nine.png")).min(axis=2) < 0.5
    assert not ink[:, [0, 1, -2, -1]].any()
    assert not ink[[0, 1, -2, -1]].any()


def test_losses_are_logarithmic_where_they_are_positive(trial, study):
    changes = {("filtered", 1): {"train_mean_loss": 0.0}, ("archetype", 1): {"test_q90_loss": None}}
    charts = nine(study(trial(0, {"archetype": [0.1, 0.5], "filtered": [0.1, 0.6]}, changes=changes)))
    scales = {heading: chart.spec["layer"][0]["encoding"]["y"]["scale"] for heading, chart in charts.items()}
    assert {heading for heading, scale in scales.items() if scale.get("type") == "log"} == {
        *("train worst loss (nats)", "test worst loss (nats)", "train q90 loss (nats)", "test q90 loss (nats)")
    }  # mean losses share their scale, and one of them is 0


def _grid(trial, study, sizes, rates):
    """A comparison for each pair of batch size and learning rate, in this order."""
    pairs = [(size, rate) for rate in rates for size in sizes]
    return study(
        *(
            trial(
                number,
                {"archetype": [0.1, 0.5], "filtered": [0.1, 0.6]},
                config={"batch_size": size, "optimizer.lr": rate, "seed": 0},
            )
            for number, (size, rate) in enumerate(pairs)
        )
    )


def test_variations_differ_in_one_key_alone(trial, study):
    loaded = study(
        *(
            trial(number, {"archetype": [0.1, 0.5], "filtered": [0.1, 0.6]}, config=config)
            for number, config in enumerate(
                [
                    {"batch_size": 16, "optimizer.lr": 0.1, "seed": 0},
                    {"batch_size": 1024, "optimizer.lr": 0.2, "seed": 0},
                    {"batch_size": 128, "optimizer.lr": 0.2, "seed": 0},
                    {"batch_size": 16, "optimizer.lr": 0.2, "seed": 0},
                    {"batch_size": 128, "optimizer.lr": 0.1, "seed": 0},
                    {"batch_size": 1024, "optimizer.lr": 0.1, "seed": 1},
                ]
            )
        )
    )
    frame = pair(loaded).frame
    found = variations(loaded, frame, "batch_size")
    assert found.trial_ids == ("trial3", "trial2", "trial1")
    assert found.alike == "optimizer.lr 0.2, seed 0"
    assert list(found.curves.values()) == [
        (size, arm) for size in ("16", "128", "1024") for arm in ("archetype", "filtered")
    ]
    assert list(dict.fromkeys(found.rows["arm"])) == list(found.curves)
    filtered = found.rows[found.rows["arm"] == "16, filtered"]
    assert filtered["test_accuracy"].tolist() == [0.1, 0.6]
    assert filtered["cumulative_steps"].tolist() == [0, 5]
    assert variations(loaded, frame, "optimizer.lr").trial_ids == ("trial0", "trial3")  # the first of two sets of two
    assert len(variations(loaded, frame, "seed").trial_ids) == 1
    with pytest.raises(TableError, match=r"no comparison has the key 'momentum'; those that vary: .*batch_size"):
        variations(loaded, frame, "momentum")


def test_of_many_values_a_few_are_taken_the_ends_among_them(trial, study):
    loaded = _grid(trial, study, [2**power for power in range(11)], [0.1])
    found = variations(loaded, pair(loaded).frame, "batch_size")
    assert found.values == 11
    assert len(found.trial_ids) == MOST_VALUES
    assert [setting for setting, _ in found.curves.values()][::2] == ["1", "4", "16", "64", "256", "1024"]


def test_variations_of_an_arm_are_named_by_their_side(trial, study):
    arms = {"archetype": [0.1, 0.5], "filtered": [0.1, 0.6], "soft": [0.1, 0.7]}
    treatments = enumerate(["soft", "filtered"])
    loaded = study(*(trial(number, arms, config={"treatment": name, "seed": 0}) for number, name in treatments))
    found = variations(loaded, pair(loaded).frame, "treatment")
    last = found.rows[found.rows["epoch"] == 1].set_index("arm")["test_accuracy"]
    assert [(setting, arm, last[name]) for name, (setting, arm) in found.curves.items()] == [
        ("filtered", "archetype", 0.5),
        ("filtered", "treatment", 0.6),
        ("soft", "archetype", 0.5),
        ("soft", "treatment", 0.7),
    ]


def test_a_setting_that_follows_another_does_not_keep_comparisons_apart(trial, study):
    arms = {"archetype": [0.1, 0.5], "filtered": [0.1, 0.6]}
    configs = [{"optimizer.name": "SGD"}, {"optimizer.name": "Adam", "optimizer.amsgrad": False}]
    loaded = study(*(trial(number, arms, config={**config, "seed": 0}) for number, config in enumerate(configs)))
    assert variations(loaded, pair(loaded).frame, "optimizer.name").trial_ids == ("trial1", "trial0")


@pytest.fixture(scope="module")
def six(trial, study):
    """Three batch sizes at two rates each."""
    return _grid(trial, study, [16, 64, 256], [0.1, 0.2])


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(6)), st.data())
def test_the_order_of_comparisons_does_not_matter(six, order, data):
    frame = pair(six).frame
    key = data.draw(st.sampled_from(["batch_size", "optimizer.lr"]))
    found = variations(six, frame.iloc[order], key)
    assert found.trial_ids == variations(six, frame, key).trial_ids
    chosen = frame[frame["trial_id"].isin(found.trial_ids)]
    assert chosen[key].is_unique
    other = {"batch_size": "optimizer.lr", "optimizer.lr": "batch_size"}[key]
    assert chosen[other].nunique() == 1


def test_variations_of_no_comparison_are_empty(mixed):
    found = variations(mixed, pair(mixed).frame.iloc[:0], "batch_size")
    assert found.trial_ids == ()
    assert found.curves == {}
    assert found.rows.empty


def _probing(trial, number, raw_batches, **others):
    """A comparison whose filtered arm probes: in epoch 1 this many raw batches for a filtered one."""
    changes = {
        ("filtered", 1): {
            "steps": 5,
            "samples_probed": 100,
            "samples_kept": 40,
            "samples_overflowed": 10,
            "acceptance": 0.4,
            "raw_batches_per_step": raw_batches,
        }
    }
    return trial(number, {"archetype": [0.1, 0.5], "filtered": [0.1, 0.6]}, changes=changes, **others)


def _of(rows, quantity, column):
    return rows.loc[rows["quantity"] == quantity, column].tolist()


def test_accumulation_has_quartiles_of_comparisons(trial, study):
    loaded = study(*(_probing(trial, number, batches) for number, batches in enumerate([1.0, 2.0, 3.0, 4.0, 9.0])))
    found = accumulation(loaded)
    assert set(found["quantity"]) == {"raw_batches_per_step", "overflow", "acceptance"}
    assert set(found["arm"]) == {"filtered"}
    batches = [_of(found, "raw_batches_per_step", column) for column in ("epoch", "low", "median", "high")]
    assert batches == [[1], [2], [3], [4]]
    assert _of(found, "overflow", "median") == [0.25]
    assert _of(found, "acceptance", "median") == [0.4]
    one = accumulation(loaded, "trial4")
    assert [_of(one, "raw_batches_per_step", column) for column in ("low", "median", "high")] == [[9], [9], [9]]


def _traced(loaded, updates):
    """The study with these updates of the filtered arm in ``trial0``: epoch, raw batches, probed, kept, overflowed."""
    rows = [
        {"trial_id": "trial0", "arm": "filtered", "epoch": epoch, "step": number, "samples_trained": 1}
        | {"raw_batches": batches, "samples_probed": probed, "samples_kept": kept, "samples_overflowed": over}
        for number, (epoch, batches, probed, kept, over) in enumerate(updates)
    ]
    steps = pd.DataFrame(rows).astype({column.name: DTYPES[column.type] for column in STEP_COLUMNS})
    return replace(loaded, steps=steps)


def test_accumulation_of_a_traced_trial_has_quartiles_of_its_updates(trial, study):
    updates = [(1, 1, 10, 10, 0), (1, 2, 20, 10, 5), (1, 3, 30, 10, 10), (3, 8, 80, 4, 1), (3, 0, 0, 0, 0)]
    found = accumulation(_traced(study(_probing(trial, 0, 4.0), _probing(trial, 1, 5.0)), updates), "trial0")
    batches = [_of(found, "raw_batches_per_step", column) for column in ("epoch", "low", "median", "high")]
    assert batches == [[1, 3], [1.5, 8], [2, 8], [2.5, 8]]
    assert _of(found, "overflow", "median") == [0.5, 0.25]
    assert _of(found, "acceptance", "high") == [0.75, 0.05]


def test_nothing_accumulates_without_probing(mixed):
    assert accumulation(mixed).empty
    assert accumulation(mixed, "trial5").empty
    assert accumulation(_traced(mixed, [(1, 0, 0, 0, 0)]), "trial0").empty


def test_a_caption_has_settings_and_gap(mixed):
    assert caption(mixed, "trial1") == (
        "Trial 1: optimizer.lr 0.2, seed 1, epochs 2; test accuracy gap −5.00 pp at epoch 2"
    )
    assert caption(mixed, "trial5") == "Trial 5: optimizer.lr 0.1, seed 5, epochs 10"
    with pytest.raises(TableError, match="no trial 'nine'"):
        panel_rows(mixed, "nine")


def _ink(path):
    """The share of a picture that is not white."""
    return float((imread(path).min(axis=-1) < 0.9).mean())


@pytest.mark.slow
@pytest.mark.parametrize("trial_id", ["trial0", "trial5", "trial6"])
def test_any_trial_can_be_drawn(mixed, tmp_path, trial_id):
    path = nine_panels(mixed, trial_id, "seconds").save(tmp_path / "nine.png")
    assert path == tmp_path / "nine.png"
    assert {file.name for file in tmp_path.iterdir()} == {"nine.png", "nine.pdf"}
    assert _ink(path) > 0.01
    assert (tmp_path / "nine.pdf").read_bytes().startswith(b"%PDF")


def test_an_odd_number_of_metrics_and_no_gaps_can_be_drawn(mixed, tmp_path):
    frame = pair(mixed).frame
    assert _ink(gap_distribution(frame, ["test_accuracy"], "optimizer.lr").save(tmp_path / "one.png")) > 0.01
    metrics = ["test_accuracy", "test_mean_loss", "test_q90_loss"]
    three = gap_distribution(frame, metrics).save(tmp_path / "three.png")
    none = gap_distribution(frame.iloc[:0], metrics).save(tmp_path / "none.png")
    assert _ink(three) > _ink(none) > 0


@pytest.mark.slow
def test_variations_and_accumulation_can_be_drawn_of_something_and_of_nothing(trial, study, tmp_path):
    trials = [_probing(trial, number, 2.0, config={"batch_size": 16 * 2**number, "seed": 0}) for number in range(3)]
    loaded = study(*trials)
    frame = pair(loaded).frame
    some = variations_figure(loaded, frame, "batch_size", "compute").save(tmp_path / "some.png")
    none = variations_figure(loaded, frame.iloc[:0], "batch_size").save(tmp_path / "none.png")
    assert _ink(some) > _ink(none) > 0.01
    batches = accumulation_figure(loaded).save(tmp_path / "batches.png")
    nothing = accumulation_figure(replace(loaded, epochs=loaded.epochs.iloc[:0])).save(tmp_path / "nothing.png")
    assert _ink(batches) > 0.005
    assert _ink(nothing) > 0.005  # it says that nothing was recorded
    assert imread(batches).shape != imread(nothing).shape or (imread(batches) != imread(nothing)).any()


def test_a_study_of_nothing_has_no_figures(mixed):
    none = pair(mixed).frame.iloc[:0]
    assert thesis_figures(mixed, none, []) == {}


@pytest.mark.slow
def test_the_same_data_give_the_same_files(mixed, tmp_path):
    first, again = (nine_panels(mixed, "trial0").save(tmp_path / name) for name in ("a.png", "b.png"))
    assert first.read_bytes() == again.read_bytes()
    assert first.with_suffix(".pdf").read_bytes() == again.with_suffix(".pdf").read_bytes()


def test_all_figures_of_a_study_have_readable_names(trial, study):
    trials = [_probing(trial, number, 2.0, config={"batch_size": 16 * 2**number, "seed": 0}) for number in range(3)]
    loaded = study(*trials)
    assert list(thesis_figures(loaded, pair(loaded).frame, ["trial2", "trial2"])) == [
        "trial-2-epochs",
        "trial-2-seconds",
        "trial-2-accumulation",
        "variations-batch_size",
        "accumulation",
    ]
    ends = replace(loaded, epochs=loaded.epochs[loaded.epochs["epoch"] == 1].assign(samples_probed=None))
    assert thesis_figures(ends, pair(ends).frame, ["trial2"]) == {}  # no curves to draw
    with pytest.raises(TableError, match="no trial 'nine'"):
        thesis_figures(loaded, pair(loaded).frame, ["nine"])


def test_what_was_recorded_is_only_drawn_and_never_read(trial, study):
    hostile = "var(--text)"
    trials = [trial(n, {"archetype": [0.1], "filtered": [0.2]}, config={"model.name": hostile}) for n in range(3)]
    spec = gap_distribution(pair(study(*trials)).frame, ["test_accuracy"], "model.name").spec
    said = json.dumps(spec["vconcat"][0]["concat"][0]["data"])
    assert hostile in said
    assert "var(--" not in json.dumps([spec["config"], spec["vconcat"][1:]])
