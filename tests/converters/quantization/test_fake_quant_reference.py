"""An artifact is compared with the same quantized model elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from fastserve_converters.artifact import NOT_FINITE_DB
from fastserve_converters.models.samples import count
from fastserve_converters.models.stages import run
from fastserve_converters.precisions import WeightScheme
from fastserve_converters.quantization import fake_quant_reference
from fastserve_converters.quantization.fake_quant import fake_quantized
from fastserve_converters.quantization.layers import quantized_weights

INT4 = WeightScheme(4, 16)


def test_a_fake_quant_reference_agrees_with_itself_and_not_with_the_float_model(encoder, samples) -> None:
    part = encoder(sentence=True)
    model = part.module
    weights = quantized_weights(part, dict.fromkeys(part.layers, INT4))
    exact = run(part, samples)
    with fake_quantized(model, weights, "dynamic-int8"):
        own = run(part, samples)
    found = fake_quant_reference.comparison(own, own, "itself")
    assert found["sqnr_db"] is None
    assert found["executor"] == "itself"
    assert found["samples"] == count(own)
    spoilt = {name: values * np.nan for name, values in own.items()}
    assert fake_quant_reference.comparison(own, spoilt, "itself")["sqnr_db"] == NOT_FINITE_DB, "and not as if equal"
    against_float = fake_quant_reference.comparison(own, exact, "float")
    assert against_float["sqnr_db"] < 30
    assert against_float["min_cosine"] < 0.9999


def test_hidden_states_are_compared_without_their_padding(encoder, samples) -> None:
    part = encoder()
    model = part.module
    outputs = np.concatenate(
        [
            model(torch.from_numpy(i[None]), torch.from_numpy(m[None]))["last_hidden_state"].detach().numpy()
            for i, m in zip(samples["input_ids"], samples["attention_mask"], strict=True)
        ]
    )
    spoilt = outputs + 1e3 * (samples["attention_mask"] == 0)[..., None]
    actual = part.by_sample({"last_hidden_state": spoilt}, samples)
    ratio = fake_quant_reference.comparison(run(part, samples), actual, "PyTorch")["sqnr_db"]
    assert ratio is None or ratio > 80


def test_outputs_of_a_trusted_executor_lie_beside_the_artifact(encoder, samples, tmp_path: Path) -> None:
    part = encoder()
    model = part.module

    def executed(sample):
        with torch.no_grad():
            outputs = model(*(torch.from_numpy(value) for value in sample.values()))
        return {name: value.numpy() for name, value in outputs.items()}

    assert fake_quant_reference.read_outputs(tmp_path) is None
    fake_quant_reference.record_outputs(tmp_path, part, samples, executed, min_tokens=2, executor="PyTorch")
    outputs, executor = fake_quant_reference.read_outputs(tmp_path)
    assert executor == "PyTorch"
    few = {name: value[: fake_quant_reference.SAMPLES] for name, value in samples.items()}
    assert np.allclose(outputs["last_hidden_state"], run(part, few)["last_hidden_state"], atol=1e-5)
