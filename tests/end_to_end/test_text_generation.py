"""The whole way of a model that generates text: exported by the command line, run, verified, measured, and budgeted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fastserve
from command_line import fastserve_command
from decoder_checkpoints import save_decoder_checkpoint
from fastserve_runtime.errors import EXIT_ENVIRONMENT, EXIT_NOTHING_FITS, EXIT_USAGE

CONTEXT = 64
PROMPTS = ["The weather", "Grüße aus", "昨日は、", "मौसम", "Погода сегодня", "def main():\n    ", "👩‍💻🔥", "a " * 20]
CONVERSATION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_decoder_checkpoint(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="module")
def words(llama: Path, cache_dir: Path) -> list[str | Path]:
    """What every export has in common, so that all share the cache."""
    return ["export", llama, "--format", "onnx", "--context", str(CONTEXT), "--cache-dir", cache_dir, "--json"]


@pytest.fixture(scope="module")
def exported(words, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A bundle of fp32 and int8, and what the command printed."""
    out = tmp_path_factory.mktemp("bundles") / "llama.fsb"
    done = fastserve_command(*words, "-o", out, "--precision", "fp32,int8", "--keep", "all")
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout)


@pytest.fixture(scope="module")
def bundle(exported) -> Path:
    location, _ = exported
    return location


