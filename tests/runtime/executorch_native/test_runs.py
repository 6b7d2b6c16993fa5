import threading
import time

import numpy as np
import pytest

fse = pytest.importorskip("fastserve_executorch", reason="fastserve-executorch is not installed")

X = np.arange(6, dtype=np.float32).reshape(2, 3)
Y = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def methods(programs):
    with fse.Program(programs / "methods.pte") as program:
        yield program


def test_each_method_runs(methods):
    (total,) = methods.run("add", [X, Y])
    np.testing.assert_array_equal(total, X + Y)
    results = methods.run("several", (X, Y))
    for result, wanted in zip(results, (X + Y, X * 2, (X - Y).sum()), strict=True):
        np.testing.assert_allclose(result, wanted, rtol=1e-6)
        assert result.shape == np.shape(wanted)


@pytest.mark.parametrize("name", ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"])
def test_types_that_numpy_has_too(methods, name):
    value = np.array([[0, 1], [1, 0], [1, 1]], name)
    (result,) = methods.run(f"same_{name}", [value])
    assert result.dtype == value.dtype
    np.testing.assert_array_equal(result, value)


def test_a_type_that_numpy_has_not(methods):
    assert methods.methods["same_bfloat16"].inputs[0].dtype == "bfloat16"
    with pytest.raises(ValueError, match="bfloat16, which numpy has not"):
        methods.run("same_bfloat16", [np.ones((3, 2), np.float32)])


def test_arrays_without_dimensions(methods):
    (result,) = methods.run("scalars", [np.float32(1.5), np.array(2, np.float32)])
    assert result.shape == ()
    assert result == 3.5


def test_numbers_among_the_inputs(methods):
    value = np.array([1, 5, 2, 3], np.float32)
    for number in (3, np.int64(3)):
        scaled, place = methods.run("number", [value, number])
        np.testing.assert_array_equal(scaled, value * 3)
        assert place == 1
    with pytest.raises(ValueError, match="input 1 of method 'number': wanted a value of kind int, got float"):
        methods.run("number", [value, 3.0])


def test_any_layout_is_taken_and_channels_last_is_given(methods):
    np.testing.assert_array_equal(methods.run("add", [np.asfortranarray(X), Y[::-1, ::-1]])[0], X + Y[::-1, ::-1])
    unaligned = np.frombuffer(b"x" + X.tobytes(), np.uint8)[1:].view(np.float32).reshape(2, 3)
    np.testing.assert_array_equal(methods.run("add", [unaligned, Y])[0], X + Y)
    image = np.random.default_rng(0).random((1, 3, 4, 5), np.float32)
    (result,) = methods.run("image", [image])
    np.testing.assert_array_equal(result, image * 2)
    assert methods.methods["image"].outputs[0].dim_order == (0, 2, 3, 1)
    assert result.strides[1] == 4


def test_quantized_embedding(methods, programs):
    expected = np.load(programs / "expected.npz")
    indices = np.array([[0, 3], [9, 1]])
    (result,) = methods.run("embedding", [indices])
    np.testing.assert_allclose(result, expected["weight"][indices] * expected["scales"][indices], rtol=1e-6)


def test_an_index_beyond_a_table_is_an_exception(methods):
    for _ in range(3):
        with pytest.raises(fse.ExecutorchError, match="index 14 for a table of 10 rows"):
            methods.run("embedding", [np.full((2, 2), 14)])
    methods.run("embedding", [np.zeros((2, 2), np.int64)])


@pytest.mark.parametrize("threads", [None, 1])
def test_xnnpack_with_growing_batches(programs, threads):
    expected = np.load(programs / "expected.npz")
    with fse.Program(programs / "linear.pte", threads=threads) as program:
        info = program.methods["forward"]
        assert info.backends == ("XnnpackBackend",)
        assert info.inputs[0].dynamic
        assert info.inputs[0].shape == (8, 16)
        for rows in (1, 8, 3, 2):
            value = np.resize(expected["linear_x"], (rows, 16))
            (result,) = program.run("forward", [value])
            np.testing.assert_allclose(result, np.resize(expected["linear_y"], (rows, 4)), atol=1e-5)


@pytest.mark.parametrize("file", ["growing", "unplanned"])
def test_shapes_within_bounds(programs, file):
    method = "growing" if file == "unplanned" else "forward"
    with fse.Program(programs / f"{file}.pte") as program:
        for rows in (1, 8, 4, 0):
            first, second = np.full((rows, 3), 2, np.float32), np.full((rows, 3), rows, np.float32)
            buffer = np.empty((rows, 3), np.float32)
            (result,) = program.run(method, [first, second])
            assert program.run(method, [first, second], [buffer])[0] is buffer
            np.testing.assert_array_equal(result, first + second)
            np.testing.assert_array_equal(buffer, first + second)
        nine = np.zeros((9, 3), np.float32)
        with pytest.raises(ValueError, match=r"wanted float32 of at most \[8, 3\], got float32 \[9, 3\]"):
            program.run(method, [nine, nine])
        with pytest.raises(ValueError, match=r"gives float32 \[4, 3\], the buffer is float32 \[5, 3\]"):
            program.run(method, [nine[:4], nine[:4]], [np.empty((5, 3), np.float32)])
        with pytest.raises(fse.ExecutorchError, match="broadcast"):
            program.run(method, [nine[:4], nine[:5]])


@pytest.mark.parametrize("file", ["methods", "unplanned"])
def test_results_go_to_buffers_and_outlive_the_program(programs, file):
    program = fse.Program(programs / f"{file}.pte")
    for buffer in (np.empty((2, 3), np.float32), np.empty((3, 2), np.float32).T, np.empty((4, 3), np.float32)[::2]):
        assert program.run("add", [X, Y], [buffer])[0] is buffer
        np.testing.assert_array_equal(buffer, X + Y)
    overlapping = X.copy()
    program.run("add", [overlapping, Y], [overlapping])
    np.testing.assert_array_equal(overlapping, X + Y)
    (first,), (second,) = program.run("add", [X, Y]), program.run("add", [Y, Y])
    program.close()
    np.testing.assert_array_equal(first, X + Y)
    np.testing.assert_array_equal(second, Y + Y)
    with pytest.raises(ValueError, match="closed"):
        program.run("add", [X, Y])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([X], r"method 'add' wants 2 inputs, got 1"),
        ([X, Y.astype(np.float64)], r"input 1 of method 'add': wanted float32 \[2, 3\], got float64 \[2, 3\]"),
        ([X[0], Y], r"input 0 of method 'add': wanted float32 \[2, 3\], got float32 \[3\]"),
        ([X[:1], Y], r"got float32 \[1, 3\]"),
        ([X, None], r"input 1 of method 'add': not an array of numbers \(NoneType\)"),
        ([X, np.array(["a"])], r"no such type of elements"),
        ([X, Y.astype(">f4")], r"no such type of elements"),
    ],
)
def test_wrong_inputs_are_named(methods, inputs, message):
    with pytest.raises(ValueError, match=message):
        methods.run("add", inputs)


