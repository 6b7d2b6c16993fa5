"""A tokenizer and a model that do not belong together are refused or named, and its settings go with the bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from checkpoints import VOCABULARY, texts
from fastserve_converters.checkpoints.model_loading import load_model
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.checkpoints.tokenizer_checks import check_vocabulary, embedding_rows, text_settings
from fastserve_converters.checkpoints.tokenizer_loading import TOKENIZER_FILE, load_tokenizer
from fastserve_converters.data import Sample, Split
from fastserve_converters.inputs import LoadedCheckpoint, tokenizer
from fastserve_converters.models.reference import INPUTS, OUTPUTS, build_reference
from fastserve_runtime.errors import InputError, UsageError
from fastserve_runtime.preprocessors.text import TextPreprocessor, TokenizerSettings

LENGTH = 16
TEXTS = [t for t in texts() if t.isascii()][:8]


@pytest.fixture
def edited(tiny_copy: Callable[..., Path]) -> Callable[..., Path]:
    """Copies a small model and edits a JSON file of it; `...` takes a key out."""

    def make(family: str = "bert", file: str = "tokenizer_config.json", **changes: Any) -> Path:
        folder = tiny_copy(family)
        document = json.loads((folder / file).read_text()) | changes
        (folder / file).write_text(json.dumps({k: v for k, v in document.items() if v is not ...}))
        return folder

    return make


def built(folder: Path, out: Path, given: list[str] | None = None) -> dict[str, Any]:
    checkpoint = read_checkpoint(folder)
    samples = tuple(Sample(text) for text in given or TEXTS)
    out.mkdir()
    loaded = LoadedCheckpoint(checkpoint, load_model(checkpoint), LENGTH)
    return build_reference(out, loaded, tokenizer.prepare(Split(samples[-2:], samples), loaded, out))


def original(folder: Path, text: str) -> np.ndarray:
    """The hidden states of one text, unpadded, by Transformers alone."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    model = transformers.AutoModel.from_pretrained(str(folder), attn_implementation="eager").eval()
    given = tokenizer(text, return_tensors="pt", truncation=True, max_length=LENGTH)
    with torch.no_grad():
        hidden = model(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).last_hidden_state
    return np.asarray(hidden[0])


def assert_as_original(folder: Path, out: Path, given: list[str]) -> None:
    with np.load(out / OUTPUTS) as outputs, np.load(out / INPUTS) as inputs:
        for row, text in enumerate(given):
            expected = original(folder, text)
            assert inputs["attention_mask"][row].sum() == len(expected)
            np.testing.assert_allclose(outputs["last_hidden_state"][row][: len(expected)], expected, atol=1e-5)


def test_the_rows_of_the_table_go_with_the_bundle(tiny, tmp_path: Path) -> None:
    described = built(tiny("bert"), tmp_path / "out")
    assert described["preprocessing"]["settings"] == {
        "sequence_length": LENGTH,
        "pad_id": 0,
        "pad_token": "[PAD]",
        "add_special_tokens": True,
        "vocabulary_size": VOCABULARY,
    }
    assert described["notes"] == []


def add_tokens(folder: Path, *tokens: str) -> Path:
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    tokenizer.add_tokens(list(tokens))
    tokenizer.save_pretrained(folder)
    return folder


def test_added_tokens_without_rows_are_noted_and_refused_in_texts(tiny_copy, tmp_path: Path) -> None:
    folder = add_tokens(tiny_copy("bert"), "<url>", "<user>")
    described = built(folder, tmp_path / "out")
    (note,) = described["notes"]
    assert f"2 added tokens without a row in the model's embedding of {VOCABULARY} rows: '<url>' (800)" in note
    settings = TokenizerSettings.from_document(described["preprocessing"]["settings"])
    preprocess = TextPreprocessor((tmp_path / "out" / TOKENIZER_FILE).read_bytes(), settings)
    with pytest.raises(InputError, match=r"Text 2 \('see <url> now'\) has the token '<url>' with the id 800"):
        preprocess(["a good film", "see <url> now"])


def test_a_text_of_the_data_with_such_a_token_is_named_at_export(tiny_copy, tmp_path: Path) -> None:
    folder = add_tokens(tiny_copy("bert"), "<url>")
    with pytest.raises(UsageError, match=r"has the token '<url>' with the id 800.* 800 rows"):
        built(folder, tmp_path / "out", [*TEXTS, "see <url> now"])


