import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

import fastserve_runtime
from fastserve_runtime import engines
from fastserve_runtime.bundle.manifest import parse_manifest
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.engines import ENGINES, installed_engine
from fastserve_runtime.errors import BundleError, EnvironmentFailure, UsageError
from fastserve_runtime.variants import (
    checked_threads,
    choose_variant,
    open_preprocessor,
    open_variant,
    this_platform,
    usable_engine,
    version_key,
)
from manifests import (
    LENGTH,
    MODEL,
    TOKENIZER,
    expected_embeddings,
    file_entries,
    small_bundle,
    text_bundle,
    text_model,
    variant,
    write_directory,
    write_zip,
)

ENGINE_OF = {"onnx": "onnxruntime", "tflite": "litert", "executorch": "executorch"}
ENGINES_OF = {
    "onnx": ["onnxruntime"],
    "tflite": ["litert", "tflite-runtime"],
    "executorch": ["executorch", "executorch-official"],
}
"""In the order in which they are preferred."""


PLAIN = parse_manifest(small_bundle()[0]).variants[0]
PLAIN = replace(PLAIN, operators=())


@pytest.fixture
def versions(monkeypatch):
    """Let a test say which versions of engines are installed; None for none."""

    def say(**installed):
        for name in ENGINES.built_in():
            module = ENGINES.load(name)
            version = installed.get(name.replace("-", "_"))
            monkeypatch.setattr(module, "version", lambda version=version: version)

    return say


def bundle_of(tmp_path, *variants, chosen="first"):
    """An open bundle of these variants, which do not run."""
    document, contents = small_bundle()
    document |= {"variants": list(variants), "chosen": chosen}
    return open_bundle(write_directory(tmp_path / "some.fsb", document, contents))


def of_format(name, format_name, minimum="1.0", *, platforms=(), operators=()):
    engine = ENGINE_OF.get(format_name, "another")
    requires = {"engine": engine, "min_version": minimum, "backends": [], "platforms": list(platforms)}
    counts = [{"domain": d, "name": n, "version": v, "count": 1} for d, n, v in operators]
    return variant(name, format=format_name, requires=requires, operators=counts)


@pytest.mark.parametrize("write", [write_directory, write_zip])
def test_a_bundle_is_loaded_and_run(tmp_path, write):
    location = write(tmp_path / "text.fsb", *text_bundle())
    with fastserve_runtime.load(location) as pipeline:
        np.testing.assert_allclose(pipeline(["a b", "f"]), expected_embeddings(["a b", "f"]), rtol=1e-6)
        assert pipeline.session.threads == 1
        assert pipeline.session.engine == "onnxruntime"


def test_a_pipeline_outlives_its_zip_file(tmp_path):
    location = write_zip(tmp_path / "text.fsb", *text_bundle())
    with fastserve_runtime.load(location, threads=2) as pipeline:
        location.unlink()
        np.testing.assert_allclose(pipeline("c"), expected_embeddings(["c"])[0], rtol=1e-6)
        assert pipeline.session.threads == 2


def test_an_exported_bundle_runs_in_every_precision(tiny_bundle):
    with open_bundle(tiny_bundle) as bundle:
        names = [v.id for v in bundle.manifest.variants]
    results = []
    for name in names:
        with fastserve_runtime.load(tiny_bundle, variant=name) as pipeline:
            results.append(pipeline(["one text", "and another"]))
    assert len(names) > 1
    assert {result.shape for result in results} == {(2, 32)}
    np.testing.assert_allclose(results[1], results[0], atol=0.2)


def test_loading_checks_the_files_that_it_uses(tmp_path, tiny_bundle):
    copy = tmp_path / "copy.fsb"
    shutil.copytree(tiny_bundle, copy)
    tokenizer = copy / TOKENIZER
    tokenizer.write_bytes(tokenizer.read_bytes().replace(b"the", b"The", 1))
    with pytest.raises(BundleError, match="altered or damaged"):
        fastserve_runtime.load(copy)


def test_nothing_at_the_place_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="There is no bundle"):
        fastserve_runtime.load(tmp_path / "absent.fsb")


def test_a_task_without_a_pipeline_is_refused(tmp_path):
    document, contents = text_bundle()
    location = write_directory(tmp_path / "text.fsb", document | {"task": "feature-extracting"}, contents)
    with pytest.raises(BundleError, match=r"'feature-extracting', which is not known .* Did you mean 'feature-extrac"):
        fastserve_runtime.load(location)


