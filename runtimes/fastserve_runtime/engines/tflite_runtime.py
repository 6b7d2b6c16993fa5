"""tflite-runtime, LiteRT's forerunner: the only engine where LiteRT has no package, such as 32-bit Raspberry Pi OS.

Its last release is 2.14.0 of 2023, which needs numpy below 2 and lacks operators and versions that newer converters
write. A bundle's manifest tells which versions a model needs, so that such a model is refused before it is loaded.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastserve_runtime.bundle.manifest import Graph, Variant
from fastserve_runtime.distributions import installed_version
from fastserve_runtime.engines._tflite import TFLiteSession, open_tflite
from fastserve_runtime.errors import BundleError, EnvironmentFailure
from fastserve_runtime.sessions.engine_logs import native_output_logged
from fastserve_runtime.sessions.session import ModelSource

NAME = "tflite-runtime"
FORMAT = "tflite"
FAMILY = "tflite-runtime"
INSTALL = "pip install tflite-runtime 'numpy<2'"

_GREATEST_VERSIONS = {
    1: (
        "ADD_N ASSIGN_VARIABLE ATAN2 BITCAST BITWISE_XOR BROADCAST_ARGS BUCKETIZE CALL_ONCE CEIL COMPLEX_ABS CONV_3D "
        "CONV_3D_TRANSPOSE COS CUMSUM DENSIFY DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP_SPARSE EXPAND_DIMS FLOOR "
        "HARD_SWISH HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_LOOKUP HASHTABLE_SIZE IF IMAG L2_POOL_2D "
        "LOCAL_RESPONSE_NORMALIZATION LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LSH_PROJECTION MATRIX_DIAG "
        "MATRIX_SET_DIAG MULTINOMIAL NEG NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 ONE_HOT POW PRELU "
        "RANDOM_STANDARD_NORMAL RANDOM_UNIFORM RANK READ_VARIABLE REAL REDUCE_ALL REDUCE_ANY RELU_0_TO_1 RELU_N1_TO_1 "
        "RESHAPE REVERSE_SEQUENCE RFFT2D RIGHT_SHIFT ROUND SCATTER_ND SEGMENT_SUM SHAPE SIN SKIP_GRAM SQRT SQUARE "
        "UNIQUE UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_MIN UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_SUM VAR_HANDLE WHILE "
        "ZEROS_LIKE"
    ),
    2: (
        "DEPTH_TO_SPACE DIV EXP FAKE_QUANT FLOOR_MOD GELU GREATER L2_NORMALIZATION LEAKY_RELU LESS_EQUAL LOG_SOFTMAX "
        "RANGE REDUCE_PROD RSQRT SELECT_V2 SIGN SPACE_TO_DEPTH SPLIT_V SQUARED_DIFFERENCE SQUEEZE SUM WHERE"
    ),
    3: (
        "ARG_MAX ARG_MIN AVERAGE_POOL_2D BIDIRECTIONAL_SEQUENCE_LSTM BIDIRECTIONAL_SEQUENCE_RNN BROADCAST_TO "
        "EMBEDDING_LOOKUP FLOOR_DIV GREATER_EQUAL LESS LOGISTIC MAX_POOL_2D MEAN MIRROR_PAD NOT_EQUAL QUANTIZE "
        "REDUCE_MAX REDUCE_MIN RELU RELU6 REVERSE_V2 RNN SOFTMAX SPARSE_TO_DENSE TANH TILE TOPK_V2 "
        "UNIDIRECTIONAL_SEQUENCE_RNN"
    ),
    4: (
        "BATCH_MATMUL BATCH_TO_SPACE_ND CONCATENATION EQUAL FILL GATHER_ND LSTM MAXIMUM MINIMUM PACK PAD PADV2 "
        "RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR SELECT SPACE_TO_BATCH_ND SPLIT SVDF TRANSPOSE_CONV "
        "UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK"
    ),
    5: "ABS ADD CAST DEQUANTIZE SUB",
    6: "GATHER SLICE TRANSPOSE",
    7: "CONV_2D DEPTHWISE_CONV_2D MUL",
    8: "STRIDED_SLICE",
    10: "FULLY_CONNECTED",
}
"""The greatest version of each built-in operator that 2.14.0 loads, found by loading one model for each version."""

_PER_CHANNEL = "int8 weights with a scale for each channel beside float activations"
_WRONG_PER_CHANNEL = {"FULLY_CONNECTED", "EMBEDDING_LOOKUP"}
_PLAIN_PRECISIONS = {"fp32", "fp16"}
"""Those of our precisions that have no integer weights beside floats; in static ones the embeddings are such."""
_RIGHT_PER_CHANNEL = {"CONV_2D", "DEPTHWISE_CONV_2D", "DEQUANTIZE", "DELEGATE"}

_logger = logging.getLogger(__name__)


def version() -> str | None:
    """Return the installed version of tflite-runtime."""
    return installed_version("tflite-runtime", "tflite_runtime")


def import_library() -> Any:
    """Import tflite-runtime and return its interpreter class; see `Engine.import_library`."""
    try:
        with native_output_logged(_logger):
            from tflite_runtime.interpreter import Interpreter
    except ImportError as error:  # also where numpy is 2 or later, which its extension module does not know
        raise EnvironmentFailure(f"tflite-runtime cannot be imported: {error}.", f"Install it: {INSTALL}.") from error
    return Interpreter


def lacking(variant: Variant) -> list[str]:
    """Return the operators that 2.14.0 lacks or has in older versions only, and kinds of weights that it lacks."""
    greatest = {name: number for number, names in _GREATEST_VERSIONS.items() for name in names.split()}
    newer = [o for o in variant.operators if o.domain != "tflite" or o.version > greatest.get(o.name, 0)]
    may_be_wrong = variant.precision not in _PLAIN_PRECISIONS
    is_wrong = may_be_wrong and any(o.name in _WRONG_PER_CHANNEL for o in variant.operators)
    weights = [_PER_CHANNEL] if is_wrong else []
    return [*weights, *(f"{o.name} version {o.version}" for o in newer)]


def open_session(model: ModelSource, graphs: Mapping[str, Graph] | None, *, threads: int) -> TFLiteSession:
    """Load a TFLite model; see `Engine.open_session`.

    Raises:
        BundleError: also where the engine would load the model and compute wrong numbers.
    """
    interpreter = import_library()
    session = open_tflite(f"{NAME} {version()}", interpreter, model, graphs, threads=threads, log=_logger)
    wrong = _wrongly_computed(session.interpreter)
    if wrong:
        session.close()
        raise BundleError(
            f"{NAME} {version()} would compute wrong numbers: the model's {wrong} has {_PER_CHANNEL}.",
            "Use LiteRT, or a model in fp32.",
        )
    return session


def _wrongly_computed(interpreter: Any) -> str | None:
    """Return the first operator with float results whose weights have a scale for each channel, or None.

    2.14.0 takes the first scale for all of them, and says nothing. Convolutions are right.
    """
    tensors = {t["index"]: t for t in interpreter.get_tensor_details()}
    for operator in interpreter._get_ops_details():
        name = operator["op_name"]
        if name in _RIGHT_PER_CHANNEL:
            continue
        inputs = [tensors[i] for i in operator["inputs"] if i in tensors]
        outputs = [tensors[i] for i in operator["outputs"] if i in tensors]
        is_float = any(t["dtype"].__name__ == "float32" for t in outputs)
        if is_float and any(len(t["quantization_parameters"]["scales"]) > 1 for t in inputs):
            return str(name)
    return None
