import ctypes
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

fse = pytest.importorskip("fastserve_executorch", reason="fastserve-executorch is not installed")

QNN, OPENVINO = "libexecutorch_backend_qnn.so", "libexecutorch_backend_openvino.so"


@pytest.fixture(scope="session")
def libraries():
    """The folder of the installed executorch package that has its libraries."""
    if importlib.util.find_spec("executorch") is None:
        pytest.skip("the official executorch package, which has the backends, is not installed")
    return Path(str(importlib.metadata.distribution("executorch").locate_file("executorch/lib")))


@pytest.fixture
def no_vendor(monkeypatch):
    """As on a computer without the vendors' libraries."""
    real = ctypes.CDLL

    def opened(name, *arguments, **options):
        if Path(name).name.startswith(("libQnn", "libopenvino")):
            raise OSError(f"{name}: cannot open shared object file: No such file or directory")
        return real(name, *arguments, **options)

    monkeypatch.setattr(ctypes, "CDLL", opened)
    monkeypatch.delenv("OPENVINO_LIB_PATH", raising=False)


@pytest.fixture
def vendor(tmp_path):
    """A folder of libraries that have the vendors' names, and load."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    library = next((line.split()[-1] for line in maps if "/libm" in line and ".so" in line), None)
    if library is None:
        pytest.skip("no libm among the loaded libraries to stand in for the vendors' ones")
    for name in ("libQnnHtp.so", "libQnnSystem.so", "libopenvino_c.so"):
        shutil.copy(library, tmp_path / name)
    return tmp_path


def child(code, *arguments, **environment):
    """Runs code in a process of its own and returns its output."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def test_what_is_built_in_needs_no_loading():
    assert fse.load_backend("XnnpackBackend") is True


def test_unknown_backends_need_a_path(tmp_path):
    with pytest.raises(ValueError, match=r"'OddBackend' is not one of those known: 'QnnBackend', .*Give the path"):
        fse.load_backend("OddBackend")
    with pytest.raises(FileNotFoundError, match=r"no file .*odd\.so\. Give the library"):
        fse.load_backend("OddBackend", tmp_path / "odd.so")
    with pytest.raises(FileNotFoundError, match=rf"no file .*{QNN}"):
        fse.load_backend("QnnBackend", str(tmp_path))


def test_where_executorch_is_not_installed(monkeypatch):
    def nothing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", nothing)
    with pytest.raises(FileNotFoundError, match=r"not installed\. .*pip install executorch==1\.5\.1") as caught:
        fse.load_backend("QnnBackend")
    assert QNN in str(caught.value)


def test_other_versions_are_refused(monkeypatch, tmp_path):
    class Other:
        version = "1.6.0+cpu"

        def locate_file(self, path):
            return tmp_path / path

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Other())
    with pytest.raises(fse.ExecutorchError, match=r"of ExecuTorch 1\.6\.0.* built with 1\.5\.1.*pip install") as caught:
        fse.load_backend("OpenvinoBackend")
    assert caught.value.name == "NotSupported"
    folder = tmp_path / "executorch" / "lib"
    folder.mkdir(parents=True)
    (folder / QNN).write_bytes(b"")
    (folder.parent / "version.py").write_text("from typing import Optional\n__version__: str = '1.4.0'\n")
    with pytest.raises(fse.ExecutorchError, match=r"of ExecuTorch 1\.4\.0"):
        fse.load_backend("QnnBackend", folder)


def test_a_package_without_the_library(monkeypatch, tmp_path):
    class Bare:
        version = "1.5.1"

        def locate_file(self, path):
            return tmp_path / path

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Bare())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=rf"1\.5\.1 has no {QNN}.*Give the path"):
        fse.load_backend("QnnBackend")


