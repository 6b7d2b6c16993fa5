"""What a model's config says that would be passed over: refused where it changes results, else named in a note."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fastserve_converters.checkpoints.families import Family
from fastserve_runtime.errors import UsageError

_WITHOUT_EFFECT: Mapping[str, tuple[Any, ...]] = {
    "add_cross_attention": (False, None),
    "cross_attention_hidden_size": (None,),
    "is_decoder": (False, None),
    "is_encoder_decoder": (False, None),
    "position_embedding_type": ("absolute", None),
    "pruned_heads": ({}, None),
    "tf_legacy_loss": (False, None),
    "torchscript": (False, True, None),
    "use_bfloat16": (False, None),
}
"""Keys that say nothing with these values."""
_HARMLESS = frozenset(
    {
        "_attn_implementation",
        "_attn_implementation_autoset",
        "_commit_hash",
        "_name_or_path",
        "_num_labels",
        "activation_fn",
        "adapters",
        "architectures",
        "attn_implementation",
        "auto_map",
        "begin_suppress_tokens",
        "custom_pipelines",
        "directionality",
        "down_scale_factor",
        "dtype",
        "exponential_decay_length_penalty",
        "finetuning_task",
        "gap_size",
        "gradient_checkpointing",
        "id2label",
        "keys_to_ignore_at_inference",
        "label2id",
        "language",
        "model_type",
        "name",
        "net_structure_type",
        "num_labels",
        "num_memory_blocks",
        "output_attentions",
        "output_hidden_states",
        "output_past",
        "pooler_fc_size",
        "pooler_num_attention_heads",
        "pooler_num_fc_layers",
        "pooler_size_per_head",
        "pooler_type",
        "prefix",
        "pretraining_tp",
        "problem_type",
        "quantization_config",
        "qa_dropout",
        "return_dict",
        "rope_parameters",
        "rope_scaling",
        "rope_theta",
        "sbert_ce_default_activation_function",
        "sentence_transformers",
        "seq_classif_dropout",
        "task_specific_params",
        "tie_encoder_decoder",
        "tie_weights_",
        "tie_word_embeddings",
        "tokenizer_class",
        "torch_dtype",
        "transformers_version",
        "unsloth_fixed",
        "unsloth_version",
        "use_cache",
        "vocab",
    }
)
"""Keys that say nothing about a forward pass, or are read here."""
_GENERATION = frozenset(
    {
        "bad_words_ids",
        "decoder_start_token_id",
        "diversity_penalty",
        "do_sample",
        "early_stopping",
        "encoder_no_repeat_ngram_size",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "length_penalty",
        "max_length",
        "min_length",
        "no_repeat_ngram_size",
        "num_beam_groups",
        "num_beams",
        "num_return_sequences",
        "output_scores",
        "remove_invalid_values",
        "repetition_penalty",
        "return_dict_in_generate",
        "sep_token_id",
        "suppress_tokens",
        "temperature",
        "top_k",
        "top_p",
        "typical_p",
    }
)
"""Keys for generating text, which an encoder does not do."""
_COUNTS = ("max_position_embeddings", "n_positions", "hidden_size", "dim", "type_vocab_size")
"""Keys that are read here before Transformers looks at them."""
_PROBLEMS = ("regression", "single_label_classification", "multi_label_classification")
_SHOWN = 6


def check_computation(config: Mapping[str, Any], family: Family) -> None:
    """Refuse what Transformers 5, or the exportable model, would compute in another way than the model was trained.

    Raises:
        UsageError: naming the key.
    """
    for key in _COUNTS:
        if config.get(key) is not None and not _is_count(config[key]):
            raise UsageError(
                f"The config's '{key}' is {config[key]!r:.40}, which is no count.",
                "Check the checkpoint's config.json.",
            )
    kind = config.get("position_embedding_type")
    if kind not in _WITHOUT_EFFECT["position_embedding_type"]:
        raise UsageError(
            f"The config's 'position_embedding_type' is '{kind}', which Transformers 5 no longer computes.",
            "Export a model with absolute positions.",
        )
    if config.get("is_decoder") and family.can_be_causal:
        raise UsageError(
            f"The config says 'is_decoder': true, so that this {family.name} sees no token after the present one.",
            "Set it to false in config.json if the model was trained as an encoder; causal encoders are not supported.",
        )
    if config.get("add_cross_attention") and family.can_be_causal:
        raise UsageError(
            f"The config says 'add_cross_attention': true: this {family.name} is the decoder of another model.",
            "Export a model that was trained as an encoder.",
        )
    if family.positions_after_padding and "pad_token_id" in config and not _is_count(config["pad_token_id"]):
        raise UsageError(
            f"The config's 'pad_token_id' is {config['pad_token_id']!r:.40}; a {family.name} counts positions by it.",
            "Write the id of the padding token that the model was trained with, mostly 1.",
        )
    problem = config.get("problem_type")
    if problem not in (None, *_PROBLEMS):
        raise UsageError(
            f"The config's 'problem_type' is {problem!r:.40}, which is not known.",
            f"Known are: {', '.join(_PROBLEMS)}.",
        )
    if config.get("pruned_heads"):
        raise UsageError(
            "The config has 'pruned_heads', which Transformers 5 no longer reads.",
            "Export the model with all of its heads.",
        )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def unknown_keys(config: Mapping[str, Any], known: frozenset[str], *, generates: bool) -> Iterator[str]:
    """Return the config's keys that the model's class does not know and that may matter.

    Args:
        config: the content of `config.json`.
        known: the keys that Transformers' class reads.
        generates: whether the model generates text, for which some keys are meant.
    """
    for key, value in config.items():
        if key in known or key in _HARMLESS or key.startswith("_"):
            continue
        if value in _WITHOUT_EFFECT.get(key, ()) or (not generates and key in _GENERATION):
            continue
        yield key


def unknown_keys_note(config: Mapping[str, Any], known: frozenset[str], class_name: str, *, generates: bool) -> str:
    """Return a sentence on such keys; empty where there are none."""
    keys = sorted(unknown_keys(config, known, generates=generates))
    if not keys:
        return ""
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return (
        f"config.json has {', '.join(keys[:_SHOWN])}{more}, which Transformers' {class_name} does not read: "
        "if the model was trained with code that does, it computes something else here."
    )


def keys_read_by(config_class: type) -> frozenset[str]:
    """Return the keys of `config.json` that a config class of Transformers reads."""
    fields = getattr(config_class, "__dataclass_fields__", {})
    aliases: Mapping[str, str] = getattr(config_class, "attribute_map", {})
    return frozenset({*fields, *aliases, *aliases.values(), *vars(config_class())})