@pytest.mark.parametrize("threads", [0, -1])
def test_fewer_than_one_thread_is_refused(tmp_path, threads):
    location = write_directory(tmp_path / "text.fsb", *text_bundle())
    model = tmp_path / "m.onnx"
    model.write_bytes(text_model())
    for attempt in (
        lambda: checked_threads(threads),
        lambda: fastserve_runtime.load(location, threads=threads),
        lambda: fastserve_runtime.open_model(model, threads=threads),
    ):
        with pytest.raises(UsageError, match=f"{threads} threads were asked for. Ask for at least 1"):
            attempt()


def test_threads_are_one_where_nothing_is_said():
    assert [checked_threads(t) for t in (None, 1, 4)] == [1, 1, 4]


class TestBareModels:
    def test_a_model_opens_by_its_ending(self, tmp_path):
        model = tmp_path / "m.onnx"
        model.write_bytes(text_model())
        with fastserve_runtime.open_model(str(model), threads=2) as session:
            assert session.engine == "onnxruntime"
            assert session.threads == 2
            assert [s.name for s in session.graphs["main"].inputs] == ["input_ids", "attention_mask"]

    def test_another_ending_needs_the_engines_name(self, tmp_path):
        model = tmp_path / "m.bin"
        model.write_bytes(text_model())
        with pytest.raises(UsageError, match=r"'m.bin' has an unknown ending. Known are .onnx, .tflite, .pte; or name"):
            fastserve_runtime.open_model(model)
        with fastserve_runtime.open_model(model, engine="onnxruntime") as session:
            assert session.engine == "onnxruntime"

    def test_an_unknown_engine_is_refused(self, tmp_path):
        model = tmp_path / "m.onnx"
        model.write_bytes(text_model())
        with pytest.raises(UsageError, match=r"no engine 'onnxruntim'. Did you mean 'onnxruntime'"):
            fastserve_runtime.open_model(model, engine="onnxruntim")

    @pytest.mark.parametrize("name", ["absent.onnx", "."])
    def test_a_file_that_is_not_there_is_a_usage_error(self, tmp_path, name):
        with pytest.raises(UsageError, match="There is no model file at"):
            fastserve_runtime.open_model(tmp_path / name)

    @pytest.mark.parametrize("name", ["m.onnx", "m.tflite", "m.pte"])
    def test_a_model_that_the_engine_refuses_is_a_bundle_error(self, tmp_path, name):
        model = tmp_path / name
        model.write_bytes(b"this is no model at all")
        with pytest.raises(BundleError):
            fastserve_runtime.open_model(model)


