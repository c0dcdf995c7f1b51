"""The notebook runs as it stands, in a kernel of its own, and shows what it says that it shows."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_notebook_runs_and_shows_tables_and_figures():
    notebook = nbformat.read(ROOT / "examples" / "tour.ipynb", as_version=4)
    NotebookClient(notebook, timeout=250, resources={"metadata": {"path": str(ROOT)}}).execute()
    shown = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in data for data in shown) == 2
    assert sum("text/html" in data for data in shown) >= 5
    (study,) = [data["text/plain"] for data in shown if "4 comparisons (4 finished)" in data.get("text/plain", "")]
    assert "searched: batch_size, optimizer.lr" in study or "searched: optimizer.lr, batch_size" in study
