"""Kind `prompt-tokenizer`: prompts and conversations to the tokens that a decoder continues."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastserve_runtime.generation.prompt_tokenizer import PromptSettings, PromptTokenizer
from fastserve_runtime.preprocessors.kinds import first_file

if TYPE_CHECKING:
    from fastserve_runtime.bundle.manifest import Preprocessing
    from fastserve_runtime.preprocessors.kinds import Read


def open_preprocessor(preprocessing: Preprocessing, read: Read) -> PromptTokenizer:
    """Open the tokenizer; see `PreprocessorKind`."""
    content = first_file(preprocessing, read, "tokenizer")
    return PromptTokenizer(content, PromptSettings.from_document(preprocessing.settings))
