"""What every engine keeps to, checked on the same small model in each format."""

import mmap
import sys
import threading
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest

from fastserve_runtime.bundle.manifest import Graph
from fastserve_runtime.bundle.tensor_specs import Signature, TensorSpec
from fastserve_runtime.engines import ENGINES
from fastserve_runtime.errors import BundleError, EnvironmentFailure, InputError, UsageError
from fastserve_runtime.loading import open_model

FILES = {
    "onnxruntime": "model.onnx",
    "litert": "model.tflite",
    "executorch": "model.pte",
    "executorch-official": "model.pte",
}
DISTRIBUTIONS = {
    "onnxruntime": "onnxruntime",
    "litert": "ai-edge-litert",
    "executorch": "fastserve-executorch",
    "executorch-official": "executorch",
}
MODULES = {
    "onnxruntime": "onnxruntime",
    "litert": "ai_edge_litert.interpreter",
    "executorch": "fastserve_executorch",
    "executorch-official": "executorch.runtime",
}
FEATURES = np.array([[1, -2, 0.5, 3]], np.float32)
IDS = np.array([[4, 5]], np.int32)
SCORE = Signature(
    (TensorSpec("features", "float32", (1, 4)), TensorSpec("ids", "int32", (1, 2))),
    (TensorSpec("scores", "float32", (1, 3)), TensorSpec("doubled", "float32", (1, 4))),
)


@pytest.fixture(params=FILES)
def name(request):
    return request.param


@pytest.fixture
def engine(name):
    try:
        version(DISTRIBUTIONS[name])
    except PackageNotFoundError:
        pytest.skip(f"the package {DISTRIBUTIONS[name]} is not installed")
    return ENGINES.load(name)


@pytest.fixture
def model(name, score_models):
    return score_models / FILES[name]


@pytest.fixture
def open_score(engine, model):
    """Open the model as a manifest describes it, so that its names are the same in every format."""

    def open_score(source=None, *, entry="score", signature=SCORE, threads=1):
        graphs = {"main": Graph("model", entry, signature)}
        return engine.open_session(model if source is None else source, graphs, threads=threads)

    return open_score


@pytest.fixture
def session(open_score):
    with open_score() as session:
        yield session


def assert_same(outputs, expected):
    assert list(outputs) == list(expected)
    for key, value in expected.items():
        assert outputs[key].dtype == np.float32
        np.testing.assert_allclose(outputs[key], value, rtol=1e-5)


class TestRunning:
    def test_named_inputs_give_named_outputs_in_the_manifests_order(self, session, scores):
        assert_same(session.run({"features": FEATURES, "ids": IDS}), scores(FEATURES, IDS))

    def test_the_order_of_the_inputs_does_not_matter(self, session, scores):
        assert_same(session.run({"ids": IDS, "features": FEATURES}), scores(FEATURES, IDS))

    def test_the_graph_may_be_named(self, session, scores):
        assert_same(session.run({"features": FEATURES, "ids": IDS}, graph="main"), scores(FEATURES, IDS))
        with pytest.raises(UsageError, match=r"no graph 'other'. It has: main"):
            session.run({"features": FEATURES, "ids": IDS}, graph="other")

    def test_outputs_are_memory_of_their_own(self, session, scores):
        first = session.run({"features": FEATURES, "ids": IDS})
        session.run({"features": FEATURES * 7, "ids": IDS})
        assert_same(first, scores(FEATURES, IDS))
        first["scores"][:] = 0
        assert_same(session.run({"features": FEATURES, "ids": IDS}), scores(FEATURES, IDS))

    def test_outputs_outlive_the_session(self, open_score, scores):
        with open_score() as session:
            outputs = session.run({"features": FEATURES, "ids": IDS})
        assert_same(outputs, scores(FEATURES, IDS))

    @pytest.mark.filterwarnings("error")
    def test_inputs_may_be_read_only_or_scattered_in_memory_and_stay_as_they_are(self, session, scores):
        features = np.repeat(FEATURES, 2, axis=1)[:, ::2]
        features.flags.writeable = False
        assert not features.flags.c_contiguous
        assert_same(session.run({"features": features, "ids": IDS}), scores(FEATURES, IDS))
        np.testing.assert_array_equal(features, FEATURES)

    @pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
    def test_integers_of_another_size_are_converted(self, session, scores, dtype):
        ids = np.array([[1, 0]], dtype)
        assert_same(session.run({"features": FEATURES, "ids": ids}), scores(FEATURES, ids))

    def test_wider_floats_are_converted(self, session, scores):
        assert_same(session.run({"features": FEATURES.astype(np.float64), "ids": IDS}), scores(FEATURES, IDS))

    def test_the_graphs_are_those_of_the_manifest(self, session):
        assert session.graphs == {"main": SCORE}

    @pytest.mark.parametrize("threads", [1, 2])
    def test_any_number_of_threads_gives_the_same(self, open_score, scores, threads):
        with open_score(threads=threads) as session:
            assert session.threads == threads
            assert_same(session.run({"features": FEATURES, "ids": IDS}), scores(FEATURES, IDS))

    def test_two_sessions_of_one_model_do_not_disturb_each_other(self, open_score, scores):
        with open_score() as first, open_score() as second:
            given = [{"features": FEATURES, "ids": IDS}, {"features": FEATURES + 1, "ids": IDS}]
            outputs = [first.run(given[0]), second.run(given[1]), first.run(given[0])]
        for inputs, result in zip([given[0], given[1], given[0]], outputs, strict=True):
            assert_same(result, scores(**inputs))


