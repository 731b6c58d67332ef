"Where MSCOL's questions are asked, and what its figures are made of."
from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest

import vocalrep.papers.mscol.questions as room
from vocalrep.data.annotated import split_by_letter
from vocalrep.data.prepare import prepare
from vocalrep.data.store import Sound
from vocalrep.evaluation.early_tags import early_tagging, ridge_answers
from vocalrep.evaluation.embedding import embed_excerpts, fragment_places
from vocalrep.evaluation.tagging import tag_scores
from vocalrep.models.encoders import MeanMFCC
from vocalrep.papers.mscol.figures import (
    draw_convergence, draw_gains, draw_per_tag, draw_quality, per_tag, source_activity)
from vocalrep.papers.mscol.paper import PAPER, known_tags
from vocalrep.papers.mscol.questions import contrasts, corpus_label, find_corpora, group_means
from vocalrep.papers.mscol.sources import chunk_rows
from vocalrep.papers.mscol.variants import SOURCES
from vocalrep.project import VocalrepError
from vocalrep.report.claims import NO_SCORES
from vocalrep.report.scores import score_table
from vocalrep.studio.tags import SONG_TAGS, TAG_GROUPS

matplotlib.use("agg")


def known(name, **columns):
    "What is asked of a store here: its corpus and its clips."
    return SimpleNamespace(about=dict(corpus=name), clips=pd.DataFrame(columns), folder=f"stores/{name}")


MTAT = ["0/a", "b/b", "c/c", "d/d"]
LETTERS = [split_by_letter(clip) for clip in MTAT]


# --- corpora

@pytest.mark.parametrize("store, question, label", [
    (known("studio", clip=["a"], split=["train"]), "genre", "studio styles"),
    (known("studio", clip=["a"], split=["train"]), "tagging", "studio"),
    (known("notes", clip=["a"], split=["train"]), "instrument", "studio notes"),
    (known("fma", clip=["a"], split=["train"]), "genre", "FMA-small"),
    (known("magnatagatune", clip=MTAT, split=LETTERS), "tagging", "MTAT*"),
    (known("magnatagatune", clip=MTAT, split=["train", "valid", "test", "test"]), "tagging", "MTAT")])
def test_labels_are_those_of_the_published_tables(store, question, label):
    assert corpus_label(store, question) == label


def test_the_training_corpus_comes_first_and_others_answer_the_rest(monkeypatch):
    others = dict(nsynth=known("nsynth", clip=["n"], split=["test"], family=["bass"]),
                  fma=known("fma", clip=["f"], split=["test"], genre=["Folk"]))
    monkeypatch.setattr(room, "open_corpus", lambda paper, name, root, preset, sound: others[name])
    mtat = known("magnatagatune", clip=MTAT, split=LETTERS, tags=[["slow"], None, [], ["loud"]])
    found = find_corpora(mtat, "fma=/f;nsynth=/n")
    assert {question: (corpus.label, corpus.role) for question, corpus in found.items()} == dict(
        tagging=("MTAT*", "in-domain"), instrument=("NSynth", "out-of-domain"), genre=("FMA-small", "out-of-domain"))
    others["fma"] = known("fma", clip=["f"], split=["test"], genre=[None])
    with pytest.raises(VocalrepError, match="no tags, families or genres; name corpora"):
        find_corpora(known("folder", clip=["a"], split=["test"]), "fma=/f")


def test_a_misspelt_corpus_is_one_error():
    with pytest.raises(VocalrepError, match="unknown corpus 'nsnyth'.*nsynth"):
        find_corpora(known("folder", clip=["a"], split=["test"]), "nsnyth=/n")


# --- scores

def invented(systems=("MSCOL-MS", "MSCOL-NONE"), seeds=3, artists=8, tags=("drums", "fast", "piano")):
    "Scores of tags: a constant each, and a little of every seed and artist."
    rng, rows = np.random.default_rng(0), []
    for system in systems:
        for seed in range(seeds):
            for tag in tags:
                base = 0.5 + 0.1 * (system == "MSCOL-MS") + 0.01 * rng.normal()
                rows += [dict(system=system, seed=seed, metric=f"pr_auc of {tag}", left_out=who,
                              value=base + 0.01 * rng.normal() * bool(who))
                         for who in ("", *(f"artist {k}" for k in range(artists)))]
    about = dict(trained_on="studio", corpus="studio", role="in-domain", condition="mixture", task="tagging")
    return score_table(pd.DataFrame(rows).assign(probe="linear"), **about)


def test_groups_are_means_of_their_tags_of_the_whole_and_without_each_artist():
    scores = invented()
    table = group_means(scores).set_index(["system", "seed", "left_out", "metric"])["value"]
    for where in (("MSCOL-MS", 0, ""), ("MSCOL-NONE", 2, "artist 3")):
        assert table[(*where, "pr_auc of rhythm")] == pytest.approx(
            np.mean([table[(*where, f"pr_auc of {tag}")] for tag in ("drums", "fast")]))
        assert table[(*where, "pr_auc of instruments")] == table[(*where, "pr_auc of piano")]
    assert not any("style" in metric for *_, metric in table.index)
    assert len(group_means(scores, {"none": ("sitar",)})) == len(scores)


