"""What an engine says when it refuses or fails on a model, as sentences that name its version.

Engines of C++ put the place in their source and the signature of a function before the reason.
"""

from __future__ import annotations

import re

_NOISE = (
    re.compile(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : "),
    re.compile(r"Error: (?:failed to call OrtRun\(\)|Can't create a session)\. ERROR_CODE: \d+, ERROR_MESSAGE: "),
    re.compile(r"Load model from \S+ failed:\s*"),
    # A place in the source, and the function there, with its arguments.
    re.compile(r"(?:/[\w.+-]+)+\.(?:cc|cpp|cu|h):\d+ [^()]*\([^()]*\)\s*(?:const )?(?:\[with [^\]]*\] )?"),
)
_NEW_OPERATOR_SET = re.compile(
    r"ONNX Runtime only \*guarantees\* support .*?Opset (?P<found>\d+) is under development .*?"
    r"Current official support for domain (?P<domain>\S+) is till opset (?P<most>\d+)"
)
_NEW_OPERATOR = re.compile(
    r"Didn't find op for builtin opcode '(?P<operator>\w+)' version '(?P<version>\d+)'"
    r"(?:\. An older version of this builtin might be supported\. "
    r"Are you using an old TFLite binary with a newer model\?)?"
    r"(?:\.? Registration failed)?"
)


def refusal(words: str, engine: str, version: str | None) -> str:
    """Return an engine's words without what tells nobody but its makers, and with its version.

    Args:
        words: as the error has them.
        engine: its name.
        version: the installed one, if it is known.
    """
    text = " ".join(words.split())
    for noise in _NOISE:
        text = noise.sub("", text)
    newest = r"the model is of operator set \g<found> of \g<domain>, and it reads \g<most> at most"
    text = _NEW_OPERATOR_SET.sub(newest, text)
    text = _NEW_OPERATOR.sub(r"it has no operator \g<operator> of version \g<version>", text)
    if version is None or version in text:
        return text
    return text.replace(engine, f"{engine} {version}", 1) if engine in text else f"{engine} {version}: {text}"
