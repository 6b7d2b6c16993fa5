import contextlib
import gc
import hashlib
import io
import json
import os
import re
import stat
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_runtime.bundle import evidence_files
from fastserve_runtime.bundle import reader as bundle_module
from fastserve_runtime.bundle.canonical_json import digest
from fastserve_runtime.bundle.reader import check_path, evidence_folder, open_bundle
from fastserve_runtime.errors import BundleError, UsageError
from manifests import (
    GOLDEN,
    MODEL,
    TOKENIZER,
    encoded,
    file_entries,
    small_bundle,
    valid_manifest,
    write_directory,
    write_zip,
)

ALTERED = "was altered or damaged: its SHA-256 is not the manifest's"
CONTROL = ["a\nb", "a\x00b", "a\x7fb", "a\u202eb", "a\ud800b"]
ESCAPING = ["../x", "a/../../x", "/abs", "a\\b", "C:x", "C:/x", "a:b", ".", "..", "./a", "a//b", "a/", "a/./b", ""]


@pytest.fixture(params=["directory", "zip"])
def write(request, tmp_path):
    """Write a bundle as a directory or as a zip file and return its place."""
    form = {"directory": write_directory, "zip": write_zip}[request.param]
    return lambda document, contents: form(tmp_path / "small.fsb", document, contents)


@pytest.fixture
def parts():
    return small_bundle()


def is_refused(location, message, *, exit_code=5):
    with pytest.raises(BundleError, match=message) as caught, open_bundle(location) as bundle:
        bundle.check_integrity()
    assert caught.value.exit_code == exit_code


def zip_of(location, *members):
    """Write a zip file of members as they are, each a name or ZipInfo and its content."""
    with zipfile.ZipFile(location, "w") as file:
        for member, content in members:
            file.writestr(member, content)
    return location


def with_extra_member(location, member, content=b"extra"):
    with zipfile.ZipFile(location, "a") as file:
        file.writestr(member, content)
    return location


def test_a_sound_bundle_passes_and_its_files_are_read(write, parts):
    document, contents = parts
    bundle = open_bundle(write(document, contents))
    bundle.check_integrity()
    assert {path: bytes(bundle.read(path)) for path in contents} == contents
    assert bundle.manifest.document == document
    assert bundle.entry(MODEL).role == "model"
    bundle.close()


def test_a_bundle_may_be_named_by_a_text(write, parts):
    location = write(*parts)
    with open_bundle(str(location)) as bundle:
        assert bundle.location == location


def test_content_stays_readable_after_the_bundle_is_closed(write, parts):
    with open_bundle(write(*parts)) as bundle:
        content = bundle.read(MODEL)
    assert bytes(content) == parts[1][MODEL]


def test_content_cannot_be_written_to(write, parts):
    with open_bundle(write(*parts)) as bundle:
        assert bundle.read(MODEL).readonly


def test_a_model_is_a_path_in_a_directory_and_content_in_a_zip(tmp_path, parts):
    with open_bundle(write_directory(tmp_path / "folder", *parts)) as bundle:
        assert bundle.model(MODEL) == tmp_path / "folder" / MODEL
    with open_bundle(write_zip(tmp_path / "file.zip", *parts)) as bundle:
        assert bytes(bundle.model(MODEL)) == parts[1][MODEL]


def test_a_file_that_the_manifest_does_not_list_is_not_read(write, parts):
    with open_bundle(write(*parts)) as bundle, pytest.raises(BundleError, match=r"lists no file 'manifest.json'"):
        bundle.read("manifest.json")


def test_nothing_at_the_place_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="There is no bundle at"):
        open_bundle(tmp_path / "absent")


@pytest.mark.parametrize("path", [MODEL, TOKENIZER])
def test_an_altered_byte_is_found(write, parts, path):
    document, contents = parts
    altered = bytes([contents[path][0] ^ 1]) + contents[path][1:]
    location = write(document, {**contents, path: altered})
    is_refused(location, f"'{path}' {ALTERED}")
    with open_bundle(location) as bundle, pytest.raises(BundleError, match=ALTERED):
        bundle.model(path)


@pytest.mark.parametrize("change", [lambda content: content[:-1], lambda content: content + b"\0"])
def test_another_length_is_found(write, parts, change):
    document, contents = parts
    is_refused(write(document, {**contents, MODEL: change(contents[MODEL])}), "has . bytes; the manifest says 7")


@pytest.mark.parametrize("path", [MODEL, TOKENIZER, GOLDEN])
def test_a_missing_file_is_found(write, parts, path):
    document, contents = parts
    del contents[path]
    is_refused(write(document, contents), f"'{path}' is missing")


