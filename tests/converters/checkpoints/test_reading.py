"""What a checkpoint's files say of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from fastserve_converters.checkpoints.checkpoint import file_sha256
from fastserve_converters.checkpoints.families import FAMILIES
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_runtime.errors import UsageError
from sentence_models import save_sentence_model

CLASSIFIER = {"architectures": ["BertForSequenceClassification"]}
MODULES = [
    {"idx": 0, "path": "0_Transformer", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]


def test_a_missing_path_is_named_with_a_hint_at_the_hub(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no model at") as failure:
        read_checkpoint(tmp_path / "missing")
    assert str(tmp_path / "missing") in failure.value.problem
    assert "hf:" in failure.value.remedy


def test_a_file_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        read_checkpoint(tmp_path / "model.safetensors")


def test_a_folder_without_config_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"it has no config\.json") as failure:
        read_checkpoint(tmp_path)
    assert "save_pretrained" in failure.value.remedy


@pytest.mark.parametrize(
    ("content", "part"), [("[1]", "is not a JSON object"), ("{", "is not JSON"), ("", "is not JSON")]
)
def test_a_config_that_cannot_be_read_is_named(folder, content: str, part: str) -> None:
    with pytest.raises(UsageError, match=f"'config.json' {part}"):
        read_checkpoint(folder({"config.json": content}))


def test_an_encoder_is_for_feature_extraction(folder) -> None:
    root = folder()
    checkpoint = read_checkpoint(root)
    assert checkpoint.task == "feature-extraction"
    assert checkpoint.path == checkpoint.root == root
    assert checkpoint.family.name == "BERT"
    assert checkpoint.labels == ()
    assert checkpoint.max_tokens == 512
    assert checkpoint.sentence_head is None
    assert checkpoint.weights == ("model.safetensors",)
    assert checkpoint.licence is None
    assert checkpoint.config["model_type"] == "bert"


@pytest.mark.parametrize(
    ("architectures", "task"),
    [
        (["BertModel"], "feature-extraction"),
        (["BertForMaskedLM"], "feature-extraction"),
        (["BertForPreTraining"], "feature-extraction"),
        (["BertForSequenceClassification"], "text-classification"),
        (None, "feature-extraction"),
        ([], "feature-extraction"),
    ],
)
def test_the_task_is_found_from_the_architecture(folder, architectures, task: str) -> None:
    assert read_checkpoint(folder(architectures=architectures)).task == task


def test_a_head_that_is_not_supported_is_named_with_the_way_out(folder) -> None:
    with pytest.raises(UsageError, match="BertForMultipleChoice has a head that is not supported") as failure:
        read_checkpoint(folder(architectures=["BertForMultipleChoice"]))
    assert "question-answering, text-classification" in failure.value.remedy
    assert "--task feature-extraction" in failure.value.remedy


@pytest.mark.parametrize("name", ["BertForMultipleChoice", "BertForQuestionAnswering", "BertForSequenceClassification"])
def test_the_encoder_inside_any_head_can_be_had_alone(folder, name: str) -> None:
    checkpoint = read_checkpoint(folder(architectures=[name]), task="feature-extraction")
    assert checkpoint.task == "feature-extraction"
    assert checkpoint.labels == ()


def test_a_task_without_a_head_for_it_is_refused(folder) -> None:
    with pytest.raises(UsageError, match="BertModel, which has no head for text-classification"):
        read_checkpoint(folder(), task="text-classification")


def test_an_unknown_task_names_those_there_are(folder) -> None:
    with pytest.raises(UsageError, match="The task 'summarization' is not supported") as failure:
        read_checkpoint(folder(), task="summarization")
    assert "feature-extraction, question-answering, text-classification" in failure.value.remedy


def test_a_task_may_be_named_though_it_would_be_found(folder) -> None:
    assert read_checkpoint(folder(**CLASSIFIER), task="text-classification").task == "text-classification"


def test_labels_come_in_the_order_of_their_ids(folder) -> None:
    names = {str(i): chr(ord("a") + i) for i in (10, 2, 0, 1, *range(3, 10))}
    assert "".join(read_checkpoint(folder(**CLASSIFIER, id2label=names)).labels) == "abcdefghijk"


@pytest.mark.parametrize(("config", "count"), [({}, 2), ({"num_labels": 3}, 3)])
def test_labels_without_names_are_numbered(folder, config: dict, count: int) -> None:
    assert read_checkpoint(folder(**CLASSIFIER, **config)).labels == tuple(f"LABEL_{i}" for i in range(count))


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514}, 512),
        ({"model_type": "distilbert", "max_position_embeddings": 128}, 128),
        ({"max_position_embeddings": ...}, 512),
    ],
)
def test_the_longest_sequence_follows_from_the_position_table(folder, config: dict, tokens: int) -> None:
    assert read_checkpoint(folder(**config)).max_tokens == tokens


@pytest.mark.parametrize("config", [{"model_type": "mamba"}, {"model_type": ...}])
def test_an_unsupported_architecture_names_those_that_are_supported(folder, config: dict) -> None:
    with pytest.raises(UsageError, match="is not supported") as failure:
        read_checkpoint(folder(**config))
    assert all(name in failure.value.remedy for name in FAMILIES)


def test_code_of_its_own_is_refused_unless_trusted(folder) -> None:
    root = folder(auto_map={"AutoModel": "modeling.Mine"})
    with pytest.raises(UsageError, match="needs code of its own") as failure:
        read_checkpoint(root)
    assert "--trust-remote-code" in failure.value.remedy
    assert read_checkpoint(root, trust_remote_code=True).task == "feature-extraction"


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.pt", "weights.ckpt"])
def test_pickled_weights_are_refused_unless_allowed(folder, name: str) -> None:
    root = folder(weights=name)
    with pytest.raises(UsageError, match="are a pickle, which can run code") as failure:
        read_checkpoint(root)
    assert name in failure.value.problem
    assert "--allow-pickle" in failure.value.remedy
    assert read_checkpoint(root, allow_pickle=True).weights == (name,)


def test_pickles_beside_safetensors_are_not_looked_at(folder) -> None:
    root = folder({"pytorch_model.bin": "pickle", "optimizer.pt": "pickle"})
    assert read_checkpoint(root).weights == ("model.safetensors",)


def test_weights_may_be_in_several_files(folder) -> None:
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    index = {"weight_map": {"a": names[0], "b": names[1]}}
    root = folder({names[1]: "b", "model.safetensors.index.json": index}, weights=names[0])
    assert read_checkpoint(root).weights == tuple(names)


def test_a_checkpoint_without_weights_is_refused(folder) -> None:
    with pytest.raises(UsageError, match="'checkpoint' has no weights") as failure:
        read_checkpoint(folder(weights=None))
    assert "model.safetensors" in failure.value.remedy


def test_the_digest_of_the_weights_is_over_all_files_in_order(folder) -> None:
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    files = {"model-2.safetensors": "second", "model.safetensors.index.json": index}
    root = folder(files, weights="model-1.safetensors")
    digests = [hashlib.sha256(content).hexdigest() for content in (b"weights", b"second")]
    assert read_checkpoint(root).weights_sha256() == hashlib.sha256("".join(digests).encode()).hexdigest()
    assert file_sha256(root / "model-1.safetensors") == digests[0]


def test_the_digest_covers_the_weights_of_a_sentence_encoders_own_modules(tmp_path: Path) -> None:
    save_sentence_model(tmp_path, "dense, tanh by default")
    before = read_checkpoint(tmp_path).weights_sha256()
    file = tmp_path / "2_Dense" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert read_checkpoint(tmp_path).weights_sha256() != before


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\n---\n# Model", "mit"),
        ("---\nlanguage: en\nlicense: 'apache-2.0'\ntags:\n- x\n---\n", "apache-2.0"),
        ('---\nlicense: "cc-by-4.0" # as told\n---\n', "cc-by-4.0"),
        ("---\r\nlicense: mit\r\n---\r\n", "mit"),
        ("---\nlicense:\n- mit\n- apache-2.0\n---\n", "mit"),
        ("---\nlicense:\n  - mit\n---\n", "mit"),
        ("---\nlicense:\nlanguage: en\n---\n", None),
        ("---\nlanguage: en\n---\nlicense: mit\n", None),
        ("---\nlicense_name: mine\n---\n", None),
        ("# Model\nlicense: mit\n", None),
        ("", None),
        ("---\n---\n", None),
    ],
)
def test_the_licence_is_read_from_the_head_of_the_model_card(folder, card: str, licence: str | None) -> None:
    assert read_checkpoint(folder({"README.md": card})).licence == licence


def test_a_model_card_in_another_encoding_is_no_obstacle(folder) -> None:
    root = folder()
    (root / "README.md").write_bytes("---\nauthor: Müller\nlicense: mit\n---\n".encode("latin-1"))
    assert read_checkpoint(root).licence == "mit"


def test_licence_files_and_the_model_card_are_found(folder) -> None:
    root = folder({"LICENSE": "a", "COPYING": "b", "README.md": "c", "NOTES.md": "d"})
    assert [f.name for f in read_checkpoint(root).licence_files()] == ["LICENSE", "COPYING", "README.md"]


READ = {
    "vocab.txt": "a",
    "1_Pooling/config.json": "{}",
    "spiece.model": "b",
    "modeling.py": "c",
    "chat_template.jinja": "{{ messages }}",
    "additional_chat_templates/tools.jinja": "{{ tools }}",
    "unheard-of.settings": "x",
    "no_ending": "x",
}
NOT_READ = {
    "README.md": "d",
    "LICENSE": "e",
    "picture.png": "f",
    "pytorch_model.bin": "g",
    "model.gguf": "h",
    "onnx/model.onnx": "i",
    ".git/config.json": "{}",
    ".cache.json": "{}",
    "checkpoint-500/model.safetensors": "j",
    "mine.fsb/manifest.json": "{}",
    "mine.fsb/variants/a/model.safetensors": "k",
}


def test_every_file_that_may_be_read_is_listed_in_a_fixed_order(folder) -> None:
    root = folder({**READ, **NOT_READ})
    names = [f.relative_to(root).as_posix() for f in read_checkpoint(root).files()]
    assert sorted(names) == names or sorted(names, key=lambda n: n.split("/")) == names
    assert set(names) == {"config.json", "model.safetensors", *READ}


def test_files_are_reached_through_links_but_not_in_circles(folder, tmp_path: Path) -> None:
    root = folder()
    (tmp_path / "pooling").mkdir()
    (tmp_path / "pooling" / "config.json").write_text("{}")
    (root / "1_Pooling").symlink_to(tmp_path / "pooling")
    (root / "circle").symlink_to(root)
    (root / "broken.json").symlink_to("nowhere")
    names = {f.relative_to(root).as_posix() for f in read_checkpoint(root).files()}
    assert names == {"config.json", "model.safetensors", "1_Pooling/config.json"}


def test_weights_that_are_a_pickle_belong_to_the_files(folder) -> None:
    checkpoint = read_checkpoint(folder(weights="pytorch_model.bin"), allow_pickle=True)
    assert "pytorch_model.bin" in {f.name for f in checkpoint.files()}


def test_sentence_transformers_may_keep_the_model_in_a_folder_of_its_own(tmp_path: Path, folder) -> None:
    inner = folder()
    root = tmp_path / "outer"
    root.mkdir()
    inner.rename(root / "0_Transformer")
    (root / "1_Pooling").mkdir()
    (root / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (root / "modules.json").write_text(json.dumps(MODULES))
    checkpoint = read_checkpoint(root)
    assert checkpoint.root == root
    assert checkpoint.path == root / "0_Transformer"
    assert checkpoint.sentence_head is not None
    assert checkpoint.sentence_head.pooling == ("mean",)
    assert checkpoint.weights == ("model.safetensors",)


def test_how_sentences_are_embedded_means_nothing_to_a_classifier(folder) -> None:
    modules = [MODULES[0] | {"path": ""}, MODULES[1]]
    files = {"modules.json": modules, "1_Pooling/config.json": {"pooling_mode": "mean"}}
    checkpoint = read_checkpoint(folder(files, **CLASSIFIER))
    assert checkpoint.task == "text-classification"
    assert checkpoint.sentence_head is None
