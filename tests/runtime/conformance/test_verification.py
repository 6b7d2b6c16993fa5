import dataclasses
from pathlib import Path

import numpy as np
import pytest

import fastserve_runtime
from fastserve_runtime.bundle.golden import read_golden, write_golden
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.conformance.verdict import PREPROCESSING, Outcome, Verdict
from fastserve_runtime.conformance.verification import (
    Verification,
    exit_code,
    judge_golden,
    output_kind,
    reasons,
    verdicts_document,
    verify,
)
from fastserve_runtime.engines import ENGINES
from fastserve_runtime.errors import BundleError, UsageError
from fastserve_runtime.pipelines import text_classification
from manifests import (
    GOLDEN,
    MODEL,
    TOKENIZER,
    WORDS,
    file_entries,
    text_bundle,
    text_model,
    write_directory,
    write_zip,
)


def outcomes(verification):
    return {v.check: v.outcome.value for v in verification.verdicts}


@pytest.fixture
def verified(tmp_path):
    """Verify a bundle of text after changes: to a golden's arrays, to the manifest, to files."""

    def verified(output="sentence_embedding", *, golden=None, manifest=None, files=None, **arguments):
        document, contents = text_bundle(output)
        if golden:
            contents[GOLDEN] = write_golden(golden(read_golden(contents[GOLDEN])))
        contents |= files or {}
        document["files"] = file_entries(contents)
        if manifest:
            manifest(document)
        bundle = open_bundle(write_directory(tmp_path / "text.fsb", document, contents))
        return verify(bundle, **arguments)

    return verified


def changed_output(part, change):
    """Change the recorded outputs of a golden."""
    return lambda golden: dataclasses.replace(
        golden, **{part: {name: change(value) for name, value in getattr(golden, part).items()}}
    )


def only_in_row(row, factor):
    def change(values):
        values = values.copy()
        values[row] *= factor
        return values

    return change


@pytest.mark.parametrize("output", ["sentence_embedding", "last_hidden_state", "logits"])
def test_a_sound_bundle_passes_every_check(verified, output):
    verification = verified(output)
    assert outcomes(verification) == {"preprocessing": "PASS", "quality": "PASS", "executor": "PASS"}
    assert [v.target for v in verification.verdicts] == ["onnx", "onnxruntime", "onnxruntime"]
    assert verification.verdicts[1].figures["sqnr_db"] > 80
    assert verification.failures == ()
    assert verification.has_run


def with_few_rows(document):
    document["preprocessing"]["settings"]["vocabulary_size"] = 2


def test_what_the_pipeline_refuses_does_not_verify(verified, monkeypatch):
    def refuse(pipeline, texts):
        assert len(texts) > 1
        raise BundleError("The pipeline does not take this.")

    monkeypatch.setattr(text_classification.TextClassification, "__call__", refuse)
    verification = verified("logits")
    assert outcomes(verification) == {
        "preprocessing": "PASS",
        "quality": "PASS",
        "executor": "PASS",
        "pipeline": "RUN_FAILED",
    }
    (failure,) = verification.failures
    assert failure.message == "The pipeline does not take this."
    assert exit_code(verification.verdicts) == 4


def test_a_table_without_a_row_for_a_token_of_the_golden_does_not_verify(verified):
    with pytest.raises(BundleError, match="holds the id"):
        verified(manifest=with_few_rows)


def test_a_sound_zip_passes_too(tmp_path):
    verification = verify(open_bundle(write_zip(tmp_path / "text.fsb", *text_bundle())))
    assert verification.failures == ()
    assert verification.has_run


@pytest.mark.parametrize("form", [str, Path])
def test_a_bundle_may_be_named_by_its_path(tmp_path, form):
    verification = verify(form(write_zip(tmp_path / "text.fsb", *text_bundle())), engine="onnxruntime", threads=2)
    assert [v.outcome for v in verification.verdicts] == [Outcome.PASS] * 3


def test_every_variant_of_an_exported_bundle_passes(tiny_bundle):
    bundle = fastserve_runtime.open_bundle(tiny_bundle)
    verification = fastserve_runtime.verify(bundle, threads=2)
    assert {v.outcome for v in verification.verdicts} == {Outcome.PASS}
    assert {v.variant for v in verification.verdicts} == {v.id for v in bundle.manifest.variants}


