"""A real question-answering model: MiniLM, its last layers and a head trained on questions made of real sentences.

Nothing that can be fetched here has questions that people asked. So questions are made as Lewis, Denoyer and Riedel do
(2019, arXiv 1906.04980): some words of a sentence are the answer, and the sentence with "what" in their place is the
question; the context is that sentence among others. The sentences are those of `sentiment`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LENGTH = 96
_AMONG = 3
_LONGEST = 3


def cloze_questions(sentences: Sequence[str], *, seed: int = 0, unanswerable: float = 0.0) -> list[dict[str, Any]]:
    """Return rows as SQuAD's data sets on the Hub have them, one for each sentence that is long enough.

    Args:
        sentences: real ones.
        seed: of the choice of words and neighbours.
        unanswerable: share of questions whose sentence is not in the context.
    """
    draw = random.Random(seed)
    rows = []
    for number, sentence in enumerate(sentences):
        words = sentence.split()
        if not 6 <= len(words) <= 30:
            continue
        count = draw.randint(1, _LONGEST)
        start = draw.randint(1, len(words) - count - 1)
        answer = " ".join(words[start : start + count])
        question = " ".join([*words[:start], "what", *words[start + count :]]) + "?"
        others = [sentences[(number + draw.randint(1, len(sentences) - 1)) % len(sentences)] for _ in range(_AMONG - 1)]
        place = draw.randint(0, len(others))
        before = " ".join(others[:place])
        whole = sentence if draw.random() >= unanswerable else ""
        context = " ".join(part for part in (before, whole and " ".join(words), *others[place:]) if part)
        offset = len(before) + bool(before) + sum(len(word) + 1 for word in words[:start])
        answers = {"text": [answer], "answer_start": [offset]} if whole else {"text": [], "answer_start": []}
        assert not whole or context[offset : offset + len(answer)] == answer
        rows.append({"id": str(number), "question": question, "context": context, "answers": answers})
    return rows


def train(encoder: Path, rows: Sequence[dict[str, Any]], folder: Path, *, layers: int = 3, epochs: int = 2) -> Path:
    """Train a head and the last layers of a BERT encoder, and save the whole model."""
    import torch
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    model = AutoModelForQuestionAnswering.from_pretrained(encoder)
    frozen = len(model.bert.encoder.layer) - layers
    features = [_features(tokenizer, row) for row in sorted(rows, key=lambda row: len(row["context"]))]
    batches = [
        _batch([f for f in features[i : i + 32] if f], tokenizer.pad_token_id) for i in range(0, len(features), 32)
    ]
    kept = model.bert.encoder.layer
    # What the frozen layers give is always the same.
    model.bert.encoder.layer = torch.nn.ModuleList(list(kept)[:frozen])
    with torch.inference_mode():
        states = [model.bert(**inputs).last_hidden_state for inputs, _ in batches]
    states = [state.clone() for state in states]
    model.bert.encoder.layer = kept
    trained = torch.nn.ModuleList(list(kept)[frozen:])
    parameters = [*trained.parameters(), *model.qa_outputs.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=2e-4, weight_decay=0.01)
    steps = epochs * len(batches)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-4, total_steps=steps, pct_start=0.1)
    model.eval()  # without dropout: this little data is seen twice
    for _ in range(epochs):
        for number in torch.randperm(len(batches)).tolist():
            inputs, targets = batches[number]
            hidden = states[number]
            mask = (1 - inputs["attention_mask"][:, None, None, :].float()) * -1e4
            for layer in trained:
                found = layer(hidden, mask)
                hidden = found[0] if isinstance(found, tuple) else found
            logits = model.qa_outputs(hidden).masked_fill(inputs["attention_mask"][..., None] == 0, -1e4)
            loss = sum(torch.nn.functional.cross_entropy(logits[..., side], targets[:, side]) for side in (0, 1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _features(tokenizer: Any, row: dict[str, Any]) -> dict[str, Any] | None:
    """Return a row's tokens with the places of the answer's first and last; None where it is cut off."""
    found = tokenizer(row["question"], row["context"], truncation="only_second", max_length=LENGTH)
    start, end = 0, 0
    if row["answers"]["text"]:
        first = row["answers"]["answer_start"][0]
        places = [found.char_to_token(i, sequence_index=1) for i in (first, first + len(row["answers"]["text"][0]) - 1)]
        if None in places:
            return None
        start, end = places
    return {"inputs": dict(found), "span": (start, end)}


def _batch(features: Sequence[dict[str, Any]], padding: int) -> tuple[dict[str, Any], Any]:
    import torch

    longest = max(len(f["inputs"]["input_ids"]) for f in features)
    inputs = {}
    for name in features[0]["inputs"]:
        filler = padding if name == "input_ids" else 0
        inputs[name] = torch.tensor(
            [[*f["inputs"][name], *[filler] * (longest - len(f["inputs"][name]))] for f in features]
        )
    return inputs, torch.tensor([f["span"] for f in features])


def write_jsonl(file: Path, rows: Sequence[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file
