"""The configuration by which ONNX Runtime GenAI opens a decoder (https://onnxruntime.ai/docs/genai/reference/config)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fastserve_converters.artifact import GENAI_CONFIG
from fastserve_converters.formats import ExportJob
from fastserve_converters.formats.onnx.head_layout import head_layout
from fastserve_runtime.generation.shared_cache import ATTENTION_MASK, INPUT_IDS, LOGITS, PAST, PRESENT

if TYPE_CHECKING:
    from fastserve_converters.models.cached_part import CachedPart

_TYPE = "decoder"
"""Any model that is one decoder with a cache of keys and values."""


def write_genai_config(job: ExportJob[CachedPart], model_file: str) -> None:
    """Write the configuration beside an artifact, with the model's path relative to that folder."""
    document = genai_config(job, model_file)
    (job.out / GENAI_CONFIG).write_text(json.dumps(document, indent=1))


def genai_config(job: ExportJob[CachedPart], model_file: str) -> dict[str, Any]:
    """Return the configuration as JSON.

    Args:
        job: what was exported.
        model_file: its path.
    """
    form, prompts = job.part.module, job.prompts
    settings = form.settings[0]
    sampling = prompts["sampling"]
    ends = list(prompts["ends"])
    decoder = {
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
        "filename": model_file,
        "head_size": head_layout(form, 0).padded_size,
        "hidden_size": form.embedding.embedding_dim,
        "num_attention_heads": settings.heads,
        "num_key_value_heads": settings.key_value_heads,
        "num_hidden_layers": len(form.layers),
        "inputs": {
            "input_ids": INPUT_IDS,
            "attention_mask": ATTENTION_MASK,
            "past_key_names": f"{PAST}%d.key",
            "past_value_names": f"{PAST}%d.value",
        },
        "outputs": {
            "logits": LOGITS,
            "present_key_names": f"{PRESENT}%d.key",
            "present_value_names": f"{PRESENT}%d.value",
        },
    }
    samples = sampling["temperature"] > 0
    return {
        "model": {
            "type": _TYPE,
            "context_length": form.context,
            "vocab_size": form.head.out_features,
            "bos_token_id": -1 if prompts["beginning"] is None else prompts["beginning"],
            "eos_token_id": ends,
            "pad_token_id": ends[0] if ends else 0,
            "decoder": decoder,
        },
        "search": {
            "do_sample": samples,
            "max_length": form.context,
            "num_beams": 1,
            "past_present_share_buffer": True,
            "repetition_penalty": sampling["repetition_penalty"],
            "temperature": sampling["temperature"] if samples else 1.0,
            "top_k": sampling["top_k"] if samples and sampling["top_k"] else 50,
            "top_p": sampling["top_p"],
        },
    }
