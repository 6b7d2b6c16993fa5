"""What takes long to make is made once, and only the last few stay."""

from __future__ import annotations

from fastserve_converters.recent import Recent


def test_a_thing_is_made_once() -> None:
    made: list[str] = []
    recent: Recent[int] = Recent(2)

    def make() -> int:
        made.append("one")
        return 1

    assert [recent.get("one", make), recent.get("one", make)] == [1, 1]
    assert made == ["one"]


def test_the_oldest_goes_where_there_are_too_many() -> None:
    recent: Recent[str] = Recent(2)
    for key in ("one", "two", "three"):
        recent.get(key, lambda key=key: key)  # type: ignore[misc]

    assert recent.get("two", lambda: "again") == "two"
    assert recent.get("one", lambda: "again") == "again"
