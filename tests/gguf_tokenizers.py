"""GGUF files with tokenizers of each kind, texts to try them on, and llama.cpp's tokens for these."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from checkpoints import texts as sentences

MODES = [(True, True), (True, False), (False, True), (False, False)]
"""With the tokens around a text or without, with special tokens inside it or without."""
SENTENCE_PIECE = ("llama", "gemma")
_SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<｜User▁x｜>"]
_ADDED = ["<tool>", "<think>"]
ODD_TEXTS = [
    "", " ", "  ", "   leading", "trailing  ", "a\nb\n\nc\r\nd\t\te", "\n\n\n", " \n \n x", "tab\tthen  spaces   end ",
    "hello's I'LL we'Ve 'Tis don't DON'T 's's", "12345 1,234.56 3.14159 ٣٤٥ １２３ ½ Ⅷ", "0000000000000001",
    "x = {'a': [1,2,3]}\n\tif (a>=b) return foo->bar(); // c++", "/usr/bin/x --flag=1 \\n C:\\dir",
    "http://a.b/c?d=e&f=g#h", "$100 €50 £3 ^^ ~~ `` ||", "!!!???...,,,;;;", "...\n...\n", "\x01\x02\x7f",
    "👩‍💻🔥👋🏽 🇫🇷 ❤️", "日本語のテキスト、です。", "한국어 텍스트", "हिन्दी में पाठ", "العربية نص", "שלום עולם", "ไทยภาษา",
    "Élan ÉÉ éÉa AÉa ñandú ÑANDÚ straße ŒUVRE", "camelCaseWord HTTPServer XMLHttpRequest iPhone", "ǅ ǈ ᾈ", "'S 'ſ",
    "\u00a0nbsp\u3000ideographic\u2028ls", "a\u200bb\u200c\ufeffc\ufffd", "e\u0301\u0301 n\u0303", "▁under▁bar",
    "<s> text </s><s>x", "<|im_start|>user\nhi<|im_end|>\n", "<unk><tool> a<think>", "<｜User▁x｜>hi", "a" * 50,
    "ab " * 20,
]  # fmt: skip


def many_texts(count: int) -> list[str]:
    """Return so many texts: odd ones, real ones, and mixtures of both with special tokens."""
    generator = random.Random(3)
    real = sentences()
    words = [*ODD_TEXTS, *(word for text in real[:200] for word in text.split())][:2000]
    between = [*_SPECIAL, *_ADDED, " ", "\n", "  ", "\t", "'s", "1", "99", "é"]
    found = list(ODD_TEXTS)
    while len(found) < count:
        parts = [
            generator.choice([generator.choice(words), f" {generator.choice(words)}", generator.choice(between)])
            for _ in range(generator.randint(1, 8))
        ]
        found.append("".join(parts)[:300] if generator.random() > 0.3 else generator.choice(real)[:200])
    return found[:count]


def tokenizer_of(kind: str) -> dict[str, Any]:
    """Return the metadata of a trained tokenizer: `llama`, `gemma`, or of a split that is named."""
    return _sentence_piece(has_prefix=kind == "llama") if kind in SENTENCE_PIECE else _byte_level(kind)


def _byte_level(split: str) -> dict[str, Any]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    trained = Tokenizer(models.BPE())
    lines = pre_tokenizers.Split("\n", "isolated")
    trained.pre_tokenizer = pre_tokenizers.Sequence([lines, pre_tokenizers.ByteLevel(False, use_regex=False)])
    # Words are not parted, so that only the split does.
    pieces = [text[i : i + 40] for text in sentences() for i in range(0, len(text), 40)]
    pieces += [text for text in ODD_TEXTS if "<" not in text] * 5
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1200, initial_alphabet=alphabet, show_progress=False, max_token_length=12)
    trained.train_from_iterator(pieces, trainer)
    model = json.loads(trained.to_str())["model"]
    tokens = [*_SPECIAL, *_ADDED, *sorted(model["vocab"], key=model["vocab"].__getitem__)]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": split,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": _types(len(tokens)),
        "tokenizer.ggml.merges": [" ".join(merge) for merge in model["merges"]],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }


def _types(count: int) -> list[int]:
    return [2, *[3] * (len(_SPECIAL) - 1), *[4] * len(_ADDED), *[1] * (count - len(_SPECIAL) - len(_ADDED))]


def _sentence_piece(*, has_prefix: bool) -> dict[str, Any]:
    import sentencepiece

    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text[:500] for text in sentences()]),
        model_writer=content,
        vocab_size=2000,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=0.995,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=has_prefix,
        minloglevel=2,
        allow_whitespace_only_pieces=True,
    )
    trained = sentencepiece.SentencePieceProcessor(model_proto=content.getvalue())
    ids = range(len(trained))
    added = [*_SPECIAL[3:], *_ADDED, "     "]
    types = [
        2 if trained.is_unknown(i) else 3 if trained.is_control(i) else 6 if trained.is_byte(i) else 1 for i in ids
    ]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [*(trained.id_to_piece(i) for i in ids), *added],
        "tokenizer.ggml.scores": [*(trained.get_score(i) for i in ids), *[-1000.0] * len(added)],
        "tokenizer.ggml.token_type": [*types, *[3] * len(_SPECIAL[3:]), *[4] * (len(_ADDED) + 1)],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        **({} if has_prefix else {"tokenizer.ggml.add_space_prefix": False}),
    }


def tokens_of_llama_cpp(files: Mapping[str, Path], texts: Sequence[str], folder: Path) -> dict[str, list[Any]]:
    """Return llama.cpp's tokens of each text in each of `MODES`, for each file.

    llama.cpp runs in a process of its own, which ends without waiting for its threads.
    """
    request, answer = folder / "texts.json", folder / "tokens.json"
    request.write_text(json.dumps({"files": {n: str(f) for n, f in files.items()}, "texts": list(texts)}))
    done = subprocess.run(
        [sys.executable, __file__, str(request), str(answer)], capture_output=True, text=True, check=False, timeout=600
    )
    assert answer.is_file(), done.stderr[-2000:]
    return json.loads(answer.read_text())  # type: ignore[no-any-return]


def _served(file: str, texts: Sequence[str]) -> list[Any]:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = file
    parameters.n_ctx, parameters.n_parallel, parameters.port = 64, 1, 0
    parameters.verbosity, parameters.warmup = -1, False
    server = xllamacpp.Server(parameters)
    return [[_tokens(server, text, *mode) for text in texts] for mode in MODES]


def _tokens(server: Any, text: str, add_special: bool, parse_special: bool) -> list[int]:
    document = {"content": text, "add_special": add_special, "parse_special": parse_special}
    request = urllib.request.Request(
        f"{server.listening_address}/tokenize", json.dumps(document).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read())["tokens"]  # type: ignore[no-any-return]


if __name__ == "__main__":
    wanted = json.loads(Path(sys.argv[1]).read_text())
    found = {name: _served(file, wanted["texts"]) for name, file in wanted["files"].items()}
    Path(sys.argv[2]).write_text(json.dumps(found))
    os._exit(0)
