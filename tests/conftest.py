import os
import signal

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _one_thread_and_a_home(tmp_path_factory):
    "Every test computes on one thread and writes below a temporary folder."
    import torch
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)     # which a shell in the background lets be ignored
    os.environ["VOCALREP_HOME"] = str(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def corpus():
    from vocalrep.data.corpora import studio_corpus
    return studio_corpus(artists=20, clips=2, seconds=5.0)


@pytest.fixture(scope="session")
def mixed():
    "Vocals and accompaniment at 16 kHz."
    from vocalrep.data.store import Sound
    return Sound(16000, ("vocals", "accompaniment"))


@pytest.fixture(scope="session")
def dry_sound():
    "Dry vocals at 44.1 kHz, long silences shortened."
    from vocalrep.data.store import Sound
    return Sound(44100, ("vocals",), silence=1.3)


@pytest.fixture(scope="session")
def store(corpus, mixed, tmp_path_factory):
    "Songs of twenty studio singers, vocals and accompaniment."
    from vocalrep.data.prepare import prepare
    return prepare(corpus, tmp_path_factory.mktemp("stores") / "studio", mixed, workers=1, progress=False)


@pytest.fixture(scope="session")
def vocals(dry_sound, tmp_path_factory):
    "Dry vocals of twelve studio singers."
    from vocalrep.data.corpora import studio_corpus
    from vocalrep.data.prepare import prepare
    folder = tmp_path_factory.mktemp("stores") / "vocals"
    return prepare(studio_corpus(artists=12, clips=2, seconds=5.0), folder, dry_sound, workers=1, progress=False)


@pytest.fixture(scope="session")
def tiny():
    "A preset of four steps of two batches."
    from vocalrep.data.corpora import Size
    from vocalrep.training.variants import Preset
    return Preset("smoke", Size(40, 4, 10.0), "small-cnn", steps=4, step_pairs=32, batch=16, validate_every=1,
                  patience=2)


@pytest.fixture(scope="session")
def tiny_singer():
    "A preset of three steps of two batches of fragments."
    from vocalrep.data.corpora import Size
    from vocalrep.training.variants import Preset
    return Preset("smoke", Size(30, 3, 8.4), "small-cnn", steps=3, step_pairs=8, batch=4, validate_every=1, patience=2)


def _sing(row, rate):
    "A voice with its own pitch that trembles and never pauses: no sample of it is zero."
    import numpy as np
    from vocalrep.data.recordings import Recording
    t = np.arange(round(row["seconds"] * rate)) / rate
    phase = 2 * np.pi * row["pitch"] * t - np.cos(2 * np.pi * 5 * t)
    voice = (0.2 * np.sin(phase) + 0.1 * np.sin(3 * phase)) * (1 + 0.3 * np.sin(2 * np.pi * 0.7 * t + row["pitch"]))
    return Recording(None, rate, {"vocals": ((0.5 + voice).astype(np.float32), rate)})


@pytest.fixture(scope="session")
def dry(tmp_path_factory):
    "Makes stores of dry voices: one (singer, split, seconds) for each track."
    import pandas as pd
    from vocalrep.data.recordings import Corpus
    from vocalrep.data.prepare import prepare
    from vocalrep.data.store import Sound

    def make(tracks, rate=44100, folder=None):
        clips = pd.DataFrame(tracks, columns=["artist", "split", "seconds"]).assign(gender=None, path=None)
        clips["clip"] = clips.artist + "-" + clips.groupby("artist").cumcount().astype(str)
        clips["pitch"] = 110.0 * 1.03 ** clips.index.to_numpy()
        folder = folder or tmp_path_factory.mktemp("dry") / "store"
        sound = Sound(rate, ("vocals",), silence=1.3)
        return prepare(Corpus("dry", clips, _sing, ("vocals",)), folder, sound, workers=1, progress=False)
    return make


@pytest.fixture
def music(tmp_path):
    "A folder of audio with a bad file of every kind beside good ones."
    import numpy as np
    import soundfile
    rng = np.random.default_rng(0)
    root = tmp_path / "Música de prueba"

    def write(name, wave, rate=44100, **options):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, wave, rate, **options)

    def noise(seconds, channels=1, rate=44100):
        return rng.normal(0, 0.1, (int(seconds * rate), channels))

    write("Ada/mono.wav", noise(6))
    write("Ada/stereo.mp3", noise(6, 2))
    write("Béla/six channels.wav", noise(6, 6))
    write("Béla/low rate.flac", noise(6, 1, 8000), 8000)
    write("Zoë/loud.wav", 20 * noise(6, 2), subtype="FLOAT")
    write("Zoë/cut short.wav", noise(6))
    whole = (root / "Zoë/cut short.wav").read_bytes()
    (root / "Zoë/cut short.wav").write_bytes(whole[:len(whole) // 2])
    write("bad/silent.wav", 0 * noise(6))
    write("bad/nan.wav", np.full((44100, 1), np.nan), subtype="FLOAT")
    write("bad/short.wav", noise(0.2))
    write("bad/empty.wav", noise(0))
    (root / "bad/garbage.mp3").write_bytes(b"no audio at all" * 100)
    (root / "bad/zero.flac").write_bytes(b"")
    write("bad/header.wav", noise(6))
    (root / "bad/header.wav").write_bytes((root / "bad/header.wav").read_bytes()[:20])
    return root
