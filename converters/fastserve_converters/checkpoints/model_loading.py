"""Loading a checkpoint into PyTorch, with nothing missing, nothing invented, nothing left out and nothing executed."""

from __future__ import annotations

import pickle
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_converters.checkpoints import adapters
from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.config_checks import keys_read_by, unknown_keys_note
from fastserve_converters.checkpoints.loaded_weights import check_complete, check_finite, check_number_types
from fastserve_converters.checkpoints.quantized.description import KEYS, Quantization
from fastserve_converters.checkpoints.stored_tensors import stored_types
from fastserve_converters.checkpoints.task import TASKS, Task
from fastserve_converters.checkpoints.weight_coverage import check_used
from fastserve_runtime.errors import UsageError, one_line

if TYPE_CHECKING:
    import torch


_HEAD, _TURNED_SHARE = "head_dim", "partial_rotary_factor"


@dataclass(frozen=True)
class LoadedModel:
    """A model, in fp32 and eval mode, and what the user should know of how it was loaded, in sentences."""

    model: torch.nn.Module
    notes: tuple[str, ...] = ()


def load_model(checkpoint: Checkpoint, *, trust_remote_code: bool = False) -> torch.nn.Module:
    """Load the model in fp32 and eval mode; see `load_with_notes`."""
    return load_with_notes(checkpoint, trust_remote_code=trust_remote_code).model


def load_with_notes(checkpoint: Checkpoint, *, trust_remote_code: bool = False) -> LoadedModel:
    """Load the model, an adapter beside it merged.

    Raises:
        UsageError: weights are missing, left over, of another shape, not finite, or unreadable.
    """
    if checkpoint.gguf is not None:
        from fastserve_converters.checkpoints.gguf.model import load_gguf_model

        return LoadedModel(load_gguf_model(checkpoint.gguf))
    task: Task = TASKS.load(checkpoint.task)
    types = stored_types([checkpoint.path / name for name in checkpoint.weights])
    with _without_adapter(checkpoint) as folder:
        model, report = _from_pretrained(checkpoint, folder, task, trust_remote_code=trust_remote_code)
    check_complete(task, report, {} if checkpoint.adapter is None else checkpoint.adapter.tensors())
    if checkpoint.quantization is None:
        check_number_types(types, report["unexpected_keys"])
    check_used(
        report["unexpected_keys"],
        generates=checkpoint.family.generates,
        drops_heads=task.IN_ANY_MODEL,
        unused=task.UNUSED,
    )
    notes = [_config_note(checkpoint, model)]
    if checkpoint.adapter is not None:
        model = adapters.merge_adapter(model, checkpoint.adapter)
        notes.append(_adapter_note(checkpoint.adapter))
    model.eval()
    check_finite(model, task.UNUSED)
    return LoadedModel(model, tuple(note for note in notes if note))


def _from_pretrained(checkpoint: Checkpoint, folder: Path, task: Task, *, trust_remote_code: bool) -> tuple[Any, Any]:
    import transformers
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    auto = getattr(transformers, task.AUTO_CLASS)
    origin: dict[str, Any] = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    # A config may ask for results in another form than is read here.
    results = {"return_dict": True, "output_attentions": False, "output_hidden_states": False}
    options: dict[str, Any] = {
        "dtype": "float32",
        "attn_implementation": "eager",
        "use_safetensors": all(w.endswith(".safetensors") for w in checkpoint.weights),
        "weights_only": True,
        "output_loading_info": True,
        # Which weight it is, is in the report, and not in the error.
        "ignore_mismatched_sizes": True,
    }
    try:
        # Read apart: an attention that the config asks for would be tried before the one that is asked for here.
        config = transformers.AutoConfig.from_pretrained(str(folder), **origin, **results)
        if checkpoint.quantization is not None:
            return _dequantized(checkpoint.quantization, checkpoint, auto, config, options)
        model, report = auto.from_pretrained(str(folder), config=config, **origin, **options)
    except KeyError as error:
        raise UsageError(
            f"The checkpoint's config names {error}, which Transformers does not know.",
            "Check config.json; a newer Transformers may know it.",
        ) from error
    except StrictDataclassError as error:
        raise UsageError(
            f"The checkpoint's config.json is not as Transformers wants it: {one_line(error):.300}.", "Correct it."
        ) from error
    except (
        OSError,
        ValueError,
        TypeError,
        RuntimeError,
        AttributeError,
        ImportError,
        # What a number of the config does that does not fit the others.
        ArithmeticError,
        AssertionError,
        IndexError,
        SafetensorError,
        pickle.UnpicklingError,
    ) as error:
        raise UsageError(f"The checkpoint cannot be loaded: {_first_line(error):.300}") from error
    return model, report


