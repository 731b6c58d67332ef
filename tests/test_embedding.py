"Embedding under what a page cannot show well: files of every kind, seams between blocks, memory, and parity with a store."
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

import vocalrep.evaluation.embedding as embedding
from vocalrep.data.corpora import folder_corpus
from vocalrep.evaluation.embedding import artist_similarity, clip_means, compare_encoders, embed_audio, embed_clips, embed_excerpts, excerpt_places
from vocalrep.models.encoders import MeanMFCC
from vocalrep.models.pretrained import TorchEncoder
from vocalrep.project import VocalrepError
from vocalrep.data.separation import Separator, make_unmix, separate
from vocalrep.data.store import prepare, resample


def listener(seconds=1.0, rate=16000):
    "An encoder that returns what it hears."
    return TorchEncoder(lambda waves: waves, "listener", rate, seconds, round(rate * seconds))


@pytest.fixture(scope="module")
def separator():
    "A tiny untrained separator."
    from openunmix.model import Separator as Unmix
    torch.manual_seed(0)
    return Separator("random", ("vocals",), Unmix({"vocals": make_unmix(16)}, niter=0, residual=False, nb_channels=1).eval(), "-", "-")


@pytest.fixture
def blocks(monkeypatch):
    "Blocks much shorter than the audio, and no divisor of anything."
    monkeypatch.setattr(embedding, "BLOCK_SECONDS", 0.7301)


# ---- stores ----

def naive_excerpts(store, places, source, samples, scaling):
    "One excerpt after another, from the shards themselves."
    found = []
    for place in places.itertuples():
        segment = store.segments.iloc[place.row]
        stems = [store.shards[segment.shard][segment.start + i * segment.stride:][:80000].astype(np.float64) * segment.scale for i in store.stems_of(source)]
        whole = sum(stems)
        found.append((whole / np.linalg.norm(whole) if scaling == "unit-norm" else whole)[place.offset:place.offset + samples])
    return np.array(found)


@pytest.mark.parametrize("source", ["mixture", "vocals"])
@pytest.mark.parametrize("scaling", ["unit-norm", "recorded"])
@pytest.mark.parametrize("seconds", [1.0, 1.6, 5.0])
def test_excerpts_of_a_store_are_those_of_its_shards(store, source, scaling, seconds):
    encoder = listener(seconds)
    places = excerpt_places(store.segments, seconds=seconds).iloc[::7].reset_index(drop=True)
    vectors = embed_excerpts(store, encoder, source, places, scaling, batch=3)
    assert vectors.dtype == np.float32 and vectors.shape == (len(places), encoder.samples)
    np.testing.assert_allclose(vectors, naive_excerpts(store, places, source, encoder.samples, scaling), atol=2e-4 if scaling == "recorded" else 1e-5)


def test_places_of_any_excerpt_length_stay_inside_their_segment(store):
    for seconds, count in ((1.0, 5), (1.6, 3), (0.1, 50), (5.0, 1), (2.5, 2), (4.99, 1)):
        places = excerpt_places(store.segments, seconds=seconds)
        assert places.groupby("row").size().eq(count).all() and places.offset.max() + round(seconds * 16000) <= 80000
        assert store.segments.active_vocals[places["row"]].all()
    with pytest.raises(VocalrepError, match="5.01 s do not fit"):
        excerpt_places(store.segments, seconds=5.01)


@pytest.mark.parametrize("per_clip", [None, 1, 3])
@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_clips_are_the_means_of_their_excerpts(store, per_clip, batch):
    places = excerpt_places(store.segments, per_clip=per_clip)
    vectors = embed_excerpts(store, MeanMFCC(), "vocals", places)
    clips, means = embed_clips(store, MeanMFCC(), "vocals", per_clip=per_clip, batch=batch)
    again, same = clip_means(places, vectors)
    pd.testing.assert_frame_equal(clips, again)
    np.testing.assert_allclose(means, same, atol=1e-4)
    for clip, artist, excerpts, mean in zip(clips["clip"], clips.artist, clips.excerpts, means):
        mine = (places["clip"] == clip).to_numpy()
        assert mine.sum() == excerpts and set(places.artist[mine]) == {artist}
        np.testing.assert_allclose(mean, vectors[mine].mean(0), atol=1e-4)


