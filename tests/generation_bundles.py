"""Bundles of tiny decoders whose every token is one character, so that a text gives its tokens back."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

from fastserve_runtime.bundle.signatures import signature_document
from fastserve_runtime.loading import open_model
from manifests import TOKENIZER, file_entries, valid_manifest, variant, write_directory

CONTEXT = 64
ODD = "\n\t\x1b\x9b\u202e🙂🎉אבגדשלום"
LETTERS = [*string.digits, *string.ascii_letters, *string.punctuation, " ", *dict.fromkeys(ODD)]
LETTERS += [chr(0x4E00 + i) for i in range(256 - len(LETTERS))]
TEMPLATE = (
    "{% for m in messages %}{{ m.role[0] }}{{ m.content }};{% endfor %}{% if add_generation_prompt %}a{% endif %}"
)
MODEL = "variants/first/model.onnx"


def letter_tokenizer() -> bytes:
    """A tokenizer with a token for each of 256 characters."""
    from tokenizers import Tokenizer, decoders, models

    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(LETTERS)}, []))
    tokenizer.decoder = decoders.Fuse()
    return tokenizer.to_str().encode()


def ids(text: str) -> list[int]:
    return [LETTERS.index(letter) for letter in text]


def text_of(tokens: list[int]) -> str:
    return "".join(LETTERS[token] for token in tokens)


def write_generation_bundle(location: Path, decoder_file: Path, model: bytes | None = None, **settings: Any) -> Path:
    """Write a bundle of a decoder; settings are those of prompts."""
    contents = {MODEL: decoder_file.read_bytes() if model is None else model, TOKENIZER: letter_tokenizer()}
    with open_model(decoder_file) as session:
        graphs = {
            name: {"file": MODEL, "entry": name, **signature_document(signature)}
            for name, signature in session.graphs.items()
        }
    for graph in graphs.values():
        for tensor in (*graph["inputs"], *graph["outputs"]):
            for dim in tensor["dims"]:
                if isinstance(dim, dict):
                    dim |= {"min": 1, "max": CONTEXT}
    document = valid_manifest() | {
        "task": "text-generation",
        "task_settings": {},
        "variants": [variant(golden=None, graphs=graphs)],
        "files": file_entries(contents),
        "preprocessing": {
            "kind": "prompt-tokenizer",
            "files": [TOKENIZER],
            "settings": {"context": CONTEXT, "ends": [], "chat_template": TEMPLATE, **settings},
        },
    }
    return write_directory(location, document, contents)