def test_contrasts_have_intervals_and_say_what_is_missing():
    scores = group_means(invented())
    table = contrasts(scores, ["MSCOL-MS", "MSCOL-BASS"], [("tagging", "pr_auc of rhythm")]).set_index("left")
    ours = table.loc["MSCOL-MS"]
    assert ours.low < 0.1 < ours.high and ours.low > 0 and ours.seeds == 3 and ours.artists == 8
    assert table.loc["MSCOL-BASS"].why.startswith(NO_SCORES)


# --- tags during training

def test_the_early_score_is_that_of_its_definition(store):
    "Two excerpts teach in all: one of each training clip; all of a validation clip's are averaged."
    encoder, (clips, names) = MeanMFCC(level="clip-norm"), known_tags(store)
    assert names == list(SONG_TAGS)
    row = early_tagging(known_tags, per_clip=100)(encoder, store)
    tags = clips.set_index("clip").tags
    parts = {split: fragment_places(store, split, encoder.seconds) for split in ("train", "valid")}
    parts["train"] = parts["train"].groupby("clip", sort=False).head(1).reset_index(drop=True)
    x, y = (embed_excerpts(store, encoder, "mixture", part) for part in parts.values())
    truth, expected = (np.array([[tag in tags[clip] for tag in names] for clip in part["clip"]], int)
                       for part in parts.values())
    answer = pd.DataFrame(ridge_answers(x, truth, y)).groupby(parts["valid"]["clip"]).mean()
    first = ~parts["valid"]["clip"].duplicated()
    order = parts["valid"]["clip"][first]
    found = tag_scores(expected[first], answer.loc[order].to_numpy(), names)
    assert row == {f"tags_{metric}": pytest.approx(found[metric], nan_ok=True) for metric in ("roc_auc", "pr_auc")}


def test_a_corpus_without_tags_has_no_early_score(store):
    plain = known("folder", clip=["a"], split=["train"])
    assert known_tags(plain) is None
    assert known_tags(known("folder", clip=["a"], split=["train"], tags=[None])) is None
    assert known_tags(known("x", clip=["a", "b"], split=["train"] * 2, tags=["slow|loud", None]))[1] == ["loud", "slow"]
    assert early_tagging(lambda store: None)(MeanMFCC(), store) == {}


# --- figures

def test_activity_is_counted_over_the_chunks_that_are_drawn_from(corpus, tmp_path):
    store = prepare(corpus, tmp_path / "store", PAPER.sound, workers=1, progress=False)
    table, rows = source_activity(store).set_index("source"), chunk_rows(store, "train")
    for source in SOURCES:
        heard = [store.excerpts(np.array([row]), np.array([0]), 64000, source).abs().mean() > 0.01 for row in rows]
        assert table.percent[source] == pytest.approx(100 * np.mean(heard), abs=100 / len(rows))
    assert (table.chunks == len(rows)).all()


def test_sources_must_be_there(corpus, tmp_path):
    sound = Sound(16000, ("accompaniment",), segment=2.0)
    store = prepare(corpus, tmp_path / "store", sound, workers=1, progress=False)
    with pytest.raises(VocalrepError, match="holds accompaniment, none of vocals, bass"):
        source_activity(store)


def test_relative_gains_and_their_order():
    compared = contrasts(invented(("MSCOL-DRUMS", "MSCOL-NONE")), ["MSCOL-DRUMS"],
                         [("tagging", f"pr_auc of {tag}") for tag in ("piano", "drums")])
    table = per_tag(compared, TAG_GROUPS)
    assert list(table.tag) == ["drums", "piano"] and list(table.group) == ["rhythm", "instruments"]
    row = compared[compared.metric == "pr_auc of drums"].iloc[0]
    assert table.percent[0] == pytest.approx(100 * (row.left_mean - row.right_mean) / row.right_mean)
    assert table.error[0] == pytest.approx(50 * (row.high - row.low) / row.right_mean)
    names = [text.get_text() for text in draw_per_tag(table).axes[0].get_yticklabels()]
    assert names == ["rhythm", "drums", "instruments", "piano"]


def test_pictures_of_nothing_are_errors():
    nothing = pd.DataFrame(columns=["system", "seed", "step", "tags_roc_auc", "tags_pr_auc"])
    with pytest.raises(VocalrepError, match="no run has scores of tags"):
        draw_convergence(nothing)
    with pytest.raises(VocalrepError, match="no areas of MSCOL-MS"):
        draw_quality(pd.DataFrame(columns=["system", "metric", "mean", "sd", "seeds"]), {"MSCOL-MS": "true stems"})


def test_cells_without_an_interval_have_no_asterisk():
    rows = pd.DataFrame([dict(left="MSCOL-MS", question="genre", effect=0.1, low=np.nan, high=np.nan),
                         dict(left="MSCOL-MS", question="tags", effect=0.1, low=0.05, high=0.15)])
    texts = [text.get_text() for text in draw_gains(rows, ["MSCOL-MS"]).axes[0].texts]
    assert texts == ["+10.0", "+10.0*\n± 5.0"]
