from collections.abc import Callable
from pathlib import Path

import pytest

from study import folder as folders
from study.experiment import Experiment, ExperimentError, load
from study.located import located, relative

Build = Callable[..., Experiment]


def test_paths_are_recorded_absolute_and_uris_as_they_are(
    small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    folders.create(tmp_path / "a", small(storage="store"))
    folders.create(tmp_path / "b", small(storage="~/store", data_dir="s3://lab/data?region=x"))
    monkeypatch.chdir("/")
    one, other = (folders.reopen(tmp_path / name) for name in "ab")
    assert (one.storage, one.data_dir) == (str(tmp_path / "store"), str(tmp_path / "data"))
    assert (other.storage, other.data_dir) == ("/home/me/store", "s3://lab/data?region=x")
    assert relative(one) == relative(other) == []


def test_relative_paths_of_older_studies_are_told_and_kept_absolute(
    small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / folders.EXPERIMENT).write_text(small(storage="store").to_yaml())
    monkeypatch.chdir(tmp_path)
    reopened = folders.reopen(tmp_path, ["data_dir=/data"])
    (line,) = relative(reopened)
    assert line.startswith(f"storage: 'store' is a relative path; seen from {tmp_path},")
    assert line.endswith(str(tmp_path / "store"))
    folders.keep(tmp_path, reopened)
    assert load(str(tmp_path / folders.EXPERIMENT)).storage == str(tmp_path / "store")


def test_paths_that_lead_nowhere_are_all_named(small: Build, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"(?s)data_dir: '': is empty.*storage: '~nobodyx/s': .*whole path"):
        located(small(data_dir="", storage="~nobodyx/s"))
    with pytest.raises(ExperimentError):
        folders.create(tmp_path / "new", small(storage="~nobodyx/s"))
    assert not (tmp_path / "new").exists()


def test_paths_of_data_sets_are_absolute_wherever_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.yaml"
    about = "about: {title: t, question: q}\ndataset: {name: folder, path: here}\n"
    file.write_text(about + "search: {name: random, trials: 1, points: [{dataset.path: there}]}\n" + SPACE)
    experiment = load(str(file))
    here, there = str(tmp_path / "here"), str(tmp_path / "there")
    assert experiment.trial["dataset.path"] == here
    assert experiment.space["dataset.path"].choice == (here, there, "s3://bucket/plankton")
    assert experiment.space["batch_size"].when == {"dataset.path": (there,)}
    assert experiment.search.points == ({"dataset.path": there},)
    again = tmp_path / "again.yaml"
    again.write_text(experiment.to_yaml())
    monkeypatch.chdir("/")
    assert load(str(again)).model_copy(update={"name": "mine"}) == experiment


def test_an_option_of_ones_own_code_that_is_named_path_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    own = "dataset: {use: 'lab:load', path: here}\nsearch: {name: grid}\nbatch_size: 8\n"
    file.write_text("about: {title: t, question: q}\n" + own)
    assert load(str(file)).trial["dataset.path"] == "here"


SPACE = """
space:
  dataset.path: {choice: [here, there, "s3://bucket/plankton"]}
  batch_size: {choice: [8, 16], when: {dataset.path: there}}
"""
