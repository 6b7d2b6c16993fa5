"""Pipelines: one module a task, found by the task's name and imported when used.

Third parties add theirs by the entry-point group `fastserve_runtime.pipelines`. A module offers
`open_pipeline(session, preprocessor, settings)` and `OUTPUT_KINDS`, which says by what kind of policy each output is
judged (`embedding`, `hidden`, `logits`); `DEFAULT_OUTPUT_KIND` says it of all that are not named (`hidden` if left
out). It may offer what the command `run` is to know of its task: `add_run_flags(parser)` adds flags, and
`run_arguments(pipeline, arguments)` returns the `Results`.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Protocol

from fastserve_runtime.preprocessors.text import LongText
from fastserve_runtime.preprocessors.text_pairs import Inputs
from fastserve_runtime.sessions.session import Session


class Pipeline(Protocol):
    """A task that is ready to use: raw input in, results out."""

    task: str
    session: Session

    def __call__(self, inputs: Inputs, *, long_text: LongText = "truncate", prompt: str | None = None) -> Any:
        """Run the model on one input or several.

        Args:
            inputs: one text, or several; of a model that takes pairs of texts, one pair `(str, str)` or several.
            long_text: what becomes of a text with more tokens than the model takes: `truncate` cuts it off with a
                warning; `split` runs it in windows and joins their results.
            prompt: the name of a prompt of the model's that is put before each text; None takes the default one where
                there is one, and `""` none.
        """

    def close(self) -> None:
        """Let go of the model."""

    def __enter__(self) -> Pipeline: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
