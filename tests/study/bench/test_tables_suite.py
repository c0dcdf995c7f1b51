import json
from pathlib import Path

import numpy as np
import pytest

from analysis.load import load
from analysis.pairs import pair
from study.bench import tables
from trainables.records import COLUMNS


def test_made_up_tables_are_a_study_whose_comparisons_all_pair(tmp_path: Path) -> None:
    tables.generate(tmp_path, 7, 4, np.random.default_rng(0))
    study = load(tmp_path)
    assert study.damage == ()
    assert len(study.trials) == 7
    assert len(study.epochs) == 7 * 2 * 5
    assert list(study.epochs.columns) == [column.name for column in COLUMNS]
    assert study.epochs["test_accuracy"].nunique() > 60
    pairs = pair(study)
    assert len(pairs.frame) == 7
    assert not pairs.dropped


def test_the_tables_follow_from_the_seed(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        tables.generate(tmp_path / name, 3, 2, np.random.default_rng(seed))
    a, b, c = (load(tmp_path / name).epochs for name in "abc")
    assert a.equals(b)
    assert not a.equals(c)


def test_reading_says_the_seconds_of_every_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables.generate(tmp_path, 4, 2, np.random.default_rng(0))
    tables.main("read", tmp_path)
    told = json.loads(capsys.readouterr().out)
    assert told.keys() == {"load", "pair", "summarize", "comparisons", "peak"}
    assert told["comparisons"] == 4
    assert all(told[step] > 0 for step in ("load", "pair", "summarize"))
    assert 50e6 < told["peak"] < 50e9


def test_the_suite_measures_seconds_and_memory_beside_a_bare_reading() -> None:
    seconds, memory, overhead = tables.suite(comparisons=20, epochs=3, rounds=2)
    assert (seconds.unit, seconds.bound, seconds.limit, seconds.rounds) == ("s", "at most", 15.0, 2)
    assert (memory.unit, memory.bound, memory.limit) == ("GB", "at most", 4.0)
    assert (overhead.unit, overhead.limit) == ("×", None)
    assert 0.05 < memory.value < 4
    assert "20 comparisons × 2 arms × 3 epochs" in seconds.name


def test_a_part_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)the part read of the suite ended with 1: .*"):
        tables._process("read", tmp_path / "missing")
