"Corpora and stores: bad files, kills, foreign folders."
import hashlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalrep.data.corpora import Corpus, Recording, folder_corpus, load_corpus, music4all_corpus, split_artists, studio_corpus
from vocalrep.project import VocalrepError, home
from vocalrep.data.store import SOUNDS, STEMS, Sound, Store, count_segments, open_store, prepare, shorten_silences, store_folder


def test_bad_files_are_skipped_with_reasons_and_the_rest_is_prepared(music, tmp_path):
    store = prepare(folder_corpus(music), tmp_path / "a störe", separator="studio-umx", workers=1, progress=False)
    assert set(store.clips["clip"]) == {"Ada/mono.wav", "Ada/stereo.mp3", "Béla/six channels.wav", "Béla/low rate.flac", "Zoë/loud.wav", "Zoë/cut short.wav"}
    skipped = pd.read_csv(store.folder / "skipped.csv").set_index("clip").reason
    assert len(skipped) == 7
    for name, reason in {"silent.wav": "silent", "nan.wav": "NaN", "short.wav": "shorter", "empty.wav": "no samples", "garbage.mp3": "garbage.mp3", "zero.flac": "zero.flac", "header.wav": "header.wav"}.items():
        assert reason in skipped[f"bad/{name}"]


def test_what_stands_in_for_a_separator_is_recorded(music, tmp_path, monkeypatch):
    import urllib.error

    from vocalrep.data import separation
from vocalrep.data import store
    from vocalrep.data.separation import StandInWarning

    def unreachable(*arguments, **options):
        raise urllib.error.URLError("no network")
    monkeypatch.setattr(separation, "_hub_module", unreachable)
    store._separator.cache_clear()
    with pytest.warns(StandInWarning, match="STANDS IN"):
        made = prepare(folder_corpus(music), tmp_path / "store", workers=1, progress=False)
    store._separator.cache_clear()
    assert made.about["separator"] == "umxl" and made.about["separator_details"]["name"] == "studio-umx"
    assert made.about["separator_details"]["stands_in_for"] == "umxl"
    with pytest.raises(VocalrepError, match="prepared from something else.*separator: 'umxl' there, 'studio-umx' now"):
        prepare(folder_corpus(music), tmp_path / "store", separator="studio-umx", progress=False)


def test_stored_mixture_is_the_file(music, tmp_path):
    from vocalrep.data.corpora import read_audio
    from vocalrep.data.store import resample
    store = prepare(folder_corpus(music), tmp_path / "store", separator="studio-umx", workers=1, progress=False)
    row = store.segments[store.segments["clip"] == "Zoë/loud.wav"].index[0]
    wave, rate = read_audio(music / "Zoë/loud.wav")
    expected = resample(wave.mean(0), rate, store.rate)[:80000]
    stored = store.excerpts(np.array([row]), np.array([0]), 80000)[0].numpy()
    assert np.abs(stored - expected).max() < 1e-3 * np.abs(expected).max()          # 16 bits, although the peak is far above 1


def test_no_good_file_at_all_is_one_error(music, tmp_path):
    import shutil
    for name in ("Ada", "Béla", "Zoë"):
        shutil.rmtree(music / name)
    with pytest.raises(VocalrepError, match="none of 7 clips could be prepared"):
        prepare(folder_corpus(music), tmp_path / "store", separator="studio-umx", workers=1, progress=False)


