"""Which code runs: its digest, where it was imported from, and whether workers have the same."""

import os
import subprocess
from pathlib import Path

import pytest

import trainables
from study import manifest, source


def test_a_digest_changes_with_a_files_content_and_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "made_up"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("1")
    monkeypatch.syspath_prepend(tmp_path)
    read = source._reader()
    folder, first = read(("made_up",))["made_up"]
    assert folder == str(package)
    (package / "one.py").write_text("2")
    _, second = read(("made_up",))["made_up"]
    (package / "one.py").rename(package / "two.py")
    _, third = read(("made_up",))["made_up"]
    (package / "notes.txt").write_text("no code")
    assert read(("made_up",))["made_up"] == (folder, third)
    assert len({first, second, third}) == 3


def test_a_module_in_the_place_of_a_package_and_none_at_all_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lying_about.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    read = source._reader()(("lying_about", "made_up_and_nowhere"))
    assert read == {"lying_about": (str(tmp_path / "lying_about.py"), ""), "made_up_and_nowhere": ("not found", "")}


def test_what_differs_is_named_with_both_folders() -> None:
    ours = {"study": ("/here/study", "1"), "trainables": ("/here/trainables", "2")}
    assert source.differences(ours, {"study": ("/copy/study", "1"), "trainables": ("/there/trainables", "3")}) == [
        "trainables is /there/trainables, not /here/trainables"
    ]


def test_workers_search_where_this_process_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(source.sys, "path", ["", "relative", "/absolute"])
    assert source.search_path() == [str(tmp_path), str(tmp_path / "relative"), "/absolute"]


def test_a_manifest_names_the_code_that_this_process_imported() -> None:
    found = source.sources()
    assert set(found) == set(source.PACKAGES)
    assert found["trainables"][0] == os.path.dirname(trainables.__file__)  # noqa: PTH120


def test_what_is_not_installed_is_said_in_the_manifest_and_ends_nothing() -> None:
    assert manifest._version("torch")[0].isdecimal()
    assert manifest._version("a-package-that-is-nowhere") == "not installed"


def test_the_revision_of_another_programs_tree_is_not_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site-packages" / "study" / "manifest.py"
    installed.parent.mkdir(parents=True)
    installed.touch()
    (tmp_path / "theirs.py").touch()
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-C", str(tmp_path)]
    for command in (["init", "--quiet"], ["add", "theirs.py"], ["commit", "--quiet", "--message", "theirs"]):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setattr(manifest, "__file__", str(installed))
    assert manifest._git() == {}
    subprocess.run([*git, "add", str(installed)], check=True)
    assert set(manifest._git()) == {"revision", "modified"}
