import re
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, from_dtype

from fastserve_runtime.bundle.tensor_specs import Signature, SymbolicDim, TensorSpec, describe_dims
from fastserve_runtime.errors import InputError, UsageError
from fastserve_runtime.sessions.tensors import checked_input, checked_inputs, select_graph

LENGTH = SymbolicDim("length", 2, 5)
EMPTY = Signature((), ())
TWO = Signature((TensorSpec("ids", "int32", (1, 3)), TensorSpec("mask", "float32", (1, 3))), ())
NUMBERS = [
    "bool",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float16",
    "float32",
    "float64",
]


def spec(dtype="float32", *dims):
    return TensorSpec("x", dtype, dims)


class TestChoosingTheGraph:
    def test_the_only_graph_needs_no_name(self):
        assert select_graph({"main": EMPTY}, None) == "main"

    def test_a_graph_is_chosen_by_its_name(self):
        assert select_graph({"encode": EMPTY, "decode": EMPTY}, "decode") == "decode"

    def test_several_graphs_need_a_name(self):
        with pytest.raises(UsageError, match=r"has 2 graphs. Name one of: encode, decode"):
            select_graph({"encode": EMPTY, "decode": EMPTY}, None)

    def test_an_unknown_graph_is_refused_with_those_there_are(self):
        with pytest.raises(UsageError, match=r"no graph 'Main'. It has: main"):
            select_graph({"main": EMPTY}, "Main")


class TestNames:
    def test_inputs_come_in_the_models_order(self):
        mask, ids = np.ones((1, 3), np.float32), np.ones((1, 3), np.int32)
        assert list(checked_inputs(TWO, {"mask": mask, "ids": ids})) == ["ids", "mask"]

    def test_a_missing_input_is_named(self):
        with pytest.raises(InputError) as caught:
            checked_inputs(TWO, {"ids": np.ones((1, 3), np.int32)})
        assert caught.value.problem == "The inputs given are ids; the model takes ids, mask."
        assert caught.value.remedy == "Add: mask."

    def test_an_unknown_input_is_named(self):
        with pytest.raises(InputError) as caught:
            checked_inputs(TWO, dict.fromkeys(["mask", "ids", "types"], np.ones((1, 3))))
        assert caught.value.problem == "The inputs given are ids, mask, types; the model takes ids, mask."
        assert caught.value.remedy == "Leave out: types."

    def test_no_input_at_all_is_said_so(self):
        with pytest.raises(InputError, match=r"inputs given are none; the model takes ids, mask. Add: ids, mask"):
            checked_inputs(TWO, {})

    def test_a_model_without_inputs_takes_none(self):
        assert checked_inputs(EMPTY, {}) == {}


class TestShapes:
    @pytest.mark.parametrize("shape", [(3,), (1, 2, 3), (1, 1), (1, 6), (2, 3), ()])
    def test_another_rank_or_size_is_refused_with_both_shapes(self, shape):
        with pytest.raises(InputError) as caught:
            checked_input(spec("float32", 1, LENGTH), np.zeros(shape, np.float32))
        assert caught.value.problem == (
            f"Input 'x' was given with shape {list(shape)}; the model takes [1, length 2..5]."
        )

    @pytest.mark.parametrize("length", [2, 3, 5])
    def test_a_symbol_takes_every_size_within_its_bounds(self, length):
        value = np.zeros((1, length), np.float32)
        assert checked_input(spec("float32", 1, LENGTH), value) is value

    def test_a_scalar_stays_a_scalar(self):
        assert checked_input(spec(), np.float32(3)).shape == ()
        with pytest.raises(InputError, match=re.escape("shape [1]; the model takes []")):
            checked_input(spec(), np.ones(1, np.float32))

    def test_lists_are_taken_as_arrays(self):
        result = checked_input(spec("int32", 2), [1, 2])
        assert result.dtype == np.int32
        assert result.tolist() == [1, 2]

    def test_a_ragged_list_is_refused(self):
        with pytest.raises(InputError, match="Input 'x' is not an array"):
            checked_input(spec("int32", 2), [[1], [2, 3]])

    def test_dimensions_are_described(self):
        assert describe_dims((1, LENGTH, 64)) == "[1, length 2..5, 64]"
        assert describe_dims(()) == "[]"

    def test_the_result_is_contiguous_and_copied_only_where_it_must_be(self):
        value = np.arange(6, dtype=np.float32).reshape(2, 3)
        assert checked_input(spec("float32", 2, 3), value) is value
        turned = checked_input(spec("float32", 3, 2), value.T)
        assert turned.flags.c_contiguous
        np.testing.assert_array_equal(turned, value.T)