def test_an_extra_file_is_found(write, parts):
    document, contents = parts
    is_refused(write(document, {**contents, "notes/extra.txt": b"?"}), "contains 'notes/extra.txt', which its manifest")


def test_evidence_inside_the_bundle_is_no_extra_file(write, parts):
    document, contents = parts
    with open_bundle(write(document, {**contents, "evidence/measurement.json": b"{}"})) as bundle:
        bundle.check_integrity()


def test_a_file_named_like_the_evidence_folder_is_an_extra_file(write, parts):
    document, contents = parts
    is_refused(write(document, {**contents, "evidence.json": b"{}"}), "contains 'evidence.json'")


def test_a_bundle_needs_a_manifest(tmp_path, parts):
    folder = write_directory(tmp_path / "folder", *parts)
    (folder / "manifest.json").unlink()
    is_refused(folder, "is not a bundle: it has no manifest.json")
    is_refused(zip_of(tmp_path / "file.zip", (MODEL, b"a model")), "is not a bundle: it has no manifest.json")


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"{'task': 1}", b"9" * 5000, b"[" * 100_000])
def test_a_manifest_that_is_not_json_is_refused(write, parts, text):
    is_refused(write(text, parts[1]), "manifest.json is not JSON")


@pytest.mark.parametrize("text", [b"null", b"[]", b'"text"', b"3"])
def test_a_manifest_that_is_no_object_is_refused(write, parts, text):
    is_refused(write(text, parts[1]), "manifest.json is not a JSON object")


@pytest.mark.parametrize("text", [b"NaN", b"1e999", b'"\\ud800"'])
def test_a_manifest_with_values_that_json_cannot_say_is_refused(write, parts, text):
    manifest = encoded({**parts[0], "later": "?"}).replace(b'"?"', text)
    is_refused(write(manifest, parts[1]), "holds a value that JSON does not have")


@pytest.mark.parametrize("depth", [500, 900, 950, 980])
def test_a_deep_manifest_is_refused_or_read(write, parts, depth):
    location = write(encoded({**parts[0], "later": "?"}).replace(b'"?"', b"[" * depth + b"]" * depth), parts[1])
    try:
        bundle = open_bundle(location)
    except BundleError:
        return
    assert len(bundle.manifest.digest) == 64


def test_an_oversized_manifest_is_refused_before_it_is_read(tmp_path, parts):
    folder = write_directory(tmp_path / "folder", *parts)
    os.truncate(folder / "manifest.json", bundle_module.MANIFEST_LIMIT + 1)
    is_refused(folder, f"manifest.json has over {64 * 2**20} bytes")


def test_the_largest_manifest_is_still_read(write, parts, monkeypatch):
    size = len(encoded(parts[0]))
    location = write(*parts)
    monkeypatch.setattr(bundle_module, "MANIFEST_LIMIT", size)
    open_bundle(location).close()
    monkeypatch.setattr(bundle_module, "MANIFEST_LIMIT", size - 1)
    is_refused(location, f"has over {size - 1} bytes")


def test_a_later_major_version_is_refused_by_its_number(write, parts):
    document, contents = parts
    is_refused(write(document | {"schema_version": "2.3"}, contents), r"schema version 2\.3; this runtime reads 1\.x")


def test_a_later_minor_version_is_read_with_its_unknown_fields(write, parts):
    document, contents = parts
    later = document | {"schema_version": "1.9", "novelty": {"level": 3}}
    later["variants"][0]["speed"] = "high"
    with open_bundle(write(later, contents)) as bundle:
        bundle.check_integrity()
        assert bundle.manifest.document["novelty"] == {"level": 3}
        assert bundle.manifest.document["variants"][0]["speed"] == "high"
        assert bundle.manifest.digest == digest(later)
        assert bundle.manifest.digest != digest(small_bundle()[0])


@pytest.mark.parametrize("path", [*ESCAPING, *CONTROL])
def test_a_manifest_may_not_list_a_path_that_is_not_plain(write, parts, path):
    document, contents = parts
    document["files"] |= file_entries({path: b"x"})
    is_refused(write(document, contents), "not a plain path inside it|value that JSON does not have")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows refuses such names itself")
@pytest.mark.parametrize("name", ["a\\b", "C:x", "a\nb", "a\x7fb"])
def test_a_directory_with_a_file_whose_name_is_not_plain_is_refused(tmp_path, parts, name):
    folder = write_directory(tmp_path / "folder", *parts)
    (folder / name).write_bytes(b"extra")
    is_refused(folder, "not a plain path inside it")


