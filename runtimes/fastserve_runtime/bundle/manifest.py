"""What a bundle says of itself: the typed form of `manifest.json` (schema: `manifest.schema.json`).

Reading is strict about what it knows and keeps what it does not: a later minor version may add fields, which stay
in `Manifest.document` and so in the digest; a later major version is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fastserve_runtime.bundle.older_names import current_preprocessing, with_current_names
from fastserve_runtime.bundle.signatures import parse_signature, parse_tensor
from fastserve_runtime.bundle.tensor_specs import Signature, TensorSpec
from fastserve_runtime.errors import BundleError, UsageError
from fastserve_runtime.parsing import Fields, read

SCHEMA_MAJOR = 1
SCHEMA_MINOR = 1
SCHEMA_VERSION = f"{SCHEMA_MAJOR}.{SCHEMA_MINOR}"


@dataclass(frozen=True)
class Graph:
    """One entry point: the file that holds it, the method or signature inside it, and its signature."""

    file: str
    entry: str
    signature: Signature


@dataclass(frozen=True)
class StateSpec:
    """A tensor that a model keeps between calls, and when it is reset."""

    tensor: TensorSpec
    reset: str


@dataclass(frozen=True)
class OperatorCount:
    """How often an operator of one domain and version occurs in an artifact."""

    domain: str
    name: str
    version: int
    count: int


@dataclass(frozen=True)
class ExpectedPlacement:
    """Where an artifact's operators should run.

    Attributes:
        processor: `cpu`, `gpu` or `npu`.
        backend: the engine's name for what executes there, such as `XNNPACK`.
        delegated: operators handed to that backend, or None where the converter does not tell.
        total: operators in all, counted the same way.
    """

    processor: str
    backend: str
    delegated: int | None
    total: int | None


@dataclass(frozen=True)
class Requirement:
    """What must be there to run a variant: an engine of a least version, its backends, and platforms (empty: any)."""

    engine: str
    min_version: str
    backends: tuple[str, ...]
    platforms: tuple[str, ...]


@dataclass(frozen=True)
class Variant:
    """One artifact of the model in the bundle, and everything needed to run it."""

    id: str
    recipe: Mapping[str, Any]
    format: str
    precision: str
    files: tuple[str, ...]
    golden: str | None
    graphs: Mapping[str, Graph]
    state: tuple[StateSpec, ...]
    operators: tuple[OperatorCount, ...]
    expected_placement: ExpectedPlacement
    requires: Requirement
    target: str | None


@dataclass(frozen=True)
class FileEntry:
    """Digest, size in bytes and role of one file in the bundle."""

    path: str
    sha256: str
    bytes: int
    role: str


@dataclass(frozen=True)
class Preprocessing:
    """How raw input becomes tensors: the kind (`tokenizer`), its files in the bundle, and its settings."""

    kind: str
    files: tuple[str, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """Where the model came from. The name is a hub id or a folder's name, never a path."""

    name: str
    revision: str | None
    weights_sha256: str
    licence: str | None


@dataclass(frozen=True)
class Manifest:
    """A bundle's manifest.

    Attributes:
        document: the JSON document as read, unknown fields included.
        variants: best first.
        chosen: the id of the variant that the export's budget chose.
    """

    document: Mapping[str, Any]
    schema_version: str
    task: str
    task_settings: Mapping[str, Any]
    files: Mapping[str, FileEntry]
    preprocessing: Preprocessing
    variants: tuple[Variant, ...]
    chosen: str
    source: Source

    @cached_property
    def digest(self) -> str:
        """The bundle's id: SHA-256 of the manifest's canonical JSON."""
        from fastserve_runtime.bundle.canonical_json import digest

        return digest(self.document)

    def variant(self, variant_id: str) -> Variant:
        """Return the variant of that id.

        Raises:
            UsageError: there is none; the message lists those there are.
        """
        for variant in self.variants:
            if variant.id == variant_id:
                return variant
        have = ", ".join(v.id for v in self.variants)
        raise UsageError(f"The bundle has no variant '{variant_id}'.", f"It has: {have}.")

    def shipped_files(self, variant: Variant) -> tuple[FileEntry, ...]:
        """Return what a device must hold to run one variant: its files and the shared ones, without goldens."""
        return tuple(self.files[path] for path in (*variant.files, *self.preprocessing.files))


