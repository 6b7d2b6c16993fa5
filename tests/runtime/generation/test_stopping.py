import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastserve_runtime.errors import UsageError
from fastserve_runtime.generation.stopping import StopStrings


def fed(stops, pieces):
    """Return all text that came out, and whether it was stopped."""
    watcher = StopStrings(stops)
    text = ""
    for piece in pieces:
        safe, stopped = watcher.push(piece)
        text += safe
        if stopped:
            return text, watcher.matched
    return text + watcher.flush(), None


def naive(stops, text):
    for end in range(len(text) + 1):
        ending = [s for s in stops if text[:end].endswith(s)]
        if ending:
            longest = max(ending, key=len)
            return text[: end - len(longest)], longest
    return text, None


STOPS = st.lists(st.text("ab\n", min_size=1, max_size=5), max_size=4)


@given(STOPS, st.lists(st.text("ab\n", max_size=6), max_size=12))
@example(["abab", "b"], ["aba", "b"])
@example(["aab"], ["a", "a", "a", "b"])
@example(["abcd", "bc"], ["a", "bcd"])
def test_any_cut_gives_what_a_search_of_the_whole_text_gives(stops, pieces):
    assert fed(stops, pieces) == naive(stops, "".join(pieces))


@given(STOPS, st.lists(st.text("ab\n", max_size=6), max_size=12))
def test_only_what_may_begin_a_stop_string_is_held_back(stops, pieces):
    watcher = StopStrings(stops)
    pushed = passed = ""
    for piece in pieces:
        safe, stopped = watcher.push(piece)
        pushed, passed = pushed + piece, passed + safe
        if stopped:
            return
        held = pushed[len(passed) :]
        assert pushed == passed + held
        assert not held or any(s.startswith(held) and s != held for s in stops)


def test_a_stop_string_across_pieces_is_not_passed_on():
    watcher = StopStrings(("\nUser:", "</s>"))
    assert watcher.push("Hello\nUs") == ("Hello", False)
    assert watcher.push("er") == ("", False)
    assert watcher.push(": more") == ("", True)
    assert watcher.matched == "\nUser:"


def test_a_beginning_that_goes_on_differently_comes_out():
    watcher = StopStrings(["\nUser:"])
    assert watcher.push("a\nUs") == ("a", False)
    assert watcher.push("age") == ("\nUsage", False)
    assert watcher.matched is None


def test_nothing_comes_after_a_stop():
    watcher = StopStrings(["x"])
    assert watcher.push("axb") == ("a", True)
    assert watcher.push("c") == ("", True)
    assert watcher.flush() == ""


def test_what_is_held_comes_out_once():
    watcher = StopStrings(["xy"])
    assert watcher.push("ax") == ("a", False)
    assert (watcher.flush(), watcher.flush()) == ("x", "")


def test_without_stop_strings_everything_passes():
    assert StopStrings(()).push("anything") == ("anything", False)


@pytest.mark.parametrize("stops", [[""], ["a", ""], [None], [3]])
def test_empty_strings_and_others_are_refused(stops):
    with pytest.raises(UsageError, match="A stop string cannot be"):
        StopStrings(stops)


def test_one_string_in_place_of_several_is_refused():
    with pytest.raises(UsageError, match="one string, 'stop'"):
        StopStrings("stop")
