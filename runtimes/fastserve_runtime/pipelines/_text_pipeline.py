"""What text pipelines share: tokenizing, and running the model sample by sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from fastserve_runtime.session import Session
from fastserve_runtime.text import TextPreprocessor

if TYPE_CHECKING:
    from typing_extensions import Self

    from fastserve_runtime.session import Tensor, Tensors


class TextPipeline:
    """Base of the text pipelines."""

    task = ""

    def __init__(self, session: Session, preprocessor: TextPreprocessor) -> None:
        self.session = session
        self.preprocessor = preprocessor

    def close(self) -> None:
        """Let go of the model."""
        self.session.close()

    def _outputs(self, texts: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        inputs = self.preprocessor(texts)
        return inputs, run_samples(self.session, inputs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def run_samples(session: Session, inputs: Tensors) -> dict[str, Tensor]:
    """Run a model that was exported for one sample at a time on several; outputs are joined on the first axis.

    Args:
        session: a model whose inputs have a first dimension of 1.
        inputs: by name, shape [n, ...]; inputs that the graph does not take are left out.
    """
    graph = next(iter(session.graphs))
    wanted = [spec.name for spec in session.graphs[graph].inputs]
    taken: Mapping[str, Tensor] = {name: inputs[name] for name in wanted if name in inputs}
    count = len(next(iter(taken.values())))
    rows = [session.run({k: v[i : i + 1] for k, v in taken.items()}, graph=graph) for i in range(count)]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
