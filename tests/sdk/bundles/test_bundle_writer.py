"""A bundle is written as a whole or not at all, and never over what is not a bundle."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastserve.bundles.bundle_writer import ALIGNMENT, BundleFile, check_free, write_bundle, write_zip
from fastserve_runtime.bundle.reader import MANIFEST, open_bundle
from fastserve_runtime.errors import BundleError, UsageError

Manifest = Callable[..., dict[str, Any]]
Files = Callable[[dict[str, Any]], list[BundleFile]]
Write = Callable[..., str]
KINDS = ["model.fsb", "model.fsb.zip"]


@pytest.fixture
def write(make_manifest: Manifest, make_files: Files) -> Write:
    def write(location: Path, *, called: str = "tiny", force: bool = False, **evidence: Any) -> str:
        manifest = make_manifest()
        manifest["source"]["name"] = called
        return write_bundle(location, manifest, make_files(manifest), evidence, force=force)

    return write


def model_of(location: Path) -> str:
    with open_bundle(location) as bundle:
        bundle.check_integrity()
        return bundle.manifest.source.name


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize("name", KINDS)
def test_a_written_bundle_reads_back_whole(tmp_path: Path, write: Write, make_files, make_manifest, name: str) -> None:
    location = tmp_path / name
    identifier = write(location)
    assert [f.name for f in tmp_path.iterdir()] == [name]
    with open_bundle(location) as bundle:
        bundle.check_integrity()
        assert bundle.manifest.digest == identifier
        for file in make_files(make_manifest()):
            assert bytes(bundle.read(file.path)) == file.source
            assert bundle.entry(file.path).role == file.role


def test_a_directory_and_a_zip_of_the_same_content_have_the_same_id(tmp_path: Path, write: Write) -> None:
    assert write(tmp_path / "a.fsb") == write(tmp_path / "b.zip")


def test_equal_content_gives_equal_bytes(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "a.zip")
    write(tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_files_may_come_from_disk(tmp_path: Path, make_manifest: Manifest, make_files: Files) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(b"from disk")
    manifest = make_manifest()
    files = [BundleFile(f.path, f.role, source) if f.role == "model" else f for f in make_files(manifest)]
    write_bundle(tmp_path / "model.fsb", manifest, files, {}, force=False)
    with open_bundle(tmp_path / "model.fsb") as bundle:
        assert bytes(bundle.read(manifest["variants"][0]["files"][0])) == b"from disk"


@pytest.mark.parametrize("name", KINDS)
def test_evidence_is_tied_to_the_manifest_and_found_again(tmp_path: Path, write: Write, name: str) -> None:
    identifier = write(tmp_path / name, first={"time": "1", "kind": "x"}, second={"time": "2", "kind": "y"})
    with open_bundle(tmp_path / name) as bundle:
        bundle.check_integrity()
        assert [(d["manifest"], d["kind"]) for d in bundle.evidence()] == [(identifier, "x"), (identifier, "y")]


@pytest.mark.parametrize("name", KINDS)
def test_evidence_of_the_bundle_before_goes_with_it(tmp_path: Path, write: Write, name: str) -> None:
    write(tmp_path / name, old={"kind": "old"})
    write(tmp_path / name, called="another", force=True)
    assert not list(tmp_path.rglob("old.json"))


@pytest.mark.parametrize("name", KINDS)
def test_what_exists_is_refused_without_force(tmp_path: Path, write: Write, name: str) -> None:
    write(tmp_path / name, called="first")
    with pytest.raises(UsageError, match="exists already") as failure:
        write(tmp_path / name, called="second")
    assert "--force" in failure.value.remedy
    assert model_of(tmp_path / name) == "first"


@pytest.mark.parametrize("name", KINDS)
def test_force_replaces_a_bundle(tmp_path: Path, write: Write, name: str) -> None:
    write(tmp_path / name, called="first")
    write(tmp_path / name, called="second", force=True)
    assert model_of(tmp_path / name) == "second"
    assert [f.name for f in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", KINDS)
def test_force_takes_an_empty_folder(tmp_path: Path, write: Write, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(UsageError, match="exists already"):
        write(tmp_path / name)
    write(tmp_path / name, force=True)
    assert model_of(tmp_path / name) == "tiny"


@pytest.mark.parametrize("name", KINDS)
def test_force_replaces_a_link_and_not_what_it_leads_to(tmp_path: Path, write: Write, name: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path / "elsewhere" / name, called="first")
    (tmp_path / name).symlink_to(tmp_path / "elsewhere" / name)
    for model in ("second", "third"):
        write(tmp_path / name, called=model, force=True)
        assert model_of(tmp_path / name) == model
    assert not (tmp_path / name).is_symlink()
    assert model_of(tmp_path / "elsewhere" / name) == "first"
    assert sorted(f.name for f in tmp_path.iterdir()) == ["elsewhere", name]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("force", [False, True])
def test_a_link_that_leads_nowhere_is_never_replaced(tmp_path: Path, write: Write, name: str, force: bool) -> None:
    (tmp_path / name).symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="is not a bundle" if force else "exists already"):
        write(tmp_path / name, force=force)
    assert (tmp_path / name).is_symlink()


def foreign_folder(location: Path) -> None:
    location.mkdir()
    (location / "thesis.txt").write_text("years of work")


def web_application(location: Path) -> None:
    location.mkdir()
    (location / MANIFEST).write_text('{"name": "My App", "icons": []}')


def folder_with_a_broken_manifest(location: Path) -> None:
    location.mkdir()
    (location / MANIFEST).write_text("{")


def text_file(location: Path) -> None:
    location.write_text("years of work")


def foreign_zip(location: Path) -> None:
    with zipfile.ZipFile(location, "w") as archive:
        archive.writestr("holiday.jpg", b"sun")


def zip_with_a_foreign_manifest(location: Path) -> None:
    with zipfile.ZipFile(location, "w") as archive:
        archive.writestr(MANIFEST, "[1, 2]")


def zip_that_unpacks_to_much_more(location: Path) -> None:
    with zipfile.ZipFile(location, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, '{"schema_version": "1.0", "variants": []}' + " " * 2**24)


def folder_with_a_manifest_that_is_nested_too_deep(location: Path) -> None:
    location.mkdir()
    (location / MANIFEST).write_text("[" * 100_000)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "occupy",
    [
        zip_that_unpacks_to_much_more,
        folder_with_a_manifest_that_is_nested_too_deep,
        foreign_folder,
        web_application,
        folder_with_a_broken_manifest,
        text_file,
        foreign_zip,
        zip_with_a_foreign_manifest,
    ],
)
def test_force_never_replaces_what_is_not_a_bundle(tmp_path: Path, write: Write, name: str, occupy) -> None:
    location = tmp_path / name
    occupy(location)
    before = sorted((p, p.read_bytes()) for p in [location, *location.rglob("*")] if p.is_file())
    with pytest.raises(UsageError, match="is not a bundle"):
        write(location, force=True)
    assert sorted((p, p.read_bytes()) for p in [location, *location.rglob("*")] if p.is_file()) == before


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_that_does_not_exist_is_named(tmp_path: Path, force: bool) -> None:
    with pytest.raises(UsageError, match="does not exist") as failure:
        check_free(tmp_path / "missing" / "model.fsb", force=force)
    assert str(tmp_path / "missing") in failure.value.problem


def test_a_free_place_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_free(tmp_path / "model.fsb", force=False)
    monkeypatch.chdir(tmp_path)
    check_free(Path("model.fsb"), force=False)
    assert list(tmp_path.iterdir()) == []


def missing_source(files: list[BundleFile], _: dict[str, Any]) -> None:
    files.append(BundleFile("zzz/last.bin", "model", Path("/nonexistent/source.bin")))


def unlisted_file(_: list[BundleFile], manifest: dict[str, Any]) -> None:
    manifest["variants"][0]["files"].append("variants/forgotten.bin")


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("is_replacing", [False, True])
@pytest.mark.parametrize(("spoil", "error"), [(missing_source, FileNotFoundError), (unlisted_file, BundleError)])
def test_a_failure_midway_leaves_what_was_there(
    tmp_path: Path, write: Write, make_manifest, make_files, name: str, is_replacing: bool, spoil, error
) -> None:
    if is_replacing:
        write(tmp_path / name, called="first")
    manifest = make_manifest()
    files = make_files(manifest)
    spoil(files, manifest)
    with pytest.raises(error):
        write_bundle(tmp_path / name, manifest, files, {}, force=True)
    assert [f.name for f in tmp_path.iterdir()] == ([name] if is_replacing else [])
    if is_replacing:
        assert model_of(tmp_path / name) == "first"


@pytest.mark.parametrize("name", [*KINDS, "model [v1].fsb", "all*.zip", "**.fsb"])
def test_what_a_killed_run_left_is_removed(tmp_path: Path, write: Write, name: str) -> None:
    pid = dead_process()
    (tmp_path / f".{name}.unfinished-{pid}" / "variants").mkdir(parents=True)
    (tmp_path / f".{name}.unfinished-{pid}.old").mkdir()
    (tmp_path / f".{name}.unfinished-{pid}.zip").write_bytes(b"half")
    (tmp_path / f".{name}.unfinished-notanumber").mkdir()
    (tmp_path / f".{name}.unfinished-link").symlink_to(tmp_path)
    write(tmp_path / name)
    assert [f.name for f in tmp_path.iterdir()] == [name]


def test_what_a_killed_run_of_the_same_process_number_left_is_no_obstacle(tmp_path: Path, write: Write) -> None:
    (tmp_path / f".model.fsb.unfinished-{os.getpid()}").mkdir()
    write(tmp_path / "model.fsb")
    assert [f.name for f in tmp_path.iterdir()] == ["model.fsb"]


@pytest.mark.parametrize("pid", [os.getppid(), 1])
def test_what_a_living_process_is_writing_is_left_alone(tmp_path: Path, write: Write, pid: int) -> None:
    theirs = tmp_path / f".model.fsb.unfinished-{pid}"
    theirs.mkdir()
    write(tmp_path / "model.fsb")
    assert theirs.is_dir()


def test_a_process_of_another_user_counts_as_alive(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int, signal: int) -> None:
        raise PermissionError

    theirs = tmp_path / ".model.fsb.unfinished-1"
    theirs.mkdir()
    monkeypatch.setattr(os, "kill", refuse)
    write(tmp_path / "model.fsb")
    assert theirs.is_dir()


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=12)
PLAIN = NAMES.filter(lambda name: name not in {".", ".."} and len(name.encode()) < 100)
CONTENTS = st.binary(max_size=50) | st.integers(0, 3 * ALIGNMENT).map(lambda size: b"x" * size)
FOLDERS = st.dictionaries(st.tuples(st.integers(0, 2), PLAIN), CONTENTS, max_size=6)


def fill(folder: Path, files: list[tuple[tuple[int, str], bytes]]) -> None:
    """Write files one or several folders deep; what a number stands for can be no name of a file."""
    for (depth, name), content in files:
        path = folder.joinpath(*["\x01" * level for level in range(1, depth + 1)], name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def content_offset(archive: bytes, member: zipfile.ZipInfo) -> int:
    name_length, extra_length = struct.unpack_from("<HH", archive, member.header_offset + 26)
    return member.header_offset + 30 + name_length + extra_length


def check_zip(file: Path, folder: Path) -> None:
    data = file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        members = archive.infolist()
        expected = {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
        assert {m.filename: archive.read(m) for m in members} == expected
    for member in members:
        offset = content_offset(data, member)
        assert offset % ALIGNMENT == 0
        assert data[offset : offset + member.file_size] == expected[member.filename]
        assert member.compress_type == zipfile.ZIP_STORED
        assert member.date_time == (1980, 1, 1, 0, 0, 0)


@settings(max_examples=60)
@given(FOLDERS, st.randoms(use_true_random=False))
@example({(0, "größe.txt"): b"", (2, "a b"): b"1"}, None)
def test_any_folder_packs_aligned_and_equal_folders_give_equal_bytes(files, random) -> None:
    with tempfile.TemporaryDirectory() as name:
        first, second = Path(name, "first"), Path(name, "second")
        order = list(files.items())
        for folder in (first, second):
            folder.mkdir()
            fill(folder, order)
            if random is not None:
                random.shuffle(order)
        for file in second.rglob("*"):
            os.utime(file, (10**9, 10**9))
        write_zip(Path(name, "first.zip"), first)
        write_zip(Path(name, "second.zip"), second)
        check_zip(Path(name, "first.zip"), first)
        assert Path(name, "first.zip").read_bytes() == Path(name, "second.zip").read_bytes()


def test_members_that_need_large_size_fields_are_aligned_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, size in (("a", 10), ("b", 950), ("c", 5000), ("d", 20000), ("e", 1)):
        (folder / name).write_bytes(b"x" * size)
    with monkeypatch.context() as patch:
        patch.setattr(zipfile, "ZIP64_LIMIT", 1000)
        write_zip(tmp_path / "small_limit.zip", folder)
    check_zip(tmp_path / "small_limit.zip", folder)


def test_the_manifest_lists_each_file_with_size_and_role(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "model.fsb")
    listed = json.loads((tmp_path / "model.fsb" / MANIFEST).read_text())["files"]
    assert listed["licences/LICENSE"]["bytes"] == len(b"Do what you like.")
    assert listed["licences/LICENSE"]["role"] == "licence"
    assert len(listed["licences/LICENSE"]["sha256"]) == 64
