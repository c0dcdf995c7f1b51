"""A study of an earlier version, whose options of an arm stand side by side: killed in the midst of its third of four
comparisons.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.load import load as load_study
from study import experiment, history
from tests.study.drills import filter_study
from trainables.comparison import prepare
from trainables.config import Runtime, TrialConfig
from trainables.records import REPRODUCIBLE

STUDY = Path(__file__).parent / "data" / "old_keys"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(STUDY, tmp_path / "old"))


def test_it_is_read_under_todays_keys(old: Path) -> None:
    trials = load_study(old).trials
    assert list(trials["arms.filtered.filter.name"]) == ["hard", "hard", "soft"]
    assert list(trials["arms.split.selector.k"]) == [32, 64, 32]
    assert set(trials["arms.random.selector.like"]) == {"filtered"}
    assert set(trials["arms.lenient.filter.margin"]) == {0.25}
    assert not [name for name in trials if name.endswith((".margin", ".beta")) and name.count(".") == 2]
    assert "arms.archetype.selector.beta" not in trials


def test_its_experiment_is_todays(old: Path) -> None:
    known = experiment.load(str(old / "experiment.yaml"), begun=True)
    assert sorted(known.space) == ["arms.filtered.filter.name", "arms.split.selector.k"]
    planned = [TrialConfig.from_dotted(values).to_dotted() for values in known.configurations or ()]
    recorded = [past.config for past in history.read(old).comparisons]
    for past, values in zip(recorded, planned, strict=False):
        assert past.items() <= values.items()


def test_it_is_reported_compared_and_exported(old: Path, tmp_path: Path) -> None:
    shown = filter_study("gaps", str(old), "--by", "arms.filtered.filter.name", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "hard" in shown.stdout
    exported = filter_study("export", str(old), "--to", "tables", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    assert set(pd.read_parquet(tmp_path / "tables" / "trials.parquet")["arms.lenient.selector.k"]) == {8}


def anew(values: dict[str, Any]) -> pd.DataFrame:
    """The rows of a configuration that is trained from its start."""
    compared = prepare(TrialConfig.from_dotted(values), Runtime(device="cpu", threads=1))
    rows: list[dict[str, Any]] = []
    while not compared.done:
        rows += compared.step()
    return pd.DataFrame(rows)


def assert_same(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    """Bit for bit, in what a version that recorded the first rows had measured."""
    later = [name for name in ours if name.endswith(("samples_backward", "auxiliary_compute"))]
    columns = [name for name in REPRODUCIBLE if name in ours and name not in later]
    one, other = (
        f.sort_values(["epoch", "arm"])[columns].reset_index(drop=True).astype(object) for f in (ours, theirs)
    )
    pd.testing.assert_frame_equal(one.where(one.notna(), None), other.where(other.notna(), None), check_dtype=False)


@pytest.mark.slow
def test_it_goes_on_with_the_bits_that_it_would_have_had(old: Path, tmp_path: Path) -> None:
    done = filter_study("resume", str(old), "--set", "resources.cpu=1", "--no-report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no checkpoint" not in done.stdout + done.stderr
    study = load_study(old)
    assert list(study.trials["status"]) == ["finished"] * 4
    configurations = experiment.load(str(old / "experiment.yaml"), begun=True).configurations
    assert configurations is not None
    rows = study.epochs.groupby("trial_id")["epoch"].agg(["min", "max", "nunique"])
    assert set(map(tuple, rows.to_numpy())) == {(0, 8, 9)}
    last = study.epochs[study.epochs["trial_id"] == study.trials["trial_id"][3]]
    assert_same(last, anew(configurations[3]))  # one that had not begun; the others were recorded on two threads


@pytest.mark.slow
def test_it_is_confirmed(old: Path, tmp_path: Path) -> None:
    text = (old / "experiment.yaml").read_text()
    (old / "experiment.yaml").write_text(text.replace("cpu: 2", "cpu: 1"))
    confirmed = filter_study("confirm", str(old), "--top", "1", "--seeds", "2", cwd=tmp_path)
    assert confirmed.returncode == 0, confirmed.stderr
