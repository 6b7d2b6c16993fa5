import logging
import os
import subprocess
import sys
import textwrap

import pytest

from fastserve_runtime.sessions.engine_logs import native_output_logged

logger = logging.getLogger("an engine")


def test_what_native_code_prints_is_logged_and_not_shown(caplog, capfd):
    with caplog.at_level(logging.DEBUG, logger.name), native_output_logged(logger):
        os.write(1, b"loading\nloaded\n")
        os.write(2, b"a warning\n")
    assert [(r.levelname, r.message) for r in caplog.records] == [
        ("DEBUG", "loading"),
        ("DEBUG", "loaded"),
        ("DEBUG", "a warning"),
    ]
    assert tuple(capfd.readouterr()) == ("", "")


def test_nothing_is_said_when_nothing_is_printed(caplog):
    with caplog.at_level(logging.DEBUG, logger.name), native_output_logged(logger):
        pass
    assert caplog.records == []


def test_bytes_that_are_no_text_are_logged_as_something(caplog):
    with caplog.at_level(logging.DEBUG, logger.name), native_output_logged(logger):
        os.write(2, b"caf\xe9 100%s\n")
    assert [r.getMessage() for r in caplog.records] == ["caf\N{REPLACEMENT CHARACTER} 100%s"]


def test_output_before_and_after_the_block_is_shown(capfd):
    sys.stdout.write("before ")
    with native_output_logged(logger):
        os.write(1, b"hidden")
    sys.stdout.write("after")
    sys.stdout.flush()
    assert capfd.readouterr().out == "before after"


def test_an_error_inside_passes_and_output_is_shown_again(caplog, capfd):
    def refuse():
        with native_output_logged(logger):
            os.write(2, b"why it was refused\n")
            raise RuntimeError("refused")

    with caplog.at_level(logging.DEBUG, logger.name), pytest.raises(RuntimeError, match="refused"):
        refuse()
    os.write(2, b"shown")
    assert capfd.readouterr().err == "shown"
    assert [r.message for r in caplog.records] == ["why it was refused"]


def test_no_descriptor_is_left_open():
    before = os.dup(1)
    os.close(before)
    for _ in range(3):
        with native_output_logged(logger):
            pass
    after = os.dup(1)
    os.close(after)
    assert after == before


@pytest.mark.skipif(sys.platform == "win32", reason="closed descriptors are a matter of Unix")
@pytest.mark.parametrize("closed", [(1,), (2,), (1, 2)])
def test_a_process_with_closed_output_can_load_engines(tmp_path, closed):
    script = """
        import logging, os, sys
        from fastserve_runtime.sessions.engine_logs import native_output_logged
        logging.basicConfig(filename=sys.argv[1], level=logging.DEBUG, format="%(message)s")
        with native_output_logged(logging.getLogger()):
            for number in (1, 2):
                if str(number) not in sys.argv[2]:
                    os.write(number, b"said to %d\\n" % number)
    """
    log = tmp_path / "log"
    redirections = " ".join(f"{number}>&-" for number in closed)
    command = [sys.executable, "-c", textwrap.dedent(script), str(log), str(closed)]
    done = subprocess.run(["sh", "-c", f'exec "$@" {redirections}', "sh", *command], capture_output=True, check=False)
    assert done.returncode == 0
    assert log.read_text().split("\n")[:-1] == [f"said to {n}" for n in (1, 2) if n not in closed]
