from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from pyarrow.parquet import read_schema

from analysis import schema
from analysis.export import export
from analysis.load import DTYPES, NEEDED, config_keys
from trainables.records import BY_NAME, COLUMNS, METRICS, STEP_COLUMNS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def traced(mixed):
    """A study with updates."""
    row = {column.name: 1 for column in STEP_COLUMNS} | {"trial_id": "trial0", "arm": "filtered"}
    steps = pd.DataFrame([row]).astype({column.name: DTYPES[column.type] for column in STEP_COLUMNS})
    return replace(mixed, steps=steps)


def test_the_page_is_what_the_declarations_say():
    page = (DOCS / "tables.md").read_text(encoding="utf-8")
    assert page == schema.markdown(), "renew it: python -m analysis.schema > docs/tables.md"


@pytest.mark.parametrize("format", ["parquet", "csv"])
def test_an_export_has_the_declared_columns(traced, tmp_path, format):
    files = {file.stem: file for file in export(traced, tmp_path, format)}
    read = {"parquet": pd.read_parquet, "csv": pd.read_csv}[format]
    keys = config_keys(traced.trials)
    for table in schema.SCHEMA:
        written = read(files[table.name])
        assert list(written) == table.columns(keys), table.name
        assert len(written) > 0
        assert not written.duplicated(list(table.key)).any()
    assert set(files) == {table.name for table in schema.SCHEMA}


def test_an_export_has_the_documented_types(traced, tmp_path):
    files = {file.stem: file for file in export(traced, tmp_path, "parquet")}
    for table in schema.SCHEMA:
        written = read_schema(files[table.name])
        for field in (*table.before, *table.after):
            documented = f"| {schema.TYPES[field.type]} | `{written.field(field.name).type}` |"
            assert documented in schema.FORMATS, field.name


def test_columns_that_are_never_missing_are_those_the_loader_needs():
    never = {field.name for table in schema.SCHEMA for field in table.before if field.missing == "never"}
    assert never == set(NEEDED)
    assert set(schema.MISSING) <= {field.name for table in schema.SCHEMA for field in table.before}


def test_a_gap_is_declared_for_every_metric_and_nothing_else():
    gaps = [field for field in schema.PAIR_COLUMNS if field.name.startswith("gap/")]
    assert [field.name for field in gaps] == [f"gap/{metric}" for metric in METRICS]
    assert {field.direction for field in gaps} == {1}
    sides = {field.name: field for field in schema.PAIR_COLUMNS if field.name.startswith(("baseline/", "treatment/"))}
    for name, field in sides.items():
        column = BY_NAME[name.partition("/")[2]]
        assert (field.unit, field.direction, field.type) == (column.unit, column.direction, "float")
    assert sides["baseline/epoch"].missing == "where the side has no values"
    assert sides["treatment/validation_accuracy"].missing == "with nothing held out"


def test_every_row_of_the_page_has_as_many_cells_as_its_table():
    widths = []
    for line in schema.markdown().splitlines():
        if not line.startswith("|"):
            widths = []
            continue
        widths.append(line.count("|"))
        assert widths[-1] == widths[0], line


def test_the_page_says_what_is_better():
    page = schema.markdown()
    assert "| `test_worst_loss` | number | nats | smaller |" in page
    assert "| `test_accuracy` | number | fraction | larger |" in page
    assert all(f"| `{column.name}` |" in page for column in (*COLUMNS, *STEP_COLUMNS))
