"""The model of a GGUF file as one of Transformers, dequantized to fp32.

Transformers reads GGUF files itself, in half a minute for what takes three seconds here, without Llama 3's factors of
positions, and with its own defaults for what a file says of head widths and contexts.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastserve_converters.checkpoints.gguf.configs import config_of
from fastserve_converters.checkpoints.gguf.header import GgufHeader, missing_package, read_header
from fastserve_converters.checkpoints.gguf.tensors import parameter, reals
from fastserve_converters.checkpoints.gguf.vocabulary import ARRAYS
from fastserve_runtime.errors import UsageError

if TYPE_CHECKING:
    import torch

_FACTORS = "rope_freqs.weight"
_NOT_PARAMETERS = (_FACTORS, ".attn_rot_embd")


def load_gguf_model(file: Path) -> Any:
    """Return the causal language model of a file: fp32, in eval mode, with eager attention.

    Raises:
        UsageError: the file is damaged, or has a model that is not supported.
        EnvironmentFailure: it cannot be read, or the gguf package is missing.
    """
    import torch
    import transformers

    header = read_header(file, arrays=ARRAYS)
    config = config_of(header)
    settings = transformers.AutoConfig.for_model(**config)
    with torch.device("meta"):
        empty = transformers.AutoModelForCausalLM.from_config(settings)
    state = _state(header, config, {name: tuple(p.shape) for name, p in empty.named_parameters()})
    model = type(empty).from_pretrained(
        None, config=settings, state_dict=state, dtype=torch.float32, attn_implementation="eager"
    )
    _stretch_positions(model, header)
    return model.eval()


def _state(header: GgufHeader, config: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Return the parameters by Transformers' names.

    Raises:
        UsageError: the file lacks one or has it in another shape, has one more, or one is not finite.
    """
    import torch

    stored = dict(header.tensors)
    state = {}
    for name, gguf_name in _stored_names(header, config, shapes).items():
        tensor = stored.pop(gguf_name, None)
        if tensor is None:
            raise UsageError(f"The GGUF file '{header.path.name}' lacks the tensor '{gguf_name}'.")
        values = parameter(tensor, config)
        if values.shape != shapes[name]:
            raise UsageError(
                f"The tensor '{gguf_name}' has the shape {list(values.shape)}; {list(shapes[name])} is wanted.",
                "Download the file again.",
            )
        if not np.isfinite(values).all():
            raise UsageError(f"The tensor '{gguf_name}' has values that are not finite.", "Download the file again.")
        state[name] = torch.from_numpy(values)
    unknown = sorted(name for name in stored if not name.endswith(_NOT_PARAMETERS))
    if unknown:
        raise UsageError(
            f"The GGUF file '{header.path.name}' has the tensor '{unknown[0]}', which the model would not use.",
            "Only models as their authors' architectures have them are supported.",
        )
    return state


def _stored_names(header: GgufHeader, config: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> dict[str, str]:
    """Return the GGUF name of each parameter."""
    try:
        from gguf import MODEL_ARCH_NAMES, get_tensor_name_map
    except ImportError as error:
        raise missing_package() from error
    architectures = {name: kind for kind, name in MODEL_ARCH_NAMES.items()}
    names = get_tensor_name_map(
        architectures[str(header.metadata["general.architecture"])], config["num_hidden_layers"]
    )
    found = {}
    for name in shapes:
        base, _, kind = name.rpartition(".")
        found[name] = f"{names.get_name(base)}.{kind}"
    return found


def _stretch_positions(model: Any, header: GgufHeader) -> None:
    """Divide the frequencies of positions by the file's factors, as Llama 3.1 and later have them.

    Raises:
        UsageError: they are not as many as there are frequencies.
    """
    import torch

    tensor = header.tensors.get(_FACTORS)
    if tensor is None:
        return
    factors = torch.from_numpy(reals(tensor).reshape(-1))
    rotary = getattr(model.base_model, "rotary_emb", None)
    if rotary is None or rotary.inv_freq.shape != factors.shape or not bool((factors > 0).all()):
        raise UsageError(f"The tensor '{_FACTORS}' does not fit the model's positions.", "Download the file again.")
    rotary.inv_freq = rotary.inv_freq / factors