class TestBinding:
    def test_buffers_are_made_read_and_overwritten_call_after_call(self, session, scores):
        binding = session.bind()
        inputs, outputs = dict(binding.inputs), dict(binding.outputs)
        for factor in (1, 3):
            binding.inputs["features"][:] = FEATURES * factor
            binding.inputs["ids"][:] = IDS
            assert_same(binding.run(), scores(FEATURES * factor, IDS))
        assert all(binding.inputs[name] is inputs[name] for name in inputs)
        assert all(binding.outputs[name] is outputs[name] for name in outputs)
        assert_same(outputs, scores(FEATURES * 3, IDS))

    def test_arrays_of_ones_own_are_used(self, session, scores):
        features, doubled = FEATURES.copy(), np.zeros((1, 4), np.float32)
        binding = session.bind({"features": features}, {"doubled": doubled})
        binding.inputs["ids"][:] = IDS
        binding.run()
        np.testing.assert_array_equal(doubled, FEATURES * 2)
        features *= 5
        binding.run()
        assert_same(binding.outputs, scores(FEATURES * 5, IDS))
        np.testing.assert_array_equal(doubled, FEATURES * 10)

    def test_some_inputs_are_read_from_other_arrays(self, session, scores):
        binding = session.bind({"features": FEATURES, "ids": IDS})
        outputs = dict(binding.outputs)
        later = np.full_like(FEATURES, 7)
        binding.replace({"features": later})
        assert_same(binding.run(), scores(later, IDS))
        later += 1
        assert_same(binding.run(), scores(later, IDS))
        assert binding.inputs["features"] is later
        assert all(binding.outputs[name] is outputs[name] for name in outputs)
        with pytest.raises(InputError, match=r"^Input 'ids' was given as int64"):
            binding.replace({"ids": IDS.astype(np.int64)})
        with pytest.raises(InputError, match=r"^Input 'mask' was given; the graph has features, ids"):
            binding.replace({"mask": IDS})
        assert_same(binding.run(), scores(later, IDS))

    def test_two_bindings_of_one_session_do_not_mix(self, session, scores):
        first, second = session.bind({"features": FEATURES, "ids": IDS}), session.bind()
        second.inputs["features"][:] = 9
        first.run()
        second.run()
        assert_same(first.outputs, scores(FEATURES, IDS))
        assert_same(second.outputs, scores(np.full_like(FEATURES, 9), np.zeros_like(IDS)))

    def test_a_binding_and_plain_calls_do_not_disturb_each_other(self, session, scores):
        binding = session.bind({"features": FEATURES, "ids": IDS})
        binding.run()
        session.run({"features": FEATURES * 8, "ids": IDS})
        assert_same(binding.outputs, scores(FEATURES, IDS))
        assert_same(binding.run(), scores(FEATURES, IDS))

    @pytest.mark.parametrize(
        ("inputs", "outputs", "problem"),
        [
            (
                {"ids": IDS.astype(np.int64)},
                {},
                r"^Input 'ids' was given as int64 with shape \[1, 2\]; a binding takes",
            ),
            ({"features": FEATURES[:, ::2]}, {}, r"shape \[1, 2\], not contiguous; .* float32 with shape \[1, 4\]"),
            ({"mask": IDS}, {}, r"^Input 'mask' was given; the graph has features, ids"),
            ({}, {"scores": np.zeros(3, np.float32)}, r"^Output 'scores' was given as float32 with shape \[3\]"),
            ({}, {"scores": [1, 2, 3]}, r"^Output 'scores' was given as list"),
        ],
    )
    def test_arrays_that_do_not_fit_are_refused(self, session, inputs, outputs, problem):
        with pytest.raises(InputError, match=problem):
            session.bind(inputs, outputs)

    def test_outputs_must_be_writable(self, session):
        scores = np.zeros((1, 3), np.float32)
        scores.flags.writeable = False
        with pytest.raises(InputError, match="read-only"):
            session.bind({}, {"scores": scores})

    def test_a_binding_of_a_closed_session_is_refused(self, open_score):
        session = open_score()
        binding = session.bind()
        session.close()
        with pytest.raises(UsageError, match="The session is closed"):
            binding.run()
        with pytest.raises(UsageError, match="The session is closed"):
            session.bind()


