"""What text pipelines share: tokenizing, running the model, and what becomes of texts that are too long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastserve_runtime.bundle.raw_inputs import Text
from fastserve_runtime.closing import ClosedAtEnd
from fastserve_runtime.preprocessors.text import LongText, TextPreprocessor, Windows
from fastserve_runtime.preprocessors.text_samples import Inputs, as_samples
from fastserve_runtime.sessions.session import Session

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Tensor


class TextPipeline(ClosedAtEnd):
    """Base of the text pipelines."""

    task = ""

    def __init__(self, session: Session, preprocessor: TextPreprocessor) -> None:
        self.session = session
        self.preprocessor = preprocessor

    def close(self) -> None:
        """Let go of the model."""
        self.session.close()

    def _samples(self, inputs: Inputs) -> tuple[list[Text], bool]:
        """Return a call's samples, and whether it was one sample rather than several."""
        return as_samples(inputs, takes_pairs=self.preprocessor.takes_pairs)

    def _outputs(
        self, texts: Sequence[Text], long_text: LongText, prompt: str | None
    ) -> tuple[Windows, dict[str, Tensor]]:
        """Return the texts' windows, one a text unless long ones are split, and the model's outputs for each."""
        windows = self.preprocessor.windows(texts, long_text, prompt=prompt)
        return windows, self._run(windows)

    def _run(self, windows: Windows) -> dict[str, Tensor]:
        """Return the model's outputs for each window."""
        from fastserve_runtime.sessions.batching import run_samples

        return run_samples(self.session, windows.tensors)
