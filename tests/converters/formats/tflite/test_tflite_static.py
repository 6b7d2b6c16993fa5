"""Static precisions: which layers get one scale for their whole output, how ranges are found, and their fake-quant
reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from fastserve_converters.formats import tflite
from fastserve_converters.formats.tflite.file import operators, read_model, type_name, write_model
from fastserve_converters.formats.tflite.ranges import Histogram, find_ranges, min_error_range, percentile_range
from fastserve_converters.formats.tflite.reference_kernels import reference_runner
from fastserve_converters.formats.tflite.static import MIN_RATIO, quantize_static, rounding_ratio
from fastserve_converters.models.samples import single_samples
from fastserve_converters.quantization import fake_quant_reference
from fastserve_runtime.conformance.metrics import sqnr_db


def outputs_of(path: Path, samples: dict[str, np.ndarray]) -> np.ndarray:
    run = Interpreter(model_path=str(path), num_threads=1).get_signature_runner()
    return np.concatenate([next(iter(run(**s).values())) for s in single_samples(samples, min_tokens=2)])


def histogram_of(values: np.ndarray) -> Histogram:
    low, high = float(values.min()), float(values.max())
    return Histogram(low, high, np.histogram(values, 4096, (low, high))[0])


def test_samples_are_cut_behind_their_last_token() -> None:
    mask = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 0]], np.float32)
    given = {"input_ids": np.arange(12).reshape(3, 4), "attention_mask": mask}
    cut = list(single_samples(given, min_tokens=2))
    assert [s["input_ids"].tolist() for s in cut] == [[[0, 1]], [[4, 5, 6]], [[8, 9]]]


def test_a_channel_far_larger_than_the_rest_spoils_one_scale_for_all() -> None:
    values = np.random.default_rng(0).normal(size=(500, 64)).astype(np.float32)
    even = rounding_ratio(values, 8)
    values[:, 3] *= 40
    assert rounding_ratio(values, 8) < MIN_RATIO < even
    assert rounding_ratio(values, 16) > MIN_RATIO
    # A uniform variable of width w has variance w²/12: 20 log10(255) dB.
    uniform = np.linspace(0, 1, 10_001, dtype=np.float32)[:, None]
    assert rounding_ratio(uniform, 8) == pytest.approx(20 * np.log10(255), abs=0.01)
    assert rounding_ratio(np.zeros((3, 3), np.float32), 8) == np.inf


def test_a_percentile_leaves_out_a_ten_thousandth_at_each_end() -> None:
    values = np.random.default_rng(0).normal(size=1_000_000)
    low, high = percentile_range(histogram_of(values))
    assert (low, high) == pytest.approx(np.quantile(values, [1e-4, 1 - 1e-4]), abs=0.01)
    assert percentile_range(histogram_of(np.zeros(10))) == pytest.approx((0.0, 0.0), abs=1)


def test_the_least_error_is_that_of_rounding_and_clipping_together() -> None:
    values = np.random.default_rng(0).laplace(size=1_000_000)

    def error(low: float, high: float, bits: int) -> float:
        step = (high - low) / (2**bits - 1)
        zero = np.rint(-low / step)
        quantized = np.clip(np.rint(values / step) + zero, 0, 2**bits - 1)
        return float(np.square((quantized - zero) * step - values).mean())

    found = min_error_range(histogram_of(values), 4)
    whole = float(values.min()), float(values.max())
    assert error(*found, 4) < 0.25 * error(*whole, 4)
    # A Laplace variable of scale 1 is best cut at 5.03 for 4 bits (ACIQ, arXiv 1810.05723).
    assert found == pytest.approx((-5.03, 5.03), rel=0.15)
    assert error(*min_error_range(histogram_of(values), 8), 8) <= error(*whole, 8)


def test_a_uniform_variable_keeps_its_range_and_zero_is_always_in_it() -> None:
    assert min_error_range(histogram_of(np.linspace(-1, 3, 100_000)), 8) == pytest.approx((-1, 3), rel=0.03)
    low, high = min_error_range(histogram_of(np.linspace(2, 3, 100_000)), 8)
    assert low == 0.0
    assert high == pytest.approx(3, rel=0.03)


def test_ranges_are_those_of_all_samples_together() -> None:
    samples = [{"x": np.full(3000, value, np.float32)} for value in (-1.0, 0.5, 4.0)]
    found = find_ranges(lambda sample: {"tensor": sample["x"]}, samples, "percentile", 8)
    assert found["tensor"] == pytest.approx((-1.0, 4.0), abs=0.01)


@pytest.fixture(scope="module")
def ranged(bert, calibration, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same model with the ranges of each method."""
    _, folder, _ = bert
    out = tmp_path_factory.mktemp("ranges")
    for method in ("min-max", "percentile", "mse"):
        quantize_static(folder / "fp32" / tflite.MODEL, out / method, calibration, 8, method)
    return {method: out / method for method in ("min-max", "percentile", "mse")}