@pytest.mark.parametrize("name", ["../x", "/abs", "a/../x", "C:x", "a\nb", "a//b", "./a"])
def test_a_zip_with_a_member_whose_name_is_not_plain_is_refused(tmp_path, parts, name):
    location = write_zip(tmp_path / "file.zip", *parts)
    is_refused(with_extra_member(location, zipfile.ZipInfo(name)), "not a plain path inside it")


@pytest.mark.skipif(sys.platform == "win32", reason="zipfile rewrites backslashes there")
def test_a_zip_with_a_backslash_in_a_name_is_refused(tmp_path, parts):
    location = write_zip(tmp_path / "file.zip", *parts)
    is_refused(with_extra_member(location, zipfile.ZipInfo("a\\b")), "not a plain path inside it")


@pytest.mark.parametrize("path", [*ESCAPING, *CONTROL])
def test_a_path_that_is_not_plain_is_refused(path):
    with pytest.raises(BundleError, match="not a plain path"):
        check_path(path)


@pytest.mark.parametrize("path", ["a", "a/b.onnx", ".hidden", "...", "a b/c", "ü/模型.tflite", "~", "-", "a..b/..c"])
def test_a_plain_path_is_taken(path):
    check_path(path)


@given(st.text("ab./\\:.. \n\0é", max_size=12) | st.text(max_size=12))
def test_a_path_that_is_taken_stays_inside_the_bundle_and_names_one_file(path):
    with contextlib.suppress(BundleError):
        check_path(path)
        root = Path("/bundle")
        target = Path(os.path.normpath(root / path))
        assert root in target.parents
        assert target.relative_to(root).as_posix() == path
        assert not set(path) & set("\\:\0\n")


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links here")
class TestLinks:
    def test_a_linked_file_is_refused(self, tmp_path, parts):
        folder = write_directory(tmp_path / "folder", *parts)
        (folder / MODEL).rename(tmp_path / "model.onnx")
        (folder / MODEL).symlink_to(tmp_path / "model.onnx")
        is_refused(folder, f"contains '{MODEL}', which is a link")

    def test_a_linked_folder_is_refused(self, tmp_path, parts):
        folder = write_directory(tmp_path / "folder", *parts)
        (folder / "variants").rename(tmp_path / "variants")
        (folder / "variants").symlink_to(tmp_path / "variants", target_is_directory=True)
        is_refused(folder, "contains 'variants', which is a link")

    def test_a_link_to_nowhere_is_refused(self, tmp_path, parts):
        folder = write_directory(tmp_path / "folder", *parts)
        (folder / "extra").symlink_to(tmp_path / "absent")
        is_refused(folder, "contains 'extra', which is a link")

    @pytest.mark.parametrize("moved", [MODEL, "variants"])
    def test_a_link_that_comes_later_is_refused_when_the_file_is_read(self, tmp_path, parts, moved):
        folder = write_directory(tmp_path / "folder", *parts)
        bundle = open_bundle(folder)
        (folder / moved).rename(tmp_path / "elsewhere")
        (folder / moved).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(BundleError, match="is behind a link"):
            bundle.read(MODEL)

    def test_a_link_to_the_whole_bundle_is_followed(self, tmp_path, parts):
        folder = write_directory(tmp_path / "folder", *parts)
        (tmp_path / "link").symlink_to(folder)
        with open_bundle(tmp_path / "link") as bundle:
            bundle.check_integrity()

    @pytest.mark.parametrize("path", [MODEL, "extra"])
    def test_a_zip_member_that_is_a_link_is_refused(self, tmp_path, parts, path):
        document, contents = parts
        member = zipfile.ZipInfo(path)
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        rest = [item for item in contents.items() if item[0] != path]
        location = zip_of(tmp_path / "file.zip", ("manifest.json", encoded(document)), (member, b"../secret"), *rest)
        is_refused(location, f"contains '{path}', which is a link")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_refused_without_waiting_for_it(tmp_path, parts):
    folder = write_directory(tmp_path / "folder", *parts)
    os.mkfifo(folder / "pipe")
    is_refused(folder, "contains 'pipe', which is a link or a special file")


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path, parts):
    folder = write_directory(tmp_path / "folder", *parts)
    (folder / MODEL).unlink()
    (folder / MODEL).mkdir()
    is_refused(folder, f"'{MODEL}' is missing")


def test_folders_listed_in_a_zip_are_no_extra_files(tmp_path, parts):
    location = write_zip(tmp_path / "file.zip", *parts)
    with open_bundle(with_extra_member(location, "variants/", b"")) as bundle:
        bundle.check_integrity()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compressed_member_is_refused(tmp_path, parts, method):
    location = write_zip(tmp_path / "file.zip", *parts)
    with zipfile.ZipFile(location, "a") as file:
        file.writestr("extra", b"0" * 1000, compress_type=method)
    is_refused(location, "'extra' is compressed")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("path", ["manifest.json", MODEL])
