"""What takes long to make is made once, and only what was used last stays."""

from __future__ import annotations

from fastserve_converters.lru_cache import LruCache


def test_a_value_is_made_once() -> None:
    made: list[str] = []
    cache: LruCache[int] = LruCache(2)

    def make() -> int:
        made.append("one")
        return 1

    assert [cache.get("one", make), cache.get("one", make)] == [1, 1]
    assert made == ["one"]


def test_what_was_not_asked_for_longest_goes_where_there_are_too_many() -> None:
    cache: LruCache[str] = LruCache(2)
    for key in ("one", "two", "one", "three"):
        cache.get(key, lambda key=key: key)  # type: ignore[misc]

    assert cache.get("one", lambda: "again") == "one"
    assert cache.get("two", lambda: "again") == "again"
