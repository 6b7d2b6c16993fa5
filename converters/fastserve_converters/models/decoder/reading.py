"""Reading a causal language model of Transformers into the common form, by what its modules are and do.

Rules look at modules by the names that families share (`q_proj` or `c_attn`, `gate_proj` or `c_fc`, ...). What a name
does not tell is found by trying: whether a norm adds one to its weights, what its epsilon is, what an embedding is
multiplied with. The result counts only once it is proven equal to the original.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch

from fastserve_converters.models.decoder.form import (
    Activation,
    Attention,
    AttentionSettings,
    Block,
    DecoderForm,
    FeedForward,
    GatedFeedForward,
    RmsNorm,
)
from fastserve_runtime.errors import UsageError

_SIMPLE = 1e-5


@torch.no_grad()
def read_decoder(model: Any, context: int) -> DecoderForm:
    """Return the model in the common form, which shares its weights where it can.

    Args:
        model: a causal language model of Transformers in eval mode, fp32.
        context: so many tokens will be seen at most.

    Raises:
        UsageError: a part of it follows no known rule.
    """
    config = model.config.get_text_config()
    base = model.base_model
    blocks = _blocks(base)
    embedding = model.get_input_embeddings()
    head = model.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear):
        raise UsageError("The model has no head that scores tokens.", "Export a model for text generation.")
    tables = _RotaryTables(base, config, context)
    read = [_read_block(block, config, tables) for block in blocks]
    table, scale = _read_embedding(embedding)
    return DecoderForm(
        table,
        _learned_positions(base, context),
        read,
        _read_norm(_final_norm(base, blocks)),
        head,
        tables.found,
        context=context,
        embedding_scale=scale,
        softcap=getattr(config, "final_logit_softcapping", None),
    )


def _blocks(base: torch.nn.Module) -> torch.nn.ModuleList:
    found = [m for m in base.children() if isinstance(m, torch.nn.ModuleList) and len(m) and _attention_of(m[0])]
    if len(found) != 1:
        raise UsageError(
            f"'{type(base).__name__}' has {len(found)} lists of layers with attention; one is wanted.",
            "Models with an encoder, or of other kinds, are not supported for text generation.",
        )
    return found[0]


def _attention_of(block: torch.nn.Module) -> torch.nn.Module | None:
    return next((m for m in block.children() if type(m).__name__.endswith("Attention")), None)


def _read_block(block: Any, config: Any, tables: _RotaryTables) -> Block:
    attention = _attention_of(block)
    feed_forward = getattr(block, "mlp", None)
    if attention is None or feed_forward is None:
        raise UsageError(
            f"A layer '{type(block).__name__}' has no attention or no 'mlp'.",
            "Llama-, Qwen-, Gemma- and GPT-2-class layers are supported.",
        )
    norms = {name: _read_norm(m) for name, m in block.named_children() if "norm" in name or name.startswith("ln_")}
    # Where a norm stands before the feed-forward layers by name, the one "after attention" is just that (Gemma 2).
    is_sandwich = "pre_feedforward_layernorm" in norms
    before, middle = ("ln_1", "ln_2") if "ln_1" in norms else ("input_layernorm", "post_attention_layernorm")
    wanted = {before, middle} | ({"pre_feedforward_layernorm", "post_feedforward_layernorm"} if is_sandwich else set())
    if set(norms) != wanted:
        raise UsageError(
            f"A layer '{type(block).__name__}' has the norms {', '.join(sorted(norms))}, which follow no known order.",
            f"Known are {', '.join(sorted(wanted))}.",
        )
    return Block(
        norms[before],
        _read_attention(attention, config, tables),
        norms[middle] if is_sandwich else None,
        norms["pre_feedforward_layernorm"] if is_sandwich else norms[middle],
        _read_feed_forward(feed_forward),
        norms["post_feedforward_layernorm"] if is_sandwich else None,
    )


def _read_attention(attention: Any, config: Any, tables: _RotaryTables) -> Attention:
    head_dim = getattr(attention, "head_dim", None)
    if head_dim is None or not any(hasattr(attention, name) for name in ("c_attn", "q_proj", "qkv_proj")):
        raise UsageError(
            f"The attention '{type(attention).__name__}' follows no known rule.",
            "Known are q_proj, k_proj and v_proj, or qkv_proj, with o_proj, or c_attn and c_proj.",
        )
    if hasattr(attention, "c_attn"):
        qkv, output = _linear(attention.c_attn), _linear(attention.c_proj)
        heads = key_value_heads = int(attention.num_heads)
    elif hasattr(attention, "qkv_proj"):
        qkv, output = _linear(attention.qkv_proj), _linear(attention.o_proj)
        heads = output.in_features // head_dim
        key_value_heads = (qkv.out_features // head_dim - heads) // 2
    else:
        parts = [_linear(getattr(attention, name)) for name in ("q_proj", "k_proj", "v_proj")]
        heads, key_value_heads = (part.out_features // head_dim for part in parts[:2])
        qkv, output = _joined(parts), _linear(attention.o_proj)
    norms = [getattr(attention, name, None) for name in ("q_norm", "k_norm")]
    for norm in norms:
        if norm is not None and norm.weight.shape != (head_dim,):
            raise UsageError(
                f"'{type(attention).__name__}' norms its queries over all heads at once, which is not supported."
            )
    settings = AttentionSettings(
        heads=heads,
        key_value_heads=key_value_heads,
        head_dim=head_dim,
        scale=float(attention.scaling),
        softcap=getattr(attention, "attn_logit_softcapping", None),
        window=_window(attention, config),
        rotary=tables.index_for(attention),
    )
    query_norm, key_norm = (None if norm is None else _read_norm(norm) for norm in norms)
    return Attention(settings, qkv, output, query_norm, key_norm)


def _window(attention: Any, config: Any) -> int | None:
    """Return how many tokens a layer sees: its own number where layers differ (or none), else the model's."""
    if hasattr(attention, "sliding_window"):
        return attention.sliding_window  # type: ignore[no-any-return]
    return None if getattr(config, "layer_types", None) else getattr(config, "sliding_window", None)