def test_means_follow_the_rows_wherever_they_stand():
    places = pd.DataFrame(dict(clip=["b", "a", "b", "c", "a", "b"], artist=["y", "x", "y", "z", "x", "y"], gender=None))
    clips, means = clip_means(places, np.array([[0.], [1], [3], [7], [2], [6]], np.float32))
    assert clips["clip"].tolist() == ["b", "a", "c"] and clips.artist.tolist() == ["y", "x", "z"] and clips.excerpts.tolist() == [3, 2, 1]
    np.testing.assert_allclose(means, [[3], [1.5], [7]])
    with pytest.raises(VocalrepError, match="5 embeddings.*6 excerpts"):
        clip_means(places, np.zeros((5, 2)))


def test_embedding_leaves_the_encoder_in_its_mode(store):
    encoder = TorchEncoder(torch.nn.Dropout(0.5), "dropout", 16000, 1.0, 16000).train()
    places = excerpt_places(store.segments, per_clip=1)
    np.testing.assert_array_equal(embed_excerpts(store, encoder, "vocals", places), embed_excerpts(store, listener(), "vocals", places))
    assert encoder.training and encoder.module.training

    def fails(waves):
        raise ValueError("inside")
    encoder = TorchEncoder(fails, "fails", 16000, 1.0, 1).train()
    with pytest.raises(ValueError, match="inside"):
        embed_excerpts(store, encoder, "vocals", places)
    assert encoder.training


def test_a_store_says_what_does_not_fit(store):
    with pytest.raises(VocalrepError, match="44100.*prepare the corpus at rate 44100"):
        embed_clips(store, listener(rate=44100))
    with pytest.raises(VocalrepError, match="scaling"):
        embed_excerpts(store, listener(), scaling="loud")
    with pytest.raises(VocalrepError, match="drums"):
        embed_excerpts(store, listener(), "drums")
    with pytest.raises(VocalrepError, match="no excerpt"):
        embed_excerpts(store, listener(), places=excerpt_places(store.segments).head(0))


def test_encoders_of_different_excerpts_stand_in_one_table(store):
    table = compare_encoders(store, {"mfcc": (MeanMFCC(), "unit-norm"), "long": (listener(1.6), "recorded")}, split=None, per_clip=2, sources=("vocals",), trials=3)
    assert table.system.tolist() == 3 * ["mfcc"] + 3 * ["long"] and table.eer.between(0, 1).all() and table.clips.nunique() == 1


def test_similarity_of_one_artist_is_an_error():
    with pytest.raises(VocalrepError, match="1 artists"):
        artist_similarity(np.eye(3), np.array(["a", "a", "a"]))


# ---- files ----

@pytest.mark.parametrize("rate", [44100, 48000, 22050, 11025, 8000, 16000, 44056])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (500,), (7919, 3, 20000), ()])
def test_blocks_are_resampled_as_the_whole_is(rate, sizes):
    wave = torch.randn(2, 2 * rate + 5, generator=torch.Generator().manual_seed(0))
    cuts = np.cumsum([0, *sizes])
    pieces = [wave[:, a:b] for a, b in zip(cuts, [*cuts[1:], wave.shape[1]])]
    whole = resample(wave.numpy(), rate, 16000)
    joined = torch.cat(list(embedding._resampled(iter(pieces), rate, 16000)), 1).numpy()
    assert joined.shape == whole.shape
    np.testing.assert_allclose(joined, whole, atol=2e-5)