def test_a_member_that_is_there_twice_is_refused(tmp_path, parts, path):
    location = write_zip(tmp_path / "file.zip", *parts)
    is_refused(with_extra_member(location, path), f"contains '{path}' twice")


def directory_entry(content, path):
    """Where a member's entry begins in the zip file's directory."""
    place = content.rindex(path.encode())
    return content.rindex(b"PK\x01\x02", 0, place)


def patched(location, place, value):
    content = bytearray(location.read_bytes())
    content[place : place + len(value)] = value
    location.write_bytes(content)
    return location


@pytest.mark.parametrize(("stored", "size"), [(6, 7), (7, 6), (8, 7), (7, 2**31)])
def test_a_member_with_two_sizes_is_refused(tmp_path, parts, stored, size):
    location = write_zip(tmp_path / "file.zip", *parts)
    entry = directory_entry(location.read_bytes(), MODEL)
    patched(location, entry + 20, stored.to_bytes(4, "little") + size.to_bytes(4, "little"))
    is_refused(location, f"'{MODEL}' is compressed")


@pytest.mark.parametrize("size", [5, 8, 100])
def test_a_member_of_another_size_than_the_manifest_says_is_refused(tmp_path, parts, size):
    location = write_zip(tmp_path / "file.zip", *parts)
    entry = directory_entry(location.read_bytes(), MODEL)
    patched(location, entry + 20, size.to_bytes(4, "little") * 2)
    is_refused(location, f"'{MODEL}' has {size} bytes; the manifest says 7")


def test_a_member_that_reaches_beyond_the_file_is_refused(tmp_path, parts):
    document, contents = parts
    document["files"][MODEL]["bytes"] = 10**6
    location = write_zip(tmp_path / "file.zip", document, contents)
    entry = directory_entry(location.read_bytes(), MODEL)
    patched(location, entry + 20, (10**6).to_bytes(4, "little") * 2)
    is_refused(location, f"'{MODEL}' is cut off")


@pytest.mark.parametrize("offset", [1, 10**6, 2**32 - 2])
def test_a_member_that_begins_elsewhere_is_refused(tmp_path, parts, offset):
    location = write_zip(tmp_path / "file.zip", *parts)
    entry = directory_entry(location.read_bytes(), MODEL)
    patched(location, entry + 42, offset.to_bytes(4, "little"))
    is_refused(location, f"'{MODEL}' has a damaged header")


def test_a_member_that_points_at_another_is_refused(tmp_path, parts):
    document, contents = parts
    contents[TOKENIZER] = b"another"
    document["files"] = file_entries(contents)
    location = write_zip(tmp_path / "file.zip", document, contents)
    with zipfile.ZipFile(location) as file:
        other = file.getinfo(TOKENIZER).header_offset
    entry = directory_entry(location.read_bytes(), MODEL)
    patched(location, entry + 42, other.to_bytes(4, "little"))
    is_refused(location, f"'{MODEL}' {ALTERED}")


def test_a_member_that_needs_a_later_kind_of_zip_is_refused(tmp_path, parts):
    location = write_zip(tmp_path / "file.zip", *parts)
    entry = directory_entry(location.read_bytes(), MODEL)
    is_refused(patched(location, entry + 6, b"\xff"), "is not a readable bundle")


def test_a_local_header_longer_than_the_directorys_is_followed(tmp_path, parts):
    document, contents = parts
    member = zipfile.ZipInfo(MODEL)
    member.extra = b"\xfe\xca\x04\x00pads"
    rest = [item for item in contents.items() if item[0] != MODEL]
    location = zip_of(tmp_path / "file.zip", ("manifest.json", encoded(document)), (member, contents[MODEL]), *rest)
    entry = directory_entry(location.read_bytes(), MODEL)
    content = location.read_bytes()
    name_end = entry + 46 + len(MODEL)
    shorter = bytearray(content[:name_end] + content[name_end + 8 :])
    shorter[entry + 30 : entry + 32] = bytes(2)
    end = shorter.rindex(b"PK\x05\x06")
    size = int.from_bytes(shorter[end + 12 : end + 16], "little") - 8
    shorter[end + 12 : end + 16] = size.to_bytes(4, "little")
    location.write_bytes(shorter)
    with open_bundle(location) as bundle:
        bundle.check_integrity()
        assert bytes(bundle.read(MODEL)) == contents[MODEL]


