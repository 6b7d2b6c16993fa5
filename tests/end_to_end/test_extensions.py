"""A package of another's brings a part of each kind, written with the `api` modules alone; no file of ours knows it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from command_line import FASTSERVE

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
OURS = re.compile(r"^\s*(?:from|import) (fastserve\w*(?:\.[\w.]+)?)", re.MULTILINE)
ROUNDED = "pt2-fp32-after-rounded-steps-256"
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

TOASTER = '''
"""A toaster whose vendor has a compiler, which copies the file."""

import shutil

from fastserve_device_tests.api import Compiled, Needs, graphs_in, nothing_executes
from fastserve_runtime.api import ExpectedPlacement, Requirement

NAME = "pt2:toaster"
PROCESSOR = "npu"
EXECUTED_BY = "compile-only"
FORMAT = "pt2"
BACKEND = "the toaster"
PRECISIONS = {"fp32": "fp32"}
COMPILED_BY = ("torch",)
engine = nothing_executes(NAME)


def needs():
    return Needs()


def compile_model(model, variant, out):
    shutil.copyfile(model, out / "model.toast")
    count = sum(operator.count for operator in variant.operators)
    return Compiled(
        format="toast",
        files=("model.toast",),
        graphs=graphs_in("model.toast", variant.graphs),
        operators=variant.operators,
        expected_placement=ExpectedPlacement(PROCESSOR, BACKEND, count, count),
        requires=Requirement("toaster", "1.0", (), ()),
        report={"operators": {"npu": count, "cpu": {}}, "bytes": (out / "model.toast").stat().st_size},
    )
'''

DEVICE = '''
"""A machine that is this one by another name, and runs torch programs alone."""

from dataclasses import replace

from fastserve.api import OUTPUTS, EngineThere
from fastserve_pt2 import engine as torch_export
from fastserve_runtime.api import EnvironmentFailure, measured_model, parse_graphs, this_machine

NAME = "attic"


def machine():
    return this_machine()


def engine(format_name):
    if format_name != torch_export.FORMAT:
        raise EnvironmentFailure(f"Nothing in the attic runs {format_name}.", "Export pt2.")
    return EngineThere("attic-torch", torch_export.version(), torch_export)


def measure(out, job):
    import numpy as np

    with np.load(job.inputs, allow_pickle=False) as arrays:
        inputs = dict(arrays)
    graphs = parse_graphs(job.graphs)
    measuring = measured_model(
        job.task, torch_export, job.model, graphs, inputs, threads=job.threads, min_seconds=0.1, max_seconds=0.2
    )
    with measuring as measured:
        outputs, _ = measured.workload.run_all()
    np.savez(out / OUTPUTS, **outputs)
    return replace(measured.measurement, engine="attic-torch", status="emulated")
'''

PASS = '''
"""Weights of few digits."""

from dataclasses import dataclass

from fastserve_converters.api import PassReport, load_model, write_checkpoint
from fastserve_runtime.api import UsageError

TOOLS = ()
READS_SAMPLES = False


@dataclass(frozen=True)
class Rounded:
    steps: int = 64

    def __post_init__(self):
        if self.steps < 1:
            raise UsageError(f"Weights cannot be rounded to {self.steps} steps.", "Ask for at least 1.")

    def check(self, checkpoint):
        if checkpoint.family.name != "BERT":
            raise UsageError(f"A {checkpoint.family.name} is not rounded.", "Leave the pass out.")

    def apply(self, job):
        import torch

        model = load_model(job.checkpoint)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_((parameter * self.steps).round() / self.steps)
        write_checkpoint(job.out, job.checkpoint, model, {})
        return PassReport((f"Weights are multiples of 1/{self.steps}.",), {"steps": self.steps})


PASS = Rounded
'''

LETTERS = '''
"""Each character of a line is a token: on a device."""

import numpy as np


def tensors(lines, length):
    ids, mask = np.zeros((len(lines), length), np.int32), np.zeros((len(lines), length), np.float32)
    for row, line in enumerate(lines):
        codes = [5 + ord(character) % 700 for character in line[:length]]
        ids[row, : len(codes)] = codes
        mask[row, : len(codes)] = 1
    return {"input_ids": ids, "attention_mask": mask}


class Letters:
    def __init__(self, length):
        self.length = length

    def raw_inputs(self, golden):
        return [str(text) for text in golden.texts]

    def differing(self, golden):
        now = tensors(self.raw_inputs(golden), self.length)
        return [name for name, values in now.items() if not np.array_equal(values, golden.inputs[name])]


def open_preprocessor(preprocessing, read):
    return Letters(preprocessing.settings["length"])
'''

LETTERS_OF_DATA = '''
"""The same in an export: lines of files."""

from attic_parts.letters import tensors
from fastserve_converters.api import PreparedInputs


def read(data, model):
    return [line for path in data.files.paths for line in path.read_text().splitlines()]


def divide(samples, model, seed):
    return samples[: len(samples) // 2], samples[len(samples) // 2 :]


def prepare(divided, model, out):
    evaluation, calibration = divided
    goldens = evaluation[:2]
    return PreparedInputs(
        preprocessing={"kind": "letters", "settings": {"length": model.length}},
        evaluation=tensors(evaluation, model.length),
        golden=tensors(goldens, model.length),
        calibration=tensors(calibration, model.length),
        goldens=[{"text": line, "kind": "short", "realistic": True} for line in goldens],
        samples=len(evaluation),
        calibration_samples=len(calibration),
    )
'''

LETTERS_PIPELINE = '''
"""Gives each line the number of its letters, and their hidden states' mean."""