def test_a_vocabulary_of_another_model_is_refused(tiny) -> None:
    checkpoint = read_checkpoint(tiny("bert"))
    tokenizer = load_tokenizer(checkpoint)
    with pytest.raises(
        UsageError, match=r"vocabulary has ids up to 799, and .* embedding has 150 rows: the token .* 150\."
    ):
        check_vocabulary(tokenizer, 150)
    assert check_vocabulary(tokenizer, embedding_rows(load_model(checkpoint))) == ""


def test_a_special_token_that_texts_need_must_have_a_row(tiny_copy) -> None:
    folder = add_tokens(tiny_copy("bert"), "<end>")
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), sep_token="<end>")
    with pytest.raises(UsageError, match="the token '<end>' has the id 800"):
        check_vocabulary(tokenizer, VOCABULARY)


@pytest.mark.parametrize("known", [None, "<unk>"])
def test_an_unknown_token_needs_a_row_only_where_texts_have_it(known) -> None:
    """Classes of Transformers add one by their default, where bytes are tokens too (Qwen2Tokenizer)."""
    from tokenizers import Tokenizer, models

    backend = Tokenizer(models.BPE({"a": 0, **({known: 1} if known else {})}, [], unk_token=known))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, unk_token=known or "<|endoftext|>")
    if known:
        with pytest.raises(UsageError, match="the token '<unk>' has the id 1"):
            check_vocabulary(tokenizer, 1)
    else:
        assert "1 added tokens without a row" in check_vocabulary(tokenizer, 1)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_without_a_padding_token_another_fills_and_changes_nothing(edited, tmp_path: Path, family: str) -> None:
    folder = edited(family, pad_token=...)
    described = built(folder, tmp_path / "out")
    unknown = "<unk>" if family == "roberta" else "[UNK]"
    assert described["preprocessing"]["settings"]["pad_token"] == unknown
    assert f"no padding token: '{unknown}' fills short texts" in described["notes"][0]
    assert_as_original(folder, tmp_path / "out", TEXTS)


def test_a_padding_token_beyond_the_table_is_not_used(edited, tmp_path: Path) -> None:
    described = built(edited(pad_token="[NEW]"), tmp_path / "out")
    assert described["preprocessing"]["settings"]["pad_id"] == 1
    assert any("a padding token '[NEW]' beyond the model's 800 rows" in note for note in described["notes"])


def test_padding_on_the_left_gives_what_the_model_gives_for_a_text_alone(edited, tmp_path: Path) -> None:
    folder = edited(padding_side="left")
    described = built(folder, tmp_path / "out")
    assert any("pads on the left" in note for note in described["notes"])
    assert_as_original(folder, tmp_path / "out", TEXTS)


def test_texts_are_cut_at_the_side_that_the_tokenizer_says(edited, tmp_path: Path) -> None:
    folder = edited(truncation_side="left")
    given = ["first " + " ".join(TEXTS) + " last", *TEXTS]
    described = built(folder, tmp_path / "out", given)
    assert described["preprocessing"]["settings"]["truncation_side"] == "left"
    assert_as_original(folder, tmp_path / "out", given)


@pytest.mark.parametrize("family", ["bert", "albert", "distilbert"])
def test_the_padding_token_in_a_text_counts_as_a_token(tiny, tmp_path: Path, family: str) -> None:
    given = ["a [PAD] good film", "[PAD] [PAD]", *TEXTS]
    built(tiny(family), tmp_path / "out", given)
    assert_as_original(tiny(family), tmp_path / "out", given)


