"""Finished work is found again; what is damaged or half-done never is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from fastserve.cache import ENTRY, Cache, Entry

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
    return cache.make(STAGE, KEY, build)


def test_what_was_made_is_found_with_its_result_and_files(cache: Cache, entry: Entry) -> None:
    assert cache.find(STAGE, KEY) == entry
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


def truncate(folder: Path) -> None:
    (folder / "model.bin").write_bytes(b"weig")


def remove_file(folder: Path) -> None:
    (folder / "notes" / "a.txt").unlink()


def remove_record(folder: Path) -> None:
    (folder / ENTRY).unlink()


def break_record(folder: Path) -> None:
    content = (folder / ENTRY).read_bytes()
    (folder / ENTRY).write_bytes(content[: len(content) // 2])


def empty_record(folder: Path) -> None:
    (folder / ENTRY).write_text("")


def write_list(folder: Path) -> None:
    (folder / ENTRY).write_text("[]")


def write_foreign(folder: Path) -> None:
    (folder / ENTRY).write_text('{"result": 1}')


def write_wrong_types(folder: Path) -> None:
    (folder / ENTRY).write_text('{"result": 1, "files": {}, "seconds": 1, "sizes": []}')


def write_bytes_that_are_no_text(folder: Path) -> None:
    (folder / ENTRY).write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        remove_file,
        remove_record,
        break_record,
        empty_record,
        write_list,
        write_foreign,
        write_wrong_types,
        write_bytes_that_are_no_text,
    ],
)
def test_a_damaged_entry_counts_as_none_and_can_be_made_again(cache: Cache, entry: Entry, damage) -> None:
    damage(entry.folder)
    assert cache.find(STAGE, KEY) is None
    assert not entry.folder.exists()
    again = cache.make(STAGE, KEY, build)
    assert cache.find(STAGE, KEY) == again
    assert again.files == entry.files


def test_an_entry_that_was_damaged_while_it_was_made_again_is_replaced(cache: Cache, entry: Entry) -> None:
    break_record(entry.folder)
    cache.make(STAGE, KEY, build)
    assert cache.find(STAGE, KEY) is not None


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_build_that_fails_leaves_nothing(cache: Cache, error: BaseException) -> None:
    def fail(folder: Path) -> None:
        build(folder)
        raise error

    with pytest.raises(type(error)):
        cache.make(STAGE, KEY, fail)
    assert cache.find(STAGE, KEY) is None
    assert files_below(cache.root) == []


def test_a_result_that_is_no_json_leaves_nothing(cache: Cache) -> None:
    with pytest.raises(TypeError):
        cache.make(STAGE, KEY, lambda _: {1, 2})
    assert files_below(cache.root) == []


def test_a_build_that_is_killed_leaves_no_entry_and_its_remains_go_when_they_are_old(cache: Cache) -> None:
    script = f"""
        import os, signal
        from pathlib import Path
        from fastserve.cache import Cache

        def build(folder):
            (folder / "half").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

        Cache(Path({str(cache.root)!r})).make({STAGE!r}, {KEY!r}, build)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert cache.find(STAGE, KEY) is None
    (remains,) = [f.parent for f in files_below(cache.root)]

    cache.make(STAGE, {"another": 1}, build)
    assert remains.exists(), "it may belong to a run that is still going"
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(remains, (two_days_ago, two_days_ago))
    entry = cache.make(STAGE, KEY, build)
    assert not remains.exists()
    assert cache.find(STAGE, KEY) == entry


def test_what_another_process_made_meanwhile_stays(cache: Cache) -> None:
    theirs: list[Entry] = []
    files: list[int] = []

    def slow_build(folder: Path) -> dict[str, int]:
        theirs.append(Cache(cache.root).make(STAGE, KEY, build))
        files.extend(f.stat().st_ino for f in files_below(cache.root / STAGE))
        return build(folder)

    assert cache.make(STAGE, KEY, slow_build) == theirs[0]
    assert cache.find(STAGE, KEY) == theirs[0]
    assert [f.stat().st_ino for f in files_below(cache.root)] == files


def test_what_another_process_left_damaged_is_replaced(cache: Cache) -> None:
    def slow_build(folder: Path) -> dict[str, int]:
        break_record(Cache(cache.root).make(STAGE, KEY, build).folder)
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
