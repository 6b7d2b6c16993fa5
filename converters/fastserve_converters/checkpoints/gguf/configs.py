"""A GGUF file's metadata as the `config.json` that Transformers would have for the same model.

Keys are those of llama.cpp's converters. What they leave out, since llama.cpp has it in its code, is filled in here,
and what the supported architectures cannot express is refused rather than dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastserve_converters.checkpoints.gguf.header import GgufHeader
from fastserve_converters.checkpoints.gguf.vocabulary import special_ids
from fastserve_runtime.errors import UsageError

_BLOCK = "blk."
_GEMMA_27B_LAYERS = {"gemma2": 46, "gemma3": 62}
"""The one size of each whose attention is scaled by the width of all heads together; llama.cpp tells it so as well."""


_WITHOUT_EFFECT: Mapping[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "attention.clamp_kqv": (0,),
    "attention.scale": (0,),
    "attention.sliding_window_pattern": (6,),
    "embedding_scale": (0, 1),
    "expert_used_count": (0,),
    "logit_scale": (0, 1),
    "pooling_type": (0,),
    "residual_scale": (0, 1),
    "rope.scaling.attn_factor": (0, 1),
}
"""Keys that are not read and say nothing with these values."""
_HARMLESS = frozenset(
    {
        "rope.scaling.finetuned",
        "rope.scaling.original_context_length",
        "tensor_data_layout",
        "use_parallel_residual",
        "vocab_size",
    }
)
"""Keys that are not read and say nothing of what the supported architectures compute."""
_SHOWN = 6


@dataclass(frozen=True)
class Metadata:
    """Access to the keys of one architecture, which remembers what was read."""

    header: GgufHeader
    architecture: str
    read: set[str] = field(default_factory=set)

    def integer(self, key: str, default: int | None = None) -> int:
        """Return a positive whole number.

        Raises:
            UsageError: it is missing and there is no default, or is another thing.
        """
        value = self.find(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self._wrong(key, value)
        return value

    def real(self, key: str, default: float | None = None) -> float:
        """Return a positive number; see `integer`."""
        value = self.find(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
            raise self._wrong(key, value)
        return float(value)

    def find(self, key: str) -> Any:
        """Return the architecture's value, or None."""
        self.read.add(key)
        return self.header.metadata.get(f"{self.architecture}.{key}")

    def unread(self) -> dict[str, Any]:
        """Return the architecture's keys that nobody has asked for and that may say something."""
        own = f"{self.architecture}."
        found = {key.removeprefix(own): value for key, value in self.header.metadata.items() if key.startswith(own)}
        return {
            key: value
            for key, value in sorted(found.items())
            if key not in self.read | _HARMLESS and value not in _WITHOUT_EFFECT.get(key, ())
        }

    def has(self, tensor: str) -> bool:
        """Whether there is such a tensor."""
        return tensor in self.header.tensors

    def rows(self, tensor: str) -> int:
        """Return the size of a tensor's first axis.

        Raises:
            UsageError: it is missing.
        """
        if tensor not in self.header.tensors:
            raise UsageError(f"The GGUF file '{self.header.path.name}' has no tensor '{tensor}'.", "Download it again.")
        return self.header.tensors[tensor].shape[0]

    def _wrong(self, key: str, value: object) -> UsageError:
        is_what = "lacks" if value is None else "is damaged: it has no usable number as"
        return UsageError(
            f"The GGUF file '{self.header.path.name}' {is_what} '{self.architecture}.{key}'.",
            "Convert the model again with a llama.cpp of today.",
        )


def config_of(header: GgufHeader) -> dict[str, Any]:
    """Return the content of a `config.json` for the model in a file; see `noted_config`."""
    return noted_config(header)[0]


