"""Small checkpoints that tests make: real architectures with random weights, and tokenizers trained on real text."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastserve_converters.data import DEFAULT_TEXTS

SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
VOCABULARY = 800
LABELS = ["negative", "neutral", "positive"]


def texts() -> list[str]:
    lines = DEFAULT_TEXTS.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def save_tokenizer(folder: Path, *, roberta: bool) -> int:
    """Train and save a tokenizer; return the id of its padding token."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"] if roberta else list(SPECIAL.values())
    if roberta:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=specials, show_progress=False)
        start, end = "<s>", "</s>"
        names = {
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "cls_token": "<s>",
            "sep_token": "</s>",
            "mask_token": "<mask>",
        }
    else:
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=specials, show_progress=False)
        start, end = "[CLS]", "[SEP]"
        names = SPECIAL
    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        pair=f"{start} $A {end} {end} $B {end}" if roberta else f"{start} $A {end} $B:1 {end}:1",
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in (start, end)],
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.save_pretrained(folder)
    return int(fast.pad_token_id)


def save_checkpoint(
    folder: Path,
    family: str = "bert",
    *,
    classify: bool = False,
    answer: bool = False,
    layers: int = 2,
    sentence: bool = False,
    labels: Sequence[str] = LABELS,
    seed: int = 0,
    **config_fields: Any,
) -> Path:
    """Save a small model of a family with random weights: width 32, 2 heads, 66 positions."""
    import torch
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    pad = save_tokenizer(folder, roberta=family == "roberta")
    common: dict[str, Any] = {"vocab_size": VOCABULARY, "pad_token_id": pad, "max_position_embeddings": 66}
    if classify:
        common |= {"id2label": dict(enumerate(labels)), "label2id": {n: i for i, n in enumerate(labels)}}
    common |= config_fields
    if family == "distilbert":
        config = transformers.DistilBertConfig(dim=32, hidden_dim=64, n_layers=layers, n_heads=2, **common)
    else:
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": layers, "num_attention_heads": 2}
        kinds = {
            "bert": transformers.BertConfig,
            "roberta": transformers.RobertaConfig,
            "albert": transformers.AlbertConfig,
        }
        extra = {"embedding_size": 16} if family == "albert" else {}
        config = kinds[family](**sizes, **extra, **common)
    torch.manual_seed(seed)
    auto = transformers.AutoModelForSequenceClassification if classify else transformers.AutoModel
    auto = transformers.AutoModelForQuestionAnswering if answer else auto
    model = auto.from_config(config).eval()
    # Random weights of the usual scale give outputs that hardly depend on the text.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    if sentence:
        modules = [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    return folder


def cut_checkpoint(source: Path, folder: Path, layers: int) -> Path:
    """Copy a checkpoint of the BERT family with only its first layers; return the copy."""
    from safetensors.numpy import load_file, save_file

    shutil.copytree(source, folder)
    weights = load_file(source / "model.safetensors")
    kept = {n: w for n, w in weights.items() if not (m := re.search(r"layer\.(\d+)\.", n)) or int(m[1]) < layers}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": layers}))
    return folder
