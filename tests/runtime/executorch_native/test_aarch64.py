"""The package built for 64-bit ARM computers, run under emulation."""

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from emulated import arm_system, emulator, install_for_arm

SOURCE = Path(__file__).parents[3] / "runtimes" / "executorch_native"
COMPILER = "aarch64-linux-gnu-g++"
NEWEST_GLIBC = 28  # that ExecuTorch's own libraries need

RUN_MODELS = """
    import platform, sys
    from pathlib import Path
    import numpy as np
    from fastserve_executorch import Program

    folder, result, threads = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) or None
    values = {}
    for file in sorted(folder.glob("*.pte")):
        with Program(file, threads=threads) as program:
            for name, method in program.methods.items():
                described = [(v.kind, v.dtype, v.shape) for v in method.inputs]
                if sum(np.prod(shape) for _, _, shape in described) > 1e5 or "bfloat16" in {d for _, d, _ in described}:
                    continue
                chance = np.random.default_rng(7)
                inputs = [
                    (chance.random(shape) * 9).astype(dtype) if kind == "tensor" else 3
                    for kind, dtype, shape in described
                ]
                for turn in range(2):
                    for place, output in enumerate(program.run(name, inputs)):
                        values[f"{file.stem}.{name}.{turn}.{place}"] = output
    np.savez(result, **values)
    print(platform.machine())
"""


class Arm(NamedTuple):
    """A system of another architecture, which has the package and numpy."""

    root: Path
    python: Path
    packages: Path
    wheel: Path

    def run(self, code, *arguments, prefix=()):
        """Runs code there; returns the finished process."""
        script = self.packages.with_name("script.py")
        script.write_text(textwrap.dedent(code))
        command = [*prefix, shutil.which("qemu-aarch64"), "-L", self.root, self.python, script, *arguments]
        environment = {"PYTHONPATH": str(self.packages), "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin"}
        return subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, timeout=600, env=environment
        )


@pytest.fixture(scope="module")
def arm(tmp_path_factory):
    emulator("qemu-aarch64")
    for tool, package in ((COMPILER, "g++-aarch64-linux-gnu"), ("unshare", "util-linux")):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (Debian's package {package})")
    folder = tmp_path_factory.mktemp("aarch64")
    python, version = arm_system(folder, "numpy")
    command = [sys.executable, SOURCE / "build_wheel.py", "--arch", "aarch64", "--out", folder / "dist"]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-3000:]
    (wheel,) = (folder / "dist").iterdir()
    # By pip, which refuses wheels of other systems.
    install_for_arm(folder / "packages", version, str(wheel))
    return Arm(folder / "root", python, folder / "packages", wheel)


@pytest.mark.slow
def test_the_wheel_is_for_aarch64(arm):
    minor = sys.version_info.minor
    tag = f"cp3{minor}-cp3{minor}" if minor < 12 else "cp312-abi3"
    assert arm.wheel.name.endswith(f"-{tag}-linux_aarch64.whl")
    suffix = f"cpython-3{minor}-aarch64-linux-gnu" if minor < 12 else "abi3"
    extension = (arm.packages / "fastserve_executorch" / f"_native.{suffix}.so").read_bytes()
    assert extension[18:20] == b"\xb7\x00", "not an ELF file for AArch64"
    assert max(int(found) for found in re.findall(rb"GLIBC_2\.(\d+)", extension)) <= NEWEST_GLIBC


@pytest.mark.slow
@pytest.mark.parametrize(("which", "one"), [("programs", "linear.forward.1.0"), ("generation", "2_2_8.forward.1.0")])
@pytest.mark.parametrize("threads", [0, 1])
def test_models_give_there_what_they_give_here(arm, request, tmp_path, threads, which, one):
    folder = request.getfixturevalue(which)
    there = arm.run(RUN_MODELS, folder, tmp_path / "there.npz", threads)
    assert (there.returncode, there.stdout) == (0, "aarch64\n"), there.stderr[-3000:]
    command = [sys.executable, "-c", textwrap.dedent(RUN_MODELS), folder, tmp_path / "here.npz", threads]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    with np.load(tmp_path / "there.npz") as theirs, np.load(tmp_path / "here.npz") as ours:
        assert one in ours
        assert sorted(theirs) == sorted(ours)
        for name in ours:
            assert theirs[name].dtype == ours[name].dtype
            np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_without_sys_the_errors_say_so(arm, programs):
    hidden = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys && exec "$@"', "sh"]
    tried = subprocess.run([*hidden, "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"/sys cannot be hidden, which takes root: {tried.stderr.strip()}")
    done = arm.run(
        """
        import sys
        import numpy as np
        import fastserve_executorch as fse

        def attempt(call):
            try:
                call()
            except fse.ExecutorchError as error:
                print(error)

        for threads in (None, 1, 2):
            attempt(lambda: fse.Program(sys.argv[1] + "/linear.pte", threads=threads).load())
        attempt(fse.get_threads)
        with fse.Program(sys.argv[1] + "/growing.pte", threads=1) as program:
            print(program.run("forward", [np.ones((2, 3), np.float32)] * 2)[0].sum())
        """,
        programs,
        prefix=hidden,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    *messages, portable = done.stdout.splitlines()
    assert len(messages) == 4
    for message in messages:
        assert re.search(
            r"as /sys/devices/system/cpu/possible cannot be read\. Mount /sys .*start Python anew", message
        )
    assert portable == "12.0"
