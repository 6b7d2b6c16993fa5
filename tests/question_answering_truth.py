"""What Transformers' question-answering pipeline, last published with version 4, makes of `questions`.

`python tests/question_answering_truth.py FOLDER` writes the recorded file, with Transformers 4 from wherever PYTHONPATH
leads. It makes the tokenizers in the folder.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

from questions import LENGTH, QUESTIONS, RECORDED, SETTINGS, TOKENIZERS, logits, save_own_tokenizer


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    found = {name: answers(folder / name, name) for name in TOKENIZERS}
    rows = ",\n".join(f" {json.dumps(n)}: {json.dumps(v, separators=(',', ':'))}" for n, v in found.items())
    RECORDED.write_text(f'{{"transformers": {json.dumps(version("transformers"))}, "answers": {{\n{rows}\n}}}}\n')


def answers(folder: Path, name: str) -> list[Any]:
    """Return the answers to every question with every setting."""
    import torch
    import transformers
    from transformers.modeling_outputs import QuestionAnsweringModelOutput

    class Model(transformers.BertForQuestionAnswering):
        def forward(self, input_ids: torch.Tensor, **_: Any) -> QuestionAnsweringModelOutput:
            start, end = (torch.tensor(values, dtype=torch.float32) for values in logits(input_ids.numpy()))
            return QuestionAnsweringModelOutput(start_logits=start, end_logits=end)

    save_own_tokenizer(folder, name)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    config = transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    pipeline = transformers.pipeline("question-answering", model=Model(config), tokenizer=tokenizer)
    results = []
    for question, context in QUESTIONS:
        own = []
        for settings in SETTINGS:
            result = pipeline(question=question, context=context, max_seq_len=LENGTH, **settings)
            own.append(
                [{**a, "score": float(f"{a['score']:.7g}")} for a in (result if isinstance(result, list) else [result])]
            )
        results.append(own)
    return results


if __name__ == "__main__":
    main(Path(sys.argv[1]))
