"""The reference of a decoder: traces of real texts, goldens of every kind, and what the original model thinks."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from checkpoints import texts
from fastserve_converters.checkpoints.model_loading import load_model
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.checkpoints.tokenizer_loading import TOKENIZER_FILE
from fastserve_converters.data import Sample, Split
from fastserve_converters.inputs import LoadedCheckpoint, prompt_tokenizer
from fastserve_converters.inputs.prompt_tokenizer import golden_prompts, new_tokens, windows
from fastserve_converters.models.decoder.reference import (
    CANDIDATES,
    build_reference,
)
from fastserve_converters.models.reference import CALIBRATION, DESCRIPTION, INPUTS, OUTPUTS
from fastserve_runtime.errors import UsageError
from fastserve_runtime.generation import traces
from fastserve_runtime.generation.prompt_tokenizer import PromptSettings, PromptTokenizer

CONTEXT = 48
SAMPLES = tuple(Sample(text) for text in texts()[:60])
SPLIT = Split(calibration=SAMPLES[30:], evaluation=SAMPLES[:30])


@pytest.fixture(scope="module")
def model(tiny_decoder):
    return load_model(read_checkpoint(tiny_decoder()))


@pytest.fixture(scope="module")
def built(tiny_decoder, model, tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("reference")
    checkpoint = read_checkpoint(tiny_decoder())
    loaded = LoadedCheckpoint(checkpoint, model, CONTEXT)
    return out, build_reference(out, loaded, prompt_tokenizer.prepare(SPLIT, loaded, out))


def arrays(file: Path) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}


def test_everything_that_later_steps_need_is_written(built) -> None:
    out, description = built
    count = description["evaluation"] + len(description["goldens"])
    inputs, outputs, calibration = (arrays(out / name) for name in (INPUTS, OUTPUTS, CALIBRATION))
    assert {name: (a.shape, a.dtype.name) for name, a in inputs.items()} == {
        "tokens": ((count, CONTEXT), "int32"),
        "length": ((count,), "int32"),
        "prompt": ((count,), "int32"),
        "candidates": ((count, CONTEXT, CANDIDATES), "int32"),
        "scored": ((count, CONTEXT), "bool"),
    }
    assert {name: (a.shape, a.dtype.name) for name, a in outputs.items()} == {
        "log_probabilities": ((count, CONTEXT, CANDIDATES + 1), "float32"),
        "next_token": ((count, CONTEXT, 1), "float32"),
    }
    assert calibration["input_ids"].shape == (description["calibration"], CONTEXT)
    assert calibration["attention_mask"].all()


def test_the_description_says_what_was_done(built) -> None:
    out, description = built
    assert json.loads((out / DESCRIPTION).read_text()) == json.loads(json.dumps(description))
    assert description["preprocessing"]["kind"] == "prompt-tokenizer"
    settings = PromptSettings.from_document(description["preprocessing"]["settings"])
    assert (settings.context, settings.ends) == (CONTEXT, (2,))
    assert description["task_settings"] == {}
    assert description["labels"] is None


def test_what_the_model_thinks_is_that_of_the_whole_sequence(built, model) -> None:
    out, _ = built
    inputs, outputs = arrays(out / INPUTS), arrays(out / OUTPUTS)
    for row, trace in enumerate(traces.traces(inputs)):
        with torch.no_grad():
            truth = torch.log_softmax(model(torch.tensor(trace.tokens[None].astype(np.int64))).logits[0].double(), -1)
        for position in np.flatnonzero(inputs["scored"][row]):
            best = truth[position].topk(CANDIDATES + 1)
            np.testing.assert_allclose(outputs["log_probabilities"][row, position], best.values, atol=1e-4)
            np.testing.assert_array_equal(trace.candidates[position], best.indices[:-1])
            expected = truth[position, trace.tokens[position + 1]]
            assert outputs["next_token"][row, position, 0] == pytest.approx(float(expected), abs=1e-4)
    assert not outputs["log_probabilities"][~inputs["scored"]].any()


def test_evaluation_traces_are_real_text_of_full_length_that_calibration_does_not_have(built) -> None:
    out, description = built
    inputs = arrays(out / INPUTS)
    count = description["evaluation"]
    assert 0 < count <= 8
    assert (inputs["length"][:count] == CONTEXT).all()
    assert (inputs["prompt"][:count] == CONTEXT // 4).all()
    tokenizer = PromptTokenizer((out / TOKENIZER_FILE).read_bytes(), PromptSettings(CONTEXT))
    text = tokenizer.tokenizer.decode(inputs["tokens"][0].tolist())
    assert "\n\n".join(s.text for s in SPLIT.evaluation).startswith(text)
    calibration = arrays(out / CALIBRATION)["input_ids"]
    assert "\n\n".join(s.text for s in SPLIT.calibration).startswith(tokenizer.tokenizer.decode(calibration[0]))


def test_goldens_go_on_as_the_original_generates(built, model) -> None:
    out, description = built
    inputs = arrays(out / INPUTS)
    rows = list(traces.traces(inputs))[description["evaluation"] :]
    assert len(rows) == len(description["goldens"])
    for trace in rows:
        prompt = torch.tensor([trace.tokens[: trace.prompt].astype(np.int64).tolist()])
        whole = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=new_tokens(CONTEXT),
            do_sample=False,
            pad_token_id=0,
        )
        assert whole[0].tolist() == trace.tokens.tolist()


def test_goldens_are_of_every_kind_and_only_degenerate_ones_do_not_count(built, ours) -> None:
    goldens = built[1]["goldens"]
    kinds = Counter(g["kind"] for g in goldens)
    assert kinds == {"short": 3, "non-latin": 4, "full": 1, "one word": 1, "extreme": 2, "empty": 1}
    assert {g["kind"] for g in goldens if not g["realistic"]} == {"extreme", "empty"}
    # Without a beginning there is nothing to feed for an empty text.
    assert "empty" not in {g.kind for g in golden_prompts(texts()[:3], ours(), maximum=20)}


def test_an_empty_prompt_is_the_beginning_alone(built) -> None:
    out, description = built
    row = description["evaluation"] + [g["kind"] for g in description["goldens"]].index("empty")
    inputs = arrays(out / INPUTS)
    assert inputs["prompt"][row] == 1
    assert inputs["tokens"][row, 0] == 1


def test_the_runtimes_tokenizer_gives_the_goldens_prompts(built) -> None:
    out, description = built
    settings = PromptSettings.from_document(description["preprocessing"]["settings"])
    tokenizer = PromptTokenizer((out / TOKENIZER_FILE).read_bytes(), settings)
    inputs = {name: a[description["evaluation"] :] for name, a in arrays(out / INPUTS).items()}
    given = [g["text"] for g in description["goldens"]]
    assert tokenizer.differing(SimpleNamespace(samples=given, inputs=inputs)) == []
    assert tokenizer.differing(SimpleNamespace(samples=["Another", *given[1:]], inputs=inputs)) == ["tokens"]


@given(st.integers(2, 60), st.booleans())
def test_no_golden_prompt_is_longer_than_wanted_and_the_long_one_is_nearly_that(
    ours, maximum: int, begins: bool
) -> None:
    tokenizer = ours(begins=begins)
    whole = "\n\n".join(texts()[:10])
    counts: dict[str, list[int]] = {"short": [], "non-latin": [], "full": [], "extreme": [], "empty": []}
    for golden in golden_prompts(texts()[:10], tokenizer, maximum=maximum):
        if golden.kind != "one word":
            counts[golden.kind].append(len(tokenizer.encode(golden.text)))
        if golden.kind == "full":
            # One character more is too long.
            assert whole.startswith(golden.text)
            assert len(tokenizer.encode(whole[: len(golden.text) + 1])) > maximum
    assert all(count <= maximum for found in counts.values() for count in found)
    assert max(counts["short"], default=0) <= 12
    assert max(counts["non-latin"], default=0) <= 24


@given(st.integers(2, 50), st.booleans(), st.integers(4, 12))
def test_windows_are_the_text_in_order_each_begun_as_texts_are(ours, length: int, begins: bool, count: int) -> None:
    tokenizer = ours(begins=begins)
    samples = SAMPLES[:count]
    found = windows(tokenizer, samples, length)
    body = tokenizer.encode("\n\n".join(s.text for s in samples))[int(begins) :]
    assert {len(w) for w in found} == {length}
    assert all(w[0] == 1 for w in found) or not begins
    joined = [token for w in found for token in w[int(begins) :]]
    assert joined == body[: len(joined)]
    assert len(body) - len(joined) < length - int(begins)


def test_too_little_text_says_how_much_there_is(ours) -> None:
    with pytest.raises(UsageError, match=r"have 1 tokens in all; sequences of 48 are wanted") as failure:
        windows(ours(), [Sample("a")], 48)
    assert "--data" in failure.value.remedy


@pytest.mark.parametrize(("window", "count"), [(256, 16), (64, 16), (48, 12), (4, 1)])
def test_goldens_are_continued_by_a_quarter_of_a_short_context(window: int, count: int) -> None:
    assert new_tokens(window) == count


def test_a_model_that_gives_nan_is_refused(tiny_decoder, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(tiny_decoder())
    model = load_model(checkpoint)
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    loaded = LoadedCheckpoint(checkpoint, model, CONTEXT)
    prepared = prompt_tokenizer.prepare(SPLIT, loaded, tmp_path)
    with pytest.raises(UsageError, match="not finite on the evaluation texts"):
        build_reference(tmp_path, loaded, prepared)