def noted_config(header: GgufHeader) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the content of a `config.json` for the model in a file, and notes on what of it is not read.

    Args:
        header: read with the arrays of a vocabulary, which tell where texts end.

    Raises:
        UsageError: the architecture, or something in it, is not supported; or a number is missing.
    """
    architecture = header.metadata.get("general.architecture")
    make = _ARCHITECTURES.get(str(architecture))
    if make is None:
        raise UsageError(
            f"The GGUF file '{header.path.name}' has a model of the architecture '{architecture}', "
            "which is not supported.",
            f"Supported are: {', '.join(sorted(_ARCHITECTURES))}.",
        )
    metadata = Metadata(header, str(architecture))
    _check_layers(metadata)
    _check_kind(metadata)
    config = make(metadata)
    config["vocab_size"] = metadata.rows("token_embd.weight")
    config["tie_word_embeddings"] = not metadata.has("output.weight")
    config.update(special_ids(header))
    return config, tuple(_unread_note(metadata))


def _unread_note(metadata: Metadata) -> Iterator[str]:
    unread = metadata.unread()
    if unread:
        named = ", ".join(f"{metadata.architecture}.{key} ({value!r:.40})" for key, value in [*unread.items()][:_SHOWN])
        more = f" and {len(unread) - _SHOWN} more keys" if len(unread) > _SHOWN else ""
        yield (
            f"The GGUF file has {named}{more}, which nothing here reads: where llama.cpp does, it computes something "
            "else."
        )


def _check_layers(metadata: Metadata) -> None:
    """A model of other layers than there are tensors for would be made at great length, and then refused."""
    names = {name.split(".")[1] for name in metadata.header.tensors if name.startswith(_BLOCK)}
    count = metadata.integer("block_count")
    if names != {str(i) for i in range(len(names))} or len(names) != count:
        raise UsageError(
            f"The GGUF file '{metadata.header.path.name}' has tensors of {len(names)} layers and says that there are "
            f"{count}.",
            "Download it again.",
        )


def _check_kind(metadata: Metadata) -> None:
    if metadata.find("expert_count"):
        raise UsageError("Models with several experts a layer are not supported.", "Export a dense model.")
    kind = metadata.header.metadata.get("general.type", "model")
    if kind != "model":
        raise UsageError(f"The GGUF file has no whole model: its type is '{kind}'.", "Name the model's own file.")


def _decoder(metadata: Metadata, model_type: str, architecture: str) -> dict[str, Any]:
    """Return what Llama and its descendants have in common."""
    width, heads = metadata.integer("embedding_length"), metadata.integer("attention.head_count")
    return {
        "model_type": model_type,
        "architectures": [architecture],
        "max_position_embeddings": metadata.integer("context_length"),
        "hidden_size": width,
        "intermediate_size": metadata.integer("feed_forward_length"),
        "num_hidden_layers": metadata.integer("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.integer("attention.head_count_kv", heads),
        "head_dim": _head_size(metadata, width // heads),
        "rms_norm_eps": metadata.real("attention.layer_norm_rms_epsilon"),
        "rope_parameters": _rotary(metadata),
    }


def _head_size(metadata: Metadata, usual: int) -> int:
    """Return how many dimensions a head has, all of which turn with its position."""
    size = metadata.integer("attention.key_length", usual)
    turned = metadata.integer("rope.dimension_count", size)
    if turned != size:
        raise UsageError(
            f"The GGUF file turns {turned} of the {size} dimensions of a head, which is not supported.",
            "Export the model that the file was made from.",
        )
    of_values = metadata.integer("attention.value_length", size)
    if of_values != size:
        raise UsageError(
            f"The GGUF file has heads of {size} dimensions with values of {of_values}, which is not supported.",
            "Export a model whose keys and values are of one size.",
        )
    return size


def _rotary(metadata: Metadata) -> dict[str, Any]:
    base = {"rope_theta": metadata.real("rope.freq_base", 10_000.0)}
    kind = metadata.find("rope.scaling.type")
    if kind is None and metadata.find("rope.scale_linear"):
        return {"rope_type": "linear", "factor": metadata.real("rope.scale_linear"), **base}
    if kind == "linear":
        return {"rope_type": "linear", "factor": metadata.real("rope.scaling.factor"), **base}
    if kind in {None, "none"}:
        return {"rope_type": "default", **base}
    raise UsageError(
        f"The GGUF file stretches positions in the way '{kind}', which is not supported.",
        "Supported are models without, with linear scaling, and with Llama 3's factors.",
    )


def _llama(metadata: Metadata) -> dict[str, Any]:
    config = _decoder(metadata, "llama", "LlamaForCausalLM")
    biases = {"attention_bias": metadata.has("blk.0.attn_q.bias"), "mlp_bias": metadata.has("blk.0.ffn_up.bias")}
    return {**config, **biases}


def _qwen2(metadata: Metadata) -> dict[str, Any]:
    return _decoder(metadata, "qwen2", "Qwen2ForCausalLM")


def _qwen3(metadata: Metadata) -> dict[str, Any]:
    config = _decoder(metadata, "qwen3", "Qwen3ForCausalLM")
    return {**config, "attention_bias": metadata.has("blk.0.attn_q.bias")}


def _gemma(metadata: Metadata) -> dict[str, Any]:
    return {**_decoder(metadata, "gemma", "GemmaForCausalLM"), "hidden_act": "gelu_pytorch_tanh"}


def _gemma2(metadata: Metadata) -> dict[str, Any]:
    config = _decoder(metadata, "gemma2", "Gemma2ForCausalLM")
    return {
        **config,
        "query_pre_attn_scalar": _attention_scalar(metadata, config),
        "sliding_window": metadata.integer("attention.sliding_window", 4096),
        "attn_logit_softcapping": metadata.real("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": metadata.real("final_logit_softcapping", 30.0),
    }


def _gemma3(metadata: Metadata) -> dict[str, Any]:
    config = _decoder(metadata, "gemma3_text", "Gemma3ForCausalLM")
    local = {"rope_type": "default", "rope_theta": metadata.real("rope.freq_base_swa", 10_000.0)}
    return {
        **config,
        "query_pre_attn_scalar": _attention_scalar(metadata, config),
        "sliding_window": metadata.integer("attention.sliding_window"),
        "rope_parameters": {"full_attention": config["rope_parameters"], "sliding_attention": local},
    }


def _attention_scalar(metadata: Metadata, config: Mapping[str, Any]) -> int:
    if config["num_hidden_layers"] == _GEMMA_27B_LAYERS[metadata.architecture]:
        return int(config["hidden_size"] // config["num_attention_heads"])
    return int(config["head_dim"])


def _gpt2(metadata: Metadata) -> dict[str, Any]:
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "max_position_embeddings": metadata.integer("context_length"),
        "hidden_size": metadata.integer("embedding_length"),
        "n_inner": metadata.integer("feed_forward_length"),
        "num_hidden_layers": metadata.integer("block_count"),
        "num_attention_heads": metadata.integer("attention.head_count"),
        "layer_norm_epsilon": metadata.real("attention.layer_norm_epsilon"),
    }


_ARCHITECTURES: Mapping[str, Callable[[Metadata], dict[str, Any]]] = {
    "llama": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "gpt2": _gpt2,
}
