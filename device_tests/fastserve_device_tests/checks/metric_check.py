"""The check of the task's own metric: does the variant still do its task on this target?

The rule is MLPerf's: at least 99 % (99.9 % for floats) of what the fp32 reference reaches
(https://github.com/mlcommons/inference_policies/blob/master/inference_rules.adoc). MLPerf takes whole data sets; here
there are 200 samples at most, so the metric has a 95 % bootstrap interval, and only an interval that lies wholly on one
side decides. One that holds the limit is NOT_RUN: more samples would tell.
"""

from __future__ import annotations

from collections.abc import Iterator

from fastserve_device_tests.checks.subject import Subject
from fastserve_runtime.bundle.evaluation import SEED, compared_values
from fastserve_runtime.conformance.comparison import Comparison
from fastserve_runtime.conformance.policy import MIN_METRIC
from fastserve_runtime.conformance.quality import Quality
from fastserve_runtime.conformance.verdict import Outcome, Verdict
from fastserve_runtime.conformance.widths import width_of
from fastserve_runtime.plugins import PIPELINES
from fastserve_runtime.sessions.workload import run_golden

METRIC = "task metric"
FEW = 32
"""So many samples run where no hardware executes: a simulator may take seconds for each."""


def check_metric(subject: Subject) -> Iterator[Verdict]:
    """Yield the verdict, or nothing where the bundle has no evaluation samples or the task has no metric for them."""
    pipeline = PIPELINES.load(subject.task)
    if subject.evaluation is None or not hasattr(pipeline, "task_metric"):
        return
    is_hardware = subject.target.EXECUTED_BY == "hardware"
    samples = subject.evaluation if is_hardware else subject.evaluation.first(FEW)
    outputs = run_golden(subject.task, subject.session, samples.inputs)
    actual = compared_values(pipeline, outputs, samples.inputs)
    compared = Comparison(samples.reference, actual, samples.inputs, seed=SEED, settings=subject.task_settings)
    yield judged_metric(subject, pipeline.task_metric(compared))


def judged_metric(subject: Subject, quality: Quality) -> Verdict:
    """Judge a metric by its interval and the least share of the reference's that its precision must keep."""
    minimum = MIN_METRIC[width_of(subject.variant)]
    figures = {"value": quality.value, "low": quality.low, "high": quality.high, "samples": float(quality.samples)}
    text = (
        f"{quality.name} is {quality.value:.4f} ({quality.low:.4f} to {quality.high:.4f}, {quality.samples} samples), "
        f"at least {minimum:g} is wanted"
    )
    if quality.low >= minimum:
        outcome, message = Outcome.PASS, ""
    elif quality.high < minimum:
        outcome, message = Outcome.OUTPUT_MISMATCH, text
    else:
        outcome, message = Outcome.NOT_RUN, f"{text}: so few samples do not decide"
    return Verdict(subject.variant.id, subject.target.NAME, METRIC, outcome, message, figures)