class TestChoosingTheVariant:
    def test_the_chosen_variant_comes_first(self, tmp_path, versions):
        versions(onnxruntime="2.0", litert="2.0")
        bundle = bundle_of(tmp_path, of_format("first", "onnx"), of_format("second", "tflite"), chosen="second")
        found, engine = choose_variant(bundle)
        assert (found.id, engine.NAME) == ("second", "litert")

    def test_the_best_other_one_stands_in_where_its_engine_is_missing(self, tmp_path, versions):
        versions(onnxruntime="2.0")
        bundle = bundle_of(
            tmp_path,
            of_format("first", "executorch"),
            of_format("second", "onnx"),
            of_format("third", "onnx"),
            of_format("fourth", "tflite"),
            chosen="fourth",
        )
        assert choose_variant(bundle)[0].id == "second"

    def test_an_engine_that_is_too_old_is_passed_over(self, tmp_path, versions):
        versions(onnxruntime="1.9.2", litert="2.0")
        bundle = bundle_of(tmp_path, of_format("first", "onnx", "1.10"), of_format("second", "tflite"))
        assert choose_variant(bundle)[0].id == "second"

    def test_where_none_runs_every_reason_is_given(self, tmp_path, versions):
        versions(onnxruntime="1.9.2")
        bundle = bundle_of(
            tmp_path,
            of_format("first", "onnx", "1.10"),
            of_format("second", "tflite"),
            of_format("third", "unheard-of"),
        )
        with pytest.raises(EnvironmentFailure) as caught:
            choose_variant(bundle)
        message = str(caught.value)
        assert message.startswith("No variant of the bundle runs here. first: Variant 'first' needs onnxruntime 1.10")
        assert "second: No engine for tflite is installed. Install one: pip install ai-edge-litert or " in message
        assert "third: No engine is known for the format 'unheard-of'." in message

    def test_another_engine_of_the_format_stands_in_for_one_that_is_too_old(self, tmp_path, versions):
        versions(litert="1.0", tflite_runtime="2.14.0")
        bundle = bundle_of(tmp_path, of_format("first", "tflite", "2.0", operators=[("tflite", "ADD", 2)]))
        assert choose_variant(bundle)[1].NAME == "tflite-runtime"
        versions(executorch_official="1.5.1")
        bundle = bundle_of(tmp_path, of_format("first", "executorch", "1.5"))
        assert choose_variant(bundle)[1].NAME == "executorch-official"

    def test_an_engine_of_another_family_is_judged_by_its_operators(self, tmp_path, versions):
        versions(tflite_runtime="2.14.0")
        newer = of_format("first", "tflite", operators=[("tflite", "GATHER_ND", 5), ("tflite", "ADD", 1)])
        known = of_format("second", "tflite", operators=[("tflite", "GATHER_ND", 4)])
        assert choose_variant(bundle_of(tmp_path, newer, known))[0].id == "second"
        foreign = of_format(
            "first", "tflite", operators=[("custom", "odml.rms_norm", 1), ("tflite", "STABLEHLO_ADD", 1)]
        )
        with pytest.raises(EnvironmentFailure) as caught:
            choose_variant(bundle_of(tmp_path, foreign), "first")
        assert caught.value.problem == (
            "tflite-runtime 2.14.0 does not have odml.rms_norm version 1, STABLEHLO_ADD version 1, "
            "which variant 'first' needs."
        )
        assert caught.value.remedy == "Use the engine 'litert', or another variant."

    def test_what_an_engine_would_compute_wrongly_is_passed_over(self, tmp_path, versions):
        versions(tflite_runtime="2.14.0")
        int8 = of_format("first", "tflite", operators=[("tflite", "FULLY_CONNECTED", 5)]) | {
            "precision": "int8-dynamic"
        }
        fp32 = of_format("second", "tflite", operators=[("tflite", "FULLY_CONNECTED", 1)])
        assert choose_variant(bundle_of(tmp_path, int8, fp32))[0].id == "second"
        with pytest.raises(EnvironmentFailure, match="does not have int8 weights with a scale for each channel"):
            choose_variant(bundle_of(tmp_path, int8, fp32), "first")

    def test_a_variant_for_other_platforms_is_passed_over(self, tmp_path, versions):
        versions(onnxruntime="2.0")
        other = of_format("first", "onnx", platforms=["plan9-mips"])
        own = of_format("second", "onnx", platforms=["plan9-mips", this_platform()])
        assert choose_variant(bundle_of(tmp_path, other, own))[0].id == "second"
        with pytest.raises(EnvironmentFailure, match=f"'first' is made for plan9-mips; this is {this_platform()}"):
            choose_variant(bundle_of(tmp_path, other, own), "first")

    def test_operators_that_the_installed_executorch_lacks_are_named(self, tmp_path):
        pytest.importorskip("fastserve_executorch", reason="fastserve-executorch is not installed")
        operators = [
            ("executorch", "XnnpackBackend", 0),
            ("executorch", "add.out", 0),
            ("executorch", "frobnicate.out", 0),
        ]
        bundle = bundle_of(tmp_path, of_format("first", "executorch", "1.0", operators=operators))
        with pytest.raises(EnvironmentFailure, match=r"executorch [\d.]+ does not have frobnicate.out, which"):
            choose_variant(bundle, engine="executorch")

    def test_a_named_variant_is_taken_or_refused_with_its_own_reason(self, tmp_path, versions):
        versions(onnxruntime="2.0")
        bundle = bundle_of(tmp_path, of_format("first", "tflite"), of_format("second", "onnx"))
        assert choose_variant(bundle, "second")[0].id == "second"
        with pytest.raises(EnvironmentFailure, match="No engine for tflite is installed"):
            choose_variant(bundle, "first")
        with pytest.raises(UsageError, match=r"no variant 'third'. It has: first, second"):
            choose_variant(bundle, "third")

    def test_a_named_engine_takes_the_variant_of_its_format(self, tmp_path, versions):
        versions(onnxruntime="2.0", litert="2.0")
        bundle = bundle_of(tmp_path, of_format("first", "onnx"), of_format("second", "tflite"))
        found, engine = choose_variant(bundle, engine="litert")
        assert (found.id, engine.NAME) == ("second", "litert")

    def test_an_engine_for_another_format_is_a_usage_error(self, tmp_path, versions):
        versions(onnxruntime="2.0", litert="2.0")
        bundle = bundle_of(tmp_path, of_format("first", "onnx"))
        with pytest.raises(UsageError, match="The engine 'litert' executes tflite; the bundle has onnx"):
            choose_variant(bundle, engine="litert")
        with pytest.raises(UsageError, match="The engine 'litert' executes tflite, not onnx"):
            choose_variant(bundle, "first", engine="litert")

    @pytest.mark.parametrize("name", [None, "first"])
    def test_an_unknown_engine_is_a_usage_error(self, tmp_path, name):
        bundle = bundle_of(tmp_path, of_format("first", "onnx"))
        with pytest.raises(UsageError, match=r"no engine 'lightrt'. Did you mean 'litert'"):
            choose_variant(bundle, name, engine="lightrt")


