"""Kind `text-pair`: pairs of texts to token ids with their mask, and token types of a model that has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastserve_runtime.preprocessors.kinds import first_file
from fastserve_runtime.preprocessors.text_pairs import TextPairPreprocessor, TextPairSettings

if TYPE_CHECKING:
    from fastserve_runtime.bundle.manifest import Preprocessing
    from fastserve_runtime.preprocessors.kinds import Read


def open_preprocessor(preprocessing: Preprocessing, read: Read) -> TextPairPreprocessor:
    """Open the tokenizer; see `PreprocessorKind`."""
    content = first_file(preprocessing, read, "tokenizer")
    return TextPairPreprocessor(content, TextPairSettings.from_document(preprocessing.settings))
