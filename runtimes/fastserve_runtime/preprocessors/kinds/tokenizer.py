"""Kind `tokenizer`: texts to token ids with their mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastserve_runtime.preprocessors.kinds import first_file
from fastserve_runtime.preprocessors.text import TextPreprocessor, TokenizerSettings

if TYPE_CHECKING:
    from fastserve_runtime.bundle.manifest import Preprocessing
    from fastserve_runtime.preprocessors.kinds import Read


def open_preprocessor(preprocessing: Preprocessing, read: Read) -> TextPreprocessor:
    """Open the tokenizer; see `PreprocessorKind`."""
    content = first_file(preprocessing, read, "tokenizer")
    return TextPreprocessor(content, TokenizerSettings.from_document(preprocessing.settings))