class TestWarmUpAndState:
    def test_warming_up_and_resetting_change_no_result(self, session, scores):
        session.warm_up(calls=3)
        assert_same(session.run({"features": FEATURES, "ids": IDS}), scores(FEATURES, IDS))
        session.reset_state()
        assert_same(session.run({"features": FEATURES, "ids": IDS}), scores(FEATURES, IDS))

    def test_a_closed_session_is_refused(self, open_score):
        session = open_score()
        session.close()
        for call in (session.warm_up, session.reset_state):
            with pytest.raises(UsageError, match="The session is closed"):
                call()

    def test_what_a_program_keeps_is_reset(self, engine, name, score_models):
        if not name.startswith("executorch"):
            pytest.skip("only ExecuTorch's test model keeps a state")
        x = np.array([1, 2], np.float32)
        with engine.open_session(score_models / "counter.pte", None, threads=1) as session:
            (graph,) = session.graphs
            names = [spec.name for spec in session.graphs[graph].inputs]
            totals = [session.run({names[0]: x})["output_0"].tolist() for _ in range(2)]
            session.reset_state()
            totals.append(session.run({names[0]: x})["output_0"].tolist())
            session.warm_up(calls=2)
            totals.append(session.run({names[0]: x})["output_0"].tolist())
        assert totals == [[1, 2], [2, 4], [1, 2], [1, 2]]


class TestSeveralThreads:
    def test_calls_at_once_are_right_or_refused(self, session, scores):
        given = [FEATURES * i for i in range(1, 5)]
        barrier = threading.Barrier(len(given))
        wrong, right, refused = [], [], []

        def run(features):
            barrier.wait(60)
            for _ in range(100):
                try:
                    outputs = session.run({"features": features, "ids": IDS})
                except UsageError as error:
                    refused.append(error.problem)
                    continue
                expected = scores(features, IDS)["scores"]
                (right if np.allclose(outputs["scores"], expected, rtol=1e-4) else wrong).append(outputs)

        threads = [threading.Thread(target=run, args=(features,)) for features in given]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert not wrong
        assert right
        assert len(right) + len(refused) == 400
        assert not (refused and session.is_concurrent)
        assert set(refused) <= {f"A session of {session.engine} was called from two threads at once."}


class TestIsolation:
    def test_a_model_in_a_process_of_its_own_gives_the_same(self, engine, model, name, scores):
        with open_model(model, engine=name, isolate=True) as session:
            assert session.engine == name
            graph = next(iter(session.graphs))
            names = [spec.name for spec in session.graphs[graph].inputs]
            outputs = session.run(dict(zip(names, (FEATURES, IDS), strict=True)), graph=graph)
        by_width = {value.shape[1]: value for value in outputs.values()}
        expected = scores(FEATURES, IDS)
        np.testing.assert_allclose(by_width[3], expected["scores"], rtol=1e-5)
        np.testing.assert_allclose(by_width[4], expected["doubled"], rtol=1e-5)