def told(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr
    return " ".join((done.stdout + done.stderr).split())


def test_the_document_has_both_times_of_every_variant(exported) -> None:
    _, document = exported
    assert (document["task"], document["context"]) == ("text-generation", CONTEXT)
    fp32, int8 = document["variants"]
    assert [fp32["id"], int8["id"]] == ["onnx-fp32", "onnx-int8"]
    assert fp32["shipped"]
    assert int8["shipped"]
    for variant in (fp32, int8):
        measurement = variant["measurement"]
        assert measurement["prompt_tokens"] == CONTEXT // 2
        assert measurement["time_to_first_token"]["minimum"] > 0
        assert measurement["latency"]["queries"] >= 64
        assert not measurement["brings_pytorch"]
    # 33 tokens are more work than one.
    assert measurement["time_to_first_token"]["mean"] > measurement["latency"]["mean"]
    assert int8["size"] < fp32["size"]


def test_quality_is_perplexity_beside_the_references(exported) -> None:
    _, document = exported
    fp32, int8 = (v["quality"] for v in document["variants"])
    assert fp32["name"] == "reference's perplexity ÷ variant's"
    assert fp32["low"] <= fp32["value"] <= fp32["high"]
    assert fp32["value"] == pytest.approx(1, abs=1e-4)
    assert fp32["beside"]["KL divergence (nats)"] < 1e-6
    assert fp32["beside"]["top-1 agreement"] == 1
    assert 0.9 < int8["value"] < 1.1
    assert 0 < int8["beside"]["KL divergence (nats)"] < 0.1


def test_fp32_generates_what_the_original_generates(bundle: Path, llama: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(llama)
    chat = tokenizer.apply_chat_template(CONVERSATION, add_generation_prompt=True, tokenize=False)
    prompts = [tokenizer(p, return_tensors="pt")["input_ids"] for p in PROMPTS]
    prompts.append(tokenizer(chat, add_special_tokens=False, return_tensors="pt")["input_ids"])
    with fastserve.load(bundle, variant="onnx-fp32") as generate:
        for given, tokens in zip([*PROMPTS, CONVERSATION], prompts, strict=True):
            count = min(12, CONTEXT - tokens.shape[1])
            expected = model.generate(
                tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=count, do_sample=False, pad_token_id=0
            )
            found = generate.generate(given, max_new_tokens=count, temperature=0)
            assert found.prompt_tokens == tokens.shape[1]
            assert list(found.tokens) == expected[0, tokens.shape[1] :].tolist()


def test_the_bundle_runs_verifies_and_conforms(bundle: Path) -> None:
    run = fastserve_command("run", bundle, "The weather", "--json", "--max-new-tokens", "4")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)
    for command in ("verify", "conform"):
        done = fastserve_command(command, bundle, "--json")
        assert done.returncode == 0, done.stdout
        verdicts = json.loads(done.stdout)["verdicts"]
        assert {"onnx-fp32", "onnx-int8"} <= {v["variant"] for v in verdicts}
        assert [v for v in verdicts if v["outcome"] not in {"PASS", "NOT_RUN"}] == []


def test_a_spoilt_model_does_not_verify(bundle: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(bundle, tmp_path / "copy.fsb")
    model = next(copy.rglob("onnx-int8/**/*.onnx"))
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 0xFF
    model.write_bytes(content)
    done = fastserve_command("verify", copy)
    assert done.returncode == 5
    assert "altered or damaged" in told(done)


def test_the_bundle_is_measured_on_the_device(bundle: Path) -> None:
    command = [sys.executable, "-m", "fastserve_runtime", "bench", str(bundle), "--json", "--variant", "onnx-int8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    measurement = json.loads(done.stdout)["measurement"]
    assert measurement["prompt_tokens"] == CONTEXT // 2
    assert measurement["time_to_first_token"]["mean"] > measurement["latency"]["mean"] > 0


def test_a_budget_that_nothing_fits_writes_nothing_and_names_the_limit(exported, words, tmp_path: Path) -> None:
    out = tmp_path / "none.fsb"
    done = fastserve_command(*words, "-o", out, "--precision", "fp32,int8", "--max-tpot", "1us")
    assert done.returncode == EXIT_NOTHING_FITS, done.stderr
    document = json.loads(done.stdout)
    assert [limit.partition(" ")[0] for limit in document["binding_limits"]] == ["tpot"]
    assert all(v["breaches"][0]["reason"].startswith("tpot ") for v in document["variants"])
    assert not out.exists()


@pytest.mark.parametrize(
    ("settings", "problem", "remedy"),
    [
        ({"max_latency": "1s"}, "--max-latency was given for a model that generates text", "--max-ttft or --max-tpot"),
        ({"sequence_length": 32}, "--seq-len was given, and text-generation has no texts of fixed length", "--context"),
        ({"context": 31}, "A context of 31 tokens", "at least 32"),
        ({"context": 129}, "positions for 128", "--context 128 or less"),
        ({"precisions": ["int8-dynamic"]}, "has the precision 'int8-dynamic'", "onnx has fp32, int8,"),
        ({"precisions": ["mixed"]}, "The precision 'mixed'", "--max-tpot"),
        ({"task": "feature-extraction"}, "continue texts; they are not exported for feature-extraction", "--task"),
    ],
)
def test_what_a_generator_does_not_have_is_refused_before_anything_is_loaded(
    llama: Path, tmp_path: Path, settings: dict[str, Any], problem: str, remedy: str
) -> None:
    with pytest.raises(fastserve.UsageError) as failure:
        fastserve.export(llama, tmp_path / "out.fsb", formats=["onnx"], cache_dir=tmp_path, **settings)
    assert problem in failure.value.problem
    assert remedy in failure.value.remedy
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "problem", "remedy"),
    [
        ({"max_ttft": "1s"}, "--max-ttft was given for a model that generates no text", "--max-latency"),
        ({"max_tpot": "1s"}, "--max-tpot was given for a model that generates no text", "--max-latency"),
        ({"context": 64}, "--context was given, and feature-extraction generates no text", "--seq-len"),
    ],
)
def test_what_an_encoder_does_not_have_is_refused(
    tiny_bert: Path, tmp_path: Path, settings: dict[str, Any], problem: str, remedy: str
) -> None:
    with pytest.raises(fastserve.UsageError) as failure:
        fastserve.export(tiny_bert, tmp_path / "out.fsb", cache_dir=tmp_path, **settings)
    assert problem in failure.value.problem
    assert remedy in failure.value.remedy


def test_a_flag_of_another_task_ends_the_command(tiny_bert: Path, tmp_path: Path) -> None:
    done = fastserve_command("export", tiny_bert, "-o", tmp_path / "out.fsb", "--max-ttft", "1s")
    assert done.returncode == EXIT_USAGE
    assert "--max-ttft was given for a model that generates no text" in told(done)


@pytest.mark.slow
def test_a_variant_that_cannot_be_made_fails_alone(exported, words, tmp_path: Path) -> None:
    out = tmp_path / "out.fsb"
    done = fastserve_command(*words, "-o", out, "--precision", "fp32,source")
    assert done.returncode == 0, done.stderr
    fp32, source = json.loads(done.stdout)["variants"]
    assert fp32["shipped"]
    assert source["failure"].startswith(
        "export failed: The precision 'source' keeps a checkpoint's own quantized weights"
    )
    done = fastserve_command(*words, "-o", tmp_path / "none.fsb", "--precision", "source")
    assert done.returncode == EXIT_ENVIRONMENT
    assert "No variant could be made. onnx-source: export failed: The precision 'source'" in told(done)


@pytest.mark.slow
def test_a_mixed_precision_fills_a_limit_on_size(exported, words, tmp_path: Path) -> None:
    _, document = exported
    limit = int(document["variants"][1]["size"]) + 10_000  # with room for the graph, less than all in int8
    done = fastserve_command(
        *words, "-o", tmp_path / "mixed.fsb", "--precision", "mixed", "--max-size", str(limit), "--keep", "all"
    )
    assert done.returncode == 0, done.stderr
    (mixed,) = json.loads(done.stdout)["variants"]
    assert mixed["failure"] is None
    assert limit - 80_000 < mixed["size"] <= limit
    assignment = fastserve.open_bundle(tmp_path / "mixed.fsb").manifest.variants[0].recipe["assignment"]
    assert {scheme["bits"] for scheme in assignment.values()} == {4, 8}


def test_too_little_text_is_told_with_how_much_is_wanted(words, tmp_path: Path) -> None:
    data = tmp_path / "few.txt"
    data.write_text("one\ntwo\nthree\nfour\nfive\n")
    done = fastserve_command(*words, "-o", tmp_path / "out.fsb", "--data", data)
    assert done.returncode == EXIT_USAGE, done.stderr
    assert f"sequences of {CONTEXT} are wanted. Give more with --data" in told(done)


def test_an_architecture_that_is_not_known_lists_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    config = {"model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"]}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    done = fastserve_command("export", tmp_path / "model", "-o", tmp_path / "out.fsb")
    assert done.returncode == EXIT_USAGE
    for part in ("'gpt_neox' is not supported", "gemma", "gpt2", "llama", "qwen2"):
        assert part in told(done)
