"""A package of another's brings a part of each kind, written with the `api` modules alone; no file of ours knows it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from command_line import FASTSERVE

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
OURS = re.compile(r"^\s*(?:from|import) (fastserve\w*(?:\.[\w.]+)?)", re.MULTILINE)
FACES = {"fastserve.api", "fastserve_converters.api", "fastserve_device_tests.api", "fastserve_runtime.api"}

TASK = '''
"""Hidden states."""

from fastserve_converters.api import ModelOutput

HEADS = ()
IN_ANY_MODEL = True
AUTO_CLASS = "AutoModel"
UNUSED = ("pooler",)
MODEL = "encoder"
HAS_LABELS = POOLS = RANKS = False
PAIRS = "never"


def outputs(checkpoint):
    return (ModelOutput("last_hidden_state", "last_hidden_state", ("batch", "tokens", "channels")),)


def settings(checkpoint):
    return {"shout": checkpoint.family.name.upper()}


def label_kind(checkpoint):
    return None


def reference_outputs(model, checkpoint, inputs):
    return {"last_hidden_state": model(**inputs).last_hidden_state}
'''

PIPELINE = '''
"""Gives each text the number of its tokens, and is judged by how far the worst hidden state is off."""

from dataclasses import dataclass

from fastserve_runtime.api import (
    Quality,
    Results,
    TextPipeline,
    add_text_flags,
    check_encoder,
    given_samples,
    result_documents,
    result_table,
    text_options,
)

OUTPUT_KINDS = {"last_hidden_state": "hidden"}


@dataclass(frozen=True)
class Counted:
    tokens: int
    shout: str


class Counting(TextPipeline):
    task = "token-counting"

    def __init__(self, session, preprocessor, settings):
        super().__init__(session, preprocessor)
        self.shout = settings["shout"]

    def __call__(self, inputs, *, long_text="truncate", prompt=None):
        texts, is_one = self._samples(inputs)
        windows, outputs = self._outputs(texts, long_text, prompt)
        counted = [Counted(int(row.sum()), self.shout) for row in windows.tensors["attention_mask"]]
        return counted[0] if is_one else counted


def open_pipeline(session, preprocessor, settings):
    return Counting(session, preprocessor, settings)


def check_manifest(manifest):
    check_encoder(manifest, OUTPUT_KINDS)


def quality(compared):
    reference, actual = compared.first_outputs()
    value = 1 - float(abs(reference - actual)[:, 0].max())  # what padding gives means nothing
    return Quality("one less the worst", value, value, value, len(reference))


def add_run_flags(parser):
    add_text_flags(parser)
    parser.add_argument("--whisper", action="store_true", help="In small letters.")


def run_arguments(pipeline, arguments):
    samples = given_samples(arguments)
    documents = result_documents(samples, pipeline(samples, **text_options(arguments)))
    outputs = [document["output"] for document in documents]
    for output in outputs if arguments.whisper else ():
        output["shout"] = output["shout"].lower()
    cells = [(str(output["tokens"]), output["shout"]) for output in outputs]
    return Results(documents, (result_table(documents, ("tokens", "shout"), cells, ("tokens",)),))
'''

LOWERING = '''
"""The torch program itself, for a chip that nobody has."""

from collections import Counter

from fastserve_converters.api import FP32, Artifact, Lowered, count_operators, write_layer_map
from fastserve_runtime.api import ExpectedPlacement, Graph, Requirement

TARGET = "pt2:chip"
FORMAT = "pt2"
TOOLS = MODULES = ("torch",)
PRECISIONS = {"fp32": FP32}


def lower(job):
    import torch

    torch.export.save(job.part.program, job.out / "model.pt2")
    write_layer_map(job.out, {})
    program = job.part.program.module()

    def trusted(sample):
        with torch.inference_mode():
            found = program(**{name: torch.tensor(value) for name, value in sample.items()})
        return {name: value.numpy() for name, value in found.items()}

    artifact = Artifact(
        files=("model.pt2",),
        graphs={"main": Graph("model.pt2", "main", job.part.signature)},
        operators=count_operators(Counter({("aten", "all", 1): 1})),
        expected_placement=ExpectedPlacement("npu", "the chip", 1, 1),
        requires=Requirement("chip-engine", "1.0", (), ()),
    )
    return Lowered(artifact, trusted, "PyTorch", {"operators": {"npu": 1, "cpu": {}}})
'''

CHIP = '''
"""The chip, which nothing here executes."""

from fastserve_device_tests.api import Needs, nothing_executes

NAME = "pt2:chip"
PROCESSOR = "npu"
EXECUTED_BY = "compile-only"
FORMAT = "pt2"
BACKEND = "the chip"
PRECISIONS = {"fp32": "fp32"}
OWN_ARTIFACT = True
engine = nothing_executes(NAME)


def needs():
    return Needs()
'''

DEVICE = '''
"""A machine that is this one by another name."""

from fastserve.api import OUTPUTS, EngineThere
from fastserve_runtime.api import this_machine

NAME = "attic"


def machine():
    return this_machine()


def engine(format_name):
    return EngineThere("attic-" + format_name, "1.0")


def measure(out, job):
    raise NotImplementedError(OUTPUTS)
'''

PLANNER = '''
"""Everything that is wanted, one variant after the other."""

from fastserve.api import Planner, Space


class OneByOne(Planner):
    def __init__(self, space: Space) -> None:
        self.space = space

    def propose(self, seen, budget):
        known = {candidate.recipe for candidate in seen}
        return [recipe for recipe in self.space.recipes(mixed=False) if recipe not in known][:1]


def open_planner(space, budget):
    return OneByOne(space)
'''


def install(site: Path, name: str, modules: Mapping[str, str], entries: Mapping[str, Mapping[str, str]]) -> None:
    """Put a package where Python finds it, as its wheel would lie there."""
    (site / name).mkdir(parents=True)
    (site / name / "__init__.py").write_text("")
    for module, source in modules.items():
        assert set(OURS.findall(source)) <= FACES, module
        (site / name / f"{module}.py").write_text(source)
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
    lines = [f"[{group}]\n" + "".join(f"{n} = {name}.{m}\n" for n, m in own.items()) for group, own in entries.items()]
    (info / "entry_points.txt").write_text("".join(lines))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the page, and one with the other kinds of part."""
    site = tmp_path_factory.mktemp("site")
    page = PAGE.read_text(encoding="utf-8")
    blocks = dict(re.findall(r"^`fastserve_pt2/(\w+)\.py`:\n\n```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    assert set(blocks) == {"format", "engine", "target"}
    install(
        site,
        "fastserve_pt2",
        blocks,
        {
            "fastserve.formats": {"pt2": "format"},
            "fastserve_runtime.engines": {"torch-export": "engine"},
            "fastserve.targets": {"pt2-cpu": "target"},
        },
    )
    install(
        site,
        "attic_parts",
        {"task": TASK, "pipeline": PIPELINE, "lowering": LOWERING, "chip": CHIP, "device": DEVICE, "planner": PLANNER},
        {
            "fastserve.tasks": {"token-counting": "task"},
            "fastserve_runtime.pipelines": {"token-counting": "pipeline"},
            "fastserve.lowerings": {"pt2-chip": "lowering"},
            "fastserve.targets": {"pt2-chip": "chip"},
            "fastserve.devices": {"attic": "device"},
            "fastserve.planners": {"one-by-one": "planner"},
        },
    )
    return site


@pytest.fixture(scope="module")
def environment(site: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}


@pytest.fixture(scope="module")
def bundle(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """A bundle that every part but the device had a hand in."""
    folder = tmp_path_factory.mktemp("made")
    words = ["-o", folder / "made.fsb", "--task", "token-counting", "--seq-len", "16", "--format", "pt2"]
    words += [
        "--planner",
        "one-by-one",
        "--target",
        "pt2:chip",
        "--keep",
        "all",
        "--cache-dir",
        folder / "cache",
        "--json",
    ]
    made = command(environment, "export", tiny_bert, *words)
    assert made["chosen"] == "pt2-fp32"
    assert made["variants"][0]["quality"]["name"] == "one less the worst"
    return folder / "made.fsb"


def command(environment: dict[str, str], *words: str | Path) -> Any:
    done = subprocess.run(
        [*FASTSERVE, *map(str, words)], capture_output=True, text=True, check=False, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


def test_a_format_an_engine_a_task_and_its_pipeline(bundle: Path, environment: dict[str, str]) -> None:
    found = command(environment, "run", bundle, "one", "a longer text", "--json")
    assert [d["output"]["shout"] for d in found] == ["BERT", "BERT"]
    assert 0 < found[0]["output"]["tokens"] < found[1]["output"]["tokens"]
    assert command(environment, "run", bundle, "one", "--whisper", "--json")[0]["output"]["shout"] == "bert"
    shown = subprocess.run(
        [*FASTSERVE, "run", str(bundle), "one"], capture_output=True, text=True, check=True, env=environment
    )
    assert re.search(r"tokens.*shout", shown.stdout)
    assert re.search(r"one.*BERT", shown.stdout)
    verdicts = command(environment, "verify", bundle, "--json")["verdicts"]
    own = [v for v in verdicts if v["variant"] == "pt2-fp32"]
    assert {(v["target"], v["outcome"]) for v in own} == {("pt2", "PASS"), ("torch-export", "PASS")}


def test_targets_and_a_lowering(bundle: Path, environment: dict[str, str]) -> None:
    manifest = command(environment, "inspect", bundle, "--json")["manifest"]
    assert [v["target"] for v in manifest["variants"] if v.get("target")] == ["pt2:chip"]
    verdicts = command(environment, "conform", bundle, "--target", "pt2:cpu,pt2:chip", "--json")["verdicts"]
    outcomes = {(v["target"], v["outcome"]) for v in verdicts}
    assert ("pt2:cpu", "PASS") in outcomes
    assert {target for target, _ in outcomes} == {"pt2:cpu", "pt2:chip"}
    assert {outcome for _, outcome in outcomes} <= {"PASS", "NOT_RUN"}


def test_a_device(environment: dict[str, str]) -> None:
    code = "from fastserve.devices import DEVICES; print(DEVICES.load('attic').machine().architecture)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip()


def test_without_the_package_its_parts_are_not_known(bundle: Path) -> None:
    done = subprocess.run([*FASTSERVE, "verify", str(bundle)], capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "'token-counting', which is not known here" in done.stderr
