"""What a server is started with."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from fastserve_runtime.errors import UsageError

HOST = "127.0.0.1"
PORT = 8080
QUEUE = 8
REQUEST_SECONDS = 300.0
MAX_REQUEST_BYTES = 1_000_000
LongInput = Literal["error", "truncate", "split"]
"""What becomes of a text to be embedded that has more tokens than the model takes."""
LONG_INPUT: tuple[LongInput, ...] = get_args(LongInput)


@dataclass(frozen=True)
class ServerSettings:
    """Where a server listens, whom it answers, and its limits.

    Attributes:
        host: the address to listen at.
        port: 0 for any that is free.
        token: what requests must bring as a bearer token; None if they need none, which is for loopback only.
        queue: how many requests to a model may wait while it computes another.
        request_seconds: how long a request may take, waiting included.
        max_request_bytes: how large a request's body may be.
        long_input: what becomes of a text to be embedded that is too long.

    Raises:
        UsageError: a value is out of its range, or other machines could reach the server without a token.
    """

    host: str = HOST
    port: int = PORT
    token: str | None = field(default=None, repr=False)
    queue: int = QUEUE
    request_seconds: float = REQUEST_SECONDS
    max_request_bytes: int = MAX_REQUEST_BYTES
    long_input: LongInput = "error"

    def __post_init__(self) -> None:
        if not 0 <= self.port < 2**16:
            raise UsageError(f"There is no port {self.port}.", "Give one from 1 to 65535, or 0 for any that is free.")
        if self.queue < 0:
            raise UsageError(f"{self.queue} requests cannot wait.", "Give 0 or more.")
        if not 0 < self.request_seconds < math.inf:
            raise UsageError(f"A request cannot take {self.request_seconds:g} seconds.", "Give a number above 0.")
        if self.max_request_bytes < 1:
            raise UsageError(f"A request cannot have {self.max_request_bytes} bytes.", "Give 1 or more.")
        if self.long_input not in LONG_INPUT:
            raise UsageError(
                f"Long texts cannot be treated by '{self.long_input}'.", f"Choose {' or '.join(LONG_INPUT)}."
            )
        if self.token is None and not self.is_loopback:
            raise UsageError(
                f"Other machines can reach '{self.host}', and no token protects it.",
                "Give one with --token-file or in the environment variable FASTSERVE_TOKEN, or serve at 127.0.0.1.",
            )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:  # a name, which may lead anywhere
            return False
