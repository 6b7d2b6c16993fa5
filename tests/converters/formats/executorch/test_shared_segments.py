"""Segments whose bytes are among a program's constants take no room of their own."""

from __future__ import annotations

import struct

import flatbuffers
import pytest

from fastserve_converters.formats.executorch.shared_segments import (
    MIN_SHARED,
    Segment,
    found_among,
    with_shared_segments,
    without,
)

TABLE = bytes(range(256)) * (MIN_SHARED // 256)


def test_segments_are_found_at_the_places_of_constants_only() -> None:
    other = TABLE[::-1]
    data = memoryview(b"----" + TABLE + other + TABLE + other + TABLE[:16])
    segments = {
        1: Segment(4 + 2 * MIN_SHARED, MIN_SHARED),
        2: Segment(4 + 3 * MIN_SHARED, MIN_SHARED),
        3: Segment(4 + 4 * MIN_SHARED, 16),
    }
    end = 4 + 2 * MIN_SHARED
    assert found_among(data, segments, [0, 4], end) == {1: 4}
    assert found_among(data, segments, [4, 4 + MIN_SHARED], end) == {1: 4, 2: 4 + MIN_SHARED}
    # Not where the constants end within it.
    assert found_among(data, segments, [4, 4 + MIN_SHARED], end - 1) == {1: 4}


def test_what_is_left_moves_together_at_the_alignment_of_segments() -> None:
    segments = [Segment(0, 300), Segment(384, 1000), Segment(1408, 10), Segment(1536, 5)]
    assert without(segments, {}) == [0, 384, 1408, 1536]
    assert without(segments, {1: 16}) == [0, 16, 384, 512]
    assert without(segments, {1: 16, 3: 32}) == [0, 16, 384, 32]


def program_without_segments() -> bytes:
    builder = flatbuffers.Builder()
    builder.StartObject(8)
    builder.Finish(builder.EndObject(), b"ET12")
    content = bytes(builder.Output())
    header = b"eh00" + struct.pack("<IQQQ", 32, 0, 0, 0)
    root = struct.unpack_from("<I", content)[0] + len(header)
    return struct.pack("<I", root) + content[4:8] + header + content[8:]


def test_a_program_without_segments_stays_as_it_is() -> None:
    content = program_without_segments()
    assert with_shared_segments(content) == content


@pytest.mark.parametrize("shared", [True, False])
def test_a_real_program_runs_as_before(shared, tmp_path) -> None:
    import numpy as np
    import torch
    from executorch.exir import to_edge_transform_and_lower

    from fastserve_converters.formats.executorch.delegation import xnnpack_partitioner
    from fastserve_runtime.engines import executorch as engine

    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Parameter(torch.randn(64, 32, generator=torch.Generator().manual_seed(0)))
            head = self.table.detach().clone()
            self.head = torch.nn.Parameter(head if shared else head + 1)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.linear(torch.nn.functional.embedding(ids, self.table), self.head)

    module, ids = Tied().eval(), torch.tensor([3, 1, 63])
    program = to_edge_transform_and_lower(torch.export.export(module, (ids,)), partitioner=[xnnpack_partitioner()])
    whole = program.to_executorch().buffer
    smaller = with_shared_segments(whole)
    # Padding in between may go as well.
    assert (len(whole) - len(smaller)) // 128 == (64 * 32 * 4 // 128 if shared else 0)
    (tmp_path / "model.pte").write_bytes(smaller)
    with engine.open_session(tmp_path / "model.pte", None, threads=1) as session:
        (found,) = session.run({"input_0": ids.numpy()}).values()
    np.testing.assert_allclose(found, module(ids).detach().numpy(), atol=1e-5)