class TestWrongInputs:
    @pytest.mark.parametrize(
        ("inputs", "problem"),
        [
            ({"features": FEATURES}, "The inputs given are features; the model takes features, ids."),
            (
                {"features": FEATURES, "ids": IDS, "mask": IDS},
                "The inputs given are features, ids, mask; the model takes features, ids.",
            ),
            (
                {"features": FEATURES[0], "ids": IDS},
                "Input 'features' was given with shape [4]; the model takes [1, 4].",
            ),
            (
                {"features": FEATURES[:, :3], "ids": IDS},
                "Input 'features' was given with shape [1, 3]; the model takes [1, 4].",
            ),
            (
                {"features": FEATURES, "ids": IDS.astype(np.float32)},
                "Input 'ids' was given as float32; the model takes int32.",
            ),
            (
                {"features": FEATURES, "ids": np.array([[1, 2**31]])},
                "Input 'ids' was given as int64 with values that int32 cannot hold.",
            ),
            (
                {"features": FEATURES.astype(np.float64) * 1e300, "ids": IDS},
                "Input 'features' was given as float64 with values that float32 cannot hold.",
            ),
        ],
    )
    def test_what_was_given_and_what_is_wanted_is_said(self, session, scores, inputs, problem):
        with pytest.raises(InputError) as caught:
            session.run(inputs)
        assert caught.value.problem == problem
        assert_same(session.run({"features": FEATURES, "ids": IDS}), scores(FEATURES, IDS))


class TestClosing:
    def test_a_closed_session_is_refused(self, open_score):
        session = open_score()
        session.close()
        session.close()
        with pytest.raises(UsageError, match=r"The session is closed. Open the model again"):
            session.run({"features": FEATURES, "ids": IDS})
        with pytest.raises(UsageError, match="The session is closed"):
            session.placement()

    def test_leaving_the_block_closes_it_even_after_an_error(self, open_score):
        with pytest.raises(KeyError), open_score() as session:
            raise KeyError
        with pytest.raises(UsageError, match="The session is closed"):
            session.run({"features": FEATURES, "ids": IDS})


