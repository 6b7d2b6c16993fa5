"""Labels and ranks over HTTP, from real engines."""

from __future__ import annotations

import numpy as np
import pytest

from fastserve_runtime.loading import load
from manifests import LENGTH, text_bundle, write_directory
from pair_bundles import expected_logits, pair_bundle

QUERY, DOCUMENTS = "a b", ["c", "e f", "a"]


def classifier(**settings):
    """A bundle of a classifier of single texts."""
    document, contents = text_bundle("logits")
    width = document["variants"][0]["graphs"]["main"]["outputs"][0]["dims"][-1]
    labels = [f"class {i}" for i in range(width)]
    document |= {"task": "text-classification", "task_settings": {"labels": labels, "problem_type": None, **settings}}
    return document, contents


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scoring")
    bundles = {
        "labels": classifier(),
        "several": classifier(problem_type="multi_label_classification"),
        "ranks": pair_bundle(),
        "pairs": pair_bundle("text-classification", labels=["score"], problem_type="regression"),
    }
    opened = {name: load(write_directory(folder / f"{name}.fsb", *content)) for name, content in bundles.items()}
    yield opened
    for pipeline in opened.values():
        pipeline.close()


@pytest.fixture
def server(start, pipelines):
    return start(pipelines)


def test_texts_get_labels(server, pipelines) -> None:
    answer = server.post("/v1/classify", {"model": "labels", "input": ["a b", "c"]}).json()
    wanted = pipelines["labels"](["a b", "c"])
    assert [d["label"] for d in answer["data"]] == [w.label for w in wanted]
    for one, result in zip(answer["data"], wanted, strict=True):
        assert one["probs"] == pytest.approx(list(result.scores.values()))
        assert one["num_classes"] == len(result.scores)
        assert one["scores"] == pytest.approx(dict(result.scores))
        assert "labels" not in one
    assert answer["usage"]["prompt_tokens"] == 4 + 3
    assert (answer["object"], answer["model"]) == ("list", "labels")


def test_several_labels_may_be_right(server, pipelines) -> None:
    (one,) = server.post("/v1/classify", {"model": "several", "input": "a b"}).json()["data"]
    assert one["labels"] == list(pipelines["several"]("a b").labels)


def test_pairs_get_labels_from_a_model_of_pairs(server) -> None:
    pairs = [["a b", "c"], ["d", "e f"]]
    answer = server.post("/v1/classify", {"model": "pairs", "input": pairs}).json()
    scores = [d["scores"]["score"] for d in answer["data"]]
    assert scores == pytest.approx(expected_logits([(a, b) for a, b in pairs]).tolist(), abs=1e-6)
    for model, value in (("pairs", ["a", "c"]), ("labels", pairs)):
        refused = server.post("/v1/classify", {"model": model, "input": value})
        assert refused.status_code == 400
        assert "input is not what the model takes" in refused.json()["error"]["message"]


def test_documents_are_ranked(server) -> None:
    wanted = 1 / (1 + np.exp(-expected_logits([(QUERY, d) for d in DOCUMENTS])))
    answer = server.post("/v1/rerank", {"query": QUERY, "documents": DOCUMENTS}).json()
    order = [r["index"] for r in answer["results"]]
    assert order == np.argsort(-wanted).tolist()
    assert [r["relevance_score"] for r in answer["results"]] == pytest.approx(wanted[order].tolist(), abs=1e-6)
    assert [r["document"]["text"] for r in answer["results"]] == [DOCUMENTS[i] for i in order]
    objects = {"query": QUERY, "documents": [{"text": d} for d in DOCUMENTS], "top_n": 1, "return_documents": False}
    (best,) = server.post("/v1/rerank", objects).json()["results"]
    assert best == {"index": order[0], "relevance_score": answer["results"][0]["relevance_score"]}


