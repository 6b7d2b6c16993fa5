"""A real text classifier: MiniLM with a head fine-tuned on movie-review sentences that people rated.

The sentences come with the source distribution of vaderSentiment (MIT licence; Hutto & Gilbert, ICWSM 2014).
"""

from __future__ import annotations

import csv
import io
import random
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

PACKAGE = "vaderSentiment==3.3.2"
_ARCHIVE = "additional_resources/hutto_ICWSM_2014.tar.gz"
_RATINGS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
LABELS = ["negative", "positive"]


def movie_sentences(folder: Path) -> list[tuple[str, str]]:
    """Return (sentence, label), shuffled; ratings near zero are left out."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", str(folder)]
    done = subprocess.run([*command, PACKAGE], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the review sentences cannot be downloaded: {done.stderr.strip().splitlines()[-1]}")
    with tarfile.open(next(folder.glob("*.tar.gz"))) as outer:
        name = next(n for n in outer.getnames() if n.endswith(_ARCHIVE))
        with tarfile.open(fileobj=io.BytesIO(outer.extractfile(name).read())) as inner:
            text = inner.extractfile(_RATINGS).read().decode("utf-8", "replace")
    rows = [line.split("\t") for line in text.splitlines()]
    rated = [(row[2].strip(), float(row[1])) for row in rows if len(row) == 3]
    sentences = [(s, LABELS[rating > 0]) for s, rating in rated if abs(rating) >= 0.5]
    random.Random(0).shuffle(sentences)
    return sentences


def fine_tune_head(minilm: Path, train: list[tuple[str, str]], folder: Path) -> Path:
    """Train pooler and classifier on MiniLM's first-token states, and save the whole model."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    model = AutoModelForSequenceClassification.from_pretrained(
        minilm, num_labels=2, id2label=dict(enumerate(LABELS)), label2id={n: i for i, n in enumerate(LABELS)}
    ).eval()
    ordered = sorted(train, key=lambda pair: len(pair[0]))
    states = []
    with torch.inference_mode():
        for start in range(0, len(ordered), 32):
            texts = [text for text, _ in ordered[start : start + 32]]
            batch = tokenizer(texts, padding=True, truncation=True, max_length=48, return_tensors="pt")
            states.append(model.bert(**batch).last_hidden_state[:, :1])
    features = torch.cat(states).clone()
    targets = torch.tensor([LABELS.index(label) for _, label in ordered])
    parameters = [*model.bert.pooler.parameters(), *model.classifier.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01)
    for _ in range(30):
        for rows in torch.randperm(len(targets)).split(64):
            logits = model.classifier(model.bert.pooler(features[rows]))
            loss = torch.nn.functional.cross_entropy(logits, targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_csv(file: Path, rows: list[tuple[str, str]]) -> Path:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["sentence", "sentiment"])
        writer.writerows(rows)
    return file