def parse_manifest(document: Any) -> Manifest:
    """Read a manifest document.

    Raises:
        BundleError: it is of another major version, lacks a field, or a field has the wrong type.
    """
    try:
        manifest = _manifest(document)
        # Python reads JSON that cannot be written again: NaN, lone surrogates, lists nested as deep as the stack.
        _ = manifest.digest
    except (ValueError, RecursionError) as error:
        raise BundleError(f"manifest.json holds a value that JSON does not have: {error}.") from error
    _check_references(manifest)
    return manifest


def _manifest(document: Any) -> Manifest:
    fields = Fields(document, "manifest.json")
    version = fields.text("schema_version")
    _check_version(version)
    files = {path: _file(path, entry) for path, entry in fields.objects("files").items()}
    preprocessing = fields.object("preprocessing")
    kind, settings = current_preprocessing(preprocessing.text("kind"), preprocessing.mapping("settings"))
    return Manifest(
        document=document,
        schema_version=version,
        task=fields.text("task"),
        task_settings=fields.mapping("task_settings"),
        files=files,
        preprocessing=Preprocessing(kind, preprocessing.texts("files"), settings),
        variants=tuple(parse_variant(v) for v in fields.list_of_objects("variants")),
        chosen=fields.text("chosen"),
        source=read(fields.object("source"), Source),
    )


def _check_version(version: str) -> None:
    numbers = re.fullmatch(r"([0-9]{1,9})\.([0-9]{1,9})", version)
    if numbers is None:
        raise BundleError(f"manifest.json has schema_version '{version:.40}', which is not 'major.minor'.")
    if int(numbers[1]) != SCHEMA_MAJOR:
        raise BundleError(
            f"The bundle's manifest has schema version {version}; this runtime reads {SCHEMA_MAJOR}.x.",
            "Update fastserve-runtime, or export the bundle again with this version.",
        )


def _check_references(manifest: Manifest) -> None:
    named = set(manifest.preprocessing.files)
    for variant in manifest.variants:
        named.update(variant.files, (g.file for g in variant.graphs.values()))
        named.update({variant.golden} - {None})  # type: ignore[arg-type]
        if not variant.graphs:
            raise BundleError(f"manifest.json gives the variant '{variant.id}' no graph.")
    missing = sorted(named - manifest.files.keys())
    if missing:
        raise BundleError(f"manifest.json names the file '{missing[0]}' but does not list it under 'files'.")
    ids = [v.id for v in manifest.variants]
    if len(set(ids)) != len(ids):
        raise BundleError("manifest.json gives the same id to two variants.")
    if manifest.chosen not in ids:
        raise BundleError(f"manifest.json chooses the variant '{manifest.chosen}', which it does not have.")


def _file(path: str, fields: Fields) -> FileEntry:
    return FileEntry(path, fields.text("sha256"), fields.count("bytes"), fields.text("role"))


def parse_variant(fields: Fields) -> Variant:
    """Read a variant.

    Raises:
        BundleError: it lacks a field, or a field has the wrong type.
    """
    requires = Fields(with_current_names(fields.mapping("requires")), f"{fields.where}.requires")
    return Variant(
        id=fields.text("id"),
        recipe=fields.mapping("recipe"),
        format=fields.text("format"),
        precision=fields.text("precision"),
        files=fields.texts("files"),
        golden=fields.optional_text("golden"),
        graphs={name: parse_graph(graph) for name, graph in fields.objects("graphs").items()},
        state=tuple(StateSpec(parse_tensor(s), s.text("reset")) for s in fields.list_of_objects("state")),
        operators=tuple(read(operator, OperatorCount) for operator in fields.list_of_objects("operators")),
        expected_placement=read(fields.object("expected_placement"), ExpectedPlacement),
        requires=read(requires, Requirement),
        target=fields.optional_text("target"),
    )


def parse_graph(fields: Fields) -> Graph:
    """Read an entry point.

    Raises:
        BundleError: a field is missing or of another kind.
    """
    signature = parse_signature(fields)
    return Graph(fields.text("file"), fields.text("entry"), signature)


def parse_graphs(documents: Mapping[str, Any]) -> dict[str, Graph]:
    """Read entry points by name, as an artifact's document has them; see `parse_graph`."""
    return {name: parse_graph(Fields(document, name)) for name, document in documents.items()}