def test_every_kind_of_file(music, blocks):
    for name, channels in (("Ada/mono.wav", 1), ("Ada/stereo.mp3", 2), ("Béla/six channels.wav", 6), ("Béla/low rate.flac", 1), ("Zoë/loud.wav", 2), ("Zoë/cut short.wav", 1)):
        wave, rate = soundfile.read(music / name, dtype="float32", always_2d=True)
        assert wave.shape[1] == channels
        expected = resample(wave.mean(1), rate, 16000)
        table, vectors = embed_audio(music / name, listener(), scaling="recorded", batch=4)
        heard = np.pad(expected, (0, len(table) * 16000))[:len(table) * 16000].reshape(-1, 16000)
        np.testing.assert_allclose(vectors, heard, atol=1e-4)
        np.testing.assert_allclose(table.level, np.abs(heard).mean(1), atol=1e-5)
        assert table.start.tolist() == list(range(len(table))) and table.vocals.isna().all()
        assert len(table) == (5 if name == "Zoë/cut short.wav" else 10)


@pytest.mark.parametrize("name, reason", [
    ("bad/silent.wav", "silent"), ("bad/nan.wav", "NaN"), ("bad/short.wav", "0.20 s is shorter than one excerpt"), ("bad/empty.wav", "0.00 s is shorter"),
    ("bad/garbage.mp3", "replace"), ("bad/zero.flac", "replace"), ("bad/header.wav", "replace"), ("bad/absent.wav", "no such file")])
def test_bad_files_are_named_with_the_reason(music, name, reason):
    with pytest.raises(VocalrepError, match=reason) as found:
        embed_audio(music / name, listener())
    assert str(music / name) in str(found.value)


def test_nan_late_in_a_file_is_found(tmp_path, blocks):
    wave = 0.1 * np.ones(160000)
    wave[150000] = np.inf
    with pytest.raises(VocalrepError, match="NaN or infinite"):
        embed_audio(wave, listener(), 16000)


def test_waveforms(blocks):
    rng = np.random.default_rng(0)
    wave = 0.1 * rng.normal(size=(2, 12 * 22050)).astype(np.float32)
    _, expected = embed_audio(wave, listener(), 22050)
    for same in (torch.from_numpy(wave), wave.astype(np.float64), wave.mean(0), torch.from_numpy(wave).double().requires_grad_()):
        _, vectors = embed_audio(same, listener(), np.int64(22050))
        np.testing.assert_allclose(vectors, expected, atol=1e-5)
    for wrong, rate in ((wave[None], 22050), (wave, None), (wave, 0), (wave, -5), (wave, 0.5), (np.ones(16000, np.int16), 16000)):
        with pytest.raises(VocalrepError, match="waveform"):
            embed_audio(wrong, listener(), rate)
    for nothing in (np.zeros(0), np.zeros((2, 0)), np.ones(15999)):
        with pytest.raises(VocalrepError, match="shorter than one excerpt"):
            embed_audio(nothing, listener(), 16000)


@pytest.mark.parametrize("seconds, excerpts", [(1.0, 5), (5.0, 5), (5.4, 5), (5.6, 10), (10.0, 10)])
def test_as_many_segments_as_a_store_would_make(seconds, excerpts, blocks):
    table, vectors = embed_audio(0.1 * np.random.default_rng(0).normal(size=int(seconds * 16000)), listener(), 16000)
    assert len(table) == len(vectors) == excerpts
    assert (table.level > 0).sum() == min(excerpts, int(np.ceil(seconds)))       # what lies in the padding is known by its level


@pytest.mark.parametrize("batch", [1, 4, 10, 256])
def test_batches_change_nothing(batch):
    wave = 0.1 * np.random.default_rng(0).normal(size=12 * 16000)
    np.testing.assert_array_equal(embed_audio(wave, listener(), 16000, batch=batch)[1], embed_audio(wave, listener(), 16000)[1])


