import copy
import json
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_runtime.bundle.manifest import (
    ExpectedPlacement,
    FileEntry,
    OperatorCount,
    Preprocessing,
    Requirement,
    Source,
    StateSpec,
    parse_manifest,
)
from fastserve_runtime.bundle.tensor_specs import SymbolicDim, TensorSpec
from fastserve_runtime.errors import BundleError, UsageError
from manifests import GOLDEN, MODEL, TOKENIZER, valid_manifest, variant

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["9" * 5000, "first", MODEL]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def places(document, way=()):
    """Every place in a document, as the keys that lead there."""
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        yield (*way, key)
        if isinstance(value, dict | list):
            yield from places(value, (*way, key))


PLACES = list(places(valid_manifest()))


def holder(document, way):
    for key in way[:-1]:
        document = document[key]
    return document


def changed(way, value):
    document = valid_manifest()
    holder(document, way)[way[-1]] = value
    return document


@st.composite
def mutated_manifests(draw):
    document = valid_manifest()
    for way in draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=3)):
        try:
            place, key = holder(document, way), way[-1]
            match draw(st.sampled_from(["remove", "replace", "add", "repeat"])):
                case "remove":
                    del place[key]
                case "replace":
                    place[key] = draw(json_values)
                case "add" if isinstance(place, dict):
                    place[draw(st.text())] = draw(json_values)
                case _ if isinstance(place, list):
                    place.append(copy.deepcopy(place[key]))
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change removed the place
    return document


def test_every_field_is_read():
    manifest = parse_manifest(valid_manifest())
    first, second = manifest.variants
    assert manifest.schema_version == "1.0"
    assert manifest.task == "feature-extraction"
    assert manifest.task_settings == {"pooling": ["mean"]}
    assert manifest.files[TOKENIZER] == FileEntry(TOKENIZER, "0" * 64, 7, "preprocessing")
    assert manifest.preprocessing == Preprocessing(
        "tokenizer", (TOKENIZER,), valid_manifest()["preprocessing"]["settings"]
    )
    assert manifest.source == Source("maker/model", "abc", "1" * 64, "apache-2.0")
    assert manifest.chosen == first.id == "first"
    assert (first.format, first.precision, first.files, first.golden, first.target) == (
        "onnx",
        "fp32",
        (MODEL,),
        GOLDEN,
        None,
    )
    assert first.recipe == {"format": "onnx", "precision": "fp32", "passes": []}
    assert first.operators == (OperatorCount("ai.onnx", "Gather", 17, 1),)
    assert first.expected_placement == ExpectedPlacement("cpu", "CPUExecutionProvider", 3, 3)
    assert first.state == ()
    graph = first.graphs["main"]
    assert (graph.file, graph.entry) == (MODEL, "main")
    assert graph.signature.inputs[0] == TensorSpec("input_ids", "int32", (1, 8), ("batch", "tokens"))
    assert graph.signature.outputs == (TensorSpec("sentence_embedding", "float32", (1, 4), ("batch", "channels")),)
    length = SymbolicDim("length", 1, 64)
    assert second.graphs["main"].signature.inputs == (
        TensorSpec("input_ids", "int32", (1, length), ("batch", "tokens")),
    )
    assert second.state == (StateSpec(TensorSpec("cache", "float32", (1, length)), "sequence"),)
    assert second.golden is None
    assert second.target == "board"
    assert second.expected_placement == ExpectedPlacement("npu", "XNNPACK", None, None)
    assert second.requires == Requirement("litert", "2.0", ("XNNPACK",), ("linux",))


@given(mutated_manifests())
def test_any_change_to_a_manifest_is_read_or_refused(document):
    try:
        manifest = parse_manifest(document)
    except BundleError:
        return
    assert manifest.document == document
    assert len(manifest.digest) == 64
    assert manifest.variant(manifest.chosen) in manifest.variants
    for one in manifest.variants:
        assert one.graphs
        assert {entry.path for entry in manifest.shipped_files(one)} <= manifest.files.keys()


@given(json_values)
def test_any_other_document_is_refused(document):
    with pytest.raises(BundleError):
        parse_manifest(document)


@pytest.mark.parametrize("key", sorted(valid_manifest()))
def test_a_manifest_without_one_of_its_fields_is_refused(key):
    document = valid_manifest()
    del document[key]
    with pytest.raises(BundleError, match=f"manifest.json has no field '{key}'"):
        parse_manifest(document)


@pytest.mark.parametrize("key", sorted(variant()))
def test_a_variant_without_one_of_its_fields_is_refused(key):
    document = valid_manifest()
    del document["variants"][1][key]
    with pytest.raises(BundleError, match=re.escape(f"manifest.json.variants[1] has no field '{key}'")):
        parse_manifest(document)


def test_the_digest_ignores_the_order_of_fields_and_nothing_else():
    document = valid_manifest()
    turned = dict(reversed(document.items()))
    assert parse_manifest(turned).digest == parse_manifest(document).digest
    assert parse_manifest(changed(("source", "revision"), "abd")).digest != parse_manifest(document).digest


