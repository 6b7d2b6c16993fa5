"""What one process says of a checkpoint, the other reads."""

from __future__ import annotations

import pytest

from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.models.checkpoint_source import checkpoint_of, source_of
from fastserve_runtime.errors import UsageError


def test_the_source_of_a_job_names_the_checkpoint_that_it_was_made_of(folder) -> None:
    checkpoint = read_checkpoint(folder())
    assert checkpoint_of(source_of(checkpoint, 512, allow_pickle=False, trust_remote_code=False)) == checkpoint


def test_more_tokens_than_the_checkpoint_has_positions_are_refused(folder) -> None:
    source = source_of(read_checkpoint(folder()), 513, allow_pickle=False, trust_remote_code=False)
    with pytest.raises(UsageError, match="513"):
        checkpoint_of(source)


def test_pickles_are_read_where_the_source_allows_it(folder) -> None:
    checkpoint = read_checkpoint(folder(weights="pytorch_model.bin"), allow_pickle=True)
    assert checkpoint_of(source_of(checkpoint, 8, allow_pickle=True, trust_remote_code=False)) == checkpoint
    with pytest.raises(UsageError, match="pickle"):
        checkpoint_of(source_of(checkpoint, 8, allow_pickle=False, trust_remote_code=False))
