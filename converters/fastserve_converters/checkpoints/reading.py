"""Describing a checkpoint from its files, without loading the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastserve_converters.checkpoints.adapters import refuse_adapter_alone
from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.class_labels import check_head_rows, check_rows, label_names, label_notes
from fastserve_converters.checkpoints.config_checks import check_computation
from fastserve_converters.checkpoints.cross_encoder import (
    TEXT_CLASSIFICATION,
    check_scores_pairs,
    head_of,
    ranking_or,
    read_cross_encoder,
)
from fastserve_converters.checkpoints.families import Family, family_of
from fastserve_converters.checkpoints.gguf.finding import find_gguf, gguf_files, named, parts_of
from fastserve_converters.checkpoints.licences import licence_of
from fastserve_converters.checkpoints.pair_inputs import read_pair_inputs
from fastserve_converters.checkpoints.quantized.description import Quantization, find_quantization
from fastserve_converters.checkpoints.sentence_transformers import (
    SentenceFolder,
    SentenceHead,
    TextSettings,
    read_json,
    read_sentence_folder,
)
from fastserve_converters.checkpoints.stored_weights import read_weights
from fastserve_converters.checkpoints.task import TASKS, Task, reads_contexts
from fastserve_converters.checkpoints.task_finding import AUTO, find_task
from fastserve_converters.checkpoints.weight_files import refuse_head_of_another_library
from fastserve_runtime.errors import UsageError


def read_checkpoint(
    directory: Path,
    *,
    task: str = "auto",
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    truncate_dim: int | None = None,
    pairs: bool = False,
) -> Checkpoint:
    """Describe a checkpoint.

    Args:
        directory: a Transformers or sentence-transformers checkpoint, or a GGUF file, or a directory with one.
        task: `auto` finds it from the config.
        allow_pickle: accept weights that are pickles.
        trust_remote_code: accept a config that names code of its own.
        truncate_dim: so many numbers are kept of a sentence embedding, whatever the checkpoint says.
        pairs: describe it for pairs of texts, where its task leaves the choice.

    Raises:
        UsageError: there is no checkpoint, or it is of a kind that is not supported or not allowed.
    """
    gguf = find_gguf(directory)
    if gguf is not None:
        _check_no_truncation(truncate_dim)
        return _described_gguf(gguf, task, pairs=pairs)
    _check_directory(directory)
    folder = read_sentence_folder(directory)
    path = directory / folder.transformer_folder if folder else directory
    if not (path / "config.json").is_file():
        refuse_adapter_alone(path)
    config = read_json(path / "config.json")
    if not isinstance(config, dict):
        raise UsageError("The checkpoint's 'config.json' is not a JSON object.")
    if config.get("auto_map") and not trust_remote_code:
        raise UsageError(
            "The checkpoint needs code of its own (its config has 'auto_map').",
            "If you trust it, allow it to run with --trust-remote-code.",
        )
    family = family_of(str(config.get("model_type", "unknown")))
    check_computation(config, family)
    quantization = find_quantization(path, config)
    weights = read_weights(path, allow_pickle=allow_pickle)
    found = find_task(config, family, weights.tensors, head_of(weights.task(task)))
    if task == AUTO:
        refuse_head_of_another_library(directory)
    scores = label_names(config) if found.name == TEXT_CLASSIFICATION else ()
    if scores:
        check_head_rows(scores, weights.tensors)
    marks = read_cross_encoder(directory, config) if found.name == TEXT_CLASSIFICATION else None
    found_task = ranking_or(found.name, task, marks, len(scores))
    task_module = _task_for(found_task, family)
    check_rows(getattr(task_module, "HEAD_ROWS", {}), weights.tensors)
    labels = scores if task_module.HAS_LABELS else ()
    inputs = read_pair_inputs(path, family, config, task_module, labels, wanted=pairs or marks is not None)
    sentence_head, texts, notes = _sentences(folder, task_module, config, truncate_dim, allow_pickle=allow_pickle)
    return Checkpoint(
        path=path,
        root=directory,
        family=family,
        task=found_task,
        config=config,
        labels=labels,
        max_tokens=_positions(config) - family.first_position(config),
        sentence_head=sentence_head,
        weights=weights.files,
        licence=licence_of(directory),
        adapter=weights.adapter,
        quantization=quantization,
        notes=(
            *found.notes,
            *weights.notes,
            *notes,
            *_unread(path),
            *(label_notes(config) if labels else ()),
            *(marks.notes_for(found_task, len(scores), config.get("problem_type")) if marks else ()),
            *inputs.notes,
            *_quantized(quantization),
        ),
        texts=texts,
        takes_pairs=inputs.takes_pairs,
        reads_contexts=reads_contexts(task_module),
        has_token_types=inputs.has_token_types,
        activation=marks.activation_of(len(scores)) if marks else None,
    )


def _unread(directory: Path) -> tuple[str, ...]:
    """Return a note on GGUF files beside the weights that are read."""
    beside = gguf_files(directory)
    if not beside:
        return ()
    return (f"The folder also has GGUF files ({named(beside)}), which were not read: name one to export it.",)


def _quantized(quantization: Quantization | None) -> tuple[str, ...]:
    if quantization is None:
        return ()
    note = (
        f"The checkpoint is quantized already ({quantization.words}): its weights were dequantized to float32, and the "
        "reference is what they then compute, with activations in float32."
    )
    return (note,)


def _sentences(
    folder: SentenceFolder | None,
    task: Task,
    config: Mapping[str, Any],
    truncate_dim: int | None,
    *,
    allow_pickle: bool,
) -> tuple[SentenceHead | None, TextSettings, tuple[str, ...]]:
    """Return what a folder of sentence-transformers says of embeddings, of texts, and notes on it.

    Raises:
        UsageError: some of it is not supported, or embeddings are to be cut where there are none.
    """
    if folder is not None and task.POOLS:
        head, notes = folder.head(config, truncate_dim=truncate_dim, allow_pickle=allow_pickle)
        return head, folder.texts(includes_prompt=head.includes_prompt), notes
    _check_no_truncation(truncate_dim)
    if folder is not None and folder.is_cross_encoder:
        check_scores_pairs(folder)
        return None, folder.texts(), folder.notes()
    return None, TextSettings(), ()


def _check_no_truncation(truncate_dim: int | None) -> None:
    if truncate_dim is not None:
        raise UsageError(
            f"Embeddings were to be cut to {truncate_dim} numbers; the checkpoint gives no sentence embeddings.",
            "Leave --truncate-dim out, or export a sentence-transformers model.",
        )


def _described_gguf(file: Path, task: str, *, pairs: bool) -> Checkpoint:
    from fastserve_converters.checkpoints.gguf.description import read_gguf_description

    found = read_gguf_description(file)
    family = family_of(str(found.config["model_type"]))
    name = find_task(found.config, family, (), task).name
    read_pair_inputs(file.parent, family, found.config, _task_for(name, family), (), wanted=pairs)
    return Checkpoint(
        path=file.parent,
        root=file.parent,
        family=family,
        task=name,
        config=found.config,
        labels=(),
        max_tokens=_positions(found.config),
        sentence_head=None,
        weights=tuple(part.name for part in parts_of(file)),
        licence=found.licence or licence_of(file.parent),
        gguf=file,
        gguf_generation=found.generation,
        notes=found.notes,
    )


def _task_for(name: str, family: Family) -> Task:
    """Return a task, if models of the family do such things.

    Raises:
        UsageError: they do not.
    """
    task: Task = TASKS.load(name)
    if family.model != task.MODEL:
        does = "continue texts" if family.generates else "encode texts"
        raise UsageError(
            f"Models of the {family.name} family {does}; they are not exported for {name}.",
            "Leave --task out, or export another model.",
        )
    return task


def _positions(config: Mapping[str, Any]) -> int:
    return int(config.get("max_position_embeddings") or config.get("n_positions") or 512)


def _check_directory(directory: Path) -> None:
    if not directory.exists():
        raise UsageError(
            f"There is no model at '{directory}'.",
            "Check the path; a model on the Hugging Face Hub is named as hf:organisation/name.",
        )
    if not directory.is_dir():
        raise UsageError(f"'{directory}' is a file.", "Name the checkpoint's directory, which has config.json in it.")
    if not (directory / "config.json").is_file() and not (directory / "modules.json").is_file():
        refuse_adapter_alone(directory)
        raise UsageError(
            f"'{directory}' is not a checkpoint: it has no config.json.",
            "Name a directory that save_pretrained() of Transformers or sentence-transformers has written.",
        )
