"""Pass `drop-layers`: fewer layers, evenly spaced among those that there are; nothing else changes.

What is lost is not made good here: a model that is to keep its quality is trained again afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.passes import PassJob, PassReport
from fastserve_runtime.errors import EnvironmentFailure, UsageError

if TYPE_CHECKING:
    import torch

TOOLS: tuple[str, ...] = ()
READS_SAMPLES = False
_COUNT = "num_hidden_layers"
_NAMES = (_COUNT, "n_layers", "n_layer")
"""What configs of the supported families call the number of layers; the first is Transformers' own for all of them."""


@dataclass(frozen=True)
class DropLayers:
    """Keeps some layers.

    Attributes:
        keep: how many; the first and the last are among them, where there are two.
    """

    keep: int

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise UsageError(f"The pass 'drop-layers' was to keep {self.keep} layers.", "Keep at least 1.")

    def check(self, checkpoint: Checkpoint) -> None:
        """Refuse models with too few layers, or whose layers cannot be removed; see `Pass.check`."""
        if "num_hidden_groups" in checkpoint.config:
            raise UsageError(
                f"The pass 'drop-layers' was asked for, and the layers of {checkpoint.family.name} models share their "
                "weights: removing one makes nothing smaller.",
                "Leave the pass out.",
            )
        if checkpoint.sentence_head is not None and checkpoint.sentence_head.needs_all_layers:
            raise UsageError(
                "The pass 'drop-layers' was asked for, and the model's sentence embeddings are made of all layers by "
                "weights of their own.",
                "Leave the pass out.",
            )
        count = next((int(checkpoint.config[name]) for name in _NAMES if name in checkpoint.config), None)
        if count is not None and count < self.keep:
            raise UsageError(
                f"The pass 'drop-layers' was to keep {self.keep} layers, and the model has {count}.",
                f"Write drop-layers:keep=N with N below {count}.",
            )

    def apply(self, job: PassJob) -> PassReport:
        """Load the model, take layers out, and write it; see `Pass.apply`."""
        from fastserve_converters.checkpoints.model_loading import load_model
        from fastserve_converters.checkpoints.writing import write_checkpoint

        model = load_model(job.checkpoint)
        config: Any = model.config
        name, layers = _layers(model, int(getattr(config, _COUNT)))
        kept = evenly_spaced(len(layers), self.keep)
        model.set_submodule(name, type(layers)([layers[index] for index in kept]))
        write_checkpoint(job.out, job.checkpoint, model, {_COUNT: len(kept)})
        shown = ", ".join(str(index + 1) for index in kept)
        return PassReport(
            (f"drop-layers kept {len(kept)} of {len(layers)} layers: {shown}.",),
            {"layers": len(layers), "kept": kept},
        )


PASS = DropLayers


def evenly_spaced(count: int, kept: int) -> list[int]:
    """Return which of so many layers are kept, in order: the first, the last, and others at equal distances."""
    if kept == 1:
        return [0]
    return [round(index * (count - 1) / (kept - 1)) for index in range(kept)]


def _layers(model: torch.nn.Module, count: int) -> tuple[str, torch.nn.ModuleList]:
    """Return where the model's layers are, and the layers.

    Raises:
        EnvironmentFailure: there is no list of so many.
    """
    from torch.nn import ModuleList

    found = [(n, m) for n, m in model.named_modules() if isinstance(m, ModuleList) and len(m) == count]
    if not found:
        raise EnvironmentFailure(
            f"The pass 'drop-layers' finds no list of {count} layers in a {type(model).__name__}.",
            "Leave the pass out.",
        )
    return found[0]
