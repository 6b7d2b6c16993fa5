import json

import pytest

from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.cli.inspection import (
    VARIANT_HEADINGS,
    conversion_lines,
    device_size,
    evidence_notes,
    inspection,
    source_lines,
    variant_lines,
    variant_rows,
)
from manifests import MODEL, TOKENIZER, small_bundle, write_directory


@pytest.fixture
def opened(tmp_path):
    """Open a small bundle with changes to its manifest and documents of evidence."""

    def opened(*evidence, **changes):
        document, contents = small_bundle()
        bundle = open_bundle(write_directory(tmp_path / "a.fsb", {**document, **changes}, contents))
        folder = bundle.location / "evidence"
        folder.mkdir()
        for i, fields in enumerate(evidence):
            (folder / f"{i}.json").write_text(json.dumps({"manifest": bundle.manifest.digest, **fields}))
        return bundle

    return opened


def measurement(**changes):
    return {
        "kind": "measurement",
        "variant": "first",
        "machine": {"processor": "Test CPU"},
        "brings_pytorch": False,
        "quality": {"value": 0.97},
        "memory": {"peak": 50_000_000},
        "latency": {"p90": 0.01, "trustworthy": True},
        **changes,
    }


def cells(bundle, variant="first"):
    rows = variant_rows(bundle)[1]
    return dict(zip(VARIANT_HEADINGS, next(row for row in rows if row[0].startswith(variant)), strict=True))


def assert_noted(bundle, kind, variant):
    (note,) = evidence_notes(bundle)
    assert note.startswith(f"The {kind} evidence of '{variant}' is damaged and was left out")
    assert inspection(bundle)["notes"] == [note]


def test_the_document_holds_the_manifest_sizes_and_evidence(opened):
    bundle = opened(measurement())
    document = json.loads(json.dumps(inspection(bundle)))
    assert document["bundle"] == str(bundle.location)
    assert document["digest"] == bundle.manifest.digest
    assert document["manifest"] == bundle.manifest.document
    assert document["generation"] is None
    assert document["sizes"] == {v.id: device_size(bundle, v) for v in bundle.manifest.variants}
    assert [e["variant"] for e in document["evidence"]] == ["first"]


def test_the_size_on_a_device_is_model_and_tokenizer_without_golden(opened):
    bundle = opened()
    files = bundle.manifest.files
    assert device_size(bundle, bundle.manifest.variant("first")) == files[MODEL].bytes + files[TOKENIZER].bytes


def test_the_source_and_the_input_are_told(opened):
    bundle = opened()
    assert source_lines(bundle) == [
        f"id        {bundle.manifest.digest}",
        "source    maker/model at abc, licence apache-2.0",
        "input     tokenizer: sequence_length 8, pad_id 0, pad_token [PAD], add_special_tokens True",
    ]


def test_an_unknown_revision_and_licence_are_told(opened):
    source = {"name": "tiny", "revision": None, "weights_sha256": "0", "licence": None}
    assert "source    tiny, licence unknown" in source_lines(opened(source=source))


def test_a_variant_has_its_figures_and_needs(opened):
    bundle = opened(measurement())
    assert variant_rows(bundle)[0] == "p90 and memory measured on Test CPU"
    assert cells(bundle) == {
        "variant": "first (chosen)",
        "size": "18 B",
        "quality": "0.9700",
        "p90": "10.0 ms",
        "peak memory": "50.0 MB",
        "needs": "onnxruntime ≥ 1.18",
        "placement": "CPUExecutionProvider: 3 of 3",
    }


def test_a_variant_that_was_not_measured_has_no_figures(opened):
    bundle = opened()
    assert variant_rows(bundle)[0] == "no measurements"
    assert [cells(bundle, "second")[h] for h in ("quality", "p90", "peak memory")] == ["-", "-", "-"]


@pytest.mark.parametrize(
    ("changes", "heading", "cell"),
    [
        ({"quality": None}, "quality", "-"),
        (
            {"quality": {"value": 1.0144, "beside": {"accuracy": 0.9125, "reference's accuracy": 0.8996}}},
            "quality",
            "1.0144 (accuracy 0.9125 of 0.8996)",
        ),
        ({"latency": {"p90": None, "trustworthy": False}}, "p90", "not trustworthy"),
        ({"memory": {"peak": None}}, "peak memory", "unknown"),
        ({"brings_pytorch": True}, "peak memory", "50.0 MB *"),
    ],
)
def test_figures_in_warning_unknown_or_not_judged_are_marked(opened, changes, heading, cell):
    assert cells(opened(measurement(**changes)))[heading] == cell


