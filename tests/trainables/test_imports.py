from __future__ import annotations

from pathlib import Path

import pytest

from trainables import imports
from trainables.imports import CodeError


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of a researcher's own on the path; its name."""
    name = f"lab_{tmp_path.name.replace('-', '_')}"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "rho.py").write_text(
        "class RhoLoss:\n    pass\n\n\ndef load(size, *, seed=1):\n    raise KeyError(size)\n"
    )
    (folder / "raises.py").write_text("import json\n\njson.loads('x')\n")
    (folder / "broken.py").write_text("\ndef f(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_an_import_path_is_followed(lab: str) -> None:
    assert imports.find(f"{lab}.rho:RhoLoss", "methods").__name__ == "RhoLoss"
    assert imports.find("json:decoder.JSONDecoder", "methods").__name__ == "JSONDecoder"


@pytest.mark.parametrize(
    ("use", "says"),
    [
        ("{lab}.rho:RhoLos", "rho.py) has no 'RhoLos'; did you mean 'RhoLoss'?"),
        ("{lab}.none:f", "there is no module '{lab}.none'; install it, or name the folder that it lies in with --code"),
        ("no_such_lab.x:f", "there is no module 'no_such_lab.x'"),
        (":f", "there is no module ''"),
        ("{lab}.raises:f", "JSONDecodeError: Expecting value: line 1 column 1 (char 0) ("),
        ("{lab}.raises:f", "raises.py, line 3)"),
        ("{lab}.broken:f", "broken.py, line 2)"),
        ("rho", "must be an import path such as my_lab.module:name"),
    ],
)
def test_what_cannot_be_found_is_one_line(lab: str, use: str, says: str) -> None:
    with pytest.raises(CodeError) as caught:
        imports.find(use.format(lab=lab), "methods")
    assert says.format(lab=lab) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_exception_of_a_researchers_code_names_their_file_and_line(lab: str) -> None:
    load = imports.find(f"{lab}.rho:load", "datasets")
    with pytest.raises(CodeError, match=r"dataset: KeyError: 48 \(.*rho\.py, line 6\)"), imports.blamed("dataset"):
        load(48)


def test_options_are_checked_against_what_a_function_takes(lab: str) -> None:
    load = imports.find(f"{lab}.rho:load", "datasets")
    assert imports.misfits(load, {"size": 1}) == []
    assert imports.misfits(load, {}, provided=["size"]) == []
    assert imports.misfits(load, {"sed": 1}) == ["sed: unknown option; did you mean 'seed'?", "size: is missing"]


def test_none_of_the_program_s_own_packages_is_taken_for_a_researcher_s() -> None:
    root = Path(imports.__file__).parents[1]
    own = {file.parent.name for file in root.glob("*/py.typed")}
    assert own == set(imports.PACKAGES)
    assert not any(imports._foreign(str(root / package / "__init__.py")) for package in own)
