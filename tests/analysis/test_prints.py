import pytest
from PIL import Image

from analysis import prints
from analysis.drawing import PRINT
from analysis.prints import draw, drawn_beside

DOT = {
    "data": {"values": [{"x": 1}]},
    "mark": "point",
    "encoding": {"x": {"field": "x", "type": "quantitative"}},
    "config": {"axis": {"titleFontWeight": "normal"}} | PRINT,
}


def test_figures_are_drawn_while_the_block_runs_to_the_bytes_that_they_have_here(tmp_path):
    with drawn_beside({"one": DOT, "two": DOT | {"width": 50}}, tmp_path) as files:
        assert files == [tmp_path / "one.png", tmp_path / "two.png"]
    here = draw(DOT, tmp_path / "here.png")
    for suffix in (".png", ".pdf"):
        assert (tmp_path / "one").with_suffix(suffix).read_bytes() == here.with_suffix(suffix).read_bytes()
    assert Image.open(tmp_path / "two.png").width != Image.open(here).width


def test_without_figures_no_process_is_started(tmp_path, monkeypatch):
    monkeypatch.setattr(prints.subprocess, "Popen", None)
    with drawn_beside({}, tmp_path) as files:
        assert files == []


def test_what_cannot_be_written_is_said_when_the_block_ends(tmp_path):
    (tmp_path / "one.png").mkdir()
    with pytest.raises(OSError, match=r"figures could not be drawn: .*one\.png"), drawn_beside({"one": DOT}, tmp_path):
        pass


def test_a_block_that_raises_waits_for_no_figure(tmp_path):
    with pytest.raises(KeyboardInterrupt), drawn_beside({"one": DOT}, tmp_path):
        raise KeyboardInterrupt
    assert not (tmp_path / "one.png").exists()