@pytest.mark.parametrize("seconds", [1.0, 1.6])
@pytest.mark.parametrize("scaling", ["unit-norm", "recorded"])
def test_a_file_is_heard_as_through_a_store(music, tmp_path, separator, monkeypatch, seconds, scaling):
    "Mixture and separated vocals of stereo mp3, six channels and low rates; a store rounds to 16 bits."
    monkeypatch.setattr("vocalrep.data.store._separator", lambda name, device: separator)
    for path in music.glob("bad/*"):
        path.unlink()
    store = prepare(folder_corpus(music), tmp_path / "store", separator="random", workers=1, progress=False)
    store.segments["active_vocals"] = True
    encoder = listener(seconds)
    for source in ("mixture", "vocals"):
        places = excerpt_places(store.segments, seconds=seconds)
        stored = embed_excerpts(store, encoder, source, places, scaling)
        for clip in store.clips["clip"]:
            table, direct = embed_audio(music / clip, encoder, source=source, scaling=scaling, separator=separator)
            mine = (places["clip"] == clip).to_numpy()
            assert np.linalg.norm(direct - stored[mine]) < 1e-3 * np.linalg.norm(direct)
            np.testing.assert_allclose(table.start, (places.offset / 16000 + 5 * store.segments.position.to_numpy()[places["row"]])[mine])


def test_long_files_are_separated_as_a_whole(separator, blocks):
    "Chunks, their overlaps and their cross-fades are those of `separate`, whatever the blocks."
    wave = 0.1 * torch.randn(2, 70 * 8000, generator=torch.Generator().manual_seed(0))
    for length in (70 * 8000, 30 * 8000 + 1, 3 * 8000):
        whole = separate(wave[None, :, :length], 8000, separator)["vocals"][0]
        pieces = torch.cat(list(embedding._separated(iter(wave[:, :length].split(4999, 1)), length, 8000, separator)), 1)
        torch.testing.assert_close(pieces[0], wave[:, :length].mean(0))
        torch.testing.assert_close(pieces[1], whole, atol=1e-6, rtol=1e-4)


def test_only_segments_with_vocals(blocks):
    rng = np.random.default_rng(0)
    gain = np.repeat([0.1, 0.001, 0.1, 0.0], 5 * 16000)
    wave = gain * rng.normal(size=len(gain))
    everything, vectors = embed_audio(wave, listener(), 16000, source="vocals")
    sung, fewer = embed_audio(wave, listener(), 16000, source="vocals", vocals_only=True)
    assert sung.start.tolist() == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]
    np.testing.assert_array_equal(fewer, vectors[np.isin(everything.start, sung.start)])
    with pytest.raises(VocalrepError, match="nobody sings"):
        embed_audio(0.01 * wave, listener(), 16000, source="vocals", vocals_only=True)
    with pytest.raises(VocalrepError, match="separator"):
        embed_audio(wave, listener(), 16000, vocals_only=True)
    with pytest.raises(VocalrepError, match="unknown separator 'none'"):
        embed_audio(wave, listener(), 16000, source="vocals", separator="none")
    with pytest.raises(VocalrepError, match="source"):
        embed_audio(wave, listener(), 16000, source="drums")
    with pytest.raises(VocalrepError, match="scaling"):
        embed_audio(wave, listener(), 16000, scaling="loud")


PROGRAM = """
import resource, sys, torch
torch.set_num_threads(1)
from vocalrep.evaluation.embedding import embed_audio
from vocalrep.models.pretrained import TorchEncoder
encoder = TorchEncoder(lambda waves: waves[:, :1280], "a slice", 16000, 1.0, 1280)
for path in sys.argv[1:]:
    table, vectors = embed_audio(path, encoder)
    print(len(table), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts kilobytes on Linux only")
def test_memory_does_not_grow_with_the_file(tmp_path):
    "Nine minutes at 44.1 kHz in stereo are 190 MB decoded; their embeddings are 3 MB."
    block = 0.1 * np.random.default_rng(0).normal(size=(60 * 44100, 2))
    for minutes in (2, 9):
        with soundfile.SoundFile(tmp_path / f"{minutes}.wav", "w", 44100, 2, "PCM_16") as file:
            for _ in range(minutes):
                file.write(block)
    output = subprocess.run([sys.executable, "-c", PROGRAM, tmp_path / "2.wav", tmp_path / "9.wav"], capture_output=True, text=True, check=True).stdout
    (few, before), (many, after) = (map(int, line.split()) for line in output.splitlines())
    assert (few, many) == (120, 540) and after - before < 60_000
