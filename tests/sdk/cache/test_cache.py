"""Finished work is found again; what is damaged or half-done never is."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import traceback
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastserve.cache.cache import Cache, Entry
from fastserve.cache.records import ENTRY

KEY = {"model": "a", "numbers": [1, 2]}
STAGE = "artifact"


def build(folder: Path) -> dict[str, int]:
    (folder / "model.bin").write_bytes(b"weights")
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").write_text("a note")
    return {"answer": 42}


def files_below(folder: Path) -> list[Path]:
    return [f for f in folder.rglob("*") if f.is_file()]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def entry(cache: Cache) -> Entry:
    """An entry of an earlier run."""
    with Cache(cache.root) as earlier:
        return earlier.make(STAGE, KEY, build)


def test_what_was_made_is_found_with_its_result_and_files(cache: Cache, entry: Entry) -> None:
    assert cache.find(STAGE, KEY) == entry
    assert cache.find(STAGE, KEY) is cache.find(STAGE, KEY)
    assert entry.result == {"answer": 42}
    assert sorted(entry.files) == ["model.bin", "notes/a.txt"]
    assert (entry.folder / "model.bin").read_bytes() == b"weights"
    assert entry.seconds >= 0


def test_another_process_finds_it(cache: Cache, entry: Entry) -> None:
    assert Cache(cache.root).find(STAGE, dict(reversed(KEY.items()))) == entry


@pytest.mark.parametrize(("stage", "key"), [("other", KEY), (STAGE, {"model": "b"}), (STAGE, {})])
def test_another_stage_or_key_is_another_entry(cache: Cache, entry: Entry, stage: str, key: dict) -> None:
    assert cache.find(stage, key) is None
    assert cache.find(STAGE, KEY) == entry


def test_a_relative_folder_stays_where_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cache = Cache(Path("cache"))
    cache.make(STAGE, KEY, build)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert cache.find(STAGE, KEY) is not None


def zeros(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def lengthen(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b" x")


def delete(file: Path) -> None:
    file.unlink()


def make_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()
    (file / "inside").write_text("x")


def link_to_the_same(file: Path) -> None:
    copy = file.parents[5] / "elsewhere"
    file.rename(copy)
    file.symlink_to(copy)


def link_to_nothing(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere")


def link_to_itself(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.name)


def add_another(file: Path) -> None:
    file.with_name("layer_map.json").write_text("{}")


def swap_for_a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


DAMAGES = [
    zeros,
    flip,
    empty,
    cut,
    lengthen,
    delete,
    make_folder,
    link_to_the_same,
    link_to_nothing,
    link_to_itself,
    add_another,
    swap_for_a_pipe,
]


@pytest.mark.parametrize("name", ["model.bin", "notes/a.txt", ENTRY])
@pytest.mark.parametrize("damage", DAMAGES)
def test_an_entry_with_a_damaged_file_counts_as_none_and_is_made_again(
    cache: Cache, entry: Entry, damage, name: str
) -> None:
    damage(entry.folder / name)
    assert cache.find(STAGE, KEY) is None
    assert not os.path.lexists(entry.folder)
    again = cache.make(STAGE, KEY, build)
    assert again == dataclasses.replace(entry, seconds=again.seconds)
    with Cache(cache.root) as later:
        assert later.find(STAGE, KEY) == again
        assert (again.folder / "model.bin").read_bytes() == b"weights"


RECORDS = [
    "",
    "null",
    "[]",
    "7",
    "garbage",
    '{"result": 1}',
    '{"result": 1, "files": {}, "seconds": 1, "sizes": []}',
    '{"key": {}, "result": 1, "files": {}, "seconds": 1, "sizes": {}, "record_sha256": 3}',
    "[" * 100_000,
    b"\xff\xfe\x00",
]


@pytest.mark.parametrize("record", RECORDS, ids=range(len(RECORDS)))
def test_an_entry_whose_record_is_something_else_counts_as_none(cache: Cache, entry: Entry, record) -> None:
    (entry.folder / ENTRY).write_bytes(record if isinstance(record, bytes) else record.encode())
    assert cache.find(STAGE, KEY) is None
    assert not entry.folder.exists()


@pytest.mark.parametrize(
    "changes",
    [{"result": {"answer": 43}}, {"seconds": 0}, {"key": {"model": "b"}}, {"files": {}, "sizes": {}}],
)
def test_a_record_that_was_edited_counts_as_none(cache: Cache, entry: Entry, changes: dict) -> None:
    record = json.loads((entry.folder / ENTRY).read_text())
    (entry.folder / ENTRY).write_text(json.dumps(record | changes))
    assert cache.find(STAGE, KEY) is None


def test_the_entry_of_another_key_in_this_ones_place_counts_as_none(cache: Cache, entry: Entry) -> None:
    with Cache(cache.root) as earlier:
        other = earlier.make(STAGE, {"model": "b"}, lambda folder: build(folder) and {"answer": 43})
    shutil.rmtree(entry.folder)
    shutil.copytree(other.folder, entry.folder)
    assert cache.find(STAGE, KEY) is None
    assert cache.find(STAGE, {"model": "b"}) == other


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_flipped_bit_comes_through(tmp_path: Path, data: st.DataObject) -> None:
    root = Path(tempfile.mkdtemp(dir=tmp_path))
    with Cache(root) as earlier:
        entry = earlier.make(STAGE, KEY, build)
    file = entry.folder / data.draw(st.sampled_from(["model.bin", "notes/a.txt", ENTRY]))
    content = bytearray(file.read_bytes())
    content[data.draw(st.integers(0, 10_000)) % len(content)] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(content)
    with Cache(root) as cache:
        found = cache.find(STAGE, KEY)
    # White space in the record says nothing.
    assert found is None or (found == entry and file.name == ENTRY)


def replace_by_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("x")


def replace_by_link(folder: Path) -> None:
    other = next(f for f in folder.parents if f.name == "cache").with_name("moved")
    folder.rename(other)
    folder.symlink_to(other)


def replace_by_broken_link(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to("nowhere")


def replace_by_empty_folder(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize("levels", [0, 1, 2])
@pytest.mark.parametrize("damage", [replace_by_file, replace_by_link, replace_by_broken_link, replace_by_empty_folder])
def test_an_entry_is_made_again_whatever_came_into_its_place(cache: Cache, entry: Entry, damage, levels: int) -> None:
    place = (entry.folder, *entry.folder.parents)[levels]
    damage(place)
    found = cache.find(STAGE, KEY)
    # A folder of entries may well be a link to another disk.
    assert (found == entry) if damage is replace_by_link and levels else (found is None)
    again = cache.make(STAGE, KEY, build)
    assert again.folder == entry.folder
    with Cache(cache.root) as later:
        assert later.find(STAGE, KEY) == again
    assert cache.root.with_name("moved").exists() is (damage is replace_by_link), "what a link leads to stays"


def use_an_unreadable_entry(root: Path, name: str) -> None:
    with Cache(root) as cache:
        entry = cache.make(STAGE, KEY, build)
    (entry.folder / name).chmod(0)
    with Cache(root) as cache:
        assert cache.find(STAGE, KEY) is None
        again = cache.make(STAGE, KEY, build)
        assert again.folder == entry.folder
        assert (again.folder / "model.bin").read_bytes() == b"weights"
    with Cache(root) as cache:
        assert cache.find(STAGE, KEY) == again


@pytest.mark.parametrize("name", ["model.bin", "notes", ENTRY, "."])
def test_an_entry_that_may_not_be_read_is_made_again(name: str) -> None:
    root = Path(tempfile.mkdtemp())  # pytest's own folder is private to the user that runs the tests
    root.chmod(0o777)
    try:
        child = os.fork()
        if child == 0:
            try:
                if os.getuid() == 0:
                    os.setuid(65534)  # root reads everything
                use_an_unreadable_entry(root / "cache", name)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        shutil.rmtree(root)


@pytest.mark.parametrize(
    ("umask", "folder_mode", "file_mode"), [(0o022, 0o755, 0o644), (0o007, 0o770, 0o660), (0o077, 0o700, 0o600)]
)
def test_entries_are_readable_as_the_umask_says(tmp_path: Path, umask: int, folder_mode: int, file_mode: int) -> None:
    def build_privately(folder: Path) -> None:
        handle, _ = tempfile.mkstemp(dir=folder)
        os.close(handle)
        inner = tempfile.mkdtemp(dir=folder)
        (Path(inner) / "a").write_text("a")

    before = os.umask(umask)
    try:
        with Cache(tmp_path / "cache") as cache:
            entry = cache.make(STAGE, KEY, build_privately)
    finally:
        os.umask(before)
    folders = [entry.folder, *entry.folder.parents[:3], *(f for f in entry.folder.rglob("*") if f.is_dir())]
    assert {f.stat().st_mode & 0o777 for f in folders} == {folder_mode}
    assert {f.stat().st_mode & 0o777 for f in files_below(entry.folder)} == {file_mode}


def test_what_another_run_uses_is_not_removed_under_it(cache: Cache, entry: Entry) -> None:
    other = Cache(cache.root)
    assert other.find(STAGE, KEY) == entry
    assert not cache.discard(entry.folder)
    cache.remove(STAGE, KEY)
    assert (entry.folder / "model.bin").read_bytes() == b"weights"
    other.close()
    assert cache.discard(entry.folder)
    assert not entry.folder.exists()


def test_beside_a_damaged_entry_that_another_run_uses_this_one_has_its_own(cache: Cache, entry: Entry) -> None:
    other = Cache(cache.root)
    assert other.find(STAGE, KEY) == entry
    flip(entry.folder / "model.bin")
    assert cache.find(STAGE, KEY) is None
    own = cache.make(STAGE, KEY, build)
    assert own.folder != entry.folder
    assert (own.folder / "model.bin").read_bytes() == b"weights"
    assert cache.find(STAGE, KEY) is own
    cache.close()
    assert not own.folder.exists()
    other.close()


def test_only_entries_are_listed(cache: Cache, entry: Entry) -> None:
    (cache.root / "picture.png").write_text("x")
    (cache.root / STAGE / "ab").mkdir(exist_ok=True)
    (cache.root / STAGE / "ab" / "mine").mkdir()
    (cache.root / "documents" / "2024" / ("0" * 64)).mkdir(parents=True)
    assert list(cache.entry_folders()) == [(STAGE, entry.folder)]


def test_an_entry_that_was_damaged_while_it_was_made_again_is_replaced(cache: Cache, entry: Entry) -> None:
    cut(entry.folder / ENTRY)
    again = cache.make(STAGE, KEY, build)
    assert again.folder == entry.folder
    with Cache(cache.root) as later:
        assert later.find(STAGE, KEY) == again


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_build_that_fails_leaves_nothing(cache: Cache, error: BaseException) -> None:
    def fail(folder: Path) -> None:
        build(folder)
        raise error

    with pytest.raises(type(error)):
        cache.make(STAGE, KEY, fail)
    assert cache.find(STAGE, KEY) is None
    cache.close()
    assert files_below(cache.root) == []


def test_a_result_that_is_no_json_leaves_nothing(cache: Cache) -> None:
    with pytest.raises(TypeError):
        cache.make(STAGE, KEY, lambda _: {1, 2})
    cache.close()
    assert files_below(cache.root) == []


WAITING = """
    import os, signal, sys
    from pathlib import Path
    from fastserve.cache.cache import Cache

    def build(folder):
        (folder / "half").write_text("half")
        print(folder, flush=True)
        sys.stdin.readline()

    Cache(Path({root!r})).make("artifact", {{"half": 1}}, build)
