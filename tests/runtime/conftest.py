"""Settings and small real models for the runtime's tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# No deadlines, since other work may go on; the same examples in every run, kept nowhere.
settings.register_profile(
    "repeatable", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")

WEIGHTS = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
BIAS = np.array([0.5, -0.5, 2], np.float32)


def onnx_scores() -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["features", "weights", "bias"], ["linear"], transB=1),
            helper.make_node("ReduceSum", ["ids"], ["sum"], keepdims=0),
            helper.make_node("Cast", ["sum"], ["shift"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["linear", "shift"], ["scores"]),
            helper.make_node("Add", ["features", "features"], ["doubled"]),
        ],
        "scores",
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, 4]),
            helper.make_tensor_value_info("ids", TensorProto.INT32, [1, 2]),
        ],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3]),
            helper.make_tensor_value_info("doubled", TensorProto.FLOAT, [1, 4]),
        ],
        [numpy_helper.from_array(WEIGHTS, "weights"), numpy_helper.from_array(BIAS, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


def export_with_torch(folder: Path) -> None:
    """Export two entry points, `score` and `twice`, to TFLite and ExecuTorch."""
    import litert_torch
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    class Score(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(4, 3)
            self.linear.weight.data = torch.from_numpy(WEIGHTS)
            self.linear.bias.data = torch.from_numpy(BIAS)

        def forward(self, features: torch.Tensor, ids: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"scores": self.linear(features) + ids.sum(), "doubled": features * 2}

    class Twice(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"y": torch.cat([x, x], -1)}

    score, twice = Score().eval(), Twice().eval()
    samples = {"features": torch.ones(1, 4), "ids": torch.ones(1, 2, dtype=torch.int32)}
    one = {"x": torch.ones(2, 2)}
    signatures = litert_torch.signature("score", score, sample_kwargs=samples)
    signatures.signature("twice", twice, sample_kwargs=one).convert().export(str(folder / "model.tflite"))
    programs = {"score": torch.export.export(score, (), samples), "twice": torch.export.export(twice, (), one)}
    program = to_edge_transform_and_lower(programs, partitioner=[XnnpackPartitioner()]).to_executorch()
    (folder / "model.pte").write_bytes(program.buffer)

    class Counter(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("total", torch.zeros(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.total.add_(x)
            return self.total + 0

    counter = to_edge_transform_and_lower(torch.export.export(Counter().eval(), (torch.ones(2),))).to_executorch()
    (folder / "counter.pte").write_bytes(counter.buffer)


@pytest.fixture(scope="session")
def score_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the same small model as `model.onnx`, `model.tflite` and `model.pte`. Do not write into it.

    `counter.pte` beside them keeps a state: it adds its input to a sum of all inputs and returns the sum.
    """
    folder = tmp_path_factory.mktemp("score-models")
    (folder / "model.onnx").write_bytes(onnx_scores())
    export_with_torch(folder)
    return folder


@pytest.fixture(scope="session")
def scores():
    """What that model computes."""

    def scores(features: np.ndarray, ids: np.ndarray) -> dict[str, np.ndarray]:
        return {"scores": features @ WEIGHTS.T + BIAS + ids.sum(), "doubled": features * 2}

    return scores


DECODER_CONTEXT = 64


@pytest.fixture(scope="session")
def decoder_form():
    """A Llama-class decoder of 256 tokens; its scores are spread, so that no two are near each other."""
    import torch

    from fastserve_converters.models.decoder.reading import read_decoder
    from random_decoders import CONFIGS, random_decoder

    form = read_decoder(random_decoder(CONFIGS["llama"]()), DECODER_CONTEXT)
    with torch.no_grad():
        form.head.weight *= 20
    return form


@pytest.fixture(scope="session")
def decoder_file(decoder_form, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as ONNX. Do not write into its folder."""
    import onnx_ir as ir

    from fastserve_converters.formats.onnx.decoder_graph import write_graph

    file = tmp_path_factory.mktemp("decoder") / "model.onnx"
    ir.save(write_graph(decoder_form), file)
    return file


@pytest.fixture(scope="session")
def expected(decoder_form):
    """Scores of the token behind a list of tokens, computed from the first token on."""

    import torch

    from fastserve_converters.models.decoder.form import whole_logits

    def scores(tokens) -> np.ndarray:
        with torch.no_grad():
            return whole_logits(decoder_form, torch.tensor([list(tokens)]))[-1].numpy()

    return scores


@pytest.fixture(scope="session")
def greedy(expected):
    """The likeliest continuation of a list of tokens, computed from the first token on each time."""

    def continuation(tokens, count: int) -> list[int]:
        tokens = list(tokens)
        start = len(tokens)
        for _ in range(count):
            tokens.append(int(expected(tokens).argmax()))
        return tokens[start:]

    return continuation


@pytest.fixture(scope="session")
def byte_tokenizer():
    """A tokenizer with a token for each byte, numbered as the alphabet of bytes is sorted."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@pytest.fixture
def generation_bundle(decoder_file: Path, tmp_path: Path):
    """Make a bundle of that decoder with these settings for prompts, and return its place."""
    from generation_bundles import write_generation_bundle

    def make(name: str = "tiny.fsb", **settings) -> Path:
        return write_generation_bundle(tmp_path / name, decoder_file, **settings)

    return make
