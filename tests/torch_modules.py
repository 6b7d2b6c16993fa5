"""Small modules that are no Transformers models, with inputs of every kind, and samples of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn


class TwoTowers(nn.Module):
    """Scores an item for a user: integers, floats and truth values in, three outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(50, 16), nn.Embedding(80, 16)
        self.user = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 16))
        self.item = nn.Sequential(nn.Linear(17, 32), nn.ReLU(), nn.Linear(32, 16))

    def forward(self, user, features, item, is_new):
        left = self.user(torch.cat([self.users(user), features], -1))
        right = self.item(torch.cat([self.items(item), is_new.float().unsqueeze(-1)], -1))
        score = (nn.functional.normalize(left, dim=-1) * nn.functional.normalize(right, dim=-1)).sum(-1, keepdim=True)
        return {"score": score, "user_vector": left, "is_match": score > 0}


TOWERS_EXAMPLE = {
    "user": torch.tensor([3]),
    "features": torch.ones(1, 4),
    "item": torch.tensor([7]),
    "is_new": torch.tensor([True]),
}


def tower_samples(count: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "user": random.integers(0, 50, count),
        "features": random.normal(size=(count, 4)).astype(np.float32),
        "item": random.integers(0, 80, count),
        "is_new": random.random(count) < 0.5,
    }


class Recurrent(nn.Module):
    """A GRU whose batch is the second axis: series in, classes and the last state out."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(3, 8), nn.Linear(8, 5)

    def forward(self, series):
        states, last = self.rnn(series)
        return self.head(states[-1]), last


class Convolutional(nn.Module):
    """Halves an image and doubles it again, of any even height."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 8, 3, 2, 1), nn.ConvTranspose2d(8, 2, 2, 2)

    def forward(self, image):
        return self.up(torch.relu(self.down(image)))


class Deciding(nn.Module):
    """Does something else where the sum of its input is positive, which no trace can follow."""

    def forward(self, x):
        if x.sum() > 0:
            return x * 2
        return x


class Counting(nn.Module):
    """Takes as many rows as the sum of its input says."""

    def forward(self, x):
        return x[: int(x.sum().item())]


class Finding(nn.Module):
    """Gives the places of what is not zero, as many as there are."""

    def forward(self, x):
        return torch.nonzero(x)


class Logarithm(nn.Module):
    """Gives values that are not finite for what is not positive."""

    def forward(self, x):
        return {"logarithm": torch.log(x)}


class Elementwise(nn.Module):
    """Has no weights."""

    def forward(self, x):
        return torch.abs(x) + torch.sin(x)
