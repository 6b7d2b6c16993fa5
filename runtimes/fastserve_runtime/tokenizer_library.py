"""The `tokenizers` library, which texts and prompts are read with: no Transformers on the device."""

from __future__ import annotations

from typing import Any

from fastserve_runtime.errors import BundleError, EnvironmentFailure
from fastserve_runtime.installation import install_command


def open_tokenizer(tokenizer_json: bytes) -> Any:
    """Open the content of a `tokenizer.json`.

    Returns:
        A `tokenizers.Tokenizer`.

    Raises:
        EnvironmentFailure: the `tokenizers` library is not installed.
        BundleError: the content is damaged.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise EnvironmentFailure(
            f"The tokenizers library cannot be imported: {error}.",
            f"Install it: {install_command('text')}.",
        ) from error
    try:
        return Tokenizer.from_buffer(tokenizer_json)
    except Exception as error:  # the binding raises plain Exception
        raise BundleError(f"The tokenizer file is damaged: {error}.", "Export the bundle again.") from error
