import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_runtime.errors import InputError, UsageError
from fastserve_runtime.generation.context import common_prefix, fit

BEGINNING = 1
PROMPTS = st.lists(st.integers(0, 5), min_size=1, max_size=40)


@given(PROMPTS, st.integers(1, 50), st.integers(2, 45), st.sampled_from([None, BEGINNING]))
def test_a_window_is_the_end_of_the_prompt_and_leaves_room(prompt, new, context, beginning):
    fitted = fit(prompt, new, context, "window", beginning=beginning)
    kept = list(fitted.tokens)
    assert kept
    assert len(kept) + fitted.room <= context
    assert 1 <= fitted.room <= new
    assert fitted.dropped == len(prompt) - len(kept)
    if fitted.dropped:
        has_head = prompt[0] == beginning and context > 2
        head = kept[:1] if has_head else []
        assert not has_head or head == [beginning]
        assert kept[len(head) :] == prompt[len(prompt) - len(kept) + len(head) :]
        # No more is dropped than must be, and the prompt's end always stays.
        assert len(kept) + new == context or len(kept) == len(head) + 1
        assert kept[-1] == prompt[-1]
    else:
        assert kept == prompt


@given(PROMPTS, st.integers(1, 50), st.integers(2, 45))
def test_with_error_a_prompt_is_whole_or_refused(prompt, new, context):
    if len(prompt) >= context:
        with pytest.raises(InputError, match=f"{len(prompt)} tokens; the context takes {context}.*overflow='window'"):
            fit(prompt, new, context)
        return
    fitted = fit(prompt, new, context)
    assert (list(fitted.tokens), fitted.dropped) == (prompt, 0)
    assert fitted.room == min(new, context - len(prompt))


def test_a_window_keeps_the_beginning_of_the_sequence():
    assert fit([1, 2, 3, 4, 5, 6], 2, 5, "window", beginning=1).tokens == (1, 5, 6)
    assert fit([1, 2, 3, 4, 5, 6], 2, 5, "window").tokens == (4, 5, 6)
    assert fit([1, 2, 3, 4, 5, 6], 99, 5, "window", beginning=1).tokens == (1, 6)
    assert fit([1, 2, 3], 99, 2, "window", beginning=1).tokens == (3,)


def test_an_empty_prompt_needs_a_token_to_begin_with():
    assert fit([], 3, 10, beginning=7).tokens == (7,)
    assert fit([], 3, 10, "window", beginning=7).dropped == 0
    with pytest.raises(InputError, match="The prompt is empty"):
        fit([], 3, 10)


@pytest.mark.parametrize(
    ("new", "context", "overflow", "words"),
    [(0, 10, "error", "0 new tokens"), (1, 1, "error", "context of 1"), (1, 9, "cut", "by 'cut'")],
)
def test_impossible_requests_are_refused(new, context, overflow, words):
    with pytest.raises(UsageError, match=words):
        fit([1], new, context, overflow)


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_a_common_prefix_is_common_and_the_longest(a, b):
    length = common_prefix(a, b)
    assert a[:length] == b[:length]
    assert length == min(len(a), len(b)) or a[length] != b[length]


@given(st.lists(st.integers()), st.lists(st.integers()))
def test_a_continued_prompt_shares_all_of_the_first(a, more):
    assert common_prefix(a, a + more) == len(a)
