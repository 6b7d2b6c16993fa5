"""No number of a manifest takes memory without a bound, and no bundle is taken for one of another task."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_line import fastserve_command
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.errors import BundleError
from manifests import LABELS, LENGTH, small_bundle, tensor, text_bundle, write_directory, write_zip

LARGE = 10**9


def opened(folder: Path, change, parts=small_bundle):
    document, contents = parts()
    change(document)
    with open_bundle(write_directory(folder / "a.fsb", document, contents)) as bundle:
        return bundle


def setting(**settings):
    return lambda document: document["preprocessing"]["settings"].update(settings)


def graph(**fields):
    return lambda document: document["variants"][0]["graphs"]["main"].update(fields)


def state(*dims, dtype="float32"):
    reset = {**tensor("cache", dtype, *dims), "reset": "sequence"}
    return lambda document: document["variants"][0].update(state=[reset])


def length(minimum, maximum):
    return {"symbol": "length", "min": minimum, "max": maximum}


IDS, MASK = (tensor(name, kind, 1, LENGTH) for name, kind in (("input_ids", "int32"), ("attention_mask", "float32")))


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([], "take nothing, which is not what texts become"),
        ([IDS], "take input_ids, which"),
        ([IDS, IDS, MASK], "take input_ids, attention_mask, which"),
        ([IDS, MASK, tensor("pixels", "float32", 1, LENGTH)], "take input_ids, attention_mask, pixels, which"),
        ([tensor("input_ids", "int64", 1, LENGTH), MASK], "as int64 [1, 8]; texts become int32 [samples, tokens]"),
        ([IDS, tensor("attention_mask", "int32", 1, LENGTH)], "texts become float32"),
        ([IDS, tensor("attention_mask", "float32")], "texts become"),
        ([tensor("input_ids", "int32", LENGTH), MASK], "as int32 [8]; texts become"),
        ([tensor("input_ids", "int32", 1, 3), MASK], "as int32 [1, 3]; texts become"),
    ],
)
def test_an_encoder_takes_what_texts_become(inputs, words, tmp_path: Path) -> None:
    with pytest.raises(BundleError) as caught:
        opened(tmp_path, graph(inputs=inputs))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"outputs": [tensor("sentence_embedding", "float32")]},
        {"outputs": [tensor("sentence_embedding", "float32", 1, 5)]},
        {"outputs": [tensor("sentence_embedding", "int64", 1, 4)]},
        {"outputs": [tensor("sentence_embedding", "float32", 1, 4), tensor("more", "float32", 1)]},
        {"inputs": [tensor("input_ids", "int32", 2, LENGTH), tensor("attention_mask", "float32", 2, LENGTH)]},
    ],
)
def test_a_manifest_that_does_not_fit_its_model_is_found_by_the_engine(fields, tmp_path: Path) -> None:
    document, contents = text_bundle()
    graph(**fields)(document)
    bundle = write_directory(tmp_path / "a.fsb", document, contents)
    done = fastserve_command("run", bundle, "a b")
    assert done.returncode == 5, done.stderr
    assert "manifest.json gives the model the" in done.stderr
    assert "the model has" in done.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (setting(sequence_length=LARGE), "sequence_length of 1000000000; this runtime takes from 1 to 262144"),
        (setting(sequence_length=0), "sequence_length of 0"),
        (setting(sequence_length=LENGTH + 1), "padded to 9 tokens, and variant 'first' takes 8"),
        (setting(sequence_length=-1), "not a whole number of at least 0"),
        (setting(sequence_length=True), "not a whole number"),
        (setting(sequence_length=8.0), "not a whole number"),
        (setting(vocabulary_size=LARGE), "vocabulary_size of 1000000000"),
        (graph(outputs=[tensor("sentence_embedding", "float32", 1, 2**31)]), "which no tensor has"),
        (graph(outputs=[tensor("sentence_embedding", "float32", 1, 0)]), "the dimensions [1, 0], which no tensor has"),
        (graph(outputs=[tensor("sentence_embedding", "float32", 2**16, 2**16)]), "17.2 GB; at most 4.3 GB"),
        (graph(outputs=[tensor("sentence_embedding", "float32", *[1] * 17)]), "which no tensor has"),
        (graph(outputs=[tensor("sentence_embedding", "float128", 1, 4)]), "the type 'float128', which no tensor has"),
        (graph(outputs=[tensor("sentence_embedding", "object", 1, 4)]), "the type 'object'"),
        (graph(outputs=[tensor("sentence_embedding", "float32", 1, length(9, 8))]), "which no tensor has"),
        (graph(outputs=[tensor("sentence_embedding", "float32", 1, length(1, 2**31))]), "which no tensor has"),
        (graph(outputs=[tensor("sentence_embedding", "float32", 1, length(2**31 - 1, 2**31 - 1))]), "8.6 GB"),
        (state(1, LARGE, 1000), "the state 'cache' of variant 'first'"),
        (state(1, 4, dtype="<f4"), "the type '<f4'"),
    ],
)
def test_what_no_model_has_is_refused(tmp_path: Path, change, words: str) -> None:
    with pytest.raises(BundleError) as failure:
        opened(tmp_path, change)
    assert words in failure.value.problem


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"task": "text-classification"}, "is for the task 'text-classification', but variant 'first' gives sentence_"),
        ({"task": "text-generation"}, "but its model takes whole texts and continues none"),
        ({"task": "speech-recognition"}, "is for the task 'speech-recognition', which is not known here"),
        ({"task": ""}, "is for the task '', which is not known here"),
        ({"task": "../feature-extraction"}, "which is not known here"),
    ],
)  # fmt: skip
def test_a_task_that_is_not_the_models_is_refused(tmp_path: Path, change: dict, words: str) -> None:
    with pytest.raises(BundleError) as failure:
        opened(tmp_path, lambda document: document.update(change))
    assert words in failure.value.problem


def test_a_classifier_names_a_label_for_each_score(tmp_path: Path) -> None:
    def change(document, labels=LABELS):
        scores = [tensor("logits", "float32", 1, 4)]
        for variant in document["variants"]:
            variant["graphs"]["main"]["outputs"] = scores
        document.update(task="text-classification", task_settings={"labels": labels})

    assert opened(tmp_path, change).manifest.task == "text-classification"
    with pytest.raises(BundleError, match="its model scores 4 labels and 3 are named"):
        opened(tmp_path, lambda document: change(document, LABELS[:3]))


def decoder(context=64, room=64, heads=2):
    def change(document):
        document.update(task="text-generation", chosen="first", variants=document["variants"][:1])
        document["preprocessing"] |= {"kind": "prompt-tokenizer", "settings": {"context": context, "ends": []}}
        past = tensor("past_key_values.0.key", "float32", 1, heads, length(0, room), 8)
        document["variants"][0]["graphs"]["main"]["inputs"] = [tensor("input_ids", "int64", 1, length(1, 64)), past]

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (decoder(context=LARGE), "a context of 1000000000"),
        (decoder(context=1), "a context of 1"),
        (decoder(context=65), "a context of 65 tokens, and variant 'first' has room for 64"),
        (decoder(context=2**24, room=2**24, heads=2**20), "a cache of"),
    ],
)
def test_a_context_is_bounded_by_its_cache(tmp_path: Path, change, words: str) -> None:
    assert opened(tmp_path, decoder()).manifest.task == "text-generation"
    with pytest.raises(BundleError) as failure:
        opened(tmp_path, change)
    assert words in failure.value.problem


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("write", [write_directory, write_zip])
def test_a_manifest_is_utf_8_without_a_mark(tmp_path: Path, encoding: str, write) -> None:
    document, contents = small_bundle()
    location = write(tmp_path / "a.fsb", json.dumps(document).encode(encoding), contents)
    with pytest.raises(BundleError, match="is not JSON"):
        open_bundle(location)


@pytest.mark.parametrize(
    "words",
    [
        ["inspect"],
        ["verify"],
        ["conform", "--target", "all"],
        ["run"],
        ["bisect", "--reference", "nowhere"],
        ["pack", "-o", "x"],
        ["serve"],
    ],
)
def test_every_command_refuses_it_with_the_code_of_bundles(tmp_path: Path, words: list) -> None:
    document, contents = text_bundle()
    setting(sequence_length=LARGE)(document)
    location = write_directory(tmp_path / "a.fsb", document, contents)
    command, *options = words
    done = fastserve_command(command, location, *options, *(["a text"] if command == "run" else []))
    assert done.returncode == 5, done.stderr
    assert "sequence_length of 1000000000" in done.stderr