def test_one_variant_can_be_checked_alone(tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    name = bundle.manifest.variants[-1].id
    assert {v.variant for v in verify(bundle, variant=name).verdicts} == {name}
    with pytest.raises(UsageError, match="no variant 'unheard-of'"):
        verify(bundle, variant="unheard-of")


def test_a_model_unlike_its_reference_fails_the_quality_check_alone(verified):
    verification = verified(golden=changed_output("reference", only_in_row(0, 2)))
    assert outcomes(verification) == {"preprocessing": "PASS", "quality": "OUTPUT_MISMATCH", "executor": "PASS"}
    (failure,) = verification.failures
    assert failure.message.startswith("sentence_embedding: SQNR is")
    assert failure.figures["sqnr_db"] < 70


def test_samples_that_are_not_realistic_do_not_count_in_quality(verified):
    verification = verified(golden=changed_output("reference", only_in_row(2, 1000)))
    assert outcomes(verification)["quality"] == "PASS"


def test_an_executor_unlike_the_building_machines_fails_on_any_sample(verified):
    verification = verified(golden=changed_output("artifact", only_in_row(2, 1.01)))
    assert outcomes(verification) == {"preprocessing": "PASS", "quality": "PASS", "executor": "OUTPUT_MISMATCH"}


def test_hidden_states_of_padding_do_not_count(verified):
    def damage_padding(golden):
        hidden = golden.artifact["last_hidden_state"].copy()
        hidden[golden.inputs["attention_mask"] == 0] = 1e6
        return dataclasses.replace(golden, artifact={"last_hidden_state": hidden})

    assert outcomes(verified("last_hidden_state", golden=damage_padding))["executor"] == "PASS"


def test_an_output_of_another_shape_is_a_mismatch(verified):
    verification = verified(golden=changed_output("artifact", lambda values: values[:, :-1]))
    assert outcomes(verification)["executor"] == "OUTPUT_MISMATCH"
    assert "shape is [3, 4], not [3, 3]" in verification.failures[0].message


def test_a_golden_without_realistic_samples_proves_no_quality(verified):
    verification = verified(golden=lambda g: dataclasses.replace(g, realistic=np.zeros(3, bool)))
    assert outcomes(verification)["quality"] != "PASS"


def test_another_tokenizer_is_found(verified):
    contents = text_bundle()[1]
    assert contents[TOKENIZER].count(b'"b":5,"c":6') == 1
    verification = verified(files={TOKENIZER: contents[TOKENIZER].replace(b'"b":5,"c":6', b'"b":6,"c":5')})
    assert outcomes(verification) == {"preprocessing": "OUTPUT_MISMATCH", "quality": "PASS", "executor": "PASS"}
    message = "the preprocessing gives another 'input_ids' than when the bundle was made"
    assert verification.failures[0].message == message


def test_an_input_that_the_tokenizer_does_not_give_is_a_mismatch(verified):
    def with_types(golden):
        return dataclasses.replace(golden, inputs=golden.inputs | {"token_type_ids": np.zeros((3, 8), np.int32)})

    verification = verified(golden=with_types)
    assert "another 'token_type_ids'" in verification.failures[0].message


def test_preprocessing_of_an_unknown_kind_is_refused_as_the_pipeline_refuses_it(verified):
    with pytest.raises(BundleError, match="of kind 'images', which this runtime does not know"):
        verified(manifest=lambda document: document["preprocessing"].update(kind="images"))


def test_a_text_that_is_cut_off_warns_of_nothing(verified, recwarn):
    words = " ".join(WORDS * 3)

    def with_a_long_text(golden):
        ids = golden.inputs["input_ids"].copy()
        ids[2] = [2, 4, 5, 6, 7, 8, 9, 3]
        inputs = {"input_ids": ids, "attention_mask": golden.inputs["attention_mask"].copy()}
        inputs["attention_mask"][2] = 1
        return dataclasses.replace(golden, texts=np.array(["a b", "c", words]), inputs=inputs)

    assert outcomes(verified(golden=with_a_long_text))["preprocessing"] == "PASS"
    assert not [w for w in recwarn if "cut off" in str(w.message)]


def test_a_variant_without_a_golden_is_not_run(verified):
    verification = verified(manifest=lambda document: document["variants"][0].update(golden=None))
    assert outcomes(verification) == {"quality": "NOT_RUN"}
    assert "no golden" in verification.verdicts[0].message
    assert verification.failures == ()
    assert not verification.has_run


def test_a_variant_without_its_engine_is_not_run_and_says_why(verified, monkeypatch):
    monkeypatch.setattr(ENGINES.load("onnxruntime"), "version", lambda: None)
    verification = verified()
    assert outcomes(verification) == {"quality": "NOT_RUN"}
    assert "pip install onnxruntime" in verification.verdicts[0].message
    assert not verification.has_run


def test_another_engine_than_the_variants_is_not_run(verified):
    verification = verified(engine="litert")
    assert outcomes(verification) == {"quality": "NOT_RUN"}
    assert "executes tflite, not onnx" in verification.verdicts[0].message


def test_preprocessing_alone_is_no_run():
    verdict = Verdict("first", "onnx", "preprocessing", Outcome.PASS)
    assert not Verification((verdict,)).has_run


def test_a_model_that_cannot_be_loaded_is_a_failure(verified):
    verification = verified(files={MODEL: b"this is no model"})
    assert outcomes(verification) == {"preprocessing": "PASS", "quality": "LOAD_FAILED"}
    assert "cannot load the model" in verification.failures[0].message
    assert verification.has_run


def test_a_model_that_fails_while_running_is_a_failure(verified):
    verification = verified(files={MODEL: text_model(rows=6)})
    assert outcomes(verification) == {"preprocessing": "PASS", "quality": "RUN_FAILED"}
    assert "onnxruntime failed while running" in verification.failures[0].message
    assert "idx=6" in verification.failures[0].message


def test_a_damaged_bundle_is_refused_before_anything_runs(tmp_path):
    location = write_directory(tmp_path / "text.fsb", *text_bundle())
    (location / MODEL).write_bytes((location / MODEL).read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"has .* bytes; the manifest says"):
        verify(open_bundle(location))


def test_a_golden_that_is_no_golden_is_refused(verified):
    with pytest.raises(BundleError, match="golden file is damaged"):
        verified(files={GOLDEN: b"not samples"})


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"inputs": {}}, "inputs/input_ids"),
        ({"reference": {}}, "reference/sentence_embedding"),
        ({"artifact": {"another": np.ones((3, 4))}}, "artifact/sentence_embedding"),
        ({"artifact": {"sentence_embedding": np.ones((2, 4))}}, "artifact/sentence_embedding"),
        ({"artifact": {"sentence_embedding": np.float32(1)}}, "artifact/sentence_embedding"),
        ({"realistic": np.array([True])}, "realistic"),
        ({"texts": np.array(["a b"])}, "realistic"),
        ({"texts": np.array("a b")}, "texts"),
        ({"texts": np.empty(0, "U1"), "realistic": np.empty(0, bool)}, "texts"),
    ],
)
def test_a_golden_that_lacks_samples_is_refused(verified, changes, part):
    with pytest.raises(BundleError, match=f"The golden of variant 'first' has no '{part}' for each of its samples"):
        verified(golden=lambda golden: dataclasses.replace(golden, **changes))