def test_a_prompt_stands_before_the_query_and_not_before_the_document(start, tmp_path) -> None:
    document, contents = pair_bundle()
    document["preprocessing"]["settings"] |= {"prompts": {"query": "c ", "web": "d "}, "default_prompt": "query"}
    with load(write_directory(tmp_path / "prompts.fsb", document, contents)) as ranker:
        running = start({"ranks": ranker})
        for name, before in ((None, "c "), ("web", "d "), ("", "")):
            asked = {"query": QUERY, "documents": DOCUMENTS} | ({} if name is None else {"prompt_name": name})
            results = running.post("/v1/rerank", asked).json()["results"]
            scores = {r["index"]: r["relevance_score"] for r in results}
            wanted = 1 / (1 + np.exp(-expected_logits([(before + QUERY, d) for d in DOCUMENTS])))
            assert [scores[i] for i in range(len(DOCUMENTS))] == pytest.approx(wanted.tolist(), abs=1e-6)
        refused = running.post("/v1/rerank", {"query": QUERY, "documents": DOCUMENTS, "prompt_name": "other"})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "prompt_name")


@pytest.mark.parametrize(
    ("route", "body", "parameter"),
    [
        ("/v1/classify", {"model": "labels", "input": "a", "prompt_name": "query"}, "prompt_name"),
        ("/v1/classify", {"model": "labels"}, "input"),
        ("/v1/classify", {"model": "labels", "input": [["a", 3]]}, "input[0]"),
        ("/v1/classify", {"model": "labels", "input": [[1, 2]]}, "input"),
        ("/v1/rerank", {"documents": ["a"]}, "query"),
        ("/v1/rerank", {"query": "", "documents": ["a"]}, "query"),
        ("/v1/rerank", {"query": "a"}, "documents"),
        ("/v1/rerank", {"query": "a", "documents": []}, "documents"),
        ("/v1/rerank", {"query": "a", "documents": ["b", 3]}, "documents[1]"),
        ("/v1/rerank", {"query": "a", "documents": ["b"], "top_n": -1}, "top_n"),
        ("/v1/rerank", {"query": "a", "documents": ["b"], "model": "labels"}, "model"),
        ("/v1/rerank", {"query": "a " * LENGTH, "documents": ["b"]}, "documents"),
    ],
)
def test_what_is_wrong_is_named(server, route, body, parameter) -> None:
    answer = server.post(route, body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == parameter


def test_a_pair_that_is_too_long_cannot_be_split(start, pipelines) -> None:
    long = {"query": "a " * LENGTH, "documents": ["b"]}
    refused = start({"ranks": pipelines["ranks"]}, long_input="split").post("/v1/rerank", long)
    assert "--long-input truncate." in refused.json()["error"]["message"]
    assert start({"cut": pipelines["ranks"]}, long_input="truncate").post("/v1/rerank", long).status_code == 200


@pytest.mark.parametrize(
    ("route", "fields"),
    [
        ("classify", {"model": "labels", "input": "a", "activation": False}),
        ("classify", {"model": "labels", "input": "a", "truncate_prompt_tokens": 3}),
        ("rerank", {"model": "ranks", "query": QUERY, "documents": DOCUMENTS, "raw_scores": True}),
        ("rerank", {"model": "ranks", "query": QUERY, "documents": DOCUMENTS, "rank_fields": ["title"]}),
    ],
)
def test_what_would_change_scores_elsewhere_is_refused_by_name(server, route, fields) -> None:
    answer = server.post(f"/v1/{route}", fields)
    assert answer.status_code == 400
    name = list(fields)[-1]
    assert answer.json()["error"]["param"] == name
    assert f"{name} is " in answer.json()["error"]["message"]


def test_zero_asks_for_all_ranks(server) -> None:
    asked = {"model": "ranks", "query": QUERY, "documents": DOCUMENTS, "activation": True, "raw_scores": None}
    assert len(server.post("/v1/rerank", {**asked, "top_n": 0}).json()["results"]) == len(DOCUMENTS)
