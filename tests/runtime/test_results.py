import numpy as np

from fastserve_runtime.pipelines.text_classification import Classification
from fastserve_runtime.results import result_documents


def test_arrays_become_lists():
    results = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    assert result_documents(["a", "b"], results) == [
        {"text": "a", "output": [1.0, 2.0]},
        {"text": "b", "output": [3.0, 4.0]},
    ]


def test_classifications_become_their_fields():
    results = [Classification("good", 0.9, {"good": 0.9, "bad": 0.1})]
    document = {"label": "good", "score": 0.9, "scores": {"good": 0.9, "bad": 0.1}}
    assert result_documents(["a"], results) == [{"text": "a", "output": document}]
