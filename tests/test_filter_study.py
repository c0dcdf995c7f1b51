"""The public module: what it reads, what it trains, and what it does not import."""

import asyncio
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pandas as pd
import pytest

import filter_study
from trainables.records import REPRODUCIBLE

LANDSCAPE = Path(__file__).parent / "analysis" / "data" / "landscape"
SMALL = {"dataset.samples_per_class": 20, "epochs": 2, "batch_size": 16}
CLI = [sys.executable, "-c", "from study.cli import main; main()"]


@pytest.fixture(scope="module")
def study():
    return filter_study.load(LANDSCAPE)


def test_what_is_public_is_there_and_documented():
    assert all(getattr(filter_study, name).__doc__ for name in filter_study.__all__)
    assert filter_study.__version__


def test_a_study_says_what_it_is(study):
    lines = repr(study).splitlines()
    assert lines[0] == "landscape: 48 comparisons (48 finished)"
    assert lines[1].startswith("arms: archetype, filtered")
    assert lines[2].startswith("searched: ")
    assert set(study.searched) <= set(study.trials)


def test_a_notebook_shows_the_gaps_and_runs_nothing_that_was_recorded(study):
    page = study._repr_html_()
    assert "<table" in page
    assert "test accuracy" in page
    hostile = filter_study.Study(study.tables.__class__(**{**vars(study.tables), "name": "<script>alert(1)</script>"}))
    assert "<script" not in hostile._repr_html_()


def test_gaps_are_those_of_the_command_line(study):
    done = subprocess.run(
        [*CLI, "gaps", str(LANDSCAPE), "--by", "model.name", "--json"], capture_output=True, text=True, check=True
    )
    told = pd.DataFrame(json.loads(done.stdout)["gaps"])
    ours = study.gaps(by=["model.name"])
    assert ours["median"].tolist() == pytest.approx(told["median"].tolist())
    assert ours["model.name"].astype(str).tolist() == told["model.name"].tolist()


def test_pairs_have_a_row_per_comparison_and_conditions_narrow_them(study):
    assert len(study.pairs()) == 48
    some = study.where("seed == 0") if "seed" in study.trials else study
    assert 0 < len(some.pairs()) <= 48
    gaps = study.pairs()["gap/test_accuracy"]
    sides = study.pairs()["treatment/test_accuracy"] - study.pairs()["baseline/test_accuracy"]
    assert gaps.tolist() == pytest.approx(sides.tolist())
    assert study.pairs(at="best")["gap/test_accuracy"].notna().all()


def test_comparisons_without_a_value_of_a_key_are_a_group_of_their_own(study):
    for table in (study.pairs(), study.trials):
        key = "optimizer.momentum" if "optimizer.momentum" in table else "schedule.gamma"
        assert table[key].isna().any()
        assert table.groupby(key).size().sum() == len(table) == 48
        assert table[table["seed"] >= 0].groupby([key, "model.name"])["seed"].count().sum() == 48  # of a part, too
        assert table.groupby(key, dropna=True).size().sum() == table[key].notna().sum()
    assert study.gaps(by=["optimizer.momentum"])["comparisons"].max() > 0


def test_figures_are_drawn_in_a_notebook_and_saved(study, tmp_path):
    gaps = study.plot_gaps(by="model.name")
    assert gaps._repr_png_().startswith(b"\x89PNG")
    assert gaps.save(str(tmp_path / "gaps.png")).is_file()
    assert (tmp_path / "gaps.pdf").is_file()
    assert study.plot_comparison(3, "compute").spec["vconcat"][0]["concat"]
    with pytest.raises(filter_study.TableError, match="no comparison 99; they go from 0 to 47"):
        study.plot_comparison(99)
    with pytest.raises(filter_study.TableError, match="accuracy has no gap"):
        study.plot_gaps(["accuracy"])
    with pytest.raises(filter_study.TableError, match="no problem with two budgets"):
        study.plot_budgets()


def test_arms_are_ranked_and_drawn_against_their_budgets():
    field = filter_study.load(LANDSCAPE.parents[3] / "docs" / "results" / "field", where="epochs < 30")
    ranks = field.league()
    assert ranks is not None
    assert len(ranks) == len(field.arms) == 25
    assert field.plot_budgets().spec["vconcat"]


def test_names_that_are_unknown_are_told_all_at_once(study):
    with pytest.raises(filter_study.TableError) as raised:
        study.gaps(metrics=["accuracy"], by=["learning_rate"], against="nobody")
    assert all(name in str(raised.value) for name in ("accuracy", "learning_rate", "nobody"))
    assert issubclass(filter_study.TableError, filter_study.UserError)
    with pytest.raises(filter_study.TableError, match="load needs the folder of a study"):
        filter_study.load()
    with pytest.raises(filter_study.TableError, match="give one: report"):
        filter_study.load(LANDSCAPE, "published:tables").report()


def test_the_report_of_a_part_or_of_what_is_published_takes_no_study_s_folder(study):
    parts = [study.where("seed >= 0"), filter_study.load(LANDSCAPE, where="seed >= 0")]
    for one in (*parts, filter_study.load("published:tables"), filter_study.load("published:thesis")):
        with pytest.raises(filter_study.TableError, match="give one: report"):
            one.report()
    assert study.home == LANDSCAPE
    assert filter_study.load(LANDSCAPE / "trials.parquet").home == LANDSCAPE


