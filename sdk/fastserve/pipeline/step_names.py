"""Names of an export's steps, as the user is told them: planned before they begin, and timed when they are done."""

from __future__ import annotations

PROGRAM_STEP = "Form for export"


def export_step(format_name: str, precision: str) -> str:
    """Return the name of an export step."""
    return f"Export {format_name} {precision}"


def sensitivity_step(format_name: str) -> str:
    """Return the name of the step that scores layers for a format's mixed precision."""
    return f"Sensitivity of layers for {format_name}"


def measure_step(format_name: str, precision: str) -> str:
    """Return the name of a measuring step."""
    return f"Measure {format_name} {precision}"


def compile_step(target: str, precision: str) -> str:
    """Return the name of the step that makes a target's own artifact."""
    return f"Compile {precision} for {target}"


def quality_step(format_name: str, precision: str) -> str:
    """Return the name of the step that compares outputs with the reference's."""
    return f"Quality of {format_name} {precision}"


def twin_step(format_name: str, precision: str) -> str:
    """Return the name of the step that compares with the same quantized model elsewhere."""
    return f"Second check of {format_name} {precision}"
