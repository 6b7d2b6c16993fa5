import logging
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest

fse = pytest.importorskip("fastserve_executorch", reason="fastserve-executorch is not installed")


def child(code, *arguments):
    """Runs code in a process of its own; returns its output, and insists on an end without a word on stderr."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pte"):
        fse.Program(tmp_path / "nowhere.pte")
    with pytest.raises(IsADirectoryError):
        fse.Program(tmp_path)
    with pytest.raises(TypeError, match="path or contiguous bytes"):
        fse.Program(3)


def test_missing_backends_and_operators_are_named(programs):
    contents = (programs / "linear.pte").read_bytes().replace(b"XnnpackBackend", b"NowhereBackend")
    with fse.Program(contents) as program:
        assert program.methods["forward"].backends == ("NowhereBackend",)
        with pytest.raises(fse.ExecutorchError, match=r"NotFound.*NowhereBackend") as caught:
            program.load()
        assert (caught.value.code, caught.value.name) == (0x20, "NotFound")
    contents = (programs / "state.pte").read_bytes().replace(b"aten::add", b"aten::odd")
    with fse.Program(contents) as program, pytest.raises(fse.ExecutorchError, match=r"aten::odd\.out") as caught:
        program.run("forward", [np.ones(3, np.float32)])
    assert caught.value.name == "OperatorMissing"
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.code) == (str(caught.value), caught.value.code)


def test_the_log_goes_to_logging(programs, caplog):
    contents = (programs / "state.pte").read_bytes().replace(b"aten::add", b"aten::odd")
    with caplog.at_level(logging.DEBUG, "fastserve_executorch"), pytest.raises(fse.ExecutorchError):
        fse.Program(contents).load()
    assert any("aten::odd" in record.getMessage() and record.levelno == logging.ERROR for record in caplog.records)


def test_damaged_programs_raise_and_never_crash(programs):
    out = child(
        """
        import random, sys
        from pathlib import Path
        import numpy as np
        import fastserve_executorch as fse

        def attempt(contents):
            try:
                with fse.Program(contents) as program:
                    for name, method in program.methods.items():
                        if sum(int(np.prod(value.shape)) for value in method.inputs) < 1e5:
                            inputs = [np.ones(v.shape, v.dtype) if v.kind == "tensor" else 3 for v in method.inputs]
                            program.run(name, inputs)
            except (RuntimeError, ValueError, TypeError, MemoryError) as error:
                return type(error).__name__
            return "ran"

        chance = random.Random(7)
        counts = {}
        for name in ("linear", "state", "growing", "unplanned"):
            contents = (Path(sys.argv[1]) / f"{name}.pte").read_bytes()
            lengths = [*range(0, 200), *range(200, len(contents) - 1, 37)]
            ends = max(len(contents.rstrip(b"\\0")) - 1, 0)
            assert all(attempt(contents[:length]) != "ran" for length in lengths if length < ends), name
            for _ in range(300):
                damaged = bytearray(contents)
                damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
                result = attempt(bytes(damaged))
                counts[result] = counts.get(result, 0) + 1
            for size in (0, 1, 8, 63, 64, 1000, len(contents)):
                assert attempt(chance.randbytes(size)) == "ExecutorchError"
                assert attempt(contents[:32] + chance.randbytes(size)) != "ran"
        print(counts)
        """,
        programs,
    )
    assert "ExecutorchError" in out


def test_a_truncated_file_raises(programs, tmp_path):
    contents = (programs / "linear.pte").read_bytes()
    path = tmp_path / "short.pte"
    for length in (0, 10, 500, len(contents) // 2, len(contents) - 600):
        path.write_bytes(contents[:length])
        with pytest.raises(fse.ExecutorchError):
            fse.Program(path)


def test_no_torch_no_executorch_and_no_words(programs):
    out = child(
        """
        import sys
        from pathlib import Path
        import numpy as np
        import fastserve_executorch as fse

        fse.get_threads()
        with fse.Program(Path(sys.argv[1]) / "linear.pte", trace=True) as program:
            program.run("forward", [np.ones((2, 16), np.float32)])
            try:
                program.run("forward", [np.ones((2, 15), np.float32)])
            except fse.ExecutorchError:
                pass
        print([name for name in ("torch", "executorch", "logging") if name in sys.modules])
        """,
        programs,
    )
    assert out.strip() in ("[]", "['logging']")  # numpy may import logging


def test_many_calls_take_no_more_memory(programs):
    out = child(
        """
        import sys
        from pathlib import Path
        import numpy as np
        import fastserve_executorch as fse

        def resident():
            return int(Path("/proc/self/statm").read_text().split()[1]) * 4

        program = fse.Program(Path(sys.argv[1]) / "linear.pte", trace=True)
        value = np.ones((8, 16), np.float32)

        def calls(count):
            for turn in range(count):
                program.run("forward", [value[: turn % 8 + 1]])
                if turn % 10 == 0:
                    program.reset()
                    try:
                        program.run("forward", [value[:, :3]])
                    except fse.ExecutorchError:
                        pass

        calls(200)
        before = resident()
        calls(2000)
        print(resident() - before)
        """,
        programs,
    )
    assert int(out) < 1000, f"grew by {out} KB"
