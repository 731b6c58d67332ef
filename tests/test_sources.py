"Pairs of a mixture and one of its sources (MSCOL): which chunks, which source, what is silent, at which level."
import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalrep.data.corpora import studio_corpus
from vocalrep.data.prepare import prepare
from vocalrep.data.store import Sound
from vocalrep.models.encoders import SpectrogramEncoder
from vocalrep.papers.mscol.sources import CHUNK, SourceSampling, active_rows, chunk_rows, draw_chunks
from vocalrep.papers.mscol.variants import SOURCES
from vocalrep.project import VocalrepError
from vocalrep.training.methods import Bilinear

SOUND = Sound(16000, SOURCES, segment=CHUNK)
MANY = SourceSampling(SOURCES, "always")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources") / "store"
    return prepare(studio_corpus(artists=10, clips=2, seconds=9.0), folder, SOUND, workers=1, progress=False)


@pytest.fixture(scope="module")
def heard(store):
    return active_rows(store, chunk_rows(store, "train"), SOURCES)


def test_chunks_after_which_the_clip_goes_on(store):
    rows = chunk_rows(store, "train")
    frames = 1 + (9 * 16000 - 400) // 160
    expected = [k for k in range(10) if 392 * k < frames - 392]                     # as the released loop counts
    assert sorted(set(store.segments.position.iloc[rows])) == expected == [0, 1]
    assert set(store.segments.split.iloc[rows]) == {"train"}


@given(seed=st.integers(0, 2**32 - 1), step=st.integers(1, 90), batch=st.integers(1, 40),
       silent=st.sampled_from(("coin", "always", "never")), mixed=st.booleans())
@settings(max_examples=60, deadline=None)
def test_draws_obey_their_rule(heard, seed, step, batch, silent, mixed):
    how = SourceSampling(SOURCES, "never" if mixed else silent, mixed)
    rows = np.unique(np.concatenate([*heard.values()]))
    chosen, number = draw_chunks(rows, heard, how, step, batch, np.random.default_rng(seed))
    assert len(chosen) == len(number) == step and set(chosen) <= set(rows)
    for start in range(0, step, batch):
        own, source = chosen[start:start + batch], number[start:start + batch]
        assert mixed or len(set(source)) == 1
        if how.silent == "never":
            assert all(row in heard[SOURCES[k]] for row, k in zip(own, source))
            for k in set(source):
                count = (source == k).sum()
                assert len(set(own[source == k])) == min(count, len(heard[SOURCES[k]]))
    if how.silent == "always" and step <= len(rows):
        assert len(set(chosen)) == step                                             # of a permutation


def test_a_coin_between_the_two_kinds(store):
    sampler = SourceSampling(SOURCES, "coin").build(store, 64 * 8, 8, seed=0)
    silent = sampler.step().labels["silent"].reshape(64, 8)
    always = MANY.build(store, 64 * 8, 8, seed=0).step().labels["silent"].reshape(64, 8)
    assert 0.2 < always.any(1).mean() and silent.any(1).mean() < always.any(1).mean()
    never = dataclasses.replace(MANY, silent="never").build(store, 64, 8).step()
    assert never.labels == {}


def test_waveforms_are_those_of_the_source_at_the_norm_of_its_clip(store):
    sampler = MANY.build(store, 32, 8, seed=4)
    draw = sampler.step()
    anchor, positive = (layers[0] for layers in draw.views)
    waves = [torch.cat(views) for views in zip(*(batch.views for batch in sampler.batches(draw)))]
    assert (anchor.offsets % 160 == 0).all() and anchor.offsets.max() <= 293 * 160
    for k in range(32):
        row = anchor.rows[k:k + 1]
        clip = np.flatnonzero(store.segments["clip"] == store.segments["clip"].iloc[row[0]])
        whole = store.excerpts(clip, 0 * clip, round(CHUNK * 16000)).flatten()
        expected = store.excerpts(row, anchor.offsets[k:k + 1], 16000)[0] / whole.norm()
        assert torch.allclose(waves[0][k], expected, rtol=2e-3, atol=1e-5)
        name = str(positive.source[k])
        assert draw.labels["silent"][k] == (name == "") == (not waves[1][k].any())
        if name:
            alone = store.excerpts(clip, 0 * clip, round(CHUNK * 16000), name).flatten()
            expected = store.excerpts(row, positive.offsets[k:k + 1], 16000, name)[0] / alone.norm()
            assert torch.allclose(waves[1][k], expected, rtol=2e-3, atol=1e-5)


def test_without_sources_two_crops_of_the_mixture(store):
    draw = SourceSampling((), "always").build(store, 16, 8, seed=1).step()
    (anchor,), (positive,) = draw.views
    assert anchor.source == positive.source == "mixture" and draw.labels == {}
    assert (anchor.rows == positive.rows).all() and (anchor.offsets != positive.offsets).any()


def test_silence_is_a_blank_spectrogram_for_the_network(store):
    torch.manual_seed(0)
    method = Bilinear(start=1 / 64).build(SpectrogramEncoder("small-cnn", level="clip-norm")).eval()
    batch = next(iter(MANY.build(store, 16, 16, seed=2).batches(MANY.build(store, 16, 16, seed=2).step())))
    silent = batch.labels["silent"]
    assert 0 < silent.sum() < 16
    _, positive = method.embed_views(batch)
    blank = torch.full((1, 1, 98, 64), method.encoder.blank)
    assert torch.allclose(positive[silent], method.encoder.embed(blank).expand(int(silent.sum()), -1), atol=1e-5)
    heard = method.encoder.embed(method.encoder.features(batch.views[1][~silent]))
    assert torch.allclose(positive[~silent], heard, atol=1e-4)
    assert torch.isfinite(method(batch)["loss"])


def test_a_state_goes_on_with_the_same_pairs(store):
    sampler, other = (MANY.build(store, 24, 8, seed=s) for s in (1, 2))
    sampler.step()
    other.restore(sampler.state())
    for ours, theirs in zip(sampler.step().views, other.step().views):
        assert (ours[0].rows == theirs[0].rows).all() and (ours[0].offsets == theirs[0].offsets).all()


def test_wrong_wishes(store):
    with pytest.raises(VocalrepError, match="coin, always, never"):
        SourceSampling(SOURCES, "sometimes")
    with pytest.raises(VocalrepError, match="silent='never'"):
        SourceSampling(SOURCES, "coin", mixed=True)
    with pytest.raises(VocalrepError, match="no stem 'flute'"):
        SourceSampling(("flute",)).build(store, 8, 8)
    quiet = prepare(studio_corpus(10, 1, 9.0), store.folder.with_name("quiet"), SOUND, workers=1, progress=False)
    quiet.segments["active_bass"] = False
    with pytest.raises(VocalrepError, match="bass in none of .* chunks"):
        MANY.build(quiet, 8, 8)
