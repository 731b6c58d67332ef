"A margin between neighbours and all others."
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vocalrep.data.sampling import Batch
from vocalrep.models.encoders import Encoder
from vocalrep.training.methods import Method, identity


class MarginMethod(Method):
    "Mean of max(0, margin - cos(a, p) + cos(a, n)) over the rows n of other segments."
    logged = ("loss", "accuracy", "distance")

    def __init__(self, encoder: Encoder, margin: float):
        super().__init__(encoder)
        self.margin = margin

    def forward(self, batch: Batch, gather=identity, rank: int = 0) -> dict[str, Tensor]:
        "Loss, share of rows whose partner is nearest, mean distance of partners."
        first, second = (F.normalize(view, dim=1) for view in self.embed_views(batch))    # (B, D) each
        near, others = (first * second).sum(1), first @ second.T                           # (B,), (B, B)
        foreign = batch.labels["segment"][:, None] != batch.labels["segment"]             # (B, B)
        loss = (self.margin - near[:, None] + others).relu()[foreign].mean()
        right = (others.detach().argmax(1) == torch.arange(len(batch))).float().mean()
        return dict(loss=loss, accuracy=right, distance=(1 - near.detach()).mean())


@dataclass(frozen=True)
class Margin:
    "Record of `MarginMethod`."
    margin: float = 0.5

    def build(self, encoder: Encoder) -> MarginMethod:
        "The module."
        return MarginMethod(encoder, self.margin)
