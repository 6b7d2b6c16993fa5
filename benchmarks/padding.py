"""Measures what an app loses that pads its texts to the full length: quality and time of every variant of a bundle.

    PYTHONPATH=runtimes python benchmarks/padding.py MODEL.fsb

Needs the runtime, the engines and a bundle of a sentence encoder with evaluation samples. Quality is the similarity
Spearman against the reference over these samples; times are medians over them, of one thread's CPU time, since the
clock also counts what else the machine does. Own length and full length take turns.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastserve_runtime.bundle.evaluation import Evaluation, evaluation_of
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.conformance.metrics import similarity_spearman
from fastserve_runtime.engines import engines_for
from fastserve_runtime.measurement.machine import this_machine
from fastserve_runtime.sessions.batching import run_samples
from fastserve_runtime.sessions.workload import Samples
from fastserve_runtime.variants import open_variant

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Session, Tensors

HEAD = (
    "| Variant | Spearman, own length | Spearman, padded | time, own length | time, padded |\n"
    "|---------|----------------------|------------------|------------------|--------------|"
)


@dataclass(frozen=True)
class Padded:
    """What a variant makes of texts of their own length and of padded ones: quality, and seconds of a text."""

    variant: str
    own_quality: float
    padded_quality: float
    own_seconds: float
    padded_seconds: float

    def row(self) -> str:
        """Return it as a row of the table."""
        return (
            f"| {self.variant} | {self.own_quality:.4f} | {self.padded_quality:.4f} "
            f"| {1000 * self.own_seconds:.2f} ms | {1000 * self.padded_seconds:.2f} ms |"
        )


def main() -> None:
    """Measure a bundle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--precision", help="those variants alone whose precision begins so, such as int8")
    options = parser.parse_args()
    print(f"{this_machine()}\n\n{HEAD}")
    with open_bundle(options.bundle) as bundle:
        evaluation = evaluation_of(bundle)
        if evaluation is None:
            sys.exit("The bundle has no evaluation samples.")
        for variant in bundle.manifest.variants:
            engine = next((e for e in engines_for(variant.format) if e.version() is not None), None)
            if engine is not None and variant.precision.startswith(options.precision or ""):
                with open_variant(bundle, variant, engine, threads=1) as session:
                    print(measured(variant.id, session, evaluation).row(), flush=True)


def measured(variant: str, session: Session, evaluation: Evaluation) -> Padded:
    """Run every sample at its own length and padded, in turn."""
    reference = np.asarray(next(iter(evaluation.reference.values())), np.float64)
    padded = Samples(session, evaluation.inputs)
    outputs: tuple[list[Tensors], list[Tensors]] = [], []
    seconds = []
    for index in range(len(evaluation)):
        sample = {name: value[index : index + 1] for name, value in evaluation.inputs.items()}
        started = time.process_time()
        outputs[0].append(run_samples(session, sample))
        between = time.process_time()
        outputs[1].append(padded.run(index))
        seconds.append((between - started, time.process_time() - between))
    own_seconds, padded_seconds = np.median(seconds, axis=0)
    own_quality, padded_quality = (similarity_spearman(reference, _joined(found)) for found in outputs)
    return Padded(variant, own_quality, padded_quality, own_seconds, padded_seconds)


def _joined(outputs: list[Tensors]) -> NDArray[np.float64]:
    return np.concatenate([np.asarray(next(iter(found.values())), np.float64) for found in outputs])


if __name__ == "__main__":
    main()