def test_wrong_outputs_and_methods_are_named(methods):
    with pytest.raises(ValueError, match=r"has 1 outputs, got buffers for 0"):
        methods.run("add", [X, Y], [])
    with pytest.raises(ValueError, match=r"output 0 of method 'add': wanted float32 \[2, 3\], got int32 \[2, 3\]"):
        methods.run("add", [X, Y], [np.zeros((2, 3), np.int32)])
    fixed = np.zeros((2, 3), np.float32)
    fixed.flags.writeable = False
    with pytest.raises(ValueError, match="not a writable array"):
        methods.run("add", [X, Y], [fixed])
    with pytest.raises(ValueError, match="no method 'nothing'; it has 'add'"):
        methods.run("nothing", [])


def test_state_is_kept_until_reset(programs):
    one = np.ones(3, np.float32)
    contents = (programs / "state.pte").read_bytes()
    for source in (programs / "state.pte", str(programs / "state.pte"), contents, bytearray(contents),
                   memoryview(b" " + contents)[1:]):  # fmt: skip
        with fse.Program(source) as program:
            assert [program.run("forward", [one])[0][0] for _ in range(3)] == [1, 2, 3]
            program.reset()
            assert program.run("forward", [one])[0].tolist() == [1, 1, 1]


def test_other_threads_go_on_while_a_program_runs_and_cannot_use_it(programs):
    with fse.Program(programs / "methods.pte", threads=1) as program:
        value = np.ones((200, 2000), np.float32)
        program.load("heavy")
        began = threading.Event()

        def work():
            began.set()
            for _ in range(5):
                program.run("heavy", [value])

        worker = threading.Thread(target=work)
        worker.start()
        began.wait()
        refused, turns = 0, 0
        while worker.is_alive():
            turns += 1
            try:
                program.run("add", [X, Y])
            except fse.BusyError:
                refused += 1
            time.sleep(0.001)
        worker.join()
        assert turns > 10
        assert refused > 0


def test_the_pool_of_threads(programs):
    before = fse.get_threads()
    fse.set_threads(3)
    with fse.Program(programs / "linear.pte", threads=3) as program:
        program.load()
        assert fse.get_threads() == 3
        fse.set_threads(3)
        with pytest.raises(fse.BusyError, match="pool of threads"):
            fse.set_threads(2)
        with pytest.raises(fse.BusyError, match="other than 2"):
            fse.Program(programs / "linear.pte", threads=2)
    with fse.Program(programs / "linear.pte", threads=1) as program:
        value = np.ones((2, 16), np.float32)
        (first,) = program.run("forward", [value])
        fse.set_threads(before)
        np.testing.assert_array_equal(program.run("forward", [value])[0], first)
    assert fse.get_threads() == before
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            fse.set_threads(wrong)


def test_profile_and_intermediates(programs):
    with fse.Program(programs / "methods.pte", intermediates=True) as program:
        program.run("several", [X, Y])
        events = program.profile()
        assert events[0].name == "Method::execute"
        names = [event.operator for event in events if event.name == "OPERATOR_CALL"]
        assert set(names) == set(program.methods["several"].operators)
        assert all(0 <= event.microseconds <= events[0].microseconds for event in events)
        between = {found.operator: found.value for found in program.intermediates()}
        np.testing.assert_array_equal(between["aten::sub.out"], X - Y)
        program.run("add", [X, Y])
        assert len([event for event in program.profile() if event.name == "OPERATOR_CALL"]) == 1
    with fse.Program(programs / "linear.pte", trace=True) as program:
        program.run("forward", [np.ones((2, 16), np.float32)])
        assert any(event.in_delegate and event.backend == "XnnpackBackend" for event in program.profile())
        assert program.intermediates() == []
    with fse.Program(programs / "linear.pte") as program, pytest.raises(ValueError, match="trace=True"):
        program.profile()


def test_what_is_built_in():
    assert "XnnpackBackend" in fse.available_backends()
    assert {"aten::add.out", "quantized_decomposed::embedding_byte.out"} <= set(fse.available_operators())
    assert fse.__executorch_version__ == "1.5.1"
