"""The table of faults for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

_ENGINES = {"onnx": "ONNX Runtime", "tflite": "LiteRT", "executorch": "ExecuTorch"}

Document = Mapping[str, Any]


def table(results: Document) -> str:
    """Return a table with a row for each kind of fault, and under it what it means.

    Args:
        results: as `faults.py` writes them.
    """
    variants: Mapping[str, Document] = results["variants"]
    names = list(dict.fromkeys(name for v in variants.values() for name in v["faults"]))
    heads = ["fault", *(title_of(v) for v in variants), "found by", "bisect"]
    lines = ["| " + " | ".join(heads) + " |", "|-" + "|:-:" * len(variants) + "|-|-|"]
    for name in names:
        found = {v: document["faults"][name] for v, document in variants.items() if name in document["faults"]}
        cells = [cell(found.get(v)) for v in variants]
        lines.append("| " + " | ".join([name, *cells, checks_of(found.values()), located(found.values())]) + " |")
    return "\n".join([sentence(results), "", *lines])


def overview(results: Document) -> str:
    """Return what came of all models in a few sentences, and which faults were missed."""
    models = [{**results, **model} for model in results["models"].values()]
    looked = [f for m in models for v in m["variants"].values() for f in v["faults"].values() if "absent" not in f]
    harmful = [f for f in looked if f["harmful"] is not None]
    places = [f["located"]["place"] for f in looked if f.get("located")]
    names = [f"{name} ({title_of(variant)})" for m in models for variant, name in missed(m)]
    told = f"Missed: {'; '.join(names)}." if names else "None was missed."
    words = (
        f"{len(looked)} faults were put into {' and '.join(_lower(m['model']) for m in models)}. {len(harmful)} of "
        f"them change the task's metric by {results['changed']:.0%} at some strength; {len(harmful) - len(names)} of "
        f"these are caught at that strength or below. {told}"
    )
    if places:
        words += f" `bisect` names the very module of {places.count('exact')} of the {len(places)} inside the network."
    return f"{words} {honest_sentence(results)}".strip()


def _lower(title: str) -> str:
    """Return a title as it stands inside a sentence; a model's own name keeps its spelling."""
    return title[0].lower() + title[1:] if title.startswith("A ") else title


def title_of(variant: str) -> str:
    """Return a variant's engine and precision: `onnx-int8-dynamic` → `ONNX Runtime int8-dynamic`."""
    format_name, _, precision = variant.partition("-")
    return f"{_ENGINES.get(format_name, format_name)} {precision}"


def cell(found: Document | None) -> str:
    """Return the smallest strength caught and the smallest that changes the metric; bold where the second is less."""
    if found is None or "absent" in found:
        return ""
    caught, harmful = strength(found["caught"]), strength(found["harmful"])
    return f"**{caught} / {harmful}**" if found["is_missed"] else f"{caught} / {harmful}"


def strength(value: float | None) -> str:
    """Return a strength in short, or a stroke where even the largest is not noticed."""
    if value is None:
        return "–"
    return f"{value:.1g}" if value >= 1e-3 else f"{value:.0e}".replace("e-0", "e-")


def checks_of(found: Any) -> str:
    """Return the first check that found a fault in each variant, most frequent first."""
    counts = Counter(f["by"][0] for f in found if f.get("by"))
    return ", ".join(name for name, _ in counts.most_common())


def located(found: Any) -> str:
    """Return how often the search named the fault's own module, and else what it named."""
    places = Counter(f["located"]["place"] for f in found if f.get("located"))
    total = sum(places.values())
    if not total:
        return ""
    words = [f"{places['exact']} of {total}"]
    words += [f"{places[p]} {p}" for p in ("block", "elsewhere", "nowhere", "failed") if places[p]]
    return ", ".join(words)


def missed(results: Document, key: str = "is_missed") -> list[tuple[str, str]]:
    """Return (variant, fault) of every fault that changes the metric at a strength that is not caught."""
    return [
        (variant, name)
        for variant, document in results["variants"].items()
        for name, found in document["faults"].items()
        if found.get(key)
    ]


def sentence(results: Document) -> str:
    """Return what was done, in sentences."""
    looked = [f for v in results["variants"].values() for f in v["faults"].values() if "absent" not in f]
    kinds = {name for v in results["variants"].values() for name, f in v["faults"].items() if "absent" not in f}
    harmful = [f for f in looked if f["harmful"] is not None]
    caught = sum(not f["is_missed"] for f in harmful)
    at = [f["located"]["place"] for f in looked if f.get("located")]
    words = (
        f"{results['model']}, {results['length']} tokens, {results['held_out']} texts that no golden has. "
        f"{len(kinds)} kinds of faults in {len(results['variants'])} variants, {len(looked)} in all; the smallest "
        "strength is found by halving 13 of them, from a millionth of the whole effect to all of it. "
        f"{len(harmful)} change the task's metric by {results['changed']:.0%} at some strength: {caught} of these are "
        "caught at that strength or below."
    )
    if at:
        words += (
            f" Of {len(at)} inside the network, the search for the layer names the very module in {at.count('exact')} "
            f"and another one of the same layer in {at.count('block')}."
        )
    return words + f" `{results['command']}` on {results['machine']}."


def honest_sentence(results: Document) -> str:
    """Return what honest runs gave."""
    honest = results.get("honest")
    if not honest:
        return ""
    return (
        f"{honest['runs']} honest runs with other seeds: {honest['alarms']} false alarms, so that the rate is below "
        f"{honest['bound']:.1%} (95 %, Clopper-Pearson)."
    )


def bound(alarms: int, runs: int, confidence: float = 0.95) -> float:
    """Return the upper bound of a rate, one-sided (Clopper & Pearson 1934): about 3 / runs where nothing was seen."""
    from scipy.stats import beta

    return 1.0 if alarms >= runs else float(beta.ppf(confidence, alarms + 1, runs - alarms))


def rows_of(found: Sequence[tuple[str, str]]) -> str:
    """Return missed faults as lines."""
    return "\n".join(f"  {variant}: {name}" for variant, name in found)