class TestEngines:
    def test_an_installed_engine_is_found_by_format(self, versions):
        versions(onnxruntime="1.20", litert="2.0", executorch="1.5")
        for format_name, name in ENGINE_OF.items():
            assert name == installed_engine(format_name).NAME
            assert name == installed_engine(format_name, name).NAME

    def test_an_engine_that_is_not_installed_is_refused_with_what_to_install(self, versions):
        versions()
        with pytest.raises(
            EnvironmentFailure, match=r"No engine for onnx is installed. Install one: pip install onnxru"
        ):
            installed_engine("onnx")
        with pytest.raises(EnvironmentFailure, match="No engine for onnx is installed"):
            installed_engine("onnx", "onnxruntime")

    def test_a_format_of_no_engine_is_a_usage_error(self):
        with pytest.raises(UsageError, match="No engine is known for the format 'coreml'"):
            installed_engine("coreml")

    def test_an_engine_of_another_format_is_a_usage_error(self):
        with pytest.raises(UsageError, match="The engine 'litert' executes tflite, not onnx"):
            installed_engine("onnx", "litert")

    def test_a_third_partys_engine_comes_after_our_own(self, monkeypatch, versions):
        class Third:
            NAME, FORMAT, FAMILY, INSTALL = "third", "onnx", "third", "pip install third"

            @staticmethod
            def version():
                return "1.0"

        class Entry:
            name = "third"

            @staticmethod
            def load():
                return Third

        monkeypatch.setattr("fastserve_runtime.plugins.entry_points", lambda group: [Entry])
        versions(onnxruntime="2.0")
        assert [e.NAME for e in engines.engines_for("onnx")] == ["onnxruntime", "third"]
        assert [e.NAME for e in engines.engines_for("tflite")] == ENGINES_OF["tflite"]
        assert installed_engine("onnx").NAME == "onnxruntime"
        versions()
        assert installed_engine("onnx").NAME == "third"

    def test_a_third_partys_engine_that_cannot_be_imported_is_left_out_with_a_warning(self, monkeypatch, versions):
        class Entry:
            name = "broken"

            @staticmethod
            def load():
                raise RuntimeError("not today")

        monkeypatch.setattr("fastserve_runtime.plugins.entry_points", lambda group: [Entry])
        versions()
        with pytest.warns(UserWarning, match="engine 'broken' of another package cannot be imported: not today"):
            assert [e.NAME for e in engines.engines_for("onnx")] == ["onnxruntime"]

    def test_an_engine_that_stands_in_for_the_best_is_told(self, score_models, monkeypatch):
        monkeypatch.setattr(ENGINES.load("executorch"), "version", lambda: None)
        with (
            pytest.warns(UserWarning, match=r"engine 'executorch-official', since 'executorch' is not .* pip install"),
            fastserve_runtime.open_model(score_models / "model.pte") as session,
        ):
            assert session.engine == "executorch-official"

    def test_the_best_engine_and_one_asked_for_are_not_worth_a_warning(self, score_models):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for file, engine in (("model.onnx", None), ("model.tflite", None), ("model.pte", "executorch-official")):
                fastserve_runtime.open_model(score_models / file, engine=engine).close()

    def test_every_engine_keeps_the_contract(self):
        for name in ENGINES.built_in():
            engine = ENGINES.load(name)
            assert name == engine.NAME
            assert name in ENGINES_OF[engine.FORMAT]
            assert engine.INSTALL.startswith("pip install ")
            assert engine.lacking(PLAIN) == []
        for format_name, names in ENGINES_OF.items():
            assert [e.NAME for e in engines.engines_for(format_name)] == names

    def test_a_version_that_is_not_installed_is_none(self):
        from fastserve_runtime.distributions import installed_version

        assert installed_version("a-distribution-that-nobody-made", "a_module_that_nobody_made") is None
        assert installed_version("a-distribution-that-nobody-made", "numpy") is None
        assert installed_version("numpy", "numpy") == np.__version__
        # An editable installation has its metadata elsewhere.
        assert installed_version("fastserve-runtime", "fastserve_runtime") == fastserve_runtime.__version__