def test_fewer_than_one_thread_is_refused(verified):
    with pytest.raises(UsageError, match="0 threads were asked for"):
        verified(threads=0)


@pytest.mark.parametrize(
    ("task", "name", "kind"),
    [
        ("feature-extraction", "sentence_embedding", "embedding"),
        ("feature-extraction", "last_hidden_state", "hidden"),
        ("feature-extraction", "logits", "hidden"),
        ("text-classification", "logits", "logits"),
        ("text-generation", "log_probabilities", "log-probabilities"),
        ("text-generation", "next_token", "log-probabilities"),
    ],
)
def test_outputs_are_judged_as_their_task_says(task, name, kind):
    assert output_kind(task, name) == kind


def test_outputs_from_elsewhere_can_be_judged(tmp_path):
    document, contents = text_bundle()
    bundle = open_bundle(write_directory(tmp_path / "text.fsb", document, contents))
    golden = read_golden(contents[GOLDEN])
    (variant,) = bundle.manifest.variants
    verdicts = list(judge_golden(document["task"], variant, golden, golden.artifact, "board"))
    assert [(v.target, v.check, v.outcome) for v in verdicts] == [
        ("board", "quality", Outcome.PASS),
        ("board", "executor", Outcome.PASS),
    ]
    shuffled = {name: value[::-1] for name, value in golden.artifact.items()}
    verdicts = judge_golden(document["task"], variant, golden, shuffled, "board")
    assert [v.outcome for v in verdicts] == [Outcome.OUTPUT_MISMATCH] * 2


def made(*outcomes, check="quality"):
    return [Verdict("v", "t", check, outcome, "why") for outcome in outcomes]


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([], 1),
        (made(Outcome.NOT_RUN), 1),
        (made(Outcome.PASS), 0),
        (made(Outcome.PASS, Outcome.NOT_RUN), 0),
        (made(Outcome.PASS, check=PREPROCESSING), 1),
        (made(Outcome.PASS, Outcome.OUTPUT_MISMATCH), 4),
        (made(Outcome.OUTPUT_MISMATCH, check=PREPROCESSING), 4),
        (made(Outcome.LOAD_FAILED), 4),
    ],
)
def test_the_exit_code_is_that_of_the_worst_and_what_did_not_run_never_passes(verdicts, code):
    assert exit_code(verdicts) == exit_code(iter(verdicts)) == code


def test_every_reason_is_told_once():
    verdicts = [Verdict("v", "t", "quality", Outcome.NOT_RUN, message) for message in ("b.", "a.", "b.", "")]
    assert reasons(verdicts) == "a. b."


def test_verdicts_are_one_document_behind_its_head():
    document = verdicts_document(made(Outcome.PASS), bundle="a.fsb")
    assert list(document) == ["bundle", "verdicts"]
    assert document["verdicts"][0]["outcome"] == "PASS"
