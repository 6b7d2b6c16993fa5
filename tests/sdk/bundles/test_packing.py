"""Taking one variant out of a bundle as plain files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fastserve import pack
from fastserve.bundles.bundle_writer import write_zip
from fastserve_runtime.errors import BundleError, UsageError
from manifests import file_entries, write_directory

NAMES = {"onnx-fp32.bin", "tokenizer.json", "LICENSE", "README.md"}


def names(folder: Path) -> set[str]:
    return {f.name for f in folder.iterdir()}


def test_the_chosen_variant_comes_with_its_tokenizer_and_licences(small_bundle: Path, tmp_path: Path) -> None:
    written = pack(small_bundle, tmp_path / "app" / "assets")
    assert {f.name for f in written} == NAMES == names(tmp_path / "app" / "assets")
    assert all(f.is_file() for f in written)
    assert (tmp_path / "app" / "assets" / "onnx-fp32.bin").read_bytes() == b"model " * 50
    assert names(tmp_path / "app") == {"assets"}


def test_another_variant_can_be_named(small_bundle: Path, tmp_path: Path) -> None:
    pack(small_bundle, tmp_path / "assets", variant="tflite-int8")
    assert names(tmp_path / "assets") == NAMES - {"onnx-fp32.bin"} | {"tflite-int8.bin"}


def test_a_zip_packs_like_a_directory(small_bundle: Path, tmp_path: Path) -> None:
    shutil.rmtree(small_bundle / "evidence")
    write_zip(tmp_path / "small.zip", small_bundle)
    pack(tmp_path / "small.zip", str(tmp_path / "assets"))
    assert names(tmp_path / "assets") == NAMES


def test_an_empty_folder_is_filled(small_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    pack(small_bundle, tmp_path / "assets")
    assert names(tmp_path / "assets") == NAMES


def test_a_folder_with_files_is_refused_unless_forced_and_then_keeps_them(small_bundle: Path, tmp_path: Path) -> None:
    assets = tmp_path / "assets"
    assets.mkdir()
    (assets / "own.txt").write_text("own")
    (assets / "tokenizer.json").write_text("old")
    with pytest.raises(UsageError, match="has files in it already"):
        pack(small_bundle, assets)
    assert names(assets) == {"own.txt", "tokenizer.json"}
    pack(small_bundle, assets, force=True)
    assert names(assets) == NAMES | {"own.txt"}
    assert (assets / "own.txt").read_text() == "own"
    assert (assets / "tokenizer.json").read_bytes() == b"{}"


@pytest.mark.parametrize("force", [False, True])
def test_a_file_is_never_replaced_by_a_folder(small_bundle: Path, tmp_path: Path, force: bool) -> None:
    (tmp_path / "assets").write_text("own")
    with pytest.raises(UsageError, match="is a file"):
        pack(small_bundle, tmp_path / "assets", force=force)
    assert (tmp_path / "assets").read_text() == "own"


def test_an_unknown_variant_names_those_there_are(small_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no variant 'gguf'") as failure:
        pack(small_bundle, tmp_path / "assets", variant="gguf")
    assert "onnx-fp32, tflite-int8" in failure.value.remedy
    assert not (tmp_path / "assets").exists()


def test_a_damaged_model_packs_nothing(small_bundle: Path, tmp_path: Path) -> None:
    model = next(small_bundle.rglob("onnx-fp32.bin"))
    model.write_bytes(b"MODEL " * 50)
    with pytest.raises(BundleError, match="altered or damaged"):
        pack(small_bundle, tmp_path / "assets")
    assert names(tmp_path) == {"small.fsb"}


def test_a_place_without_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no bundle at"):
        pack(tmp_path / "missing.fsb", tmp_path / "assets")


def test_a_failure_while_writing_leaves_no_unfinished_folder(small_bundle: Path, tmp_path: Path) -> None:
    assets = tmp_path / "assets"
    (assets / "LICENSE" / "deep").mkdir(parents=True)
    with pytest.raises(OSError, match="LICENSE"):
        pack(small_bundle, assets, force=True)
    assert names(tmp_path) == {"small.fsb", "assets"}
    assert list(assets.rglob("*.unfinished")) == []


def test_a_model_that_is_a_folder_stays_one(make_manifest, tmp_path: Path) -> None:
    manifest = make_manifest("onnx-fp32")
    package = "variants/onnx-fp32/model.mlpackage"
    own = [f"{package}/Data/model.mlmodel", f"{package}/Manifest.json"]
    manifest["variants"][0] |= {"files": own}
    manifest["variants"][0]["graphs"]["main"]["file"] = own[0]
    contents = {"preprocessing/tokenizer.json": b"{}", own[0]: b"a model", own[1]: b"{}"}
    manifest["files"] = file_entries(contents)
    location = write_directory(tmp_path / "own.fsb", manifest, contents)
    pack(location, tmp_path / "app")
    found = {f.relative_to(tmp_path / "app").as_posix() for f in (tmp_path / "app").rglob("*") if f.is_file()}
    assert found == {"tokenizer.json", "model.mlpackage/Data/model.mlmodel", "model.mlpackage/Manifest.json"}
