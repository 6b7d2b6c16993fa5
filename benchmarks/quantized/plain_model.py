"""The model as users of other tools have it: the plain Hugging Face module, integer ids and mask, one static length."""

from __future__ import annotations

import torch

OUTPUTS = {"feature-extraction": "sentence_embedding", "text-classification": "logits"}


class PlainModel(torch.nn.Module):
    """A Hugging Face model with its task's output: mean-pooled unit vectors as its model card shows, or logits."""

    def __init__(self, model: torch.nn.Module, task: str) -> None:
        super().__init__()
        self.model = model
        self.task = task

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the named output for int64 ids and mask, shape [1, length]."""
        result = self.model(input_ids=input_ids, attention_mask=attention_mask)
        if self.task == "text-classification":
            return {"logits": result.logits}
        hidden = result.last_hidden_state
        mask = attention_mask.unsqueeze(-1).expand(hidden.size()).float()
        pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return {"sentence_embedding": torch.nn.functional.normalize(pooled, p=2, dim=1)}


def load_plain_model(checkpoint: str, task: str) -> PlainModel:
    """Load the model as its card shows."""
    import transformers

    auto = "AutoModelForSequenceClassification" if task == "text-classification" else "AutoModel"
    model = getattr(transformers, auto).from_pretrained(checkpoint, local_files_only=True)
    return PlainModel(model.eval(), task).eval()


def example(length: int) -> dict[str, torch.Tensor]:
    """Return inputs to trace with."""
    ones = torch.ones(1, length, dtype=torch.int64)
    return {"input_ids": ones, "attention_mask": ones.clone()}
