"""The published schema of manifest.json says what the reader says."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from fastserve_runtime.bundle.manifest import SCHEMA_VERSION, parse_manifest
from fastserve_runtime.bundle.reader import check_path
from fastserve_runtime.errors import BundleError
from fastserve_runtime.pipelines.text_classification import open_pipeline
from fastserve_runtime.preprocessors.text import TokenizerSettings

SCHEMA = json.loads((files("fastserve_runtime.bundle") / "manifest.schema.json").read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)
ANY = "*"
TENSOR = {"name": "memory", "dtype": "float32", "dims": [1, {"symbol": "length", "min": 1, "max": 64}]}


def objects(schema: dict[str, Any], where: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yield every object that the schema describes, with its place; ANY stands for each item or key."""
    if "$ref" in schema:
        yield from objects(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], where)
    for part in (*schema.get("allOf", ()), *schema.get("oneOf", ())):
        yield from objects(part, where)
    if "properties" in schema:
        yield where, schema
    for name, value in schema.get("properties", {}).items():
        yield from objects(value, (*where, name))
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            yield from objects(schema[keyword], (*where, ANY))


def found(value: Any, where: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield the objects of a document at a place of the schema."""
    if not where:
        if isinstance(value, dict):
            yield value
    elif where[0] == ANY:
        for item in value.values() if isinstance(value, dict) else value:
            yield from found(item, where[1:])
    elif isinstance(value, dict) and where[0] in value:
        yield from found(value[where[0]], where[1:])


PLACES = sorted({where for where, _ in objects(SCHEMA)})
REQUIRED = sorted({(*where, field) for where, schema in objects(SCHEMA) for field in schema.get("required", ())})


def name(where: tuple[str, ...]) -> str:
    return ".".join(where) or "manifest"


def is_read(document: Any) -> bool:
    try:
        parse_manifest(document)
    except BundleError:
        return False
    return True


@pytest.fixture(scope="module")
def manifest(tiny_bundle: Path) -> dict[str, Any]:
    return json.loads((tiny_bundle / "manifest.json").read_bytes())


@pytest.fixture
def full(manifest: dict[str, Any]) -> dict[str, Any]:
    """The small bundle's manifest with what it does not have: state, a symbolic dimension, pairs of texts."""
    document = copy.deepcopy(manifest)
    context = {"stride": 8, "question_tokens": 16}
    document["preprocessing"]["kind"] = "text-pair"
    document["preprocessing"]["settings"] |= {"token_types": True, "context": context}
    for variant in document["variants"]:
        variant["state"] = [{**copy.deepcopy(TENSOR), "reset": "every call"}]
        for graph in variant["graphs"].values():
            graph["inputs"].append(copy.deepcopy(TENSOR))
            graph["outputs"].append(copy.deepcopy(TENSOR))
    return document


def test_schema_is_valid() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_exported_manifest_fits(manifest: dict[str, Any]) -> None:
    assert manifest["schema_version"] == SCHEMA_VERSION
    VALIDATOR.validate(manifest)


def test_state_and_symbolic_dimensions_fit(full: dict[str, Any]) -> None:
    VALIDATOR.validate(full)
    assert is_read(full)


def test_walk_reaches_every_definition() -> None:
    reached = {id(schema) for _, schema in objects(SCHEMA)}
    assert {n for n, s in SCHEMA["$defs"].items() if "properties" in s and id(s) not in reached} == set()
    assert ("variants", ANY, "state", ANY, "reset") in REQUIRED
    assert ("variants", ANY, "graphs", ANY, "inputs", ANY, "dims", ANY, "symbol") in REQUIRED


@pytest.mark.parametrize("where", REQUIRED, ids=name)
def test_missing_field_is_refused(full: dict[str, Any], where: tuple[str, ...]) -> None:
    holders = [holder for holder in found(full, where[:-1]) if where[-1] in holder]
    del holders[0][where[-1]]
    assert not VALIDATOR.is_valid(full)
    assert not is_read(full)


@pytest.mark.parametrize("where", REQUIRED, ids=name)
def test_field_of_another_type_is_refused(full: dict[str, Any], where: tuple[str, ...]) -> None:
    holder = next(holder for holder in found(full, where[:-1]) if where[-1] in holder)
    holder[where[-1]] = True
    assert not VALIDATOR.is_valid(full)
    assert not is_read(full)


@pytest.mark.parametrize("where", PLACES, ids=name)
def test_unknown_field_is_allowed(full: dict[str, Any], where: tuple[str, ...]) -> None:
    holders = list(found(full, where))
    assert holders
    for holder in holders:
        holder["added in a later minor version"] = {"any": ["thing"]}
    VALIDATOR.validate(full)
    assert is_read(full)


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.23"])
def test_minor_version_is_read(manifest: dict[str, Any], version: str) -> None:
    document = {**manifest, "schema_version": version}
    assert VALIDATOR.is_valid(document)
    assert is_read(document)


@pytest.mark.parametrize("version", ["2.0", "0.9", "10.0", "1", "1.", "1.0.0", "1.x", " 1.0", ""])
def test_other_version_is_refused(manifest: dict[str, Any], version: str) -> None:
    document = {**manifest, "schema_version": version}
    assert not VALIDATOR.is_valid(document)
    assert not is_read(document)


@pytest.mark.parametrize(
    ("path", "is_plain"),
    [
        ("model.onnx", True),
        ("variants/onnx-fp32/model.onnx", True),
        ("licences/LICENCE v1.txt", True),
        (".hidden/..name/...", True),
        ("modèle/日本.onnx", True),
        ("", False),
        (".", False),
        ("..", False),
        ("/etc/passwd", False),
        ("../outside", False),
        ("a/../b", False),
        ("a/./b", False),
        ("./a", False),
        ("a//b", False),
        ("a/", False),
        ("a/..", False),
        ("a\\b", False),
        ("C:/a", False),
        ("a\nb", False),
        ("a\n", False),
        ("a\x00", False),
    ],
)
def test_paths_are_those_of_the_reader(path: str, is_plain: bool) -> None:
    validator = VALIDATOR.evolve(schema={"$ref": "#/$defs/path", "$defs": SCHEMA["$defs"]})
    assert validator.is_valid(path) == is_plain
    if is_plain:
        check_path(path)
    else:
        with pytest.raises(BundleError):
            check_path(path)


@pytest.mark.parametrize("digest", ["", "0" * 63, "0" * 65, "G" * 64, "A" * 64])
def test_digest_is_sha256_in_lower_case(manifest: dict[str, Any], digest: str) -> None:
    document = copy.deepcopy(manifest)
    next(iter(document["files"].values()))["sha256"] = digest
    assert not VALIDATOR.is_valid(document)


@pytest.mark.parametrize("dim", [-1, 1.5, "64", None, True, {"symbol": "n", "min": -1, "max": 2}])
def test_dimension_that_is_none_is_refused(full: dict[str, Any], dim: Any) -> None:
    full["variants"][0]["graphs"]["main"]["inputs"][0]["dims"][1] = dim
    assert not VALIDATOR.is_valid(full)
    assert not is_read(full)


@pytest.mark.parametrize("field", ["sequence_length", "pad_id", "pad_token"])
def test_tokenizer_needs_its_settings(manifest: dict[str, Any], field: str) -> None:
    document = copy.deepcopy(manifest)
    settings = document["preprocessing"]["settings"]
    del settings[field]
    assert not VALIDATOR.is_valid(document)
    with pytest.raises(BundleError):
        TokenizerSettings.from_document(settings)
    document["preprocessing"]["kind"] = "of a later version"
    assert VALIDATOR.is_valid(document)


def test_classification_needs_labels(manifest: dict[str, Any]) -> None:
    document = {**manifest, "task": "text-classification", "task_settings": {"labels": ["no", "yes"]}}
    assert VALIDATOR.is_valid(document)
    document["task_settings"] = {}
    assert not VALIDATOR.is_valid(document)
    with pytest.raises(BundleError):
        open_pipeline(None, None, {})  # type: ignore[arg-type]
