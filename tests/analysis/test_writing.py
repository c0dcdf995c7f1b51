from pathlib import Path

import pytest

from analysis.writing import replacing, write_text


def test_two_that_write_one_file_at_once_both_succeed(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    with replacing(file) as first, replacing(file) as second:
        first.write_text("first")
        second.write_text("second")
        assert not file.exists()
    assert file.read_text() == "first"  # which ended last
    assert list(tmp_path.iterdir()) == [file]


def test_what_breaks_off_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = write_text(tmp_path / "table.csv", "whole\r\n")

    def break_off() -> None:
        with replacing(file) as partial:
            partial.write_text("ha")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert file.read_bytes() == b"whole\r\n"
    assert list(tmp_path.iterdir()) == [file]
