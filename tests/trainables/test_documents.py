import math
import string
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from trainables.documents import DocumentError, dump, parse

AMBIGUOUS = "0123456789+-._:eExobFnfytrulNO~=< "
WORDS = st.one_of(
    st.text(AMBIGUOUS, max_size=8),
    st.text(string.printable, max_size=8),
    st.sampled_from(["on", "no", "y", "null", "~", "1:30", "010", "1e-3", "0o7", "2024-01-01", "=", "<<", ".inf"]),
)
NUMBERS = st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.none())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("on", "on"),
        ("no", "no"),
        ("=", "="),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("Null", None),
        ("", None),
        ("''", ""),
        ("'1'", "1"),
        ("0o17", 15),
        ("0x1F", 31),
        ("-3", -3),
        ("0", 0),
        ("1e-3", 1e-3),
        ("5.E+2", 500.0),
        (".5", 0.5),
        ("-.inf", -math.inf),
    ],
)
def test_a_plain_scalar_is_what_the_core_schema_of_yaml_1_2_says(text: str, value: Any) -> None:
    read = parse(f"a: {text}\n")["a"]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nseed: 010\n", r"^line 2: 010 begins with a zero; write 10, or 0o10 for an octal number$"),
        ("seed: -08\n", r"^line 1: -08 begins with a zero; write -8$"),
        ("a: 1\nb: 2\na: 3\n", "^line 3: set twice: a$"),
        ("1: 2\n", "^line 1: 1 is no word, as a key must be; put it in quotes$"),
        ("a: 1\n? [b]\n: 2\n", "^line 2: a list or mapping is no word, as a key must be$"),
        ("a: !!timestamp 2024-01-01\n", "^line 1: could not determine a constructor"),
        ("a: !!bool maybe\n", "cannot be read|can be read"),
        ("a: !!int maybe\n", "^line 1: maybe is no whole number"),
        ("a: " + "9" * 5000, "^line 1: 9{40} is no whole number that can be read$"),
        ("a: " + "[" * 1500, "is not YAML that can be read"),
        ("a: 1\nb: {<<: 3}\n", "^line 2: expected a mapping or list of mappings for merging"),
        ("a: 1\nb: {<<: {c: 1}, <<: {d: 1}}\n", "^line 2: set twice: <<$"),
    ],
)
def test_what_the_program_cannot_mean_is_refused_with_the_line(text: str, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3, z: 4}\n", {"x": 1, "y": 3, "z": 4}),
        ("a: &a {x: 1, y: 2}\nb: {y: 3, <<: *a}\n", {"x": 1, "y": 3}),
        ("a: [&a {x: 1}, &c {x: 2, y: 5}]\nb: {<<: [*a, *c], z: 4}\n", {"x": 1, "y": 5, "z": 4}),
        ("a: {deep: &a {<<: {x: 1, y: 2}, x: 7}}\nb: {<<: *a}\n", {"x": 7, "y": 2}),
        ("b: {'<<': 1}\n", {"<<": 1}),
    ],
)
def test_a_merge_key_brings_what_the_section_does_not_set_itself(text: str, value: Any) -> None:
    assert parse(text)["b"] == value


@given(st.lists(WORDS | NUMBERS, max_size=6), st.dictionaries(WORDS, WORDS | NUMBERS, max_size=4))
def test_what_is_written_reads_back_as_the_same_in_either_version_of_yaml(
    values: list[Any], section: dict[str, Any]
) -> None:
    document = {"values": values, "section": section}
    text = dump(document)
    assert repr(parse(text)) == repr(document)
    assert repr(yaml.safe_load(text)) == repr(document)


@given(st.dictionaries(st.text(string.ascii_letters, min_size=1), WORDS | NUMBERS, max_size=4))
def test_what_an_earlier_version_wrote_reads_back_as_the_same_or_not_at_all(section: dict[str, Any]) -> None:
    """It wrote by YAML 1.1, which leaves text such as 0o7 without quotes; a number would be refused as text."""
    document = {key: value for key, value in section.items() if not isinstance(value, str) or not value.isnumeric()}
    try:
        read = parse(yaml.safe_dump({"values": document}))["values"]
    except DocumentError as error:
        assert "begins with a zero" in str(error)  # noqa: PT017
        return
    for key, value in document.items():
        number_like = isinstance(value, str) and not isinstance(read[key], str)
        assert number_like or repr(read[key]) == repr(value)
        assert not number_like or isinstance(read[key], int | float)
