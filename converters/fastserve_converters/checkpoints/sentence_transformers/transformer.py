"""The Transformer module's settings: `sentence_bert_config.json`, or the name that older versions gave it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastserve_converters.checkpoints.sentence_transformers.config_file import ConfigFile, in_folder, read_config

FILES = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
"""The first that has something in it counts, as in sentence-transformers."""
TOKENIZER_CONFIG = "tokenizer_config.json"
EXTRACTION = "feature-extraction"
CLASSIFICATION = "sequence-classification"
_OUTPUTS = {EXTRACTION: ("token_embeddings", "last_hidden_state"), CLASSIFICATION: ("scores", "logits")}
_WITHOUT_EFFECT = frozenset({"unpad_inputs", "backend"})
_ARGUMENTS = {
    "model": ("model_args", "model_kwargs"),
    "tokenizer": ("tokenizer_args", "processor_kwargs"),
    "config": ("config_args", "config_kwargs"),
}
# Keys of the dictionaries above that change no number, or that are read here.
_ARGUMENTS_READ = {
    "model": {"attn_implementation", "add_pooling_layer", "device_map", "low_cpu_mem_usage", "torch_dtype", "dtype"},
    "tokenizer": {"model_max_length", "use_fast", "clean_up_tokenization_spaces"},
    "config": {"output_hidden_states", "use_cache"},
}
_TRUSTING = "trust_remote_code"
"""sentence-transformers takes this from no file; neither does this."""


@dataclass(frozen=True)
class TransformerSettings:
    """How the Transformer module is run.

    Attributes:
        task: `feature-extraction`, `sequence-classification` or another of sentence-transformers' `transformer_task`.
        max_seq_length: texts are cut at so many tokens; None: where the tokenizer or the model says.
        max_seq_length_from: the file that gives it.
        lower_case: whether texts are made lower case before anything else.
        hidden_states: whether the hidden states of all layers are given; None: as the model's config says.
        notes: what the user should know of keys that are not carried, in sentences.
    """

    task: str = EXTRACTION
    max_seq_length: int | None = None
    max_seq_length_from: str = ""
    lower_case: bool = False
    hidden_states: bool | None = None
    notes: tuple[str, ...] = ()


def read_transformer_settings(root: Path, folder: str) -> TransformerSettings:
    """Read how the Transformer module in a folder of a checkpoint is run.

    Raises:
        UsageError: a key or value is not supported.
    """
    file = _config(root, folder)
    file.check_keys(
        {
            "transformer_task",
            "modality_config",
            "module_output_name",
            "processing_kwargs",
            "query_length",
            "document_length",
            "query_expansion",
            "max_seq_length",
            "do_lower_case",
            "tokenizer_name_or_path",
            *_WITHOUT_EFFECT,
            *(name for names in _ARGUMENTS.values() for name in names),
        }
    )
    for key in ("query_expansion", "processing_kwargs", "tokenizer_name_or_path"):
        if file.content.get(key):
            raise file.wrong(key, "What it does would be missing from the bundle.")
    task = file.optional("transformer_task", str) or EXTRACTION
    _check_output(file, task)
    arguments = {kind: _arguments(file, kind) for kind in _ARGUMENTS}
    length, source = _max_tokens(root, folder, file, arguments["tokenizer"])
    return TransformerSettings(
        task,
        length,
        source,
        bool(file.content.get("do_lower_case", False)),
        _flag(arguments["config"].get("output_hidden_states")),
        tuple(_notes(file, arguments["model"])),
    )


def _flag(value: Any) -> bool | None:
    return None if value is None else bool(value)


def _config(root: Path, folder: str) -> ConfigFile:
    for name in FILES:
        file = read_config(root, in_folder(folder, name), optional=True)
        if file.content:
            return file
    return ConfigFile(in_folder(folder, FILES[0]), {})


def _check_output(file: ConfigFile, task: str) -> None:
    """Refuse what takes another of the model's outputs, or other inputs than text, for the tasks that are carried."""
    if task not in _OUTPUTS:
        return
    output, field = _OUTPUTS[task]
    if file.optional("module_output_name", str) not in (None, output):
        raise file.wrong("module_output_name", f"Supported is: {output}.")
    modalities = file.optional("modality_config", dict) or {}
    text = modalities.get("text", {"method": "forward", "method_output_name": field})
    taken = text.get("method_output_name") if isinstance(text, dict) else None
    is_usual = taken in (field, [field]) and text.get("method") == "forward"
    if not is_usual or "message" in modalities or set(text) - {"method", "method_output_name", "format"}:
        raise file.wrong("modality_config", f"Supported is text, from the model's {field}.")


def _arguments(file: ConfigFile, kind: str) -> dict[str, Any]:
    """Return the arguments that a file gives for loading the model, its tokenizer or its config.

    Raises:
        UsageError: one of them is not understood.
    """
    found: dict[str, Any] = {}
    for name in _ARGUMENTS[kind]:
        given = dict(file.optional(name, dict) or {})
        given.pop(_TRUSTING, None)
        ConfigFile(f"{file.name}: {name}", given).check_keys(_ARGUMENTS_READ[kind])
        found |= given
    return found


def _max_tokens(
    root: Path, folder: str, file: ConfigFile, tokenizer_arguments: dict[str, Any]
) -> tuple[int | None, str]:
    """Return where texts are cut and which file says so; the tokenizer's arguments count before all else."""
    named = ConfigFile(file.name, tokenizer_arguments).optional_count("model_max_length")
    given = named or file.optional_count("max_seq_length")
    if given is not None:
        return given, file.name
    tokenizer = read_config(root, in_folder(folder, TOKENIZER_CONFIG), optional=True)
    length = tokenizer.content.get("model_max_length")
    # Transformers writes 1e30 where there is no limit.
    if isinstance(length, int | float) and not isinstance(length, bool) and 1 <= length < 1e9:
        return int(length), tokenizer.name
    return None, ""


def _notes(file: ConfigFile, model_arguments: dict[str, Any]) -> list[str]:
    notes = [
        f"{file.name} has '{key}', which counts in sentence-transformers' encode_query and encode_document alone and "
        "is not carried: texts are cut at the bundle's length."
        for key in ("query_length", "document_length")
        if file.content.get(key) is not None
    ]
    number = next((model_arguments[n] for n in ("dtype", "torch_dtype") if model_arguments.get(n)), None)
    if number not in (None, "auto", "float32"):
        notes.append(f"{file.name} loads the model in {number}; the reference here is its weights in float32.")
    return notes
