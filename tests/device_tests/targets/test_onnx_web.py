"""ONNX Runtime Web computes right in Chromium, in WebAssembly and with WebGPU; a page that dies is an error."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from fastserve_device_tests.suite.target_process import check_in_process, check_variant
from fastserve_device_tests.targets import load_target
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.conformance.verdict import Outcome, Verdict
from fastserve_runtime.errors import EnvironmentFailure
from fastserve_runtime.sessions.session import Session
from fastserve_runtime.sessions.tensors import zero_inputs
from fastserve_runtime.variants import open_variant
from manifests import CHECKS, MODEL, file_entries, text_bundle, text_model, write_directory

WASM, WEBGPU = load_target("onnx:web-wasm"), load_target("onnx:web-webgpu")
BOTH = pytest.mark.parametrize("target", [WASM, WEBGPU], ids=["wasm", "webgpu"])
LACKING = WASM.needs().missing()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(LACKING), reason=f"{' and '.join(LACKING)} is missing: {'; '.join(LACKING.values())}"),
]


def by_check(verdicts: list[Verdict]) -> dict[str, Verdict]:
    return {verdict.check: verdict for verdict in verdicts}


def opened(tmp_path: Path, target) -> Session:
    location = write_directory(tmp_path / "text.fsb", *text_bundle())
    with open_bundle(location) as bundle:
        found = bundle.manifest.variant("first")
        return open_variant(bundle, found, target.engine(found))


def children(pid: int) -> list[int]:
    """All processes that one started, and those started."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *children(child)]
    return found


@BOTH
def test_an_encoder_runs_there_as_a_whole_and_right(onnx_bundle: Path, target) -> None:
    found = by_check(check_in_process(onnx_bundle, "onnx-fp32", target))
    assert {check: found[check].outcome for check in CHECKS} == dict.fromkeys(CHECKS, Outcome.PASS)
    assert found["executor"].figures["largest_error"] > 0, "these are not the native engine's numbers"


def test_operators_that_no_shader_computes_are_counted(onnx_bundle: Path) -> None:
    found = by_check(check_in_process(onnx_bundle, "onnx-a16w8", WEBGPU))
    placement = found["placement"]
    assert placement.outcome is Outcome.FELL_BACK
    assert placement.figures["found"] > 0
    assert placement.figures["elsewhere"] > 0


@BOTH
def test_other_weights_are_a_mismatch(
    spoil: Callable[..., Path], negate_a_layer: Callable[[onnx.ModelProto], None], target
) -> None:
    found = by_check(check_in_process(spoil("onnx-a16w8", negate_a_layer), "onnx-a16w8", target))
    assert found["quality"].outcome is Outcome.OUTPUT_MISMATCH
    assert found["determinism"].outcome is Outcome.PASS


@BOTH
def test_a_model_of_a_newer_operator_set_is_refused_with_both_versions(tmp_path: Path, target) -> None:
    model = onnx.load_from_string(text_model())
    model.opset_import[0].version = 99
    document, contents = text_bundle()
    contents[MODEL] = model.SerializeToString()
    document["files"] = file_entries(contents)
    (verdict,) = check_variant(write_directory(tmp_path / "new.fsb", document, contents), "first", target)
    assert verdict.outcome is Outcome.LOAD_FAILED
    assert "99" in verdict.message
    assert "1.30.0" in verdict.message


def test_a_page_that_crashes_is_an_error_and_its_browser_is_ended(tmp_path: Path) -> None:
    with opened(tmp_path, WASM) as session:
        started = children(os.getpid())
        renderers = [p for p in started if b"--type=renderer" in Path(f"/proc/{p}/cmdline").read_bytes()]
        assert renderers
        for pid in renderers:
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(EnvironmentFailure, match="The page is gone"):
            session.run(zero_inputs(session.graphs["main"]))
    for _ in range(50):
        if not children(os.getpid()):
            break
        time.sleep(0.1)
    assert not children(os.getpid())


def test_a_browser_that_dies_is_an_error(tmp_path: Path) -> None:
    with opened(tmp_path, WASM) as session:
        os.kill(children(os.getpid())[0], signal.SIGKILL)
        with pytest.raises(EnvironmentFailure, match=r"The page is gone|The browser ended with exit code -9"):
            session.run(zero_inputs(session.graphs["main"]))