def input_scales(path: Path) -> np.ndarray:
    model = read_model(path)
    given = [(g.tensors[o.inputs[0]], name) for g, o, name in operators(model)]
    return np.array([t.quantization.scale[0] for t, n in given if n == "FULLY_CONNECTED" and type_name(t) == "INT8"])


def test_each_method_gives_linear_layers_its_own_scales(ranged: dict[str, Path]) -> None:
    scales = {method: input_scales(path) for method, path in ranged.items()}
    assert len(scales["min-max"]) > 0
    assert not np.allclose(scales["percentile"], scales["mse"], rtol=1e-3)
    assert not np.allclose(scales["min-max"], scales["mse"], rtol=1e-3)


@pytest.mark.parametrize("method", ["percentile", "mse"])
def test_narrower_ranges_still_compute_the_model(bert, calibration, ranged: dict[str, Path], method: str) -> None:
    _, folder, _ = bert
    truth = outputs_of(folder / "fp32" / tflite.MODEL, calibration)
    assert sqnr_db(truth, outputs_of(ranged[method], calibration)) > 15


@pytest.mark.parametrize("precision", ["int8-static", "a16w8"])
def test_the_reference_kernels_outputs_are_left_beside_static_artifacts(bert, calibration, precision: str) -> None:
    _, folder, _ = bert
    recorded = fake_quant_reference.read_outputs(folder / precision)
    assert recorded is not None
    expected, executor = recorded
    assert executor == "LiteRT's reference kernels"
    (name,) = expected
    document = fake_quant_reference.comparison(
        expected, {name: outputs_of(folder / precision / tflite.MODEL, calibration)}, executor
    )
    assert document["sqnr_db"] is None or document["sqnr_db"] > 25
    assert document["samples"] == 12


def test_an_artifact_with_another_scale_differs_from_its_fake_quant_reference(
    bert, calibration, tmp_path: Path
) -> None:
    _, folder, _ = bert
    recorded = fake_quant_reference.read_outputs(folder / "int8-static")
    assert recorded is not None
    model = read_model(folder / "int8-static" / tflite.MODEL)
    weights = [g.tensors[o.inputs[1]] for g, o, name in operators(model) if name == "FULLY_CONNECTED"]
    weights[-1].quantization.scale = [10 * s for s in weights[-1].quantization.scale]
    write_model(model, tmp_path / tflite.MODEL)
    (name,) = recorded[0]
    document = fake_quant_reference.comparison(
        recorded[0], {name: outputs_of(tmp_path / tflite.MODEL, calibration)}, recorded[1]
    )
    assert document["sqnr_db"] < 10


def test_only_static_ranges_have_a_fake_quant_reference_beside_them(bert) -> None:
    _, folder, made = bert
    assert {p for p in made if fake_quant_reference.read_outputs(folder / p) is not None} == {"int8-static", "a16w8"}


def test_executors_that_are_not_xnnpack_round_inputs_as_it_does(bert, calibration, tmp_path: Path) -> None:
    _, folder, _ = bert
    path = folder / "int8-dynamic" / tflite.MODEL
    shipped = outputs_of(path, calibration)
    samples = list(single_samples(calibration, min_tokens=2))
    told = np.concatenate([next(iter(reference_runner(path)(s).values())) for s in samples])
    model = read_model(path)
    for _, operator, name in operators(model):
        if name == "FULLY_CONNECTED":
            operator.builtinOptions.asymmetricQuantizeInputs = False
    write_model(model, tmp_path / tflite.MODEL)
    untold = np.concatenate([next(iter(reference_runner(tmp_path / tflite.MODEL)(s).values())) for s in samples])
    assert sqnr_db(shipped, told) > sqnr_db(shipped, untold) + 3
