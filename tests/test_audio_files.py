"Files of every kind, seams between blocks, memory, and parity with a store."
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from vocalrep.data.corpora import folder_corpus
from vocalrep.data.audio import resample
from vocalrep.data.prepare import prepare
from vocalrep.data.separation import Separator, separate
from vocalrep.data.unmix import make_unmix
from vocalrep.evaluation import audio_files
from vocalrep.evaluation.audio_files import embed_audio, resampled_blocks, separated_blocks
from vocalrep.evaluation.embedding import embed_excerpts, excerpt_places
from vocalrep.models.adapters import TorchEncoder
from vocalrep.project import VocalrepError


def listener(seconds=1.0, rate=16000, level="recorded"):
    "An encoder that returns what it hears."
    return TorchEncoder(lambda waves: waves, "listener", rate, seconds, round(rate * seconds), level=level)


@pytest.fixture(scope="module")
def separator():
    "A tiny untrained separator."
    from openunmix.model import Separator as Unmix
    torch.manual_seed(0)
    network = Unmix({"vocals": make_unmix(16)}, niter=0, residual=False, nb_channels=1).eval()
    return Separator("random", ("vocals",), network, "-", "-")


@pytest.fixture
def blocks(monkeypatch):
    "Blocks much shorter than the audio, and no divisor of anything."
    monkeypatch.setattr(audio_files, "BLOCK_SECONDS", 0.7301)


def noise(*shape):
    return 0.1 * np.random.default_rng(0).normal(size=shape)


@pytest.mark.parametrize("rate", [44100, 48000, 22050, 11025, 8000, 16000, 44056])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (500,), (7919, 3, 20000), ()])
def test_blocks_are_resampled_as_the_whole_is(rate, sizes):
    wave = torch.randn(2, 2 * rate + 5, generator=torch.Generator().manual_seed(0))
    cuts = np.cumsum([0, *sizes])
    pieces = [wave[:, a:b] for a, b in zip(cuts, [*cuts[1:], wave.shape[1]])]
    whole = resample(wave.numpy(), rate, 16000)
    joined = torch.cat(list(resampled_blocks(iter(pieces), rate, 16000)), 1).numpy()
    assert joined.shape == whole.shape
    np.testing.assert_allclose(joined, whole, atol=2e-5)


@pytest.mark.parametrize("name, channels", [
    ("Ada/mono.wav", 1), ("Ada/stereo.mp3", 2), ("Béla/six channels.wav", 6), ("Béla/low rate.flac", 1),
    ("Zoë/loud.wav", 2), ("Zoë/cut short.wav", 1)])
def test_every_kind_of_file(music, blocks, name, channels):
    wave, rate = soundfile.read(music / name, dtype="float32", always_2d=True)
    assert wave.shape[1] == channels
    expected = resample(wave.mean(1), rate, 16000)
    table, vectors = embed_audio(music / name, listener(), batch=4)
    heard = np.pad(expected, (0, len(table) * 16000))[:len(table) * 16000].reshape(-1, 16000)
    np.testing.assert_allclose(vectors, heard, atol=1e-4)
    np.testing.assert_allclose(table.level, np.abs(heard).mean(1), atol=1e-5)
    assert table.start.tolist() == list(range(len(table))) and table.vocals.isna().all()
    assert len(table) == (5 if name == "Zoë/cut short.wav" else 10)


@pytest.mark.parametrize("name, reason", [
    ("bad/silent.wav", "silent"), ("bad/nan.wav", "NaN"), ("bad/short.wav", "0.20 s is shorter than one excerpt"),
    ("bad/empty.wav", "0.00 s is shorter"), ("bad/garbage.mp3", "replace"), ("bad/zero.flac", "replace"),
    ("bad/header.wav", "replace"), ("bad/absent.wav", "no such file")])
def test_bad_files_are_named_with_the_reason(music, name, reason):
    with pytest.raises(VocalrepError, match=reason) as found:
        embed_audio(music / name, listener())
    assert str(music / name) in str(found.value)


def test_nan_late_in_a_file_is_found(blocks):
    wave = 0.1 * np.ones(160000)
    wave[150000] = np.inf
    with pytest.raises(VocalrepError, match="NaN or infinite"):
        embed_audio(wave, listener(), 16000)


def test_waveforms(blocks):
    wave = noise(2, 12 * 22050).astype(np.float32)
    _, expected = embed_audio(wave, listener(), 22050)
    tensor = torch.from_numpy(wave)
    for same in (tensor, wave.astype(np.float64), wave.mean(0), tensor.double().requires_grad_()):
        _, vectors = embed_audio(same, listener(), np.int64(22050))
        np.testing.assert_allclose(vectors, expected, atol=1e-5)


@pytest.mark.parametrize("shape, rate, dtype", [
    ((1, 2, 16000), 22050, float), ((2, 16000), None, float), ((2, 16000), 0, float), ((2, 16000), -5, float),
    ((2, 16000), 0.5, float), ((16000,), 16000, np.int16)])
def test_what_is_no_waveform(shape, rate, dtype):
    with pytest.raises(VocalrepError, match="waveform"):
        embed_audio(np.ones(shape, dtype), listener(), rate)


