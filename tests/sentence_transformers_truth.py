"""What sentence-transformers itself gives for the small models of `sentence_models`.

`python tests/sentence_transformers_truth.py FOLDER` prints it as JSON: it makes the models in a folder and embeds the
texts, with sentence-transformers from wherever PYTHONPATH leads. With `--record` behind it, it writes the file of
recorded values instead.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sentence_models import MODELS, RECORDED, TEXTS, save_sentence_model

_DIGITS = 9


def main(folder: Path, *, record: bool) -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    found = {name: embedded(folder / str(number), name) for number, name in enumerate(MODELS)}
    document = {"sentence-transformers": version("sentence-transformers"), "models": found}
    if record:
        RECORDED.parent.mkdir(exist_ok=True)
        models = ",\n".join(f" {json.dumps(n)}: {json.dumps(v, separators=(',', ':'))}" for n, v in found.items())
        head = json.dumps(document["sentence-transformers"])
        RECORDED.write_text(f'{{"sentence-transformers": {head}, "models": {{\n{models}\n}}}}\n')
    else:
        sys.stdout.write(json.dumps(document))


def embedded(root: Path, name: str) -> list[Any]:
    """Return the embeddings of all texts for each prompt that the model is asked for."""
    from sentence_transformers import SentenceTransformer

    model = save_sentence_model(root, name)
    encoder = SentenceTransformer(str(root), device="cpu", local_files_only=True)
    results = []
    for prompt in model.prompts:
        # An empty prompt is what takes away the default one; "" is no name of a prompt there.
        how = {"prompt": ""} if prompt == "" else {"prompt_name": prompt}
        vectors = encoder.encode(list(TEXTS), show_progress_bar=False, batch_size=2, **how)
        results.append([[float(f"{value:.{_DIGITS}g}") for value in row] for row in vectors])
    return results


if __name__ == "__main__":
    main(Path(sys.argv[1]), record="--record" in sys.argv)
