"""Which references a study needs, and that it is given the same ones in all of its runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from search_spaces.domains import Parameter
from study import folder, manifest, preflight, references, runner
from study.experiment import Experiment, ExperimentError
from trainables.comparison import UnmeasuredError, prepare
from trainables.config import Runtime, TrialConfig

Build = Callable[..., Experiment]
SECONDS = {"clock": "reference_seconds", "of": "archetype"}


def keys(experiment: Experiment) -> set[str]:
    return set(references.asked(experiment, "data"))


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({}, False),
        ({"budget": {"clock": "compute", "of": "archetype"}}, False),
        ({"budget": SECONDS}, True),
        ({"arms": {"archetype": {}, "filtered": {"budget": SECONDS}}}, True),
        ({"budget": SECONDS, "space": {"budget.clock": {"choice": ["compute", "reference_seconds"]}}}, True),
    ],
)
def test_references_are_needed_where_a_budget_asks_for_them(
    small: Build, changes: dict[str, Any], needed: bool
) -> None:
    changes = {"search": {"trials": 2}, "space": {"optimizer.lr": {"uniform": [0.1, 0.2]}}} | changes
    assert references.needed(small(**changes)) is needed


def test_every_combination_that_a_search_can_ask_for_is_listed_and_nothing_else(small: Build) -> None:
    searched = small(
        budget=SECONDS,
        search={"trials": 2},
        space={
            "batch_size": {"integer": [8, 10]},
            "model.name": {"choice": ["FCNet8", "FCNet9"]},
            "optimizer.name": {"choice": ["SGD", "Adam"]},
            "optimizer.lr": {"loguniform": [0.01, 0.1]},
            "optimizer.momentum": {"choice": [0.0, 0.9], "when": {"optimizer.name": "SGD"}},
            "dataset.samples_per_class": {"integer": [20, 300]},
        },
    )
    found = keys(searched)
    assert len(found) == 3 * 2 * 2
    assert "FCNet9, 1 x 32 x 32, 10 classes, batch 10, fp32, augmentation none, Adam" in found
    listed = small(budget=SECONDS, search={"name": "grid"}, space={"batch_size": {"choice": [8, 16]}})
    assert sorted(key.split(", ")[3] for key in keys(listed)) == ["batch 16", "batch 8"]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"batch_size": {"integer": [8, 400]}}, r"this search can ask for 393 \(space.batch_size alone has 393 values"),
        ({"batch_size": {"integer": [8, 100_000]}}, r"this search can ask for up to 99,993 \(space.batch_size alone"),
        (
            {"model.width": {"uniform": [0.5, 2.0]}, "batch_size": {"choice": [8, 16]}},
            r"space.model.width: a budget of reference seconds needs every value beforehand.* as choice",
        ),
    ],
)
def test_a_search_whose_references_cannot_be_listed_is_refused_with_the_remedy(
    small: Build, space: dict[str, Any], message: str
) -> None:
    narrow = {"search": {"trials": 2}, "space": {"optimizer.lr": {"choice": [0.1, 0.2]}}}
    wider = {"space": {key: Parameter.model_validate(stated) for key, stated in space.items()}}
    with pytest.raises(ExperimentError, match=message):
        references.asked(small(budget=SECONDS, **narrow).model_copy(update=wider), "data")


def test_validate_refuses_them_too_and_only_where_a_budget_needs_them(small: Build) -> None:
    sections = {"search": {"trials": 2}, "space": {"batch_size": {"integer": [8, 270]}}}
    preflight.check(small(**sections))
    with pytest.raises(ExperimentError, match="reference seconds are measured before anything runs"):
        preflight.check(small(budget=SECONDS, **sections))


def test_a_study_measures_once_and_keeps_what_it_has(small: Build, tmp_path: Path) -> None:
    experiment = small(budget=SECONDS, search={"name": "grid"}, space={"batch_size": {"choice": [8, 16]}})
    calls: list[list[str]] = []

    def measure(configs: Mapping[str, TrialConfig]) -> references.Known:
        calls.append(list(configs))
        return {key: (0.5, float(len(calls))) for key in configs}

    folder.create(tmp_path / "study", experiment)
    assert "reference" not in manifest.read(tmp_path / "study")
    first = runner.referenced(experiment, tmp_path / "study", measure)
    assert set(first) == keys(experiment)
    assert runner.referenced(experiment, tmp_path / "study", measure) == first
    assert manifest.references(tmp_path / "study") == first
    assert len(calls) == 1
    more = small(budget=SECONDS, search={"name": "grid"}, space={"batch_size": {"choice": [8, 32]}})
    later = runner.referenced(more, tmp_path / "study", measure)
    assert later == first | dict.fromkeys(keys(more) - keys(experiment), (0.5, 2.0))
    assert preflight.under_ray(experiment, later).reference == later


def test_a_study_without_such_a_budget_measures_nothing_and_a_confirmation_has_those_of_its_study(
    small: Build, tmp_path: Path
) -> None:
    def never(_: Mapping[str, TrialConfig]) -> references.Known:
        raise AssertionError

    folder.create(tmp_path / "free", small())
    assert runner.referenced(small(), tmp_path / "free", never) == {}
    experiment = small(budget=SECONDS)
    known = dict.fromkeys(keys(experiment), (0.5, 2.0))
    folder.create(tmp_path / "confirmation", experiment, {"id": "searched"}, known)
    assert runner.referenced(experiment, tmp_path / "confirmation", never) == known


def test_what_cannot_be_measured_is_told_with_the_reason(small: Build) -> None:
    asked = references.asked(small(budget=SECONDS), "data")
    tf32 = {key: config.model_copy(update={"precision": "tf32"}) for key, config in asked.items()}
    with pytest.raises(ExperimentError, match=r"no reference seconds of FCNet.*precision is tf32, which only CUDA has"):
        references.measure_here(tf32, Runtime(device="cpu"))


def test_what_was_measured_in_this_process_is_what_comparisons_ask_for(small: Build) -> None:
    experiment = small(budget=SECONDS)
    config, runtime = TrialConfig.from_dotted(experiment.trial), preflight.runtime(experiment, "cpu")
    known = references.measure_here(references.asked(experiment, runtime.data_dir), runtime)
    arms = prepare(config, preflight.runtime(experiment, "cpu", known)).arms
    assert [arm.reference for arm in arms] == [next(iter(known.values()))] * len(arms)
    with pytest.raises(UnmeasuredError, match="none were measured for FCNet"):
        prepare(config, runtime)