from dataclasses import dataclass

from attic_parts.letters import tensors
from fastserve_runtime.api import Quality

OUTPUT_KINDS = {"last_hidden_state": "hidden"}


@dataclass(frozen=True)
class Line:
    letters: int
    mean: float


class Reading:
    task = "letter-reading"

    def __init__(self, session, preprocessor):
        self.session, self.preprocessor = session, preprocessor

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        self.session.close()

    def __call__(self, inputs, **options):
        is_one = isinstance(inputs, str)
        found = [self._read(line) for line in ([inputs] if is_one else inputs)]
        return found[0] if is_one else found

    def _read(self, line):
        given = tensors([line], self.preprocessor.length)
        count = int(given["attention_mask"].sum())
        states = self.session.run(given)["last_hidden_state"]
        return Line(count, float(states[0, :count].mean()))


def open_pipeline(session, preprocessor, settings):
    return Reading(session, preprocessor)


def quality(compared):
    reference, actual = compared.first_outputs()
    value = 1 - float(abs(reference - actual)[:, 0].max())
    return Quality("one less the worst", value, value, value, len(reference))
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
        assert set(OURS.findall(source)) - {"fastserve_pt2"} <= FACES, module
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
        {
            "task": TASK,
            "pipeline": PIPELINE,
            "lowering": LOWERING,
            "chip": CHIP,
            "toaster": TOASTER,
            "device": DEVICE,
            "planner": PLANNER,
            "rounded": PASS,
            "letters": LETTERS,
            "letters_of_data": LETTERS_OF_DATA,
            "letters_task": TASK + 'INPUTS = "letters"\n',
            "letters_pipeline": LETTERS_PIPELINE,
        },
        {
            "fastserve.tasks": {"token-counting": "task", "letter-reading": "letters_task"},
            "fastserve_runtime.pipelines": {"token-counting": "pipeline", "letter-reading": "letters_pipeline"},
            "fastserve.lowerings": {"pt2-chip": "lowering"},
            "fastserve.targets": {"pt2-chip": "chip", "pt2-toaster": "toaster"},
            "fastserve.devices": {"attic": "device"},
            "fastserve.planners": {"one-by-one": "planner"},
            "fastserve.passes": {"rounded": "rounded"},
            "fastserve_runtime.preprocessors": {"letters": "letters"},
            "fastserve.inputs": {"letters": "letters_of_data"},
        },
    )
    return site


