"""A small classifier of film reviews, trained from nothing in a minute: a real task for many runs.

The sentences were rated by people, and come with the source distribution of vaderSentiment (MIT licence; Hutto &
Gilbert, ICWSM 2014).

    python -m injecting.reviews FOLDER

writes `model`, `data.csv` for an export and `held_out.csv` for the metric.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from report import ROOT

sys.path.insert(0, str(ROOT / "tests"))
from sentiment import LABELS, movie_sentences, write_csv

LENGTH = 48
HELD_OUT, OF_EXPORT = 1000, 800
_VOCABULARY = 4000
_EPOCHS = 6


def train(folder: Path) -> None:
    """Download the sentences, train on most of them, and write the rest."""
    download = folder / "download"
    download.mkdir(parents=True, exist_ok=True)
    sentences = movie_sentences(download)
    others = HELD_OUT + OF_EXPORT
    write_csv(folder / "data.csv", sentences[:OF_EXPORT])
    _train_model(sentences[others:], folder / "model")
    # Written last: it says that all is there.
    write_csv(folder / "held_out.csv", sentences[OF_EXPORT:others])


def _train_model(rows: list[tuple[str, str]], folder: Path) -> None:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    tokenizer = _tokenizer([text for text, _ in rows])
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=LENGTH + 2,
        pad_token_id=tokenizer.pad_token_id,
        id2label=dict(enumerate(LABELS)),
        label2id={name: i for i, name in enumerate(LABELS)},
    )
    model = BertForSequenceClassification(config).train()
    made = tokenizer([t for t, _ in rows], padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
    targets = torch.tensor([LABELS.index(label) for _, label in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    for epoch in range(_EPOCHS):
        total = 0.0
        for batch in torch.split(torch.randperm(len(rows)), 64):
            longest = int(made["attention_mask"][batch].sum(1).max())
            inputs = {name: made[name][batch, :longest] for name in ("input_ids", "attention_mask")}
            loss = model(**inputs, labels=targets[batch]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(batch)
        print(f"epoch {epoch + 1} of {_EPOCHS}: loss {total / len(rows):.3f}", flush=True)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tokenizer(texts: list[str]) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    names = {f"{n}_token": f"[{n.upper()}]" for n in ("pad", "unk", "cls", "sep", "mask")}
    tokenizer = Tokenizer(models.WordPiece(unk_token=names["unk_token"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = list(names.values())
    tokenizer.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=_VOCABULARY, special_tokens=specials, show_progress=False)
    )
    ends = [(token, tokenizer.token_to_id(token)) for token in (names["cls_token"], names["sep_token"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


if __name__ == "__main__":
    train(Path(sys.argv[1]))