def test_where_it_moves_positions_it_is_refused(tiny, tmp_path: Path) -> None:
    described = built(tiny("roberta"), tmp_path / "out")
    assert described["preprocessing"]["settings"]["reserved_id"] == 1
    with pytest.raises(UsageError, match=r"\('a <pad> good film'\) has the token '<pad>'"):
        built(tiny("roberta"), tmp_path / "again", ["a <pad> good film", *TEXTS])


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_a_tokenizer_that_fails_for_unknown_words_is_refused(edited, family: str) -> None:
    folder = edited(family)
    document = json.loads((folder / "tokenizer.json").read_text())
    document["model"]["unk_token"] = "[NONE]"
    document["model"]["vocab"]["[KNU]"] = document["model"]["vocab"].pop("[UNK]")
    document["added_tokens"] = [t for t in document["added_tokens"] if t["content"] != "[UNK]"]
    (folder / "tokenizer.json").write_text(json.dumps(document))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["unk_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    checkpoint = read_checkpoint(folder)
    with pytest.raises(UsageError, match="tokenizer"):
        text_settings(checkpoint, load_tokenizer(checkpoint), VOCABULARY, LENGTH)


@pytest.mark.parametrize("name", ["RobertaTokenizer", "GPT2Tokenizer", "XLMRobertaTokenizer", "LlamaTokenizer"])
def test_a_class_of_another_kind_of_tokenizer_is_refused(edited, name: str) -> None:
    with pytest.raises(UsageError) as failure:
        load_tokenizer(read_checkpoint(edited(tokenizer_class=name)))
    assert name in failure.value.problem
    assert "tokenizer_config.json" in failure.value.remedy


def test_files_of_a_tokenizer_that_disagree_are_named(edited, tmp_path: Path) -> None:
    described = built(edited(tokenizer_class="BertTokenizer", do_lower_case=False), tmp_path / "out")
    (note,) = described["notes"]
    assert (
        "'tokenizer.json' alone and Transformers' BertTokenizer, which ships, give different tokens for 8 of 8" in note
    )


@pytest.mark.parametrize("name", ["BertTokenizer", "DistilBertTokenizer", "Unheard", ...])
def test_a_class_of_the_same_kind_is_no_news(edited, tmp_path: Path, name: Any) -> None:
    assert built(edited(tokenizer_class=name), tmp_path / "out")["notes"] == []


@pytest.mark.parametrize(("maximum", "is_noted"), [(12, True), (LENGTH, False), (0, False), (-1, False), (None, False)])
def test_a_shorter_limit_of_the_tokenizer_is_noted(edited, tmp_path: Path, maximum: int | None, is_noted: bool) -> None:
    notes = built(edited(model_max_length=maximum), tmp_path / "out")["notes"]
    assert [f"'model_max_length' is {maximum}" in note for note in notes] == [True] * is_noted


def test_a_limit_that_is_no_number_is_refused(edited) -> None:
    with pytest.raises(UsageError, match="tokenizer"):
        load_tokenizer(read_checkpoint(edited(model_max_length="512")))


def test_a_vocabulary_alone_is_enough_where_transformers_makes_a_tokenizer_of_it(tiny_copy, tmp_path: Path) -> None:
    folder = tiny_copy("bert")
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    built(folder, tmp_path / "out")
    assert_as_original(folder, tmp_path / "out", TEXTS)


def test_half_of_a_vocabulary_is_refused(tiny_copy) -> None:
    folder = tiny_copy("roberta")
    document = json.loads((folder / "tokenizer.json").read_text())
    (folder / "vocab.json").write_text(json.dumps(document["model"]["vocab"]))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UsageError, match="tokenizer"):
        load_tokenizer(read_checkpoint(folder))


def test_special_tokens_in_a_text_are_split_where_the_tokenizer_says_so(edited, tmp_path: Path) -> None:
    folder = edited(split_special_tokens=True)
    given = [*TEXTS, "good [SEP] film", "[MASK]"]
    settings = built(folder, tmp_path / "out", given)["preprocessing"]["settings"]
    assert settings["split_special_tokens"] is True
    assert_as_original(folder, tmp_path / "out", given)


def test_a_token_of_every_text_cannot_be_what_positions_are_counted_by(edited, tmp_path: Path) -> None:
    folder = edited("roberta", "config.json", pad_token_id=0)
    with pytest.raises(UsageError, match=r"'pad_token_id' is 0, .* puts that token, '<s>', into every text"):
        built(folder, tmp_path / "out")


def test_code_of_a_tokenizers_own_that_is_not_run_is_named(edited, tmp_path: Path) -> None:
    description = built(edited(auto_map={"AutoTokenizer": ["code.Mine", None]}), tmp_path / "out")
    assert any("names code of its own ('auto_map'), which is not run" in note for note in description["notes"])
