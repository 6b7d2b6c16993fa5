from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_runtime.errors import UsageError
from fastserve_runtime.serving.access import is_authorized, read_token

TOKEN = "correct-horse-battery"
NO_TOKENS = [b"", b"short", b"two words but long enough", "schlüssel-schlüssel".encode(), b"\xff" * 20]


def test_a_token_comes_from_a_file_or_else_from_the_environment(tmp_path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert read_token(file, {}) == TOKEN
    assert read_token(file, {"FASTSERVE_TOKEN": "another-token-for-it"}) == TOKEN
    assert read_token(None, {"FASTSERVE_TOKEN": TOKEN}) == TOKEN
    assert read_token(None, {}) is None
    assert read_token(None, {"FASTSERVE_TOKEN": ""}) is None


@pytest.mark.parametrize("content", NO_TOKENS)
def test_what_is_no_token_is_refused_without_showing_it(tmp_path, content) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        read_token(file, {})
    assert "token" in refused.value.problem
    assert not content or content.decode("utf-8", "replace") not in str(refused.value)


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        read_token(tmp_path / "nowhere", {"FASTSERVE_TOKEN": TOKEN})


@given(st.text())
def test_only_the_token_authorizes(given_token) -> None:
    assert is_authorized(f"Bearer {given_token}", TOKEN) == (given_token.strip() == TOKEN)
    assert not is_authorized(given_token, TOKEN)


def test_the_scheme_is_bearer_in_any_case() -> None:
    assert is_authorized(f"bearer {TOKEN}", TOKEN)
    for header in (None, TOKEN, f"Basic {TOKEN}", f"Bearer{TOKEN}", f"Bearer {TOKEN}x"):
        assert not is_authorized(header, TOKEN)