class TestSources:
    def test_content_gives_the_same_as_a_file(self, open_score, model, scores):
        content = memoryview(model.read_bytes())
        with open_score(content) as session:
            del content
            assert_same(session.run({"features": FEATURES, "ids": IDS}), scores(FEATURES, IDS))

    def test_mapped_content_may_begin_anywhere(self, open_score, model, tmp_path, scores):
        file = tmp_path / "padded"
        file.write_bytes(b"x" * 13 + model.read_bytes() + b"y" * 5)
        with file.open("rb") as handle:
            content = memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ))[13:-5]
        with open_score(content) as session:
            assert_same(session.run({"features": FEATURES, "ids": IDS}), scores(FEATURES, IDS))

    @pytest.mark.parametrize("is_file", [True, False])
    def test_something_else_is_a_bundle_error(self, open_score, tmp_path, is_file):
        for content in (b"", b"short", b"this is no model at all" * 20, bytes(1000)):
            (tmp_path / "model").write_bytes(content)
            with pytest.raises(BundleError) as caught:
                open_score(tmp_path / "model" if is_file else memoryview(content))
            assert caught.value.exit_code == 5

    def test_a_model_cut_off_anywhere_is_a_bundle_error(self, open_score, model):
        whole = model.read_bytes()
        for part in range(20):
            with pytest.raises(BundleError):
                open_score(memoryview(whole[: len(whole) * part // 20]))

    def test_the_message_of_a_damaged_model_is_one_line_and_names_the_version(self, open_score, engine, model):
        whole = model.read_bytes()
        with pytest.raises(BundleError) as caught:
            open_score(memoryview(whole[: len(whole) // 2]))
        assert "\n" not in caught.value.problem
        assert engine.version() in caught.value.problem

    def test_what_native_code_says_of_a_damaged_model_is_not_shown(self, open_score, model, capfd, monkeypatch):
        # Native code may print through Python's streams, which pytest has replaced.
        monkeypatch.setattr(sys, "stdout", sys.__stdout__)
        monkeypatch.setattr(sys, "stderr", sys.__stderr__)
        whole = model.read_bytes()
        with pytest.raises(BundleError):
            open_score(memoryview(whole[: len(whole) // 2]))
        assert tuple(capfd.readouterr()) == ("", "")

    def test_a_model_opens_with_the_names_of_its_own(self, engine, model, name, scores):
        with open_model(model, engine=name) as session:
            assert session.engine == name
            graph = "main" if name == "onnxruntime" else "score"
            signature = session.graphs[graph]
            assert [spec.dtype for spec in signature.inputs] == ["float32", "int32"]
            assert [spec.dims for spec in signature.inputs] == [(1, 4), (1, 2)]
            assert {spec.dims for spec in signature.outputs} == {(1, 3), (1, 4)}
            names = [spec.name for spec in signature.inputs]
            outputs = session.run(dict(zip(names, (FEATURES, IDS), strict=True)), graph=graph)
            assert list(outputs) == [spec.name for spec in signature.outputs]
            by_width = {value.shape[1]: value for value in outputs.values()}
            expected = scores(FEATURES, IDS)
            np.testing.assert_allclose(by_width[3], expected["scores"], rtol=1e-5)
            np.testing.assert_allclose(by_width[4], expected["doubled"], rtol=1e-5)


class TestForeignManifests:
    def test_an_entry_that_the_model_lacks_is_a_bundle_error(self, open_score, name):
        if name == "onnxruntime":
            pytest.skip("an ONNX file has one graph, whatever it is called")
        with pytest.raises(BundleError, match="cannot load the"):
            open_score(entry="absent")

    def test_an_output_that_the_model_lacks_is_refused_or_a_failure_of_the_engine(self, open_score, name):
        outputs = (TensorSpec("scores", "float32", (1, 3)), TensorSpec("doubled", "float32", (1, 4)))
        more = Signature(SCORE.inputs, (*outputs, TensorSpec("absent", "float32", (1,))))
        if name == "onnxruntime":
            with pytest.raises(BundleError, match="gives the model the output 'absent'"):
                open_score(signature=more)
            return
        with open_score(signature=more) as session, pytest.raises(EnvironmentFailure, match="failed while running"):
            session.run({"features": FEATURES, "ids": IDS})

    def test_an_input_of_another_shape_than_the_models_is_refused_or_a_failure_of_the_engine(self, open_score, name):
        if name == "litert":
            pytest.skip("LiteRT makes its tensors as large as the input")
        wide = Signature((TensorSpec("features", "float32", (1, 5)), SCORE.inputs[1]), SCORE.outputs)
        if name == "onnxruntime":
            with pytest.raises(BundleError, match="gives the model the input 'features'"):
                open_score(signature=wide)
            return
        with open_score(signature=wide) as session, pytest.raises(EnvironmentFailure, match="failed while running"):
            session.run({"features": np.ones((1, 5), np.float32), "ids": IDS})


class TestInstallation:
    def test_the_version_is_that_of_the_distribution(self, engine, name):
        carried = "executorch" if name == "executorch" else DISTRIBUTIONS[name]
        assert engine.version() == version(carried)

    def test_a_library_that_cannot_be_imported_is_said_with_what_to_install(
        self, engine, open_score, name, monkeypatch
    ):
        monkeypatch.setitem(sys.modules, MODULES[name], None)
        with pytest.raises(EnvironmentFailure, match="cannot be imported") as caught:
            engine.import_library()
        assert engine.INSTALL in caught.value.remedy
        with pytest.raises(EnvironmentFailure, match="cannot be imported"):
            open_score()

    def test_a_library_is_not_installed_where_its_distribution_is_not(self, engine, monkeypatch):
        look_up = "module_folder" if hasattr(engine, "module_folder") else "installed_version"
        monkeypatch.setattr(engine, look_up, lambda *names: None)
        assert engine.version() is None
