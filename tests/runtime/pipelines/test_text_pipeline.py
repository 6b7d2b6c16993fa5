"""What text pipelines share: one sample at a time, joined again."""

import numpy as np
import pytest

from fastserve_runtime.errors import InputError
from fastserve_runtime.manifest import Signature, TensorSpec
from fastserve_runtime.pipelines._text_pipeline import TextPipeline, run_samples
from fastserve_runtime.tensors import checked_inputs

SIGNATURE = Signature((TensorSpec("x", "float32", (1, 2)),), (TensorSpec("y", "float32", (1, 2)),))


class Doubling:
    """A session whose one graph doubles `x`, one sample at a time."""

    graphs = {"main": SIGNATURE}  # noqa: RUF012

    def __init__(self):
        self.calls = []
        self.is_closed = False

    def run(self, inputs, *, graph=None):
        assert graph == "main"
        self.calls.append(checked_inputs(SIGNATURE, inputs))
        return {"y": inputs["x"] * 2}

    def close(self):
        self.is_closed = True


@pytest.mark.parametrize("count", [1, 3])
def test_samples_are_run_one_by_one_and_joined(count):
    session = Doubling()
    x = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
    np.testing.assert_array_equal(run_samples(session, {"x": x})["y"], x * 2)
    assert [call["x"].shape for call in session.calls] == [(1, 2)] * count


def test_inputs_that_the_graph_does_not_take_are_left_out():
    session = Doubling()
    run_samples(session, {"x": np.ones((1, 2), np.float32), "attention_mask": np.ones((1, 2), np.float32)})
    assert list(session.calls[0]) == ["x"]


def test_an_input_of_another_shape_is_refused_by_the_session():
    with pytest.raises(InputError, match="Input 'x' was given with shape"):
        run_samples(Doubling(), {"x": np.ones((2, 5), np.float32)})


def test_leaving_the_block_closes_the_session_even_after_an_error():
    with TextPipeline(Doubling(), None) as pipeline:
        assert not pipeline.session.is_closed
    assert pipeline.session.is_closed
    session = Doubling()
    with pytest.raises(KeyError), TextPipeline(session, None):
        raise KeyError
    assert session.is_closed