"""


@pytest.mark.parametrize("moved_by", [-10, 0, 10], ids=["clock back", "clock right", "clock on"])
def test_a_running_build_stays_whatever_the_clock_says_and_goes_when_it_was_killed(cache: Cache, moved_by: int) -> None:
    script = textwrap.dedent(WAITING.format(root=str(cache.root)))
    with subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        when = time.time() + moved_by * 365 * 24 * 3600
        for item in (folder, folder.parent, folder.with_name("half")):
            if item.exists():
                os.utime(item, (when, when))
        with Cache(cache.root) as other:
            other.make(STAGE, {"another": 1}, build)
        assert (folder / "half").read_text() == "half", "it belongs to a run that is still going"
        process.send_signal(signal.SIGKILL)
    assert cache.find("artifact", {"half": 1}) is None
    cache.make(STAGE, KEY, build)
    assert not folder.exists()
    cache.close()
    assert list((cache.root / "unfinished").iterdir()) == []


def test_what_another_process_made_meanwhile_stays(cache: Cache) -> None:
    theirs: list[Entry] = []
    files: list[int] = []

    def slow_build(folder: Path) -> dict[str, int]:
        with Cache(cache.root) as other:
            theirs.append(other.make(STAGE, KEY, build))
        files.extend(f.stat().st_ino for f in files_below(cache.root / STAGE))
        return build(folder)

    assert cache.make(STAGE, KEY, slow_build) == theirs[0]
    assert cache.find(STAGE, KEY) == theirs[0]
    assert [f.stat().st_ino for f in files_below(cache.root / STAGE)] == files


def test_what_another_process_left_damaged_is_replaced(cache: Cache) -> None:
    def slow_build(folder: Path) -> dict[str, int]:
        with Cache(cache.root) as other:
            cut(other.make(STAGE, KEY, build).folder / ENTRY)
        return build(folder)

    entry = cache.make(STAGE, KEY, slow_build)
    assert cache.find(STAGE, KEY) == entry


def test_several_may_make_the_same_at_once(cache: Cache) -> None:
    problems: list[BaseException] = []
    barrier = threading.Barrier(4)

    def work() -> None:
        own = Cache(cache.root)
        try:
            for number in range(25):
                barrier.wait(timeout=60)
                entry = own.make(STAGE, {"number": number}, build)
                assert (entry.folder / "notes" / "a.txt").read_text() == "a note"
                assert own.find(STAGE, {"number": number}) is not None
        except BaseException as problem:
            problems.append(problem)
            barrier.abort()
        finally:
            own.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(files_below(cache.root)) == 25 * 3


def test_a_removed_entry_is_gone_and_removing_nothing_is_fine(cache: Cache, entry: Entry) -> None:
    cache.remove(STAGE, KEY)
    assert cache.find(STAGE, KEY) is None
    assert not entry.folder.exists()
    cache.remove(STAGE, KEY)


def test_the_record_tells_what_an_entry_was_made_from(entry: Entry) -> None:
    record = json.loads((entry.folder / ENTRY).read_text())
    assert record["key"] == KEY
