"""Which models passes change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from checkpoints import save_checkpoint
from decoder_checkpoints import save_decoder_checkpoint
from fastserve.exporting.pass_checks import check_passes
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.pass_words import parse_passes
from fastserve_converters.programs.torch_program import TorchProgram
from fastserve_runtime.errors import UsageError

PASSES = parse_passes(["drop-layers:keep=1"])


def test_an_encoder_is_taken(tmp_path: Path) -> None:
    check_passes(PASSES, read_checkpoint(save_checkpoint(tmp_path / "model")))


def test_without_passes_anything_is(tmp_path: Path) -> None:
    check_passes((), read_checkpoint(save_decoder_checkpoint(tmp_path / "model", layers=1)))


def test_a_model_that_generates_text_is_refused(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(save_decoder_checkpoint(tmp_path / "model", layers=1))
    with pytest.raises(UsageError, match=r"\(drop-layers:keep=1\), and the model generates text"):
        check_passes(PASSES, checkpoint)


def test_code_of_the_checkpoints_own_is_refused(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(save_checkpoint(tmp_path / "model"))
    own = replace(checkpoint, config={**checkpoint.config, "auto_map": {"AutoModel": "own.Model"}})
    with pytest.raises(UsageError, match="needs code of its own"):
        check_passes(PASSES, own)


def test_a_program_is_refused() -> None:
    with pytest.raises(UsageError, match="the model is a torch program"):
        check_passes(PASSES, object.__new__(TorchProgram))  # nothing of it is looked at


def test_each_pass_is_asked(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(save_checkpoint(tmp_path / "model", sentence=True))
    with pytest.raises(UsageError, match="was to keep 7 layers, and the model has 2"):
        check_passes(parse_passes(["trim-vocabulary", "drop-layers:keep=7"]), checkpoint)
