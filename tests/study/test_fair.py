"""The same experiment with the compute of its baseline for every arm."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from analysis.load import load as load_study
from analysis.pairs import pair
from analysis.verdict import verdict
from study import experiment, fair, folder
from study.experiment import ExperimentError
from tests.study.drills import filter_study
from tests.study.test_old_studies import STUDY as OLD
from trainables.config import TrialConfig

TEXT = """\
about: {title: Small, question: "Does it run?"}
dataset: {samples_per_class: 30}
model: {name: FCNet10}
batch_size: 16
epochs: 3
search: {name: grid}
wandb: {mode: disabled}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(TEXT)
    return path


def budget(values: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in values.items() if key.startswith("budget.")}


def test_every_arm_may_spend_the_compute_of_the_baseline(file: Path) -> None:
    given, made = experiment.load(str(file)), fair.load(str(file))
    assert budget(made.trial) == {"budget.clock": "compute", "budget.of": "archetype"}
    assert {key: value for key, value in made.trial.items() if not key.startswith("budget.")} == given.trial
    assert (made.name, made.space, made.search) == ("small-fair", given.space, given.search)
    config = TrialConfig.from_dotted(made.fixed)
    assert config.allotment("filtered") == ("compute", None, "archetype")
    assert config.allotment("archetype") == ("epochs", 3, None)


def test_it_is_of_the_experiment_s_own_baseline(file: Path) -> None:
    file.write_text(f"{TEXT}baseline: plain\narms: {{plain: {{granularity: none}}, filtered: {{}}}}\n")
    made = fair.load(str(file), ["epochs=2"])
    assert budget(made.trial) == {"budget.clock": "compute", "budget.of": "plain"}
    assert TrialConfig.from_dotted(made.fixed).epochs == 2


def test_a_study_s_folder_stands_for_its_experiment(file: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    folder.create(kept, experiment.load(str(file)))
    made = fair.load(str(kept))
    assert made.name == "small-fair"
    assert TrialConfig.from_dotted(made.fixed).budget.of == "archetype"
    (kept / "manifest.json").write_text(json.dumps({}))
    assert fair.load(str(kept)).name == "kept-fair"


def test_a_study_of_an_earlier_version_runs_again(tmp_path: Path) -> None:
    made = fair.load(str(shutil.copytree(OLD, tmp_path / "old")))
    configs = [TrialConfig.from_dotted(values) for values in made.configurations or ()]
    assert {config.budget.of for config in configs} == {"archetype"}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("budget: {clock: steps, amount: 9}", ["budget.clock: steps", "budget.amount: 9"]),
        ("budget: {clock: compute, of: filtered}", ["budget.clock: compute", "budget.of: filtered"]),
        ("arms: {filtered: {epochs: 2}}", ["arms.filtered.epochs: 2"]),
        ("arms: {filtered: {budget: {clock: steps, amount: 9}}}", ["arms.filtered.budget.clock: steps"]),
        (
            "budget: {clock: steps, amount: 5}\nspace: {budget.amount: {choice: [5, 9]}}",
            ["budget.clock: steps", "budget.amount, which varies"],
        ),
    ],
)
def test_an_experiment_that_has_a_budget_is_refused(lines: str, said: list[str], file: Path) -> None:
    file.write_text(TEXT + lines)
    with pytest.raises(ExperimentError) as refused:
        fair.load(str(file))
    assert len(refused.value.errors) == 1
    assert all(one in refused.value.errors[0] for one in said)


def test_epochs_of_the_baseline_s_own_are_no_other_budget(file: Path) -> None:
    file.write_text(f"{TEXT}arms: {{archetype: {{epochs: 2}}, filtered: {{}}}}\n")
    config = TrialConfig.from_dotted(fair.load(str(file)).fixed)
    assert config.allotment("archetype") == ("epochs", 2, None)
    assert config.allotment("filtered") == ("compute", None, "archetype")


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(folder.FolderError, match="holds no study"):
        fair.load(str(tmp_path))


@pytest.mark.slow
def test_a_study_runs_again_at_the_same_compute(file: Path, tmp_path: Path) -> None:
    folder.create(tmp_path / "first", experiment.load(str(file)))
    done = filter_study("run", "first", "--fair", "--no-report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (kept,) = (tmp_path / "studies").glob("small-fair-*")
    study = load_study(kept)
    assert "with the same compute (what archetype spends in 3 epochs)" in verdict(pair(study))
    last = study.epochs.query("epoch == 3").set_index("arm")
    spent = last["cumulative_compute"].astype("float64")
    assert spent["filtered"] == pytest.approx(spent["archetype"], rel=0.1)
    assert last.loc["filtered", "passes"] != last.loc["archetype", "passes"]
