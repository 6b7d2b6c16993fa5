"""Which modules a folder of sentence-transformers names, and in which order they are applied."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastserve_converters.checkpoints.sentence_transformers import SentenceHead, TextSettings, read_sentence_folder
from fastserve_converters.checkpoints.sentence_transformers.modules.dense import Dense
from fastserve_converters.checkpoints.sentence_transformers.modules.layer_norm import LayerNorm
from fastserve_converters.checkpoints.sentence_transformers.modules.normalize import Normalize
from fastserve_converters.checkpoints.sentence_transformers.modules.pooling import Pooling
from fastserve_converters.checkpoints.sentence_transformers.modules.weighted_layer_pooling import WeightedLayerPooling
from fastserve_runtime.errors import UsageError

NEW = "sentence_transformers.sentence_transformer.modules."
MEAN = ("Pooling", "1_Pooling", {"pooling_mode_mean_tokens": True})
NORMALIZE = ("Normalize", "3_Normalize", None)
DENSE = ("Dense", "2_Dense", {"in_features": 32, "out_features": 8, "activation_function": "torch.nn.ReLU"})
WEIGHTED = ("WeightedLayerPooling", "1_Weighted", {"num_hidden_layers": 2, "layer_start": 1})
CONFIG = {"hidden_size": 32}


def head(root: Path, config: dict | None = None, **settings) -> SentenceHead:
    folder = read_sentence_folder(root)
    assert folder is not None
    return folder.head(CONFIG if config is None else config, **settings)[0]


def notes(root: Path, **config) -> str:
    folder = read_sentence_folder(root)
    assert folder is not None
    return " ".join(folder.head(CONFIG | config)[1])


def test_a_checkpoint_without_modules_is_no_folder_of_sentence_transformers(tmp_path: Path) -> None:
    assert read_sentence_folder(tmp_path) is None


@pytest.mark.parametrize("prefix", ["sentence_transformers.models.", NEW, "sentence_transformers.base.modules.x."])
def test_modules_are_read_in_their_order(sentence_folder, prefix: str) -> None:
    root = sentence_folder(MEAN, NORMALIZE, DENSE, prefix=prefix)
    dense = Dense("2_Dense", 32, 8, bias=True, activation="ReLU")
    assert head(root) == SentenceHead((Pooling(("mean",)), Normalize(), dense))
    assert not head(root).normalize


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"name": "1"}, "has 2 modules with the name '1'"),
        ({"path": None}, "whose 'path' is None"),
        ({"type": 3}, "whose 'type' is 3"),
    ],
)
def test_a_listing_that_means_something_else_is_refused(sentence_folder, entry: dict, said: str) -> None:
    root = sentence_folder(MEAN, DENSE, NORMALIZE)
    rows = json.loads((root / "modules.json").read_text())
    for number, row in enumerate(rows):
        row["name"] = str(number)
    rows[2] |= entry
    (root / "modules.json").write_text(json.dumps(rows))
    with pytest.raises(UsageError, match=said):
        read_sentence_folder(root)


def test_a_module_without_a_folder_is_looked_for_in_the_checkpoint_itself(sentence_folder) -> None:
    root = sentence_folder(MEAN)
    rows = json.loads((root / "modules.json").read_text())
    rows[1]["path"] = ""
    (root / "modules.json").write_text(json.dumps(rows))
    (root / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UsageError, match=r"The checkpoint's 'config\.json' has the key 'model_type'"):
        head(root)


def test_dropout_has_no_effect(sentence_folder) -> None:
    root = sentence_folder(MEAN, ("Dropout", "2_Dropout", {"dropout": 0.5}), NORMALIZE)
    assert head(root).modules == (Pooling(("mean",)), Normalize())


def test_a_layer_norm_is_read(sentence_folder) -> None:
    root = sentence_folder(MEAN, ("LayerNorm", "2_LayerNorm", {"dimension": 32}))
    assert head(root).modules[1] == LayerNorm("2_LayerNorm", 32)


def test_layers_are_pooled_where_the_model_gives_them_alone(sentence_folder) -> None:
    root = sentence_folder(WEIGHTED, MEAN)
    assert head(root, CONFIG | {"output_hidden_states": True}).modules[0] == WeightedLayerPooling("1_Weighted", 1, 2)
    assert head(root).modules == (Pooling(("mean",)),)
    assert "1_Weighted has no effect, since the model's config has no output_hidden_states" in notes(root)


def test_layers_are_given_where_the_transformers_own_file_asks_for_them(sentence_folder) -> None:
    files = {"sentence_bert_config.json": {"config_args": {"output_hidden_states": True}}}
    assert head(sentence_folder(WEIGHTED, MEAN, files=files)).needs_all_layers


def test_layers_are_not_given_where_the_transformers_own_file_says_so(sentence_folder) -> None:
    files = {"sentence_bert_config.json": {"config_kwargs": {"output_hidden_states": False}}}
    root = sentence_folder(WEIGHTED, MEAN, files=files)
    assert not head(root, CONFIG | {"output_hidden_states": True}).needs_all_layers


def test_a_layer_that_is_none_of_the_models_is_refused(sentence_folder) -> None:
    root = sentence_folder(("WeightedLayerPooling", "1_W", {"num_hidden_layers": 2, "layer_start": 3}), MEAN)
    with pytest.raises(UsageError, match="has 3 as 'layer_start'"):
        head(root)


@pytest.mark.parametrize("kind", ["CNN", "LSTM", "WordWeights", "BoW", "Router", "Asym", "SpladePooling", ""])
def test_a_module_that_is_not_supported_is_named(sentence_folder, kind: str) -> None:
    with pytest.raises(UsageError, match=f"names the module '{kind}', which is not supported") as failure:
        head(sentence_folder((kind, "1_X", None), MEAN))
    assert "Pooling, Dense, LayerNorm, Normalize, Dropout, WeightedLayerPooling" in failure.value.remedy


@pytest.mark.parametrize("kind", ["StaticEmbedding", "WordEmbeddings", "Router", "CLIPModel"])
def test_a_first_module_that_is_no_transformer_is_named(tmp_path: Path, kind: str) -> None:
    (tmp_path / "modules.json").write_text(json.dumps([{"path": "", "type": f"sentence_transformers.models.{kind}"}]))
    with pytest.raises(UsageError, match=f"names the module '{kind}', which is not supported"):
        read_sentence_folder(tmp_path)


@pytest.mark.parametrize("name", ["custom_pooling.Pooling", "pylate.models.Dense.Dense", "Pooling"])
def test_a_module_of_other_code_is_named_whole(tmp_path: Path, name: str) -> None:
    (tmp_path / "modules.json").write_text(json.dumps([{"path": "", "type": name}]))
    with pytest.raises(UsageError, match=f"names the module '{name}', which is code of its own"):
        read_sentence_folder(tmp_path)


@pytest.mark.parametrize("folder", ["../other", "/etc", "a/../../b"])
def test_a_folder_outside_the_checkpoint_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / "modules.json").write_text(
        json.dumps([{"path": folder, "type": "sentence_transformers.models.Transformer"}])
    )
    with pytest.raises(UsageError, match="outside the checkpoint"):
        read_sentence_folder(tmp_path)


@pytest.mark.parametrize("kinds", [[], ["Pooling", "Transformer"], ["Transformer", "Transformer"]])
def test_anything_but_one_transformer_in_front_is_refused(tmp_path: Path, kinds: list[str]) -> None:
    listed = [{"path": f"{i}", "type": f"sentence_transformers.models.{k}"} for i, k in enumerate(kinds)]
    (tmp_path / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(UsageError, match="has the order"):
        read_sentence_folder(tmp_path)


@pytest.mark.parametrize("modules", [[], [NORMALIZE]])
def test_modules_without_pooling_give_no_embedding(sentence_folder, modules) -> None:
    with pytest.raises(UsageError, match="has no Pooling module"):
        head(sentence_folder(*modules))


def test_a_module_that_reads_what_none_has_written_is_refused(sentence_folder) -> None:
    with pytest.raises(UsageError, match="'Normalize' reads 'sentence_embedding', which no module before it writes"):
        head(sentence_folder(NORMALIZE, MEAN))


def test_modules_may_work_on_the_vectors_of_tokens(sentence_folder) -> None:
    config = DENSE[2] | {"module_input_name": "token_embeddings"}
    found = head(sentence_folder(("Dense", "1_Dense", config), MEAN, NORMALIZE))
    assert (found.modules[0].source, found.modules[0].target) == ("token_embeddings", "token_embeddings")


def test_a_dense_layer_for_vectors_of_another_width_is_refused(sentence_folder) -> None:
    with pytest.raises(UsageError, match="'2_Dense' takes vectors of 32 numbers; what is before it gives 48"):
        head(sentence_folder(MEAN, DENSE), {"hidden_size": 48})


def test_joined_modes_are_as_wide_as_all_of_them(sentence_folder) -> None:
    joined = ("Pooling", "1_Pooling", {"pooling_mode": ["mean", "max"]})
    assert head(sentence_folder(joined, DENSE), {"hidden_size": 16}).pooling == ("mean", "max")


@pytest.mark.parametrize("content", ["{}", '["Transformer"]', "3"])
def test_modules_that_are_no_list_of_objects_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "modules.json").write_text(content)
    with pytest.raises(UsageError, match=r"'modules\.json' is not a list"):
        read_sentence_folder(tmp_path)


def test_what_an_entry_has_beside_its_module_is_noted(sentence_folder) -> None:
    root = sentence_folder(MEAN)
    listed = json.loads((root / "modules.json").read_text())
    listed[0] |= {"kwargs": ["task"], "colour": 1}
    listed[1] |= {"kwargs": []}
    (root / "modules.json").write_text(json.dumps(listed))
    assert "modules.json has 'kwargs' for the Transformer" in notes(root)
    assert "modules.json has 'colour' for the Transformer" in notes(root)
    assert "for the Pooling" not in notes(root)


def test_a_module_whose_config_is_missing_is_refused(sentence_folder) -> None:
    with pytest.raises(UsageError, match=r"'1_Pooling/config\.json' cannot be read"):
        head(sentence_folder(("Pooling", "1_Pooling", None)))


def test_a_module_without_weights_is_refused(sentence_folder) -> None:
    root = sentence_folder(MEAN, DENSE)
    (root / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="module '2_Dense' has no weights"):
        head(root)


def test_weights_that_are_a_pickle_are_wanted_by_word_alone(sentence_folder) -> None:
    root = sentence_folder(MEAN, DENSE)
    (root / "2_Dense" / "model.safetensors").rename(root / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"'2_Dense/pytorch_model\.bin' are a pickle") as failure:
        head(root)
    assert "--allow-pickle" in failure.value.remedy
    assert head(root, allow_pickle=True).pooling == ("mean",)


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"config_sentence_transformers.json": {"model_type": "SparseEncoder"}}, "is a SparseEncoder"),
        ({"config_sentence_transformers.json": {"model_type": "CrossEncoder"}}, "is a CrossEncoder"),
        ({"sentence_bert_config.json": {"transformer_task": "fill-mask"}}, "is for fill-mask"),
    ],
)
def test_models_of_other_kinds_give_no_embeddings(sentence_folder, files: dict, what: str) -> None:
    with pytest.raises(UsageError, match=f"{what}, which gives no sentence embeddings"):
        head(sentence_folder(MEAN, files=files))


def test_a_cross_encoder_is_a_transformer_for_classification_alone(sentence_folder) -> None:
    files = {"sentence_bert_config.json": {"transformer_task": "sequence-classification"}}
    folder = read_sentence_folder(sentence_folder(files=files))
    assert folder is not None
    assert folder.is_cross_encoder


def test_a_model_may_be_cut_to_some_numbers(sentence_folder) -> None:
    root = sentence_folder(MEAN, files={"config_sentence_transformers.json": {"truncate_dim": 8}})
    assert head(root).truncate_dim == 8
    assert head(root, truncate_dim=16).truncate_dim == 16
    assert head(root, truncate_dim=32).truncate_dim == 32
    with pytest.raises(UsageError, match="to be cut to 33 numbers; they have 32"):
        head(root, truncate_dim=33)


def test_a_file_that_keeps_more_numbers_than_there_are_keeps_all(sentence_folder) -> None:
    assert head(sentence_folder(MEAN, files={"config_sentence_transformers.json": {"truncate_dim": 64}})) == (
        SentenceHead((Pooling(("mean",)),))
    )


def test_texts_are_treated_as_the_files_say(sentence_folder) -> None:
    files = {
        "config_sentence_transformers.json": {"prompts": {"query": "q: "}, "default_prompt_name": "query"},
        "sentence_bert_config.json": {"max_seq_length": 32, "do_lower_case": True},
    }
    folder = read_sentence_folder(sentence_folder(MEAN, files=files))
    assert folder is not None
    assert folder.texts(includes_prompt=False) == TextSettings(
        {"query": "q: "},
        "query",
        includes_prompt=False,
        lower_case=True,
        max_seq_length=32,
        max_seq_length_from="sentence_bert_config.json",
    )
