"""Faults of a bundle's bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from fastserve_runtime.bundle.reader import open_bundle
from injecting.bundles import changed_copy
from injecting.fault import Case, Fault
from injecting.network import Network, Table
from injecting.network_faults import in_network, struck

_SEED = 4


def in_model_file(change: Callable[[Path, Path, float], None]) -> Callable[[Case, float], Case]:
    """Return what changes the bytes of a case's model file, while the manifest stays."""

    def inject(case: Case, strength: float) -> Case:
        with open_bundle(case.bundle) as bundle:
            file = next(iter(bundle.manifest.variant(case.variant).graphs.values())).file
        copy = changed_copy(
            case.bundle,
            case.copies / "changed.fsb",
            file,
            lambda old, new: change(old, new, strength),
            tells=False,
        )
        return replace(case, bundle=copy)

    return inject


def flipped_bits(old: Path, new: Path, strength: float) -> None:
    """A share of the bytes in the file's middle, where weights are, has its lowest bit flipped, at least one."""
    content = np.frombuffer(old.read_bytes(), np.uint8).copy()
    first, last = len(content) // 4, len(content) * 3 // 4
    count = max(1, round((last - first) * strength))
    places = np.random.default_rng(_SEED).choice(last - first, count, replace=False) + first
    content[places] ^= 1
    new.write_bytes(content.tobytes())


def cut_off(old: Path, new: Path, strength: float) -> None:
    """A share of the file's end is missing, at least one byte; at full strength all but a hundredth."""
    content = old.read_bytes()
    new.write_bytes(content[: len(content) - max(1, round(len(content) * 0.99 * strength))])


def altered_rows(network: Network, _layer: int, strength: float) -> None:
    """A share of the vectors of words is negated, before the bundle is packed."""
    table = network.table()
    rows = struck((len(table.values),), strength)[:, None]
    network.put_table(Table(np.where(rows, -table.values, table.values), table.scale))


FILE_FAULTS: tuple[Fault, ...] = (
    Fault("altered weights", "files", in_model_file(flipped_bits), unit="the bytes of the weights"),
    Fault("a file cut off", "files", in_model_file(cut_off), unit="the file"),
    Fault(
        "altered weights and a new manifest",
        "network",
        in_network(altered_rows),
        ("embeddings.word_embeddings",),
        unit="the vectors of words",
    ),
)