@pytest.mark.parametrize(
    ("installed", "minimum", "is_enough"),
    [
        ("1.20.0", "1.20", True),
        ("1.20", "1.20.0", True),
        ("1.9", "1.10", False),
        ("1.10", "1.9", True),
        ("2.0.0+cpu", "2.0", True),
        ("1.19.9.dev3", "1.20", False),
        ("0.1", "", True),
    ],
)
def test_the_min_version_is_compared_by_numbers(tmp_path, versions, installed, minimum, is_enough):
    versions(onnxruntime=installed)
    found = bundle_of(tmp_path, of_format("first", "onnx", minimum)).manifest.variants[0]
    if is_enough:
        assert usable_engine(found).NAME == "onnxruntime"
    else:
        with pytest.raises(EnvironmentFailure) as caught:
            usable_engine(found)
        assert caught.value.problem == (
            f"Variant 'first' needs onnxruntime {minimum} or later; {installed} is installed."
        )
        assert caught.value.remedy == f"Update it: pip install 'onnxruntime>={minimum}'."


releases = st.lists(st.integers(0, 30), min_size=1, max_size=4).map(lambda numbers: ".".join(map(str, numbers)))


@given(releases, releases)
def test_releases_are_ordered_as_pythons_packages_are(left, right):
    assert (version_key(left) < version_key(right)) == (Version(left) < Version(right))


@pytest.mark.parametrize(("version", "key"), [("1.32.0+cpu", (1, 32)), ("2.1rc1", (2, 1)), ("", ()), ("unknown", ())])
def test_a_version_is_read_up_to_its_first_letter(version, key):
    assert version_key(version) == key


class TestPreprocessing:
    def test_the_bundles_tokenizer_and_settings_are_used(self, tmp_path):
        with open_bundle(write_directory(tmp_path / "text.fsb", *text_bundle())) as bundle:
            preprocess = open_preprocessor(bundle)
        assert preprocess(["a"])["input_ids"].shape == (1, LENGTH)

    def test_another_kind_is_refused(self, tmp_path):
        document, contents = text_bundle()
        document["preprocessing"]["kind"] = "images"
        bundle = open_bundle(write_directory(tmp_path / "text.fsb", document, contents))
        with pytest.raises(BundleError, match="of kind 'images', which this runtime does not know"):
            open_preprocessor(bundle)

    def test_a_tokenizer_without_a_file_is_refused(self, tmp_path):
        document, contents = text_bundle()
        document["preprocessing"]["files"] = []
        bundle = open_bundle(write_directory(tmp_path / "text.fsb", document, contents))
        with pytest.raises(BundleError, match="names no tokenizer file"):
            open_preprocessor(bundle)


def test_every_file_of_a_variant_is_checked_before_the_engine_sees_one(tmp_path):
    document, contents = text_bundle()
    contents["variants/first/weights.bin"] = b"weights"
    document["files"] = file_entries(contents)
    document["variants"][0]["files"] = [MODEL, "variants/first/weights.bin"]
    location = write_directory(tmp_path / "text.fsb", document, contents)
    (location / "variants/first/weights.bin").write_bytes(b"altered")
    bundle = open_bundle(location)
    with pytest.raises(BundleError, match=r"weights.bin' was altered"):
        open_variant(bundle, bundle.manifest.variants[0], installed_engine("onnx"))


def test_a_variant_made_for_a_target_is_never_chosen(tmp_path):
    own = variant("own", target="onnx:qnn-htp")
    document, contents = text_bundle()
    document["variants"] = [own, *document["variants"]]
    document |= {"chosen": "own"}
    location = write_directory(tmp_path / "text.fsb", document, contents)
    with open_bundle(location) as bundle:
        chosen, engine = choose_variant(bundle)
        assert (chosen.id, engine.NAME) == ("first", "onnxruntime")
        with pytest.raises(EnvironmentFailure, match="'own' is made for onnx:qnn-htp, which no engine") as failure:
            choose_variant(bundle, "own")
        assert "fastserve conform --target onnx:qnn-htp" in failure.value.remedy
    assert fastserve_runtime.load(location)(["a"]).shape[0] == 1


def test_a_bundle_of_variants_for_targets_alone_runs_nowhere_here(tmp_path):
    bundle = bundle_of(tmp_path, variant("first", target="onnx:qnn-htp"))
    with pytest.raises(EnvironmentFailure, match=r"No variant of the bundle runs here.*first: .*onnx:qnn-htp"):
        choose_variant(bundle)
