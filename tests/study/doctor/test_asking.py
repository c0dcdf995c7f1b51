import time

import pytest

from study.doctor import asking


def test_this_machine_answers_raises_or_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(asking.here(max, 1, 2).values()) == [2]
    assert isinstance(*asking.here(int, "x").values(), ValueError)
    monkeypatch.setattr(asking, "ANSWER_SECONDS", 0.05)
    assert isinstance(*asking.here(time.sleep, 1).values(), TimeoutError)