@pytest.mark.parametrize("shape", [(0,), (2, 0), (15999,)])
def test_too_short_a_waveform(shape):
    with pytest.raises(VocalrepError, match="shorter than one excerpt"):
        embed_audio(np.ones(shape), listener(), 16000)


@pytest.mark.parametrize("seconds, excerpts", [(1.0, 5), (5.0, 5), (5.4, 5), (5.6, 10), (10.0, 10)])
def test_as_many_segments_as_a_store_would_make(seconds, excerpts, blocks):
    table, vectors = embed_audio(noise(int(seconds * 16000)), listener(), 16000)
    assert len(table) == len(vectors) == excerpts
    assert (table.level > 0).sum() == min(excerpts, int(np.ceil(seconds)))       # the padding is known by its level


@pytest.mark.parametrize("batch", [1, 4, 10, 256])
@pytest.mark.parametrize("level", ["recorded", "unit-norm", "peak"])
def test_batches_change_nothing(batch, level):
    wave, encoder = noise(12 * 16000), listener(level=level)
    small, large = (embed_audio(wave, encoder, 16000, batch=size)[1] for size in (batch, 512))
    np.testing.assert_array_equal(small, large)


@pytest.mark.parametrize("seconds", [1.0, 1.6])
@pytest.mark.parametrize("level", ["unit-norm", "recorded"])
def test_a_file_is_heard_as_through_a_store(music, tmp_path, mixed, separator, monkeypatch, seconds, level):
    "Mixture and separated vocals of stereo mp3, six channels and low rates; a store rounds to 16 bits."
    monkeypatch.setattr("vocalrep.data.separation.load_separator", lambda *args, **options: separator)
    for path in music.glob("bad/*"):
        path.unlink()
    store = prepare(folder_corpus(music), tmp_path / "store", mixed, separator="random", workers=1, progress=False)
    store.segments["active_vocals"] = True
    encoder, places = listener(seconds, level=level), excerpt_places(store, seconds=seconds)
    position = store.segments.position.to_numpy()[places["row"]]
    for source in ("mixture", "vocals"):
        stored = embed_excerpts(store, encoder, source, places)
        for clip in store.clips["clip"]:
            table, direct = embed_audio(music / clip, encoder, source=source, separator=separator)
            mine = (places["clip"] == clip).to_numpy()
            assert np.linalg.norm(direct - stored[mine]) < 1e-3 * np.linalg.norm(direct)
            np.testing.assert_allclose(table.start, (places.offset / 16000 + 5 * position)[mine])


@pytest.mark.parametrize("length", [70 * 8000, 30 * 8000 + 1, 3 * 8000])
def test_long_files_are_separated_as_a_whole(separator, length):
    "Chunks, their overlaps and their cross-fades are those of `separate`, whatever the blocks."
    wave = 0.1 * torch.randn(2, length, generator=torch.Generator().manual_seed(0))
    whole = separate(wave[None], 8000, separator)["vocals"][0]
    pieces = torch.cat(list(separated_blocks(iter(wave.split(4999, 1)), length, 8000, separator)), 1)
    torch.testing.assert_close(pieces[0], wave.mean(0))
    torch.testing.assert_close(pieces[1], whole, atol=1e-6, rtol=1e-4)


def test_only_segments_with_vocals(blocks):
    gain = np.repeat([0.1, 0.001, 0.1, 0.0], 5 * 16000)
    wave = 10 * gain * noise(len(gain))
    everything, vectors = embed_audio(wave, listener(), 16000, source="vocals")
    sung, fewer = embed_audio(wave, listener(), 16000, source="vocals", vocals_only=True)
    assert sung.start.tolist() == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]
    np.testing.assert_array_equal(fewer, vectors[np.isin(everything.start, sung.start)])


@pytest.mark.parametrize("options, said", [
    (dict(source="vocals", vocals_only=True), "nobody sings"), (dict(vocals_only=True), "separator"),
    (dict(source="vocals", separator="none"), "unknown separator 'none'"), (dict(source="drums"), "source")])
def test_what_cannot_be_heard(options, said):
    with pytest.raises(VocalrepError, match=said):
        embed_audio(0.001 * noise(80000), listener(), 16000, **options)


PROGRAM = """
import resource, sys, torch
torch.set_num_threads(1)
from vocalrep.evaluation.audio_files import embed_audio
from vocalrep.models.adapters import TorchEncoder
encoder = TorchEncoder(lambda waves: waves[:, :1280], "a slice", 16000, 1.0, 1280)
for path in sys.argv[1:]:
    table, vectors = embed_audio(path, encoder)
    print(len(table), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts kilobytes on Linux only")
def test_memory_does_not_grow_with_the_file(tmp_path):
    "Nine minutes at 44.1 kHz in stereo are 190 MB decoded; their embeddings are 3 MB."
    block, files = noise(60 * 44100, 2), [tmp_path / "2.wav", tmp_path / "9.wav"]
    for path in files:
        with soundfile.SoundFile(path, "w", 44100, 2, "PCM_16") as file:
            for _ in range(int(path.stem)):
                file.write(block)
    run = subprocess.run([sys.executable, "-c", PROGRAM, *files], capture_output=True, text=True, check=True)
    (few, before), (many, after) = (map(int, line.split()) for line in run.stdout.splitlines())
    assert (few, many) == (120, 540) and after - before < 60_000