def _dequantized(
    quantization: Quantization, checkpoint: Checkpoint, auto: Any, config: Any, options: dict[str, Any]
) -> tuple[Any, Any]:
    """Load a checkpoint that is quantized, its weights as floats.

    Transformers would ask for the library that quantized it, and often for a GPU.

    Raises:
        UsageError: a layer cannot be read.
    """
    import torch
    import transformers

    from fastserve_converters.checkpoints.quantized.weights import dequantized_state, stored_layers

    for key in KEYS:
        if hasattr(config, key):
            delattr(config, key)
    with torch.device("meta"):
        empty = auto.from_config(config)
    layers = stored_layers(quantization, checkpoint.path, checkpoint.weights)
    state = dequantized_state(layers, empty)
    model, report = type(empty).from_pretrained(None, config=config, state_dict=state, **options)
    # Without its folder, it has not seen how it is to generate.
    if (checkpoint.path / transformers.utils.GENERATION_CONFIG_NAME).is_file() and hasattr(model, "generation_config"):
        model.generation_config = transformers.GenerationConfig.from_pretrained(
            str(checkpoint.path), local_files_only=True
        )
    return model, report


@contextmanager
def _without_adapter(checkpoint: Checkpoint) -> Iterator[Path]:
    """Give the checkpoint's folder; a view of it without its adapter where it has one.

    Where PEFT is installed, Transformers puts an adapter that it sees around the model, unmerged.
    """
    if checkpoint.adapter is None:
        yield checkpoint.path
        return
    with tempfile.TemporaryDirectory() as view:
        for file in checkpoint.path.iterdir():
            if file.name not in (adapters.CONFIG, *adapters.WEIGHTS):
                (Path(view) / file.name).symlink_to(file.absolute())
        yield Path(view)


def _config_note(checkpoint: Checkpoint, model: Any) -> str:
    kind = type(model.config)
    if not kind.__module__.startswith("transformers."):
        return ""  # code of the checkpoint's own reads its keys as it likes
    known = keys_read_by(kind) | frozenset(_followed(model))
    return unknown_keys_note(checkpoint.config, known, kind.__name__, generates=checkpoint.family.generates)


def _followed(model: Any) -> Iterator[str]:
    """Give the keys that no config class declares and that some models read all the same, as their modules show."""
    config = model.config
    head_dim = getattr(config, _HEAD, None)
    if head_dim is not None and any(getattr(module, _HEAD, None) == head_dim for module in model.modules()):
        yield _HEAD
    frequencies = getattr(getattr(model.base_model, "rotary_emb", None), "inv_freq", None)
    share = (getattr(config, "rope_parameters", None) or {}).get(_TURNED_SHARE)
    if frequencies is not None and share is not None:
        turned = int((head_dim or config.hidden_size // config.num_attention_heads) * share)
        if len(frequencies) == len(range(0, turned, 2)):
            yield _TURNED_SHARE


def _adapter_note(adapter: adapters.Adapter) -> str:
    base = f", trained on '{adapter.base}'," if adapter.base else ""
    return f"The adapter beside the weights ({adapter.kind}{base} '{adapter.weights}') was merged into them."


def _first_line(error: BaseException) -> str:
    # PyTorch colours some of its messages.
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__