class TestTypes:
    def test_int64_becomes_int32(self):
        result = checked_input(spec("int32", 2), np.array([-(2**31), 2**31 - 1]))
        assert result.dtype == np.int32
        assert result.tolist() == [-(2**31), 2**31 - 1]

    @pytest.mark.parametrize(
        ("value", "wanted"),
        [
            (np.array([2**31]), "int32"),
            (np.array([-1]), "uint8"),
            (np.array([-1]), "uint64"),
            (np.array([2**63], np.uint64), "int64"),
            (np.array([2]), "bool"),
            (np.array([1e39]), "float32"),
            (np.array([70000]), "float16"),
            (np.array([-1e5], np.float32), "float16"),
        ],
    )
    def test_a_value_that_does_not_fit_is_refused_without_a_warning(self, value, wanted):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(InputError) as caught:
                checked_input(spec(wanted, 1), value)
        assert caught.value.problem == f"Input 'x' was given as {value.dtype} with values that {wanted} cannot hold."
        assert caught.value.remedy == f"Give {wanted}."

    @pytest.mark.parametrize(
        ("value", "wanted"),
        [
            (np.array([1.0]), "int32"),
            (np.array([1.0], np.float16), "uint8"),
            (np.array([1.0]), "bool"),
            (np.array(["1"]), "int32"),
            (np.array([b"1"]), "float32"),
            (np.array([1j]), "float32"),
            (np.array([None]), "float32"),
            (np.array(["2020-01-01"], "datetime64[D]"), "int64"),
            (np.array([1.0]), "complex64"),
            (np.array([1.0]), "U4"),
        ],
    )
    def test_another_kind_is_refused_with_both_types(self, value, wanted):
        with pytest.raises(InputError) as caught:
            checked_input(spec(wanted, 1), value)
        assert caught.value.problem == f"Input 'x' was given as {value.dtype}; the model takes {wanted}."

    def test_such_a_type_is_named_whatever_was_given(self):
        with pytest.raises(InputError, match=re.escape("'x' is of the type seq(tensor(float)), which numpy does not")):
            checked_input(spec("seq(tensor(float))"), [np.zeros(2), np.zeros(3)])

    @pytest.mark.parametrize("wanted", ["tensor(string)", "unknown"])
    def test_a_type_that_numpy_does_not_have_is_refused(self, wanted):
        with pytest.raises(InputError, match=re.escape(f"'x' is of the type {wanted}, which numpy does not")):
            checked_input(spec(wanted, 1), np.zeros(1))

    def test_numbers_that_are_not_finite_already_stay_so(self):
        result = checked_input(spec("float32", 3), np.array([np.nan, np.inf, -np.inf]))
        np.testing.assert_array_equal(result, np.array([np.nan, np.inf, -np.inf], np.float32))

    def test_a_foreign_byte_order_is_turned(self):
        result = checked_input(spec("int32", 2), np.array([1, 2], ">i4"))
        assert result.dtype == np.dtype("int32")
        assert result.tolist() == [1, 2]

    @given(
        st.data(), st.sampled_from(NUMBERS), st.sampled_from(NUMBERS), array_shapes(min_dims=0, max_dims=2, max_side=3)
    )
    def test_whatever_is_taken_keeps_its_values(self, data, have, wanted, shape):
        value = data.draw(arrays(have, shape, elements=from_dtype(np.dtype(have), allow_nan=False)))
        try:
            result = checked_input(spec(wanted, *shape), value)
        except InputError:
            kind = np.dtype(wanted).kind
            if np.dtype(have).kind == "f":
                with np.errstate(over="ignore"):
                    assert kind != "f" or np.isinf(value.astype(wanted)).any()
            elif kind == "f":
                assert wanted == "float16"
                assert any(abs(int(v)) >= 65520 for v in value.flat)
            else:
                low, high = (0, 1) if kind == "b" else (np.iinfo(wanted).min, np.iinfo(wanted).max)
                assert any(not low <= int(v) <= high for v in value.flat)
        else:
            assert result.dtype == np.dtype(wanted)
            assert result.shape == value.shape
            if np.dtype(wanted).kind == "f":
                np.testing.assert_array_equal(result, value.astype(wanted))
            else:
                assert [int(v) for v in result.flat] == [int(v) for v in value.flat]
