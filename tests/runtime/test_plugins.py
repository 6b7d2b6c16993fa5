import sys

import pytest

from fastserve_runtime.engines import ENGINES
from fastserve_runtime.errors import UsageError
from fastserve_runtime.plugins import PIPELINES, PartFolder

GROUP = "fastserve_test_group"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of two parts, `first-part` and `second`, beside private modules."""
    package = tmp_path / "parts_for_a_test"
    package.mkdir()
    for name in ("__init__", "first_part", "second", "_private"):
        (package / f"{name}.py").write_text(f"NAME = {name!r}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield PartFolder("parts_for_a_test", GROUP, "widget")
    for name in [name for name in sys.modules if name.startswith("parts_for_a_test")]:
        del sys.modules[name]


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a distribution with entry points, given as name → target."""

    def install(**targets):
        site = tmp_path / "site"
        info = site / "fastserve_extra-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fastserve-extra\nVersion: 1.0\n")
        lines = [f"{name.replace('_', '-')} = {target}" for name, target in targets.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines]))
        (site / "extra_part_module.py").write_text("NAME = 'extra'\nclass Part: pass\n")
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.delitem(sys.modules, "extra_part_module", raising=False)

    return install


def test_own_parts_are_listed_sorted_without_importing_them(folder):
    assert folder.built_in() == ("first-part", "second")
    assert folder.third_party() == ()
    assert "parts_for_a_test.second" not in sys.modules


def test_a_part_is_imported_by_its_name(folder):
    assert folder.load("first-part").NAME == "first_part"
    assert folder.load("second").NAME == "second"


@pytest.mark.parametrize("name", ["first_part", "_private", "-private", "__init__", "", "second.NAME", "../second"])
def test_only_listed_names_are_parts(folder, name):
    with pytest.raises(UsageError, match="There is no widget"):
        folder.load(name)


def test_installed_packages_add_parts(folder, install):
    install(extra="extra_part_module", extra_class="extra_part_module:Part")
    assert folder.third_party() == ("extra", "extra-class")
    assert "extra_part_module" not in sys.modules
    assert folder.load("extra").NAME == "extra"
    assert folder.load("extra-class").__name__ == "Part"


def test_installed_packages_cannot_replace_own_parts(folder, install):
    install(second="extra_part_module")
    assert folder.third_party() == ()
    assert folder.load("second").NAME == "second"


def test_an_unknown_name_is_refused_with_the_nearest_and_all_there_are(folder, install):
    install(extra="extra_part_module")
    with pytest.raises(UsageError) as caught:
        folder.load("secnod")
    assert caught.value.problem == "There is no widget 'secnod'."
    assert caught.value.remedy == "Did you mean 'second'? There are: first-part, second, extra."


def test_a_name_like_no_other_gets_no_suggestion(folder):
    with pytest.raises(UsageError) as caught:
        folder.load("qqqq")
    assert caught.value.remedy == "There are: first-part, second."


def test_an_empty_folder_says_so(tmp_path, monkeypatch):
    (tmp_path / "no_parts_for_a_test").mkdir()
    (tmp_path / "no_parts_for_a_test" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match="There are: none"):
        PartFolder("no_parts_for_a_test", GROUP, "widget").load("any")


def test_the_runtimes_own_engines_and_pipelines_are_found():
    assert ENGINES.built_in() == ("executorch", "executorch-official", "litert", "onnxruntime", "tflite-runtime")
    assert PIPELINES.built_in() == (
        "feature-extraction",
        "question-answering",
        "tensor-to-tensor",
        "text-classification",
        "text-generation",
        "text-ranking",
    )
    assert PIPELINES.load("text-classification").TextClassification.task == "text-classification"