def test_reading_and_reporting_need_neither_torch_nor_ray_and_set_no_variable(tmp_path):
    program = (
        "import os, sys; before = dict(os.environ); import filter_study; assert dict(os.environ) == before; "
        f"study = filter_study.load({str(LANDSCAPE)!r}); study.gaps(); study.verdict(); repr(study); "
        f"study.report(to={str(tmp_path)!r}); "
        "assert not {'torch', 'ray', 'wandb', 'typer'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.html").is_file()


def test_a_comparison_trains_in_any_thread_and_tells_its_epochs_as_they_come():
    seen = []
    rows = filter_study.compare(SMALL, on_epoch=seen.append)
    assert rows["epoch"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert set(rows["arm"]) == {"archetype", "filtered", "random"}
    assert [len(part) for part in seen] == [3, 3, 3]
    assert pd.concat(seen)["test_accuracy"].tolist() == rows["test_accuracy"].tolist()
    with ThreadPoolExecutor(1) as other:
        again = other.submit(filter_study.compare, SMALL).result()
    same = [name for name in rows if name in REPRODUCIBLE]
    pd.testing.assert_frame_equal(rows[same], again[same])


def test_a_number_of_a_data_frame_is_a_setting():
    table = pd.DataFrame({"epochs": [1], "optimizer.lr": [0.1], "batch_size": [32]})
    settings = SMALL | {key: table[key].iloc[0] for key in table}
    assert filter_study.compare(settings)["epoch"].max() == 1


def test_a_comparison_is_refused_with_all_its_errors_before_it_trains():
    with pytest.raises(filter_study.UserError) as raised:
        filter_study.compare({"optimizer.lr": -1, "model.name": "LeNett", "epochs": 0})
    assert all(key in str(raised.value) for key in ("optimizer.lr", "LeNett", "epochs"))


TINY = SMALL | {
    "model.name": "FCNet10",
    "space": {"optimizer.lr": {"choice": [0.01, 0.1]}},
    "search": {"name": "grid"},
    "scheduler": {"name": "none"},
    "wandb.mode": "disabled",
}


@pytest.mark.slow
def test_a_study_is_run_gone_on_with_and_confirmed_as_on_the_command_line(tmp_path, capsys):
    home = tmp_path / "mine"
    study = filter_study.run(set=TINY, dir=home)
    assert study.home == home
    assert study.trials["status"].tolist() == ["finished", "finished"]
    assert (home / "report.html").is_file()
    assert (home / "tables" / "pairs.parquet").is_file()
    told = capsys.readouterr()
    assert "2 comparisons, up to 12 epochs over all arms, recorded in" in told.out
    assert told.err == ""
    with pytest.raises(filter_study.UserError, match="is not empty"):
        filter_study.run(set=TINY, dir=home)
    with pytest.raises(filter_study.UserError, match=r"a study goes on as it began"):
        filter_study.resume(study, set={"optimizer.lr": 1})
    again = filter_study.resume(study, set={"resources.cpu": 1}, report=False, progress=False)
    assert again.trials["trial_id"].tolist() == study.trials["trial_id"].tolist()
    assert capsys.readouterr().out == ""
    confirmed = filter_study.confirm(home, top=1, seeds=2, progress=False)
    assert confirmed.home is not None
    assert confirmed.home.parent == home / "confirmations"
    assert set(confirmed.trials["seed"]) == {1, 2}
    assert "Confirmed median gap" in (home / "report.html").read_text("utf-8")


@pytest.mark.slow
def test_a_study_runs_in_another_thread_beside_a_notebook_s_event_loop(tmp_path):
    async def cell():
        return filter_study.run(set=TINY, dir=tmp_path / "loop", report=False, progress=False)

    with ThreadPoolExecutor(1) as other:
        study = other.submit(asyncio.run, cell()).result()
    assert study.trials["status"].tolist() == ["finished", "finished"]


def test_a_study_that_cannot_be_run_is_refused_with_all_its_errors(tmp_path):
    with pytest.raises(filter_study.UserError) as raised:
        filter_study.run(set={"optimizer.lr": -1, "search.trials": 0}, dir=tmp_path / "none")
    assert all(key in str(raised.value) for key in ("optimizer.lr", "search.trials"))
    assert not (tmp_path / "none").exists()
    with pytest.raises(filter_study.UserError, match="no built-in experiment"):
        filter_study.run("quickstrat")
    with pytest.raises(filter_study.UserError, match="is not there"):
        filter_study.resume(tmp_path / "nowhere")
    with pytest.raises(filter_study.TableError, match="give the folder of a study"):
        filter_study.resume(filter_study.load(LANDSCAPE, where="seed >= 0"))


def test_an_experiment_s_space_is_one_of_tune_s_and_one_of_optuna_s():
    tuned = filter_study.tune_space("quickstart", {"epochs": 3})
    assert tuned["epochs"] == 3
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = filter_study.optuna_space("quickstart", {"epochs": 3})(study.ask())
    assert set(drawn) <= set(tuned)
    assert filter_study.compare(drawn | {"dataset.samples_per_class": 20, "epochs": 1})["epoch"].max() == 1


@pytest.mark.parametrize("document", ["README.md", pytest.param("docs/python.md", marks=pytest.mark.slow)])
def test_the_python_of_a_document_runs_as_it_stands(document, monkeypatch, capsys):
    root = Path(__file__).parents[1]
    blocks = re.findall(r"```python\n(.*?)```", (root / document).read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(root)
    known = {}
    for block in blocks:
        exec(block, known)
    assert "landscape: 48 comparisons" in capsys.readouterr().out