@pytest.mark.parametrize(
    "changes",
    [{"latency": {}}, {"memory": None}, {"memory": {"peak": 10**400}}, {"machine": 3}, {"quality": {"value": "x"}}],
)
def test_evidence_that_is_not_what_it_should_be_is_left_out_with_a_note(opened, changes):
    bundle = opened(measurement(**changes))
    assert [cells(bundle)[h] for h in ("quality", "p90", "peak memory")] == ["-", "-", "-"]
    assert_noted(bundle, "measurement", "first")


def test_graphs_and_operators_are_told(opened):
    bundle = opened()
    assert variant_lines(bundle.manifest.variant("first")) == [
        "main (main): input_ids int32[1, 8], attention_mask float32[1, 8] → sentence_embedding float32[1, 4]",
        "operators: Gather 1",
    ]
    assert "input_ids int32[1, length 1..64]" in variant_lines(bundle.manifest.variant("second"))[0]


def conversion(**changes):
    return {
        "kind": "conversion",
        "variant": "first",
        "graph_optimization": {"before": {"MatMul": 4, "Add": 6}, "after": {"MatMul": 2, "Attention": 1, "Add": 6}},
        "layers": {"samples": 8, "sqnr_db": {"a": 31.25, "b": 12.0, "c": None, "d": 20.0, "e": 40.0}},
        "fake_quant_reference": {"sqnr_db": 33.0, "executor": "the same quantized weights in PyTorch"},
        **changes,
    }


def test_conversion_tells_what_was_fused_and_which_layers_lost_most(opened):
    bundle = opened(conversion())
    assert conversion_lines(bundle)["first"] == [
        "graph: 10 operators to 9; gone: MatMul 2; new: Attention 1",
        "layers: SQNR of 4 against fp32; lowest: b 12.0 dB, d 20.0 dB, a 31.2 dB",
        "fake-quant reference: SQNR 33.0 dB against the same quantized weights in PyTorch",
    ]
    assert conversion_lines(bundle)["second"] == []


def test_conversion_says_nothing_of_what_was_not_looked_at(opened):
    bundle = opened(conversion(graph_optimization=None, layers=None, fake_quant_reference={"sqnr_db": None}))
    assert conversion_lines(bundle)["first"] == []


@pytest.mark.parametrize(
    "changes", [{"layers": {"sqnr_db": 3}}, {"fake_quant_reference": [1]}, {"graph_optimization": {"before": {}}}]
)
def test_damaged_conversion_evidence_is_noted(opened, changes):
    bundle = opened(conversion(**changes))
    assert conversion_lines(bundle)["first"] == []
    assert_noted(bundle, "conversion", "first")


def compilation(**changes):
    report = {"operators": {"npu": 5, "cpu": {"MEAN": 2, "ADD": 1}}, "estimates": {"sram_bytes": 10384}}
    report |= {"estimates_of": "the operators on the NPU alone"}
    document = {"kind": "compilation", "variant": "second", "target": "board", "outputs_of": "first on litert"}
    return {**document, "report": {**report, **changes}}


def test_compilation_tells_what_was_compiled_and_what_is_only_predicted(opened):
    bundle = opened(compilation())
    assert conversion_lines(bundle) == {
        "first": [],
        "second": [
            "made for board from what gives the outputs of first on litert",
            "compiled: 5 operators on the target's processor; left to the CPU: MEAN 2, ADD 1",
            "predicted (the operators on the NPU alone): sram bytes 1.038e+04",
        ],
    }


def test_compilation_without_estimates_or_placement_says_nothing_of_them(opened):
    bundle = opened(compilation(operators={"add": 9}, estimates={}))
    assert len(conversion_lines(bundle)["second"]) == 1


@pytest.mark.parametrize("changes", [{"operators": 3}, {"operators": {"npu": "many", "cpu": {}}}, {"estimates": [1]}])
def test_damaged_compilation_evidence_is_noted(opened, changes):
    bundle = opened(compilation(**changes))
    assert conversion_lines(bundle)["second"] == []
    assert_noted(bundle, "compilation", "second")


def test_tensors_that_differ_in_a_layers_number_are_told_together(opened):
    document, _ = small_bundle()
    (variant, *others) = document["variants"]
    (graph,) = variant["graphs"].values()
    caches = [{"name": f"past.{n}.key", "dtype": "float32", "dims": [1, 4]} for n in range(3)]
    other = {"name": "past.3.key", "dtype": "float32", "dims": [1, 8]}
    graph["inputs"] = [{"name": "ids", "dtype": "int64", "dims": [1]}, *caches, other]
    bundle = opened(variants=[{**variant, "target": "board"}, *others])
    first, *_ = variant_lines(bundle.manifest.variants[0])
    assert "ids int64[1], past.{0..2}.key float32[1, 4], past.3.key float32[1, 8] →" in first