def test_store_of_something_else_and_foreign_folder_are_refused(store, tmp_path):
    with pytest.raises(VocalrepError, match="prepared from something else.*clips"):
        prepare(studio_corpus(artists=20, clips=1, seconds=5.0), store.folder)
    (tmp_path / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(VocalrepError, match="not a store"):
        prepare(studio_corpus(artists=3, clips=1, seconds=5.0), tmp_path)
    with pytest.raises(VocalrepError, match="not a store.*vocalrep prepare"):
        Store(tmp_path)


def test_unwritable_place_is_one_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(VocalrepError, match="cannot create"):
        prepare(studio_corpus(artists=3, clips=1, seconds=5.0), tmp_path / "file" / "store")


def test_damaged_store_is_one_error(corpus, tmp_path):
    store = prepare(studio_corpus(artists=3, clips=1, seconds=5.0), tmp_path / "store", workers=1, progress=False)
    shard = next((store.folder / "shards").glob("?????.npy"))
    shard.write_bytes(shard.read_bytes()[:50])
    with pytest.raises(VocalrepError, match="damaged.*prepare"):
        Store(store.folder)


def _content(folder):
    "File name -> hash; the packages noted in store.json aside, a store is its bytes."
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_killed_preparation_ends_in_the_same_store(tmp_path):
    program = ("from vocalrep.data.corpora import studio_corpus; from vocalrep.data.store import prepare; import sys;"
               "prepare(studio_corpus(artists=16, clips=4, seconds=5.0), sys.argv[1], workers=2, progress=False)")
    run = lambda folder: subprocess.Popen([sys.executable, "-c", program, folder], start_new_session=True, stderr=subprocess.DEVNULL)
    assert run(tmp_path / "undisturbed").wait() == 0
    rng, kills = random.Random(0), 0
    while kills < 3:
        process = run(tmp_path / "killed")
        time.sleep(rng.uniform(2.0, 5.0))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert run(tmp_path / "killed").wait() == 0
    assert kills and _content(tmp_path / "killed") == _content(tmp_path / "undisturbed")


def test_music4all_tables(tmp_path):
    write = lambda table, name: pd.DataFrame(table).to_csv(tmp_path / name, sep="\t", index=False)
    with pytest.raises(VocalrepError, match="id_information.csv.*columns id, artist"):
        music4all_corpus(tmp_path)
    write(dict(id=["a", "b"], singer=["x", "y"]), "id_information.csv")
    with pytest.raises(VocalrepError, match="no column artist.*singer"):
        music4all_corpus(tmp_path)
    write(dict(id=["a", "a"], artist=["x", "y"]), "id_information.csv")
    with pytest.raises(VocalrepError, match="appear twice, such as a"):
        music4all_corpus(tmp_path)
    write(dict(id=["a", "b"], artist=["x", None]), "id_information.csv")
    with pytest.raises(VocalrepError, match="no artist, such as b"):
        music4all_corpus(tmp_path)
    write(dict(id=["a", "b"], artist=['"x" & co', "y"]), "id_information.csv")
    assert music4all_corpus(tmp_path).clips.artist.tolist() == ['"x" & co', "y"]


def test_folder_with_artists_from_a_csv(music, tmp_path):
    listing = tmp_path / "artists.csv"
    listing.write_text("path,artist\nAda/mono.wav,Someone\nBéla/low rate.flac,Another\n", encoding="utf-8")
    assert dict(folder_corpus(music, listing).clips[["clip", "artist"]].to_numpy()) == {"Ada/mono.wav": "Someone", "Béla/low rate.flac": "Another"}


@pytest.mark.parametrize("name, root, message", [("studios", "", "studio, music4all, folder"), ("folder", "", "not a folder"), ("music4all", "/no/such", "not a folder")])
def test_unknown_corpora(name, root, message):
    with pytest.raises(VocalrepError, match=message):
        load_corpus(name, root)


def test_an_empty_folder_is_one_error(tmp_path):
    with pytest.raises(VocalrepError, match="no clips found"):
        folder_corpus(tmp_path)


def test_splits_are_disjoint_and_stable():
    names = [f"artist {i}" for i in range(200)]
    splits = pd.Series(split_artists(names))
    assert splits.value_counts().to_dict() == {"train": 160, "valid": 20, "test": 20}
    assert splits.to_dict() == split_artists(names[::-1] * 2)
    assert set(split_artists(["a", "b"]).values()) == {"train"}


def test_segments_cover_the_clip():
    assert [count_segments(int(s * 16000), 16000) for s in (1, 5, 5.4, 5.6, 30, 30.04)] == [1, 1, 1, 2, 6, 6]


def test_four_stems_can_be_kept(tmp_path):
    names = ("vocals", "bass", "drums", "other")
    corpus = studio_corpus(artists=3, clips=1, seconds=5.0)
    four = prepare(corpus, tmp_path / "four", sound=Sound(16000, names), workers=1, progress=False)
    two = prepare(corpus, tmp_path / "two", workers=1, progress=False)
    places = np.arange(len(two.segments)), np.zeros(len(two.segments), int)
    for source in ("mixture", "accompaniment", "vocals"):
        assert np.abs(four.excerpts(*places, 16000, source) - two.excerpts(*places, 16000, source)).max() < 2e-4
    with pytest.raises(VocalrepError, match="no stem 'drums'"):
        two.excerpts(*places, 100, "drums")


# ---- long silences ----

def naive_shortening(wave, rate, longest, threshold, briefest):
    "Block after block, in plain loops."
    block = rate // 100
    blocks = [wave[i:i + block] for i in range(0, len(wave), block)]
    peak = max(abs(x) for x in wave)
    loud = [max(abs(x) for x in b) >= np.float32(threshold) * peak and peak > 0 for b in blocks]

    def runs():
        found = []
        for i, value in enumerate(loud):
            if found and found[-1][0] == value:
                found[-1][1].append(i)
            else:
                found.append((value, [i]))
        return found
    for value, members in runs():
        if value and len(members) * block < briefest * rate:
            for i in members:
                loud[i] = False
    kept = []
    for value, members in runs():
        samples = [x for i in members for x in blocks[i]]
        if not value and len(members) * block > longest * rate:
            samples = samples[:round(longest * rate)]
        kept += samples
    return np.array(kept, np.float32)


stretches = st.lists(st.tuples(st.sampled_from([0.0, 0.0004, 0.0049, 0.0051, 0.02, 0.9]), st.integers(1, 320)), min_size=1, max_size=14)


@settings(deadline=None, max_examples=100)
@given(stretches, st.sampled_from([100, 200, 130]), st.sampled_from([0.4, 0.65, 1.3]), st.sampled_from([0.03, 0.2]))
def test_shortened_silences_against_a_loop(stretches, rate, longest, briefest):
    wave = np.concatenate([level * np.where(np.arange(n) % 2, -1, 1) for level, n in stretches]).astype(np.float32)
    before = wave.copy()
    short = shorten_silences(wave, rate, longest, briefest=briefest)
    assert short.dtype == np.float32 and np.array_equal(short, naive_shortening(wave, rate, longest, 0.005, briefest))
    assert np.array_equal(wave, before)
    assert len(shorten_silences(wave / 8, rate, longest, briefest=briefest)) == len(short)             # silence is relative to the clip's own peak


RATE = 8000


def tone(seconds, level=0.5):
    return np.full(round(seconds * RATE), level, np.float32)


@pytest.mark.parametrize("parts, seconds", [
    ([tone(5, 0.0)], 1.3),                                                     # nobody sings
    ([tone(1.3, 0.0)], 1.3),
    ([tone(3)], 3),                                                            # no silence
    ([tone(1), tone(1.3, 0.0), tone(1)], 3.3),                                 # as long as may be
    ([tone(1), tone(1.31, 0.0), tone(1)], 3.3),
    ([tone(4, 0.0), tone(1), tone(4, 0.0), tone(1), tone(4, 0.0)], 3 * 1.3 + 2),   # before, between and after
    ([tone(1), tone(2, 0.0), tone(0.19), tone(2, 0.0), tone(1)], 3.3),         # too brief to be sung
    ([tone(1), tone(2, 0.0), tone(0.2), tone(2, 0.0), tone(1)], 2 + 2 * 1.3 + 0.2),
    ([tone(1, 1.0), tone(3, 0.005)], 4),                                       # silence is below the threshold, not on it
    ([tone(1, 1.0), tone(3, 0.00499)], 2.3),
    ([tone(0.0005)], 0.0005),                                                  # shorter than a block
    ([tone(0.0005, 0.0)], 0.0005),
    ([tone(1), tone(2, 0.0), tone(0.0005)], 2.3),                              # the last block is not whole
])
def test_edges_of_silence(parts, seconds):
    wave = np.concatenate(parts)
    assert len(shorten_silences(wave, RATE)) == round(seconds * RATE)


def test_what_is_sung_stays_in_its_order():
    rng = np.random.default_rng(0)
    sung = [rng.uniform(0.1, 1, RATE).astype(np.float32) for _ in range(3)]
    short = shorten_silences(np.concatenate([sung[0], tone(9, 0.0), sung[1], tone(1, 0.0), sung[2]]), RATE)
    assert np.array_equal(short, np.concatenate([sung[0], tone(1.3, 0.0), sung[1], tone(1, 0.0), sung[2]]))


def test_silences_of_nothing():
    assert not len(shorten_silences(tone(0), RATE))


# ---- dry vocals ----

def _waiting(row, rate):
    "A second of voice, a rest, a second of voice."
    sung = np.full(rate, row["level"], np.float32)
    return Recording(None, rate, {"vocals": (np.concatenate([sung, np.zeros(round(row["rest"] * rate), np.float32), sung]), rate)})


def waiting_corpus(*rows):
    table = pd.DataFrame([dict(clip=name, artist=name, gender=None, split="train", path=None, level=level, rest=rest) for name, level, rest in rows])
    return Corpus("waiting", table, _waiting, ("vocals",))


def test_dry_vocals_are_stored_without_their_rests(tmp_path):
    corpus = waiting_corpus(("sings", 0.5, 9.0), ("hums", 0.02, 1.0), ("mute", 0.004, 1.0))
    store = prepare(corpus, tmp_path / "store", Sound(1000, ("vocals",), silence=1.3), workers=1, progress=False)
    assert dict(zip(store.clips["clip"], store.clips.samples)) == {"sings": 3300, "hums": 3000} and (store.clips.length == 5000).all()
    assert "nobody sings in it: it stays below 0.5%" in pd.read_csv(store.folder / "skipped.csv").set_index("clip").reason["mute"]
    voice = store.excerpts(np.array([0]), np.array([0]), 5000, "vocals")[0].numpy()
    assert np.allclose(voice, np.repeat([0.5, 0, 0.5, 0], [1000, 1300, 1000, 1700]), atol=1e-4)
    with pytest.raises(VocalrepError, match="silence: 1.3 there, None now"):
        prepare(corpus, tmp_path / "store", Sound(1000, ("vocals",)), progress=False)
    as_it_is = prepare(corpus, tmp_path / "as it is", Sound(1000, ("vocals",)), workers=1, progress=False)
    assert as_it_is.clips.samples.tolist() == [11_000, 3000, 3000]
    assert "silence" in store.identity and "silence" not in as_it_is.identity                          # so that older stores are what they were


def test_samples_are_those_that_are_no_padding(dry):
    seconds = [1.0, 4.9999, 5.0, 5.499, 5.501, 9.3, 10.4]
    store = dry([("s", "train", s) for s in seconds], rate=1000)
    assert store.clips.samples.tolist() == [1000, 5000, 5000, 5000, 5501, 9300, 10_000]      # a rest of less than half a second is dropped
    for clip in store.clips.itertuples():
        wave = store.gather(np.array([store.base[clip.shard] + clip.start]), clip.length)[0].numpy()
        assert (wave[:clip.samples] != 0).all() and not wave[clip.samples:].any()


def test_silences_of_two_stems(tmp_path):
    try:
        store = prepare(studio_corpus(artists=3, clips=1, seconds=5.0), tmp_path / "store", Sound(16000, STEMS, silence=1.3), workers=1, progress=False)
    except VocalrepError:
        return
    assert len(store.shards[0]) == 2 * store.clips.length.sum()


# ---- stores together ----

def everything(store, source):
    "Every segment of a store, one after the other."
    return [store.excerpts(np.array([row]), np.array([0]), 5 * store.rate, source)[0] for row in range(len(store.segments))]


def test_joined_stores_are_their_parts(dry):
    parts = [dry([(f"{name}{i}", "train", 1 + 2.3 * i) for i in range(n)], rate=500) for name, n in (("a", 3), ("b", 10), ("c", 1))]       # b: two shards
    assert len(parts[1].shards) == 2
    tables = [(part.clips.copy(), part.segments.copy()) for part in parts]
    expected = [wave for part in parts for wave in everything(part, "vocals")]
    for both in (parts[0].joined(parts[1]).joined(parts[2]), parts[0].joined(parts[1].joined(parts[2]))):
        assert all(map(torch.equal, everything(both, "vocals"), expected)) and len(both.segments) == len(expected)
        assert both.clips["clip"].tolist() == [clip for part in parts for clip in part.clips["clip"]]
        for clip in both.clips.itertuples():                                                            # the clips' own addresses, too
            rows = both.segments[both.segments["clip"] == clip.clip]
            assert both.base[clip.shard] + clip.start == rows.address.iloc[0] and (rows.shard == clip.shard).all()
        loaded = [wave.clone() for wave in everything(both.load(), "vocals")]
        assert all(map(torch.equal, loaded, expected))
    for part, (clips, segments) in zip(parts, tables):                                                  # and the parts are as they were
        pd.testing.assert_frame_equal(part.clips, clips)
        pd.testing.assert_frame_equal(part.segments, segments)


def test_stores_that_were_prepared_differently_cannot_be_joined(dry, store):
    voices = dry([("a", "train", 2.0)], rate=500)
    with pytest.raises(VocalrepError, match="vocals at 500 samples/s and .* vocals, accompaniment at 16000; prepare them alike"):
        voices.joined(store)
    with pytest.raises(VocalrepError, match="prepare them alike"):
        voices.joined(dry([("a", "train", 2.0)], rate=600))


# ---- stores by name ----

def test_each_paper_hears_its_own_sound(monkeypatch):
    import vocalrep.data.store as room
    asked = []
    monkeypatch.setattr(room, "prepare", lambda corpus, folder, sound, separator, **options: asked.append((len(corpus.clips), folder, sound, separator, options)))
    open_store("studio", preset="smoke")
    open_store("studio", preset="smoke", paper="singer_identity", workers=3)
    open_store("studio", preset="smoke", paper="singer_identity", folder="elsewhere", separator="true")
    assert asked == [(160, home() / "stores/studio-smoke-16000", SOUNDS["cvsm"], "auto", {}),
                     (90, home() / "stores/studio-smoke-vocals-44100", SOUNDS["singer_identity"], "auto", dict(workers=3)),
                     (90, "elsewhere", SOUNDS["singer_identity"], "true", {})]
    with pytest.raises(VocalrepError, match="unknown paper 'mscol'.*cvsm, singer_identity"):
        open_store("studio", paper="mscol")
    with pytest.raises(VocalrepError, match="unknown preset 'huge'"):
        open_store("studio", preset="huge", paper="singer_identity")


def test_folders_of_stores_tell_apart_what_differs(tmp_path):
    names = {store_folder("vocals", root, "smoke", sound).name for root in (tmp_path / "a" / "voices", tmp_path / "b" / "voices") for sound in SOUNDS.values()}
    assert len(names) == 4 and all(name.startswith("vocals-voices-") for name in names)
    assert SOUNDS["singer_identity"] == Sound(44100, ("vocals",), silence=1.3)                          # section 4.1
