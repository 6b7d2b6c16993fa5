"""What pipelines check a manifest with: whether its models do what their task says. It needs no numpy."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fastserve_runtime.bundle.axes import BATCH, TOKENS
from fastserve_runtime.bundle.manifest import Manifest
from fastserve_runtime.bundle.raw_inputs import OF_TEXTS, POOLING_MASK, PROMPTS, TOKEN_TYPES
from fastserve_runtime.bundle.tensor_specs import TensorSpec, bounds, describe_dims
from fastserve_runtime.errors import BundleError

_MASK = "attention_mask"
_INPUTS = {"input_ids": "int32", _MASK: "float32", TOKEN_TYPES: "int32", POOLING_MASK: "float32"}
_INPUTS_ALWAYS = {"input_ids", _MASK}
REMEDY = "Export the bundle again, or get it from where it was made."


def check_encoder(manifest: Manifest, outputs: Collection[str]) -> None:
    """Refuse a bundle of texts whose variants do not take what texts become, or do not give what its pipeline reads.

    Args:
        manifest: the bundle's.
        outputs: what the pipeline reads, of which a variant gives one at least.

    Raises:
        BundleError: naming what the model takes or gives instead.
    """
    if manifest.preprocessing.kind == PROMPTS:
        raise not_of_task(manifest, "its model continues prompts")
    for variant in manifest.variants:
        names = {t.name for graph in variant.graphs.values() for t in graph.signature.outputs}
        if not names & set(outputs):
            given = ", ".join(sorted(names)) or "nothing"
            raise not_of_task(manifest, f"variant '{variant.id}' gives {given:.200}, not {' or '.join(outputs)}")
        # What a chip's compiler makes may take its inputs in another form.
        if manifest.preprocessing.kind in OF_TEXTS and variant.target is None:
            for graph in variant.graphs.values():
                _check_text_inputs(f"variant '{variant.id}'", graph.signature.inputs)


def _check_text_inputs(what: str, inputs: Sequence[TensorSpec]) -> None:
    """Compare a graph's inputs with the tensors that texts become; see `TextPreprocessor`."""
    found = {tensor.name: tensor for tensor in inputs}
    given = ", ".join(found) or "nothing"
    if len(found) != len(inputs) or not _INPUTS_ALWAYS <= found.keys() <= _INPUTS.keys():
        raise BundleError(f"manifest.json has {what} take {given:.200}, which is not what texts become.", REMEDY)
    for name, tensor in found.items():
        is_by_token = tensor.axes == (BATCH, TOKENS)
        if tensor.dtype != _INPUTS[name] or not is_by_token or _bounds(tensor) != _bounds(found[_MASK]):
            stated = f"{tensor.dtype} {describe_dims(tensor.dims):.200}"
            raise BundleError(
                f"manifest.json gives the input '{name}' of {what} as {stated}; texts become {_INPUTS[name]} "
                "[samples, tokens].",
                REMEDY,
            )


def _bounds(tensor: TensorSpec) -> list[tuple[int, int]]:
    return [bounds(dim) for dim in tensor.dims]


def tensors_named(manifest: Manifest, name: str) -> list[TensorSpec]:
    """Return the outputs of that name of all variants."""
    graphs = [graph for variant in manifest.variants for graph in variant.graphs.values()]
    return [tensor for graph in graphs for tensor in graph.signature.outputs if tensor.name == name and tensor.dims]


def not_of_task(manifest: Manifest, reason: str) -> BundleError:
    """Return the error for a bundle whose model does not do what its task says."""
    return BundleError(f"The bundle is for the task '{manifest.task}', but {reason}.", REMEDY)
