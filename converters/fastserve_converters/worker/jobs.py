"""The jobs that a converter process does, as JSON in and JSON out. Loaded models are kept between jobs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_converters.models.sources import kind_of_task

if TYPE_CHECKING:
    from fastserve_converters.worker.model_jobs import ModelJobs


class Jobs:
    """Does jobs on one model after another.

    A job is an object with `job` (what is done), `source` (how to load the model: `path`, `task`, `length` in tokens,
    `allow_pickle`, `trust_remote_code`, `truncate_dim`) and `out` (an empty folder); its answer is the stage's result,
    which is also written to that folder. The result of `reference` may have `notes`: what the user should know of the
    model, in sentences.
    """

    def __init__(self) -> None:
        self._source: Mapping[str, Any] | None = None
        self._model_jobs: ModelJobs | None = None

    def run(self, request: Mapping[str, Any]) -> Any:
        """Do one job.

        Raises:
            FastServeError: what the model or the machine does not allow.
        """
        source = request["source"]
        if self._model_jobs is None or source != self._source:
            self._model_jobs = None  # what it holds goes before the next model comes
            self._source, self._model_jobs = source, _jobs_of(source)
        out = Path(request["out"])
        out.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._model_jobs.handlers[request["job"]](request, out)


def _jobs_of(source: Mapping[str, Any]) -> ModelJobs:
    from fastserve_converters.worker.model_jobs import ModelJobs

    return ModelJobs(kind_of_task(source["task"]).open_source(source))
