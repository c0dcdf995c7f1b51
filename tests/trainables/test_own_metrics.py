"""Metrics of a researcher's own: what they may return, what is said where they do not, and where they are measured."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.study.lab import laboratory
from trainables import imports
from trainables.comparison import better, prepare, report
from trainables.config import Objective, Runtime, TrialConfig
from trainables.imports import CodeError
from trainables.metrics import measures, trial_run

SMALL = {"dataset.samples_per_class": 20, "model.name": "FCNet10", "batch_size": 64, "epochs": 2}
DIRECTIONS = {"brier": "min", "top2": "max"}


@pytest.fixture(scope="module", autouse=True)
def lab(tmp_path_factory: pytest.TempPathFactory) -> None:
    imports.provide([str(laboratory(tmp_path_factory.mktemp("lab"), "lab_of_metrics"))])


def configured(**metrics: dict[str, Any]) -> TrialConfig:
    flat = {f"metrics.{name}.{key}": value for name, section in metrics.items() for key, value in section.items()}
    return TrialConfig.from_dotted({**SMALL, **flat})


def own(function: str, **options: Any) -> dict[str, Any]:
    return {"use": f"lab_of_metrics.metrics:{function}", **options}


def test_a_metric_has_a_column_for_every_split_with_its_direction_and_unit() -> None:
    config = configured(
        calibration=own("ece", direction="min", unit="fraction", bins=5), scores=own("scores", direction=DIRECTIONS)
    )
    columns = {column.name: column for column in config.columns.own}
    splits, names = ("train", "validation", "test"), ("calibration", "scores_brier", "scores_top2")
    assert set(columns) == {f"{split}_{name}" for split in splits for name in names}
    assert columns["test_calibration"].direction == -1
    assert columns["test_calibration"].unit == "fraction"
    assert columns["validation_scores_top2"].direction == 1
    dotted = config.to_dotted()
    assert dotted["metrics.calibration.bins"] == 5
    assert TrialConfig.from_dotted(dotted) == config


def test_without_metrics_a_configuration_is_what_it_was() -> None:
    assert not any(key.startswith("metrics") for key in TrialConfig().to_dotted())


def test_a_metric_of_a_known_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"two metrics of the name .*test_accuracy"):
        configured(accuracy=own("ece", direction="min"))


def test_a_metric_is_measured_wherever_a_split_is_and_paired() -> None:
    config = configured(
        calibration=own("ece", direction="min", unit="fraction", bins=5), scores=own("scores", direction=DIRECTIONS)
    )
    comparison = prepare(config, Runtime(device="cpu"))
    before, after = comparison.step(), comparison.step()
    assert comparison.note is None
    for row in (*before, *after):
        for split in ("train", "validation", "test"):
            assert 0 <= float(row[f"{split}_calibration"] or 0) <= 1
            assert float(row[f"{split}_scores_top2"] or 0) >= float(row[f"{split}_accuracy"] or 0)
    metrics = report(after, "archetype", "filtered", config.columns)
    sides = metrics["archetype/test_calibration"], metrics["filtered/test_calibration"]
    assert metrics["gap/test_calibration"] == sides[0] - sides[1]
    assert better(metrics, "archetype", "filtered", config.columns)["better/test_calibration"] == min(sides)
    objective = Objective.model_validate({"metric": "gap/validation_scores_top2"}, context={"columns": config.columns})
    assert objective.modes(config.columns) == ("max",)
    assert math.isfinite(objective.values(metrics, "archetype")[0])


def test_a_measurement_leaves_training_as_it_is() -> None:
    plain, measured = (
        prepare(config, Runtime(device="cpu"))
        for config in (configured(), configured(calibration=own("ece", direction="min")))
    )
    rows = [[comparison.step() for _ in range(3)][-1] for comparison in (plain, measured)]
    assert [row["test_mean_loss"] for row in rows[0]] == [row["test_mean_loss"] for row in rows[1]]


def test_a_number_that_is_not_finite_is_missing_and_noted() -> None:
    comparison = prepare(configured(odd=own("nothing", direction="max")), Runtime(device="cpu"))
    rows = comparison.step()
    assert [row["test_odd"] for row in rows] == [None, None]
    assert comparison.note == ("not a finite number, and recorded as missing: test_odd, train_odd, validation_odd")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (own("raising"), r"metrics.mine \(.*:raising\): ZeroDivisionError: no bins \(.*metrics.py, line \d+\)"),
        (own("shaped"), r"must return a number, not a Tensor of shape \[10\]"),
        (own("unnamed"), "returns a mapping with a, b, and what is declared is a number"),
        (own("scores", direction={"brier": "min"}), "with brier, top2, and what is declared is a mapping with brier"),
        (own("ece", binz=3), "metrics.mine.binz: unknown option; did you mean 'bins'"),
        ({"use": "math:pi"}, "is a float, not a function"),
    ],
)
def test_what_is_wrong_with_a_metric_is_one_line_before_anything_runs(section: dict[str, Any], message: str) -> None:
    (line,) = trial_run(configured(mine={"direction": "min", **section}).metrics, classes=10)
    with pytest.raises(CodeError, match=message):
        raise CodeError(line)
    assert "\n" not in line


def test_a_metric_that_cannot_be_found_names_its_key() -> None:
    with pytest.raises(CodeError, match=r"metrics\.mine\.use: 'lab_of_metrics\.metrics:ecce': .* did you mean 'ece'"):
        measures(configured(mine=own("ecce")).metrics)


def test_an_exception_while_training_ends_the_comparison_with_file_and_line() -> None:
    comparison = prepare(configured(odd=own("late", direction="max")), Runtime(device="cpu"))
    for arm in comparison.arms:
        with torch.no_grad():
            for parameter in arm.model.parameters():
                parameter.mul_(20)
    with pytest.raises(CodeError, match=r"arm '\w+': metrics.odd .*: ValueError: too sure \(.*metrics.py, line \d+\)"):
        comparison.step()


@pytest.mark.parametrize("direction", ["up", 1, {"a": "up"}])
def test_a_direction_is_one_of_three_words(direction: Any) -> None:
    with pytest.raises(ValueError, match="must be max, min or none"):
        configured(mine=own("ece", direction=direction))


def test_code_that_calls_what_raises_is_named(tmp_path: Path) -> None:
    (tmp_path / "lab_that_calls.py").write_text("import json\n\ndef f():\n    return json.loads('{')\n")
    imports.provide([str(tmp_path)])
    function = imports.find("lab_that_calls:f", "metrics")
    with pytest.raises(ValueError, match="Expecting") as caught:
        function()
    assert imports.culprit(caught.value) == f"{tmp_path / 'lab_that_calls.py'}, line 4"
    assert imports.culprit(ValueError("of nobody")) is None
