from io import StringIO

from rich.console import Console

from study.doctor import findings
from study.doctor.findings import Finding


def test_a_check_that_fails_is_an_error_line_that_names_it() -> None:
    def check() -> Finding:
        raise KeyError("surprise")

    assert findings.guarded("subject", check) == [
        Finding("error", "subject", "cannot be examined: KeyError: 'surprise'")
    ]


def test_machines_of_which_the_same_is_to_be_said_share_a_line() -> None:
    full = Finding("error", "disk", "full", "make room", ("0 of 9",))

    def judge(free: int) -> Finding:
        return Finding("ok", "disk", f"{free} free") if free else full

    answers = {"a": 5, "b": 0, "c": 6, "d": 0, "e": 7, "f": 8, "g": OSError("gone")}
    assert findings.everywhere("disk", answers, judge) == [
        Finding("ok", "disk", "5 free (on a, c, e and 1 more)"),
        Finding("error", "disk", "full (on b, d)", "make room", ("0 of 9",)),
        Finding("error", "disk", "cannot be examined: OSError: gone (on g)"),
    ]
    assert findings.everywhere("disk", {"a": 5}, judge) == [Finding("ok", "disk", "5 free")]


def test_findings_are_printed_with_their_remedies_and_an_error_is_exit_code_1() -> None:
    out = StringIO()
    console = Console(file=out, width=40, highlight=False, markup=False)
    text = "a long [line] that is not broken, for it may be copied"
    warning = Finding("warning", "disk", text, "make room", ("free  used", "   1     2"))
    assert findings.tell([Finding("ok", "data", "there"), warning], console) == 0
    assert findings.tell([Finding("error", "Ray", "gone")], console) == 1
    assert out.getvalue().splitlines() == [
        "     ok  data           there",
        "warning  disk           a long [line] that is not broken, for it may be copied",
        "                        free  used",
        "                           1     2",
        "                        → make room",
        "errors: 0, warnings: 1",
        "  error  Ray            gone",
        "errors: 1, warnings: 0",
    ]
