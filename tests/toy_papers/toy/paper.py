"A paper that nobody wrote, as one record: one sampler, one method, two variants, one task, one claim."
from dataclasses import dataclass

import numpy as np
import pandas as pd

from vocalrep.data.corpora import Size
from vocalrep.data.store import Sound
from vocalrep.evaluation.jackknife import deal_artists, leave_each_out, left_out_rows
from vocalrep.evaluation.metrics import unit_rows
from vocalrep.evaluation.tasks import VOCALS, Task
from vocalrep.models.encoders import MeanMFCC
from vocalrep.report.claims import Claim
from vocalrep.report.paper import Baseline, Citation, Paper
from vocalrep.training.variants import Preset, Schedule, Stage, Variant

from .method import Margin
from .sampling import NeighbourSampling

SOUND = Sound(16000, ("vocals",), silence=1.3)


@dataclass(frozen=True)
class Protocol:
    "What the paper leaves open."
    margin: float


def presets(protocol: Protocol) -> dict[str, Preset]:
    "One that takes a second."
    return {"smoke": Preset("smoke", Size(6, 2, 10.0), "small-cnn", steps=2, step_pairs=8, batch=4, validate_every=1,
                            patience=2)}


def variants(protocol: Protocol, preset: Preset) -> dict[str, Variant]:
    "Near and far neighbours."
    encoder = dict(name=preset.encoder, pooling="avg", level="recorded")
    return {name: Variant(name, summary, SOUND, (Stage(1, NeighbourSampling(apart)),), encoder,
                          Margin(protocol.margin), Schedule(1e-3))
            for name, summary, apart in (("TOY-NEAR", "a tenth of a second apart", 0.1),
                                         ("TOY-FAR", "two seconds apart", 2.0))}


def nearest_neighbours(places: pd.DataFrame, vectors: np.ndarray, left_out: bool = False) -> pd.DataFrame:
    "Share of excerpts whose nearest other excerpt is of the same artist; also without each artist."
    similar = unit_rows(vectors) @ unit_rows(vectors).T
    np.fill_diagonal(similar, -np.inf)
    artists = places.artist.to_numpy()
    right = artists[similar.argmax(1)] == artists
    rows = [dict(metric="accuracy", value=right.mean(), left_out="", clips=places["clip"].nunique())]
    if left_out:
        names, group = deal_artists(artists)
        without = leave_each_out(group, len(names), lambda kept: right[kept].mean())
        rows += left_out_rows(names, dict(accuracy=without), clips=0)
    return pd.DataFrame(rows)


CLAIM = Claim("near is better", "neighbours should be near", "section 5", left=("TOY-NEAR",),
              right=("TOY-FAR", "mean MFCC"), measures=(("neighbours", "accuracy"),), conditions=("vocals",))

PAPER = Paper(
    name="toy",
    citation=Citation("Neighbours", "Nobody", "nowhere", "https://example.org"),
    sound=SOUND,
    protocols={"released": Protocol(0.5), "paper": Protocol(1.0)},
    presets_of=presets,
    variants_of=variants,
    tasks_of=lambda protocol: {"neighbours": Task("neighbours", nearest_neighbours, (VOCALS,), context=("left_out",))},
    systems=("TOY-NEAR", "TOY-FAR", "mean MFCC"),
    baselines={"mean MFCC": Baseline(lambda spec, seed: MeanMFCC(level=spec["level"]), "nothing to train")},
    claims=(CLAIM,),
)
