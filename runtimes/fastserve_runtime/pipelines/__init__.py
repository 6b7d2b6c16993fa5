"""Pipelines: one module a task, found by the task's name and imported when used.

All that the runtime knows of a task stands in its module, or in its folder where that is much; what a module offers is
`PipelineModule`. Looking at a bundle imports it, so that a module takes nothing but the standard library until it is
used: numpy comes inside functions. Third parties add theirs by the entry-point group `fastserve_runtime.pipelines`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from fastserve_runtime.preprocessors.text import LongText
from fastserve_runtime.preprocessors.text_samples import Inputs
from fastserve_runtime.sessions.session import Session

if TYPE_CHECKING:
    from fastserve_runtime.conformance.comparison import Comparison
    from fastserve_runtime.conformance.quality import Quality


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


class PipelineModule(Protocol):
    """What the module of a task offers.

    It may also offer:

    - `DEFAULT_OUTPUT_KIND`: by which kind of policy outputs that `OUTPUT_KINDS` does not name are judged; `hidden` if
      left out.
    - `check_manifest(manifest)`: refuses a bundle whose model does not do what the task says.
    - `task_metric(compared)`: the quality that `conform` judges by the samples that ship with a bundle, without
      labels; none ship if left out. `compared_values(outputs, inputs)` says what it compares, if less than outputs.
    - `add_run_flags(parser)` and `run_arguments(pipeline, arguments)`, which returns `Results`: the flags of the
      command `run`, and what it does; those of any model of texts if left out. `RUN_MODULE` names another module with
      `add_run_flags(parser)` and `run(arguments, view)` where there is more to it than a table.
    - `ROUTE` and `served(pipeline, document)`: what the server answers, and where.
    - `open_workload` and `GOLDEN_INPUTS`, where a sample is more than one call of the model; see `sessions.workload`.
    - `rehearse(pipeline, inputs)`: how a golden's inputs are tried by `verify`.

    Attributes:
        OUTPUT_KINDS: output → by which kind of policy it is judged: `embedding`, `hidden`, `logits`, ….
    """

    OUTPUT_KINDS: Mapping[str, str]

    def open_pipeline(self, session: Session, preprocessor: Any, settings: Mapping[str, Any]) -> Pipeline:
        """Make the pipeline of a model; `settings` are the manifest's `task_settings`."""

    def quality(self, compared: Comparison) -> Quality:
        """Judge a variant by its outputs on evaluation samples and the reference's, with labels where there are any."""