def test_a_zip_cut_off_anywhere_is_refused(tmp_path, parts):
    whole = write_zip(tmp_path / "whole.zip", *parts).read_bytes()
    location = tmp_path / "cut.zip"
    for length in (*range(0, len(whole) - 22, 37), *range(len(whole) - 22, len(whole))):
        location.write_bytes(whole[:length])
        with pytest.raises(BundleError, match="is not a readable bundle"):
            open_bundle(location)


@given(st.data())
def test_a_zip_with_any_byte_altered_is_refused_or_holds_the_same_files(tmp_path_factory, data):
    document, contents = small_bundle()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for path, content in {"manifest.json": encoded(document), **contents}.items():
            file.writestr(path, content)
    whole = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    location = tmp_path_factory.getbasetemp() / "altered.zip"
    location.write_bytes(whole)
    try:
        with open_bundle(location) as bundle:
            bundle.check_integrity()
            files = bundle.manifest.files
            for path in files:
                assert hashlib.sha256(bundle.read(path)).hexdigest() == files[path].sha256
    except BundleError:
        return


@pytest.mark.parametrize("content", [b"", b"PK", b"just some text", b"PK\x05\x06" + bytes(18), bytes(range(64))])
def test_a_file_that_is_no_zip_is_refused(tmp_path, content):
    location = tmp_path / "file.fsb"
    location.write_bytes(content)
    is_refused(location, "is not a readable bundle|it has no manifest.json")


def open_files(folder):
    """The files below a folder that this process holds open."""
    held = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            held.append(descriptor.readlink())
    return [file for file in held if folder in file.parents]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files can be counted on Linux only")
def test_no_file_stays_open_when_a_bundle_is_let_go_of(tmp_path, parts):
    sound = write_zip(tmp_path / "sound.zip", *parts)
    foreign = write_zip(tmp_path / "foreign.zip", b"[]", parts[1])
    with pytest.raises(BundleError, match="not a JSON object"):
        open_bundle(foreign)
    bundle = open_bundle(sound)
    bundle.read(MODEL)
    assert open_files(tmp_path)
    bundle.close()
    del bundle
    gc.collect()
    assert open_files(tmp_path) == []


def test_evidence_lies_in_a_directory_and_beside_a_zip(tmp_path, parts):
    folder = write_directory(tmp_path / "folder.fsb", *parts)
    file = write_zip(tmp_path / "file.fsb", *parts)
    assert evidence_folder(folder) == folder / "evidence"
    assert evidence_folder(file) == tmp_path / "file.fsb.evidence"


def test_evidence_of_this_manifest_is_given_oldest_first(write, parts):
    location = write(*parts)
    folder = evidence_folder(location)
    own = digest(parts[0])
    documents = {
        "b.json": {"manifest": own, "time": "2026-01-02", "kind": "verdict"},
        "c.json": {"manifest": own, "time": "2026-01-01"},
        "a.json": {"manifest": own, "time": "2026-01-03"},
        "other.json": {"manifest": digest(valid_manifest()), "time": "2025-01-01"},
        "list.json": [own],
    }
    folder.mkdir()
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document))
    (folder / "notes.txt").write_text("not evidence")
    with open_bundle(location) as bundle:
        assert bundle.evidence() == [documents["c.json"], documents["b.json"], documents["a.json"]]


def test_a_bundle_without_evidence_has_none(write, parts):
    with open_bundle(write(*parts)) as bundle:
        assert bundle.evidence() == []


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000, "{}".encode("utf-16")])
def test_evidence_that_is_not_json_is_left_out_with_a_note(write, parts, content):
    location = write(*parts)
    folder = evidence_folder(location)
    folder.mkdir()
    (folder / "bad.json").write_bytes(content)
    (folder / "good.json").write_text(json.dumps({"manifest": digest(parts[0])}))
    with open_bundle(location) as bundle:
        assert len(bundle.evidence()) == 1
        (note,) = bundle.evidence_notes()
    assert note.startswith("The evidence file 'bad.json' was left out: it is not JSON")


def test_evidence_that_is_too_large_or_a_link_is_left_out(write, parts, monkeypatch):
    monkeypatch.setattr(evidence_files, "MAX_BYTES", 100)
    location = write(*parts)
    folder = evidence_folder(location)
    folder.mkdir()
    (folder / "large.json").write_text(json.dumps({"manifest": digest(parts[0]), "more": "x" * 100}))
    (folder / "link.json").symlink_to("/dev/zero")
    with open_bundle(location) as bundle:
        assert bundle.evidence() == []
        assert [re.findall("'(.*)'", note) for note in bundle.evidence_notes()] == [["large.json"], ["link.json"]]
