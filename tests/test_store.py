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

from vocalrep.corpora import folder_corpus, load_corpus, music4all_corpus, split_artists, studio_corpus
from vocalrep.project import VocalrepError
from vocalrep.store import Sound, Store, count_segments, prepare


def test_bad_files_are_skipped_with_reasons_and_the_rest_is_prepared(music, tmp_path):
    store = prepare(folder_corpus(music), tmp_path / "a störe", separator="studio-umx", workers=1, progress=False)
    assert set(store.clips["clip"]) == {"Ada/mono.wav", "Ada/stereo.mp3", "Béla/six channels.wav", "Béla/low rate.flac", "Zoë/loud.wav", "Zoë/cut short.wav"}
    skipped = pd.read_csv(store.folder / "skipped.csv").set_index("clip").reason
    assert len(skipped) == 7
    for name, reason in {"silent.wav": "silent", "nan.wav": "NaN", "short.wav": "shorter", "empty.wav": "no samples", "garbage.mp3": "garbage.mp3", "zero.flac": "zero.flac", "header.wav": "header.wav"}.items():
        assert reason in skipped[f"bad/{name}"]


def test_what_stands_in_for_a_separator_is_recorded(music, tmp_path, monkeypatch):
    import urllib.error

    from vocalrep import separation, store
    from vocalrep.separation import StandInWarning

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
    from vocalrep.corpora import read_audio
    from vocalrep.store import resample
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
    program = ("from vocalrep.corpora import studio_corpus; from vocalrep.store import prepare; import sys;"
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
