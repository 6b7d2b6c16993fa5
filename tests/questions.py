"""Questions with contexts of many kinds, and logits that are a function of tokens and places alone.

`recorded/question_answering.json` holds what Transformers' own pipeline makes of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from checkpoints import save_tokenizer

RECORDED = Path(__file__).parent / "recorded" / "question_answering.json"
TOKENIZERS = ("bert", "roberta")
LENGTH = 64

_LONG = (
    "The river Elbe rises in the Giant Mountains of the Czech Republic before it crosses much of Bohemia, then "
    "Germany, "
    "and flows into the North Sea at Cuxhaven, 110 km north-west of Hamburg. Its total length is 1,094 kilometres. "
    "Its major tributaries include the rivers Vltava, Saale, Havel, Mulde, Schwarze Elster, and Ohře."
)
QUESTIONS: tuple[tuple[str, str], ...] = (
    ("Where does the Elbe rise?", _LONG),
    ("How long is the river?", _LONG),
    ("Who wrote it?", "Ada wrote it."),
    (
        "What is in the cafe\u0301?",
        "In the cafe\u0301 there is Cre\u0300me bru\u0302le\u0301e \U0001f370 and tea\u0301.",
    ),
    (
        "Which family?",
        "The emoji \U0001f469\u200d\U0001f469\u200d\U0001f467 is a family;\r\nthe next\r\nline is \U0001f525.",
    ),
    (
        "\u8ab0\u304c\u66f8\u3044\u305f\uff1f",
        "\u590f\u76ee\u6f31\u77f3\u304c\u300c\u3053\u3053\u308d\u300d\u3092\u66f8\u3044\u305f\u3002",
    ),
    ("Wer?", "  Zwei  Leerzeichen,\tein Tab\u00a0und  don't-stop 3.14159!  "),
)
SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"top_k": 3},
    {"top_k": 2, "handle_impossible_answer": True},
    {"top_k": 4, "align_to_words": False},
    {"max_answer_len": 3, "doc_stride": 5},
    {"doc_stride": 0, "top_k": 2},
)


def logits(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return start and end logits of tokens, shape [n, tokens] each."""
    places = np.arange(ids.shape[1])
    return 3 * np.sin(1.7 * ids + 0.31 * places), 3 * np.sin(2.3 * ids + 0.17 * places + 1)


def save_own_tokenizer(folder: Path, name: str) -> None:
    """Save a tokenizer that is the same everywhere: trained ones of WordPiece differ from run to run."""
    folder.mkdir(parents=True)
    if name == "roberta":
        save_tokenizer(folder, roberta=True)
        return
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertTokenizerFast

    signs = sorted({sign for pair in QUESTIONS for text in pair for sign in text.lower() if not sign.isspace()})
    words = sorted({word for pair in QUESTIONS for text in pair for word in text.lower().split() if word.isalpha()})
    pieces = [*signs, *(f"##{sign}" for sign in signs), *(w[:4] for w in words), *(f"##{w[4:7]}" for w in words)]
    tokens = list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces]))
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = BertWordPieceTokenizer(vocabulary, lowercase=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    BertTokenizerFast(tokenizer_file=str(folder / "tokenizer.json")).save_pretrained(folder)