def _read_feed_forward(module: Any) -> torch.nn.Module:
    activation = _activation(module)
    if all(hasattr(module, name) for name in ("gate_proj", "up_proj", "down_proj")):
        gate, up, down = (_linear(getattr(module, name)) for name in ("gate_proj", "up_proj", "down_proj"))
        return GatedFeedForward(gate, up, down, activation)
    if all(hasattr(module, name) for name in ("gate_up_proj", "down_proj")):
        gate, up = _halves(_linear(module.gate_up_proj))
        return GatedFeedForward(gate, up, _linear(module.down_proj), activation)
    if all(hasattr(module, name) for name in ("c_fc", "c_proj")):
        return FeedForward(_linear(module.c_fc), _linear(module.c_proj), activation)
    raise UsageError(
        f"The feed-forward layers '{type(module).__name__}' follow no known rule.",
        "Known are gate_proj and up_proj, or gate_up_proj, with down_proj, or c_fc and c_proj.",
    )


def _activation(module: Any) -> Activation:
    """Return the plain function that the module's activation computes, found by trying."""
    given = next((getattr(module, name) for name in ("act_fn", "act", "activation_fn") if hasattr(module, name)), None)
    if given is None:
        raise UsageError(f"The feed-forward layers '{type(module).__name__}' have no activation.")
    known: tuple[Activation, ...] = (
        torch.nn.functional.silu,
        gelu_of_tanh,
        torch.nn.functional.gelu,
        torch.nn.functional.relu,
    )
    x = torch.linspace(-6, 6, 1001)
    for function in known:
        if torch.allclose(given(x), function(x), atol=1e-6):
            return function
    raise UsageError(
        f"The activation '{type(given).__name__}' is not supported.", "Known are SiLU, GELU, GELU by tanh, and ReLU."
    )


def gelu_of_tanh(x: torch.Tensor) -> torch.Tensor:
    """GELU in the approximation by tanh (arXiv 1606.08415)."""
    return torch.nn.functional.gelu(x, approximate="tanh")


def _linear(module: Any) -> torch.nn.Linear:
    """Return a linear layer as one of PyTorch; Transformers' `Conv1D` has its weight the other way round."""
    if isinstance(module, torch.nn.Linear):
        return module
    if type(module).__name__ == "Conv1D":
        return _made(module.weight.detach().t().contiguous(), module.bias)
    raise UsageError(f"The layer '{type(module).__name__}' is not a linear layer.")


def _joined(parts: list[torch.nn.Linear]) -> torch.nn.Linear:
    biases = [part.bias for part in parts]
    known = [b for b in biases if b is not None]
    if known and len(known) < len(parts):
        biases = [torch.zeros(p.out_features) if p.bias is None else p.bias for p in parts]
    weight = torch.cat([part.weight.detach() for part in parts])
    return _made(weight, torch.cat([b.detach() for b in biases]) if known else None)


