"""A decoder's ONNX artifact opens in ONNX Runtime GenAI, and gives the tokens that it gives here."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import fastserve
from decoder_checkpoints import save_decoder_checkpoint

NEW_TOKENS = 12
PROGRAM = """
import json, sys
import onnxruntime_genai as og

model = og.Model(sys.argv[1])
tokenizer = og.Tokenizer(model)
parameters = og.GeneratorParams(model)
parameters.set_search_options(max_length=int(sys.argv[3]))
generator = og.Generator(model, parameters)
prompt = tokenizer.encode(sys.argv[2])
generator.append_tokens(prompt)
while not generator.is_done():
    generator.generate_next_token()
tokens = [int(t) for t in generator.get_sequence(0)]
print(json.dumps([tokens[: len(prompt)], tokens[len(prompt) :]]))
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("onnxruntime_genai") is None, reason="onnxruntime-genai is not installed")
@pytest.mark.parametrize("prompt", ["The weather in the mountains", "Grüße aus Köln"])
def test_a_bundle_opens_there_and_generates_the_same(prompt: str, bundle: Path) -> None:
    with fastserve.load(bundle) as pipeline:
        tokens = pipeline.tokenizer.encode(prompt)
        expected = list(pipeline.generate(prompt, max_new_tokens=NEW_TOKENS, temperature=0).tokens)
    # It runs in a process of its own: what it loads must not decide what other tests see.
    words = [sys.executable, "-c", PROGRAM, str(bundle), prompt, str(len(tokens) + NEW_TOKENS)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    given, found = json.loads(done.stdout)
    assert given == tokens
    assert found[: len(expected)] == expected


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    model = save_decoder_checkpoint(tmp_path_factory.mktemp("models") / "tiny-llama")
    out = tmp_path_factory.mktemp("bundles") / "tiny.fsb"
    fastserve.export(model, out, formats=["onnx"], precisions=["fp32"], context=64, cache_dir=cache_dir)
    return out
