import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_runtime.errors import BundleError
from fastserve_runtime.measurement.latency import Latency, latency_document, summarize
from fastserve_runtime.measurement.machine import Machine
from fastserve_runtime.measurement.measurement import (
    NOT_JUDGED,
    STATUSES,
    FirstToken,
    Measurement,
    Memory,
    SampleLatency,
    measurement_document,
    memory_between,
    parse_measurement,
)
from fastserve_runtime.measurement.memory import MemoryReading
from fastserve_runtime.sessions.session import Placement

SECONDS = st.floats(0, 1e6)
BYTES = st.integers(0, 2**40)


@st.composite
def latencies(draw):
    estimates = [draw(st.none() | SECONDS) for _ in range(3)]
    warnings = tuple(draw(st.lists(st.text(max_size=5), max_size=2)))
    return Latency(draw(st.integers(1, 1000)), draw(SECONDS), draw(SECONDS), draw(SECONDS), *estimates, warnings)


@st.composite
def measurements(draw):
    growth = st.none() | st.integers(-(2**40), 2**40)
    return Measurement(
        machine=Machine("CPU", draw(st.integers(1, 8)), "aarch64", ("neon",), draw(st.none() | BYTES), "Linux"),
        engine="litert",
        engine_version=draw(st.none() | st.just("2.3")),
        threads=draw(st.integers(1, 8)),
        brings_pytorch=draw(st.booleans()),
        import_seconds=draw(SECONDS),
        load_seconds=draw(SECONDS),
        first_inference_seconds=draw(SECONDS),
        memory=Memory(draw(st.none() | BYTES), draw(growth), draw(growth)),
        latency=draw(latencies()),
        items_per_second=draw(SECONDS),
        placement=Placement(draw(st.none() | st.just({"XNNPACK": 3})), "its log"),
        first_token=draw(st.none() | st.builds(FirstToken, st.integers(1, 128), latencies())),
        sample_latency=draw(st.none() | st.builds(SampleLatency, SECONDS, SECONDS, st.integers(1, 9))),
        status=draw(st.sampled_from(STATUSES)),
    )


@given(measurements())
def test_a_document_says_all_that_a_measurement_holds(measurement):
    document = json.loads(json.dumps(measurement_document(measurement), allow_nan=False))
    assert parse_measurement(document) == measurement


@given(measurements(), st.data())
def test_a_document_that_lacks_a_field_is_refused_by_its_name(measurement, data):
    document = measurement_document(measurement)
    optional = {"time_to_first_token", "sample_latency", "prompt_tokens"}
    name = data.draw(st.sampled_from(sorted(set(document) - optional)))
    del document[name]
    with pytest.raises(BundleError, match=f"measurement has no field '{name}'"):
        parse_measurement(document)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threads", "4"),
        ("load_seconds", None),
        ("load_seconds", math.nan),
        ("load_seconds", True),
        ("status", "guessed"),
    ],
)
def test_a_field_of_another_kind_is_refused(name, value):
    document = measurement_document(
        Measurement(
            Machine("CPU", 2, "x86_64", (), None, "Linux"),
            "onnxruntime",
            "1.0",
            1,
            *(False, 0.1, 0.1, 0.1),
            Memory(1, 1, 1),
            summarize([0.5] * 70),
            2.0,
            Placement(None, "its log"),
        )
    )
    with pytest.raises(BundleError, match=f"measurement.{name} is"):
        parse_measurement({**document, name: value})


@given(measurements())
def test_memory_with_pytorch_in_it_is_not_judged(measurement):
    assert replace(measurement, brings_pytorch=True).peak_memory is NOT_JUDGED
    assert replace(measurement, brings_pytorch=False).peak_memory == measurement.memory.peak


@given(measurements(), latencies())
def test_a_model_that_generates_text_has_two_times_and_others_one(measurement, first):
    assert replace(measurement, first_token=None).latencies == {"latency": measurement.latency}
    generating = replace(measurement, first_token=FirstToken(8, first))
    assert generating.latencies == {"ttft": first, "tpot": measurement.latency}


@given(latencies())
def test_an_upper_bound_is_the_longest_call_where_the_estimate_cannot_be_trusted(latency):
    trusted = latency.p90 is not None and not latency.warnings
    assert latency.upper_bound == (latency.p90 if trusted else latency.maximum)


def test_memory_is_the_peak_and_the_growth_of_each_kind():
    assert memory_between(MemoryReading(100, 40, 30), MemoryReading(120, 70, 20)) == Memory(120, 30, -10)


@pytest.mark.parametrize("missing", ["before", "after"])
def test_memory_that_the_system_does_not_tell_is_unknown(missing):
    known, unknown = MemoryReading(100, 40, 30), MemoryReading(None, None, None)
    before, after = (unknown, known) if missing == "before" else (known, unknown)
    assert memory_between(before, after) == Memory(after.peak, None, None)


def test_latency_is_written_with_its_warnings():
    steady, short = latency_document(summarize([0.5] * 70)), latency_document(summarize([0.5] * 3))
    assert (steady["trustworthy"], steady["warnings"], steady["p90"]) == (True, [], 0.5)
    assert (short["trustworthy"], short["p90"], short["queries"]) == (False, None, 3)
    assert short["warnings"][0].startswith("only 3 queries")
    assert json.loads(json.dumps(short)) == short