@pytest.mark.parametrize(
    ("name", "missing", "remedy"),
    [
        ("QnnBackend", r"libQnnHtp\.so or libQnnGpu\.so or libQnnLpai\.so", "AI Engine Direct.*LD_LIBRARY_PATH"),
        ("OpenvinoBackend", r"libopenvino_c\.so", "pip install 'openvino.*OPENVINO_LIB_PATH"),
    ],
)
def test_missing_vendor_libraries_are_named(libraries, no_vendor, name, missing, remedy):
    with pytest.raises(OSError, match=rf"needs {missing} \(.*No such file.*\)\. .*{remedy}"):
        fse.load_backend(name)
    assert name not in fse.available_backends()


def test_libraries_that_do_not_load_are_named(libraries, tmp_path):
    (tmp_path / "text.so").write_text("not a library" * 100)
    with pytest.raises(OSError, match=r"text\.so of the backend 'OddBackend' cannot be loaded \(.*invalid ELF header"):
        fse.load_backend("OddBackend", tmp_path / "text.so")
    contents = (libraries / OPENVINO).read_bytes()
    lacking = contents.replace(b"\0libdl.so.2\0", b"\0libzz.so.2\0")
    assert lacking != contents
    (tmp_path / "lacking.so").write_bytes(lacking)
    with pytest.raises(OSError, match=r"cannot be loaded \(libzz\.so\.2: .*No such file.*LD_LIBRARY_PATH"):
        fse.load_backend("OddBackend", tmp_path / "lacking.so")


@pytest.mark.parametrize("given", ["nothing", "folder", "file"])
def test_a_loaded_backend_shares_the_runtime(libraries, vendor, given):
    if not (libraries / QNN).is_file():
        pytest.skip(f"the installed executorch package has no {QNN}")
    path = {"nothing": "", "folder": libraries, "file": libraries / QNN}[given]
    out = child(
        """
        import sys
        from pathlib import Path
        import fastserve_executorch as fse

        assert "QnnBackend" not in fse.available_backends()
        print(fse.load_backend("QnnBackend", sys.argv[1] or None), fse.load_backend("QnnBackend"))
        print(fse.available_backends())
        maps = Path("/proc/self/maps").read_text().splitlines()
        print({line.split()[-1] for line in maps if line.endswith("/libexecutorch.so")})
        print("executorch" in sys.modules)
        """,
        path,
        LD_LIBRARY_PATH=str(vendor),
    )
    loaded, backends, runtimes, imported = out.splitlines()
    assert loaded == "True True"
    assert backends == "['QnnBackend', 'XnnpackBackend']"
    assert runtimes == str({str(Path(fse.__file__).with_name("libexecutorch.so"))})
    assert imported == "False"


def test_a_vendor_library_of_another_kind_is_no_backend(libraries, vendor):
    out = child(
        """
        import fastserve_executorch as fse

        print(fse.load_backend("OpenvinoBackend"), fse.available_backends())
        """,
        OPENVINO_LIB_PATH=str(vendor / "libopenvino_c.so"),
    )
    assert out == "False ['XnnpackBackend']"


def test_openvino_of_the_python_package(libraries):
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed")
    out = child("import fastserve_executorch as fse; print(fse.load_backend('OpenvinoBackend'))", OPENVINO_LIB_PATH="")
    assert out == "True"


@pytest.mark.parametrize("name", ["QnnBackend", "OpenvinoBackend", "NowhereBackend"])
def test_a_program_that_lacks_a_backend_says_what_to_do(programs, name):
    def text(value):
        return len(value).to_bytes(4, "little") + value

    contents = (programs / "linear.pte").read_bytes()
    there, other = (text(word.encode()).ljust(20, b"\0") for word in ("XnnpackBackend", name))
    assert there in contents
    contents = contents.replace(there, other)
    with fse.Program(contents) as program:
        assert program.methods["forward"].backends == (name,)
        with pytest.raises(fse.ExecutorchError, match=rf"NotFound.*{name}.*load_backend\('{name}'\) first, or export"):
            program.load()
