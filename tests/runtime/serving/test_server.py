from __future__ import annotations

import socket

import pytest

from fastserve_runtime.errors import EnvironmentFailure, UsageError
from fastserve_runtime.serving.server import listening, url_of


def test_a_free_port_is_chosen_and_told() -> None:
    with listening("127.0.0.1", 0) as listener:
        url = url_of(listener)
        assert url == f"http://127.0.0.1:{listener.getsockname()[1]}"
        port = listener.getsockname()[1]
        in_use = pytest.raises(EnvironmentFailure, match=f"Port {port} of 127.0.0.1 is in use")
        with in_use, listening("127.0.0.1", port):
            pass


def test_addresses_of_version_6_stand_in_brackets() -> None:
    try:
        with listening("::1", 0) as listener:
            assert url_of(listener) == f"http://[::1]:{listener.getsockname()[1]}"
    except UsageError:
        pytest.skip("this machine has no such address")


@pytest.mark.parametrize("host", ["203.0.113.77", "no-such-host.invalid"])
def test_an_address_of_elsewhere_is_refused(host) -> None:
    with pytest.raises(UsageError, match=host), listening(host, 0):
        pass


def test_each_event_is_sent_at_once() -> None:
    """asyncio turns Nagle's algorithm off for sockets that say that they are of TCP, and for what they accept."""
    with listening("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.proto == socket.IPPROTO_TCP