@pytest.fixture(scope="module")
def environment(site: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}


@pytest.fixture(scope="module")
def made(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Any:
    """What an export told that every part but those of inputs had a hand in."""
    folder = tmp_path_factory.mktemp("made")
    words = ["-o", folder / "made.fsb", "--task", "token-counting", "--seq-len", "16", "--format", "pt2"]
    words += ["--target", "pt2:chip,pt2:toaster", "--planner", "one-by-one", "--device", "attic"]
    words += ["--pass", "rounded:steps=256", "--keep", "all", "--cache-dir", folder / "cache", "--json"]
    return command(environment, "export", tiny_bert, *words)


@pytest.fixture(scope="module")
def bundle(made: Any) -> Path:
    return Path(made["bundle"])


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
    own = [v for v in verdicts if v["variant"] == ROUNDED]
    assert {(v["target"], v["outcome"]) for v in own} == {("pt2", "PASS"), ("torch-export", "PASS")}


def test_targets_a_lowering_and_a_compiler(bundle: Path, environment: dict[str, str]) -> None:
    manifest = command(environment, "inspect", bundle, "--json")["manifest"]
    assert [v["target"] for v in manifest["variants"] if v.get("target")] == ["pt2:chip", "pt2:toaster"]
    assert [v["format"] for v in manifest["variants"]] == ["pt2", "pt2", "toast"]
    targets = "pt2:cpu,pt2:chip,pt2:toaster"
    verdicts = command(environment, "conform", bundle, "--target", targets, "--json")["verdicts"]
    outcomes = {(v["target"], v["outcome"]) for v in verdicts}
    assert ("pt2:cpu", "PASS") in outcomes
    assert {target for target, _ in outcomes} == set(targets.split(","))
    assert {outcome for _, outcome in outcomes} <= {"PASS", "NOT_RUN"}


def test_a_device_measures(made: Any) -> None:
    measurement = next(v for v in made["variants"] if v["target"] is None)["measurement"]
    assert measurement["engine"] == "attic-torch"
    assert measurement["status"] == "emulated"
    assert measurement["latency"]["queries"] > 0


def test_a_pass_changes_what_is_exported(made: Any, bundle: Path, environment: dict[str, str]) -> None:
    assert made["chosen"] == ROUNDED
    assert "Weights are multiples of 1/256." in made["notes"]
    quality = made["variants"][0]["quality"]
    assert quality["name"] == "one less the worst"
    assert 0 < 1 - quality["value"] < 1
    (variant, *_) = command(environment, "inspect", bundle, "--json")["manifest"]["variants"]
    assert variant["recipe"]["passes"] == [{"name": "rounded", "settings": {"steps": 256}}]


def test_a_kind_of_input(tiny_bert: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    data, folder = tmp_path / "lines.txt", tmp_path / "letters.fsb"
    data.write_text("\n".join(f"line {number} of many" for number in range(16)))
    words = ["-o", folder, "--task", "letter-reading", "--seq-len", "16", "--format", "pt2", "--device", "attic"]
    made = command(
        environment, "export", tiny_bert, *words, "--data", data, "--cache-dir", tmp_path / "cache", "--json"
    )
    assert made["variants"][0]["quality"]["samples"] == 8
    manifest = command(environment, "inspect", folder, "--json")["manifest"]
    assert manifest["preprocessing"] == {"kind": "letters", "settings": {"length": 16}, "files": []}
    (found,) = command(environment, "run", folder, "four", "--json")
    assert found["output"]["letters"] == 4
    verdicts = command(environment, "verify", folder, "--json")["verdicts"]
    assert {v["outcome"] for v in verdicts} == {"PASS"}


def test_without_the_package_its_parts_are_not_known(bundle: Path) -> None:
    done = subprocess.run([*FASTSERVE, "verify", str(bundle)], capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "'token-counting', which is not known here" in done.stderr