def test_a_later_minor_version_may_bring_fields_which_are_kept():
    document = valid_manifest() | {"schema_version": "1.7", "novelty": [1]}
    document["variants"][0]["graphs"]["main"]["hint"] = "fast"
    manifest = parse_manifest(document)
    assert manifest.schema_version == "1.7"
    assert manifest.document["novelty"] == [1]
    assert manifest.document["variants"][0]["graphs"]["main"]["hint"] == "fast"
    without = valid_manifest() | {"schema_version": "1.7", "novelty": [1]}
    assert manifest.digest != parse_manifest(without).digest


def test_what_the_schema_called_otherwise_before_is_read_and_stays_part_of_the_id():
    older = valid_manifest()
    for one in older["variants"]:
        one["requires"]["least_version"] = one["requires"].pop("min_version")
    found = parse_manifest(older)
    assert found.variants[1].requires == parse_manifest(valid_manifest()).variants[1].requires
    assert found.digest != parse_manifest(valid_manifest()).digest
    assert found.document == older


@pytest.mark.parametrize("version", ["2.0", "0.9", "12.1"])
def test_another_major_version_is_refused_and_named(version):
    with pytest.raises(BundleError, match=re.escape(f"schema version {version}; this runtime reads 1.x")) as caught:
        parse_manifest({"schema_version": version})
    assert "Update fastserve-runtime" in caught.value.remedy


@pytest.mark.parametrize("version", ["1", "1.", ".0", "", "1.0.0", "one.0", "-1.0", "١.٠", "1. 0", "9" * 5000 + ".0"])
def test_a_version_that_is_not_two_numbers_is_refused(version):
    with pytest.raises(BundleError, match=r"not 'major\.minor'"):
        parse_manifest(valid_manifest() | {"schema_version": version})


@pytest.mark.parametrize(
    ("way", "value"),
    [
        (("variants", 0, "files"), ["elsewhere.bin"]),
        (("variants", 0, "golden"), "elsewhere.bin"),
        (("variants", 0, "graphs", "main", "file"), "elsewhere.bin"),
        (("preprocessing", "files"), ["elsewhere.bin"]),
    ],
)
def test_a_file_that_is_named_but_not_listed_is_refused(way, value):
    with pytest.raises(BundleError, match=re.escape("names the file 'elsewhere.bin' but does not list it")):
        parse_manifest(changed(way, value))


def test_two_variants_with_one_id_are_refused():
    with pytest.raises(BundleError, match="same id to two variants"):
        parse_manifest(changed(("variants", 1, "id"), "first"))


def test_a_variant_without_a_graph_is_refused():
    with pytest.raises(BundleError, match="gives the variant 'second' no graph"):
        parse_manifest(changed(("variants", 1, "graphs"), {}))


def test_a_chosen_variant_that_is_not_there_is_refused():
    with pytest.raises(BundleError, match="chooses the variant 'third', which it does not have"):
        parse_manifest(changed(("chosen",), "third"))


@pytest.mark.parametrize("dim", [-1, 1.5, True, None, "length", [1]])
def test_a_dimension_is_a_size_or_a_symbol(dim):
    with pytest.raises(BundleError, match="neither a size nor a symbol"):
        parse_manifest(changed(("variants", 0, "graphs", "main", "inputs", 0, "dims"), [dim]))


def test_a_symbol_needs_its_bounds():
    document = changed(("variants", 0, "graphs", "main", "inputs", 0, "dims"), [{"symbol": "length", "min": 1}])
    with pytest.raises(BundleError, match="has no field 'max'"):
        parse_manifest(document)


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e999", '"\\ud800"'])
def test_values_that_cannot_be_written_back_as_json_are_refused(text):
    with pytest.raises(BundleError, match="holds a value that JSON does not have"):
        parse_manifest(changed(("task_settings",), {"inner": json.loads(text)}))


def deep_lists():
    """Lists nested ever deeper, as deep as JSON can be read here."""
    for depth in range(100, 2 * sys.getrecursionlimit(), 25):
        try:
            yield json.loads("[" * depth + "]" * depth)
        except RecursionError:
            return


def test_a_manifest_nested_as_deep_as_the_stack_is_refused_or_has_its_digest_wherever_it_is_asked():
    def digest_further_down(manifest, calls):
        return digest_further_down(manifest, calls - 1) if calls else manifest.digest

    read = 0
    for deep in deep_lists():
        try:
            manifest = parse_manifest(changed(("task_settings",), {"inner": deep}))
        except BundleError:
            continue
        assert len(digest_further_down(manifest, 30)) == 64
        read += 1
    assert read


def test_a_deep_list_in_place_of_a_text_is_refused():
    for deep in deep_lists():
        with pytest.raises(BundleError):
            parse_manifest(changed(("task",), deep))


def test_a_variant_is_found_by_its_id():
    manifest = parse_manifest(valid_manifest())
    assert manifest.variant("second") is manifest.variants[1]
    with pytest.raises(UsageError, match="no variant 'Second'"):
        manifest.variant("Second")


def test_a_device_needs_a_variants_files_and_the_shared_ones_but_no_golden():
    manifest = parse_manifest(valid_manifest())
    assert [entry.path for entry in manifest.shipped_files(manifest.variants[0])] == [MODEL, TOKENIZER]
