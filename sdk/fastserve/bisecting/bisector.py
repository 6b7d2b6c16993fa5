"""The doors of the package: one search, or many of artifacts of one model, which stays loaded between them."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from fastserve.bisecting.choosing import chosen_pair
from fastserve.bisecting.reference_model import ReferenceModel
from fastserve.bisecting.results import Bisection
from fastserve.bisecting.search import ALONE, COMPARE, READ, Search
from fastserve.progress import PlannedStep, Reporter, SilentReporter
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.closing import ClosedAtEnd
from fastserve_runtime.errors import UsageError

DEFAULT_SAMPLES = 24


def bisect(
    bundle: str | os.PathLike[str],
    reference: str | os.PathLike[str],
    *,
    target: str | None = None,
    variant: str | None = None,
    samples: int = DEFAULT_SAMPLES,
    reporter: Reporter | None = None,
    cache_dir: Path | None = None,
) -> Bisection:
    """Find the layers of a shipped artifact whose output goes wrong; see `Bisector.bisect`."""
    with Bisector(str(reference), cache_dir=cache_dir) as bisector:
        return bisector.bisect(Path(bundle), target=target, variant=variant, samples=samples, reporter=reporter)


class Bisector(ClosedAtEnd):
    """Searches artifacts of one model, which stays loaded between the searches."""

    def __init__(
        self,
        reference: str,
        *,
        cache_dir: Path | None = None,
        allow_pickle: bool = False,
        trust_remote_code: bool = False,
        any_weights: bool = False,
        debug: bool = False,
    ) -> None:
        """Name the model; nothing is loaded before the first search.

        Args:
            reference: the model that the artifacts were made from, as `export` takes it.
            cache_dir: where finished steps of an export are kept; used where an artifact must be exported again.
            allow_pickle: accept weights that are pickles.
            trust_remote_code: run the model's own code.
            any_weights: compare with this model also where it is not the one that the bundle was made from.
            debug: let the converter print.
        """
        self._model = ReferenceModel(
            reference,
            cache_dir=cache_dir,
            allow_pickle=allow_pickle,
            trust_remote_code=trust_remote_code,
            any_weights=any_weights,
            debug=debug,
        )

    def close(self) -> None:
        """End the converter process."""
        self._model.close()

    def bisect(
        self,
        bundle: Path,
        *,
        target: str | None = None,
        variant: str | None = None,
        samples: int = DEFAULT_SAMPLES,
        reporter: Reporter | None = None,
    ) -> Bisection:
        """Search one artifact.

        Args:
            bundle: its directory or zip file.
            target: where it runs; the CPU target of the variant's format if left out.
            variant: which one; the first of the target's format, or the chosen one, if left out.
            samples: how many are run: the golden ones first, then evaluation samples of the bundle.
            reporter: gets told what is being done.

        Raises:
            UsageError: there is no such bundle, variant, target or model, or the model is not the bundle's.
            BundleError: the bundle is damaged, or tells nothing of its layers.
            EnvironmentFailure: the target cannot run here, or a process failed.
        """
        if samples < 1:
            raise UsageError(f"{samples} samples were asked for.", "Ask for at least 1.")
        told = reporter or SilentReporter()
        told.plan([PlannedStep(READ, 4), PlannedStep(COMPARE, 8), PlannedStep(ALONE, 4)])
        with open_bundle(bundle) as source, TemporaryDirectory(prefix="fastserve-bisect-") as folder:
            chosen, on = chosen_pair(source, variant, target)
            jobs = self._model.jobs(source, chosen, told)
            return Search(source, chosen, on, jobs, Path(folder), samples, told).result()