def _halves(layer: torch.nn.Linear) -> list[torch.nn.Linear]:
    """Return a layer as two, each with half of its outputs."""
    biases = [None, None] if layer.bias is None else layer.bias.detach().chunk(2)
    weights = layer.weight.detach().chunk(2)
    return [_made(weight, bias) for weight, bias in zip(weights, biases, strict=True)]


def _made(weight: torch.Tensor, bias: torch.Tensor | None) -> torch.nn.Linear:
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = torch.nn.Parameter(bias.detach(), requires_grad=False)
    return layer


def _read_norm(module: Any) -> torch.nn.Module:
    """Return a norm of the common form. Whether its weights are offset by one is found by trying."""
    if isinstance(module, torch.nn.LayerNorm):
        return module
    weight = getattr(module, "weight", None)
    epsilon = next((getattr(module, n) for n in ("variance_epsilon", "eps") if hasattr(module, n)), None)
    if weight is not None and epsilon is not None:
        x = torch.randn(4, weight.shape[0], generator=torch.Generator().manual_seed(0))
        expected = module(x)
        for offset in (0.0, 1.0):
            candidate = RmsNorm(weight.detach() + offset, float(epsilon))
            if torch.allclose(candidate(x), expected, rtol=_SIMPLE, atol=_SIMPLE):
                return candidate
    raise UsageError(f"The norm '{type(module).__name__}' is neither LayerNorm nor RMSNorm.")


def _final_norm(base: Any, blocks: torch.nn.ModuleList) -> torch.nn.Module:
    found: list[torch.nn.Module]
    found = [m for n, m in base.named_children() if m is not blocks and ("norm" in n or n.startswith("ln_"))]
    if len(found) != 1:
        raise UsageError(f"'{type(base).__name__}' has {len(found)} norms behind its layers; one is wanted.")
    return found[0]


def _read_embedding(module: Any) -> tuple[torch.nn.Embedding, float]:
    """Return the table, and by what the module multiplies its rows."""
    count, width = module.weight.shape
    table = torch.nn.Embedding(count, width, device="meta")
    table.weight = module.weight  # the same one, which the head may share
    ids = torch.arange(min(64, module.weight.shape[0]))
    plain, given = table(ids), module(ids)
    largest = int(plain.abs().argmax())
    scale = float(given.flatten()[largest] / plain.flatten()[largest])
    if not torch.allclose(given, plain * scale, rtol=_SIMPLE, atol=_SIMPLE):
        raise UsageError(f"The embedding '{type(module).__name__}' does more than to look up and scale.")
    return table, 1.0 if abs(scale - 1) < _SIMPLE else scale


def _learned_positions(base: Any, context: int) -> torch.nn.Embedding | None:
    module = getattr(base, "wpe", None)
    if module is None:
        return None
    return torch.nn.Embedding(context, module.weight.shape[1], _weight=module.weight[:context].detach())


class _RotaryTables:
    """Cosines and sines of all positions, as the model's own rotary module gives them; once for each kind of layer."""

    def __init__(self, base: Any, config: Any, context: int) -> None:
        self.found: list[tuple[torch.Tensor, torch.Tensor]] = []
        module = getattr(base, "rotary_emb", None)
        self._of_kind: dict[str | None, int] = {}
        if module is None:
            return
        positions = torch.arange(context)[None]
        by_kind = "layer_type" in inspect.signature(module.forward).parameters
        kinds: Iterator[Any] = iter(sorted(set(config.layer_types))) if by_kind else iter((None,))
        for kind in kinds:
            more = {} if kind is None else {"layer_type": kind}
            cosine, sine = (t[0].float() for t in module(torch.zeros(1), positions, **more))
            half = cosine.shape[-1] // 2
            if not torch.equal(cosine[:, :half], cosine[:, half:]):
                raise UsageError("The model's rotary embedding pairs dimensions in another way than by halves.")
            self._of_kind[kind] = len(self.found)
            self.found.append((cosine[:, :half].contiguous(), sine[:, :half].contiguous()))

    def index_for(self, attention: Any) -> int | None:
        """Return which tables an attention layer uses, or None."""
        if not self.found:
            return None
        return self._of_kind[None] if None in self._of_kind else self._of_kind[attention.layer_type]
