"""Who may use a server: the token, and the hosts by whose names it answers."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from pathlib import Path

from fastserve_runtime.errors import UsageError

TOKEN_VARIABLE = "FASTSERVE_TOKEN"  # noqa: S105 -- the name of a variable, no secret
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_SHORTEST_TOKEN = 16
_SCHEME = "bearer"


def read_token(file: Path | None, environment: Mapping[str, str]) -> str | None:
    """Return the token of a file, or else of the environment; None where neither has one.

    Raises:
        UsageError: it is too short, or has other than visible ASCII characters, or the file cannot be read.
    """
    if file is None:
        text, place = environment.get(TOKEN_VARIABLE), TOKEN_VARIABLE
        if not text:
            return None
    else:
        place = f"'{file}'"
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise UsageError(f"The token file {place} cannot be read: {reason}.", "Check the path.") from error
    token = text.strip()
    if len(token) < _SHORTEST_TOKEN or not all("!" <= character <= "~" for character in token):
        raise UsageError(
            f"The token in {place} is no word of at least {_SHORTEST_TOKEN} letters, digits and ASCII signs.",
            "Make one, such as with: python -c 'import secrets; print(secrets.token_urlsafe())'.",
        )
    return token


def is_authorized(header: str | None, token: str) -> bool:
    """Whether a request's `Authorization` header brings the token; the time taken tells nothing of the token."""
    scheme, _, given = (header or "").partition(" ")
    is_equal = hmac.compare_digest(given.strip().encode("utf-8", "replace"), token.encode("ascii"))
    return is_equal and scheme.lower() == _SCHEME
