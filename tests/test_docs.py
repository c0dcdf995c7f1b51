"""What the documents name must be there."""

import re
from pathlib import Path

import pytest

from trainables.records import BY_NAME

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_tests_and_files_that_a_document_names_exist(document: Path) -> None:
    text = document.read_text("utf-8")
    tests = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    files = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    named = set(re.findall(r"`(test_\w+)`", text)) - set(BY_NAME)
    assert named <= tests, named - tests
    assert set(re.findall(r"`(test_\w+\.py)`", text)) <= files
    for path in re.findall(r"`((?:tests|docs|study|analysis|trainables)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path


def test_every_fault_in_the_operations_table_names_a_drill() -> None:
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    table = text.split("| fault |")[1].split("\n\n")[0].splitlines()[2:]
    assert len(table) > 15
    assert all("`test_" in row.rsplit("|", 2)[1] for row in table), table
