"""YAML as the program reads and writes it: the core schema of YAML 1.2, and merge keys.

PyYAML speaks YAML 1.1, in which ``010`` is 8, ``1:30`` is 90, ``on`` is true, ``1e-3`` is text and a date is no text.
Its rules for plain scalars are replaced here by those of YAML 1.2.2, section 10.3.2; its scanner and parser are kept.
Every document that an experiment is read from goes through :func:`parse`: a file, the value of ``--set``, a study's own
``experiment.yaml``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode

from trainables.errors import UserError

_NULL, _BOOL, _INT, _FLOAT, _TEXT, _LIST, _MAP, _MERGE = (
    f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge")
)
_NUMBERS = list("-+.0123456789")
_CORE = (
    (_NULL, r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (_BOOL, r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    (_INT, r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", _NUMBERS),
    (
        _FLOAT,
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        _NUMBERS,
    ),
)
"""Tag, pattern and first characters of every plain scalar that is not text; of two that fit, the first counts."""


class DocumentError(UserError, ValueError):
    """A text that is not YAML, or not a document that the program can mean; says the line where it is known."""


class _Loader(yaml.SafeLoader):
    """The core schema: text, numbers, true, false, null, lists and mappings whose keys are words that stand once."""

    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        tag: yaml.SafeLoader.yaml_constructors[tag] for tag in (_NULL, _BOOL, _TEXT, _LIST, _MAP, None)
    }

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        """Refuse what YAML would silently overwrite, before merge keys bring what a section may overwrite."""
        node: MappingNode = super().compose_mapping_node(anchor)
        keys: set[str] = set()
        for key, _ in node.value:
            if key.tag not in (_TEXT, _MERGE):
                quotes = "; put it in quotes" if isinstance(key, ScalarNode) else ""
                raise _refused(key, f"{_said(key)} is no word, as a key must be{quotes}")
            if key.value in keys:
                raise _refused(key, f"set twice: {key.value}")
            keys.add(key.value)
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes text that either version of YAML would read as something else."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in _CORE:
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _first)
    _Dumper.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _first)
_Loader.add_implicit_resolver(_MERGE, re.compile(r"^<<$"), ["<"])


def _refused(node: Node, why: str) -> ConstructorError:
    return ConstructorError(None, None, why, node.start_mark)


def _said(node: Node) -> str:
    return node.value if isinstance(node, ScalarNode) else "a list or mapping"


def _integer(loader: _Loader, node: ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    if re.fullmatch(r"[-+]?0[0-9]+", text):
        sign, digits = text.rstrip("0123456789"), text.lstrip("-+").lstrip("0") or "0"
        octal = f", or 0o{digits} for an octal number" if not sign and not set(digits) & set("89") else ""
        raise _refused(node, f"{text} begins with a zero; write {sign}{digits}{octal}")
    try:
        return int(text, 0)
    except ValueError:
        raise _refused(node, f"{text[:40]} is no whole number that can be read") from None


def _float(loader: _Loader, node: ScalarNode) -> float:
    text = str(loader.construct_scalar(node))
    try:
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        raise _refused(node, f"{text[:40]} is no number that can be read") from None


_Loader.add_constructor(_INT, _integer)
_Loader.add_constructor(_FLOAT, _float)


def parse(text: str) -> Any:
    """What the YAML document ``text`` holds: None, a bool, int, float or str, or lists and dicts of such.

    Raises:
        DocumentError: it is no YAML; a key stands twice in a mapping, or is no word; an integer begins with a zero.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        raise DocumentError(f"{line}{getattr(error, 'problem', None) or error}") from None
    except (ValueError, LookupError, RecursionError) as error:  # LookupError: !!bool on another word
        raise DocumentError(f"is not YAML that can be read: {str(error)[:200]}") from None


def dump(document: Mapping[str, Any]) -> str:
    """The document as YAML that :func:`parse`, and a reader of YAML 1.1, read back as the same."""
    return yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
