"""The layout of SQuAD's own files: articles of paragraphs, each with its questions, as one row a question."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def squad_rows(content: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return a row for each question, with `context` and `title` beside; None where the content has another layout.

    Args:
        content: of a JSON file.

    Raises:
        ValueError: an article, a paragraph or a question is not what SQuAD has there; its text says which.
    """
    articles = content.get("data")
    if not isinstance(articles, list) or not any(isinstance(a, Mapping) and "paragraphs" in a for a in articles):
        return None
    rows = []
    for number, article in enumerate(articles, 1):
        for paragraph in _objects(article, "paragraphs", f"article {number}"):
            where = f"a paragraph of article {number}"
            for question in _objects(paragraph, "qas", where):
                beside = {"title": article.get("title"), "context": paragraph.get("context")}
                rows.append({**beside, **{key.strip(): value for key, value in question.items()}})
    return rows


def _objects(holder: Any, name: str, where: str) -> list[Mapping[str, Any]]:
    found = holder.get(name) if isinstance(holder, Mapping) else None
    if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
        raise ValueError(f"{where} has no list '{name}' of objects, as SQuAD's files have")
    return found
