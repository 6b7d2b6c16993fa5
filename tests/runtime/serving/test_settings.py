from __future__ import annotations

import pytest

from fastserve_runtime.errors import UsageError
from fastserve_runtime.serving.settings import ServerSettings

TOKEN = "correct-horse-battery"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_this_machine_needs_no_token(host) -> None:
    assert ServerSettings(host=host).is_loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "pi.local", "", "localhost.example"])
def test_other_machines_need_one(host) -> None:
    with pytest.raises(UsageError, match="no token") as refused:
        ServerSettings(host=host)
    assert "--token-file" in refused.value.remedy
    assert not ServerSettings(host=host, token=TOKEN).is_loopback


@pytest.mark.parametrize(
    "values",
    [
        {"port": -1},
        {"port": 65536},
        {"queue": -1},
        {"request_seconds": 0.0},
        {"request_seconds": float("nan")},
        {"request_seconds": float("inf")},
        {"max_request_bytes": 0},
        {"long_input": "cut"},
    ],
)
def test_what_is_out_of_range_is_refused(values) -> None:
    with pytest.raises(UsageError):
        ServerSettings(**values)


def test_the_token_is_not_shown() -> None:
    assert TOKEN not in repr(ServerSettings(token=TOKEN))
