"Preparing: bad files, foreign folders; plain mixtures, four stems, other segments; what clips know survives."
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from vocalrep.data import prepare as room
from vocalrep.data.corpora import Size, folder_corpus, studio_corpus
from vocalrep.data.recordings import Corpus, Recording, tabulate
from vocalrep.data.audio import resample
from vocalrep.data.prepare import open_store, prepare, store_folder
from vocalrep.data.stems import separated_stems, separation_targets
from vocalrep.data.store import Sound, Store, verify
from vocalrep.project import VocalrepError, home

FOUR = ("vocals", "bass", "drums", "other")
PLAIN = Sound(16000, ("mixture",))
DRY = Sound(44100, ("vocals",), silence=1.3)
QUIETLY = dict(workers=1, progress=False)
UMX = dict(separator="studio-umx", **QUIETLY)


@pytest.fixture(scope="module")
def songs():
    "Three songs of the studio."
    return studio_corpus(artists=3, clips=1, seconds=5.0)


def beginnings(store):
    "Rows, offsets and length of a second of every clip."
    rows = store.first_rows()
    return rows, np.zeros(len(rows), int), store.rate


# ---- bad files ----

def test_bad_files_are_skipped_with_reasons_and_the_rest_is_prepared(music, tmp_path):
    store = prepare(folder_corpus(music), tmp_path / "a störe", **UMX)
    good = {"Ada/mono.wav", "Ada/stereo.mp3", "Béla/six channels.wav", "Béla/low rate.flac", "Zoë/loud.wav"}
    assert set(store.clips["clip"]) == good
    skipped = pd.read_csv(store.folder / "skipped.csv").set_index("clip").reason
    reasons = {"silent.wav": "silent", "nan.wav": "NaN", "short.wav": "shorter", "empty.wav": "no samples",
               "garbage.mp3": "garbage.mp3", "zero.flac": "zero.flac", "header.wav": "header.wav"}
    assert len(skipped) == 8 and "it was cut short" in skipped["Zoë/cut short.wav"]
    for name, reason in reasons.items():
        assert reason in skipped[f"bad/{name}"]


def test_what_stands_in_for_a_separator_is_recorded(music, tmp_path, monkeypatch):
    from vocalrep.data.unmix import StandInWarning
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nothing cached"))
    monkeypatch.setattr("urllib.request.urlopen", _unreachable)
    room.cached_separator.cache_clear()
    with pytest.warns(StandInWarning, match="STANDS IN"):
        made = prepare(folder_corpus(music), tmp_path / "store", **QUIETLY)
    room.cached_separator.cache_clear()
    assert made.about["separator"] == "umxl" and made.about["separator_details"]["name"] == "studio-umx"
    assert made.about["separator_details"]["stands_in_for"] == "umxl"
    with pytest.raises(VocalrepError, match="prepared from something else.*separator: 'umxl' there, 'studio-umx' now"):
        prepare(folder_corpus(music), tmp_path / "store", separator="studio-umx", progress=False)


def _unreachable(*arguments, **options):
    import urllib.error
    raise urllib.error.URLError("no network")


def test_stored_mixture_is_the_file(music, tmp_path):
    from vocalrep.data.audio import read_audio
    wave, rate = read_audio(music / "Zoë/loud.wav")
    expected = resample(wave.mean(0), rate, 16000)[:80000]
    for name, sound in (("two", Sound()), ("plain", PLAIN)):
        store = prepare(folder_corpus(music), tmp_path / name, sound, **UMX)
        row = store.segments[store.segments["clip"] == "Zoë/loud.wav"].index[0]
        stored = store.excerpts(np.array([row]), np.array([0]), 80000)[0].numpy()
        peak = np.abs(expected).max()                                                # far above 1
        assert np.abs(stored - expected).max() < 1e-3 * peak                         # 16 bits


def test_no_good_file_at_all_is_one_error(music, tmp_path):
    for name in ("Ada", "Béla", "Zoë"):
        shutil.rmtree(music / name)
    with pytest.raises(VocalrepError, match="none of 7 clips could be prepared"):
        prepare(folder_corpus(music), tmp_path / "store", **UMX)


# ---- where stores go ----

def test_store_of_something_else_and_foreign_folder_are_refused(store, songs, tmp_path):
    with pytest.raises(VocalrepError, match="prepared from something else.*clips"):
        prepare(studio_corpus(artists=20, clips=1, seconds=5.0), store.folder)
    with pytest.raises(VocalrepError, match="segment_seconds: 5.0 there, 3.92 now"):
        prepare(studio_corpus(artists=20, clips=2, seconds=5.0), store.folder, Sound(segment=3.92))
    (tmp_path / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(VocalrepError, match="not a store"):
        prepare(songs, tmp_path)


def test_unwritable_place_is_one_error(songs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(VocalrepError, match="cannot (create|lock).*choose"):
        prepare(songs, tmp_path / "file" / "store")


def test_stores_by_name(monkeypatch):
    asked = []

    def noted(corpus, folder, sound, separator, **options):
        asked.append((len(corpus.clips), folder, sound, separator, options))
    monkeypatch.setattr(room, "prepare", noted)
    open_store("studio", size=Size(40, 4, 10.0), label="smoke")
    open_store("studio", sound=DRY, size=Size(30, 3, 8.4), label="smoke", workers=3)
    open_store("studio", sound=DRY, size=Size(30, 3, 8.4), folder="elsewhere", separator="true")
    open_store("studio", sound=PLAIN, size=Size(30, 3, 8.4))
    stores = home() / "stores"
    assert asked == [(160, stores / "studio-smoke-16000", Sound(), "auto", {}),
                     (90, stores / "studio-smoke-vocals-44100", DRY, "auto", dict(workers=3)),
                     (90, "elsewhere", DRY, "true", {}),
                     (90, stores / "studio-30x3x8.4s-mixture-whole-16000", PLAIN, "auto", {})]
    with pytest.raises(VocalrepError, match="unknown corpus 'studios'"):
        open_store("studios")


def test_folders_of_stores_tell_apart_what_differs(tmp_path):
    sounds = (Sound(), DRY, PLAIN, Sound(16000, FOUR), Sound(16000, FOUR, segment=3.92), Sound(22050),
              Sound(segment=20))
    roots = (tmp_path / "a" / "voices", tmp_path / "b" / "voices")
    names = {store_folder("vocals", root, "smoke", sound, splits).name
             for root in roots for sound in sounds for splits in ("", "own/splits.csv")}
    assert len(names) == 28 and all(name.startswith("vocals-voices-") for name in names)
    assert store_folder("techniques", "", "smoke", DRY).name == "techniques-smoke-vocals-44100"


# ---- earlier stores ----

def _made_earlier(folder):
    "Make a store what an earlier version would have left: no records, no digests."
    for path in [*folder.glob("shards/*.json"), folder / "sources.parquet", folder / "shards.parquet"]:
        skipped = pd.DataFrame(json.loads(path.read_text())["skipped"], columns=["clip", "path", "reason"]) \
            if path.suffix == ".json" else None
        if skipped is not None:
            skipped.to_parquet(path.with_name(f"{path.stem}-skipped.parquet"))
        path.unlink()
    about = json.loads((folder / "store.json").read_text())
    kept = {key: value for key, value in about.items() if key not in ("files", "audio", "labels")}
    (folder / "store.json").write_text(json.dumps(kept))


def test_an_earlier_store_of_the_studio_is_opened_and_keeps_its_identity(songs, tmp_path, monkeypatch):
    made = prepare(songs, tmp_path / "store", **QUIETLY)
    _made_earlier(made.folder)
    audio = made.excerpts(*beginnings(made))
    earlier = Store(made.folder)
    assert earlier.identity == made.identity and torch.equal(earlier.excerpts(*beginnings(earlier)), audio)
    monkeypatch.setattr(room, "prepare_chunk", None)                                 # nothing is prepared again
    now = prepare(songs, made.folder, **QUIETLY)
    assert now.identity == made.identity and now.about["files"] == made.about["files"]
    verify(now)


def test_an_earlier_store_of_files_is_believed_unless_a_file_is_newer(music, tmp_path, monkeypatch):
    made = prepare(folder_corpus(music), tmp_path / "store", PLAIN, **QUIETLY)
    _made_earlier(made.folder)
    assert Store(made.folder).identity != made.identity                              # it did not know its audio
    assert prepare(folder_corpus(music), made.folder, PLAIN, **QUIETLY).identity == made.identity
    _made_earlier(made.folder)
    soundfile.write(music / "Ada/mono.wav", np.full(16000 * 6, 0.5), 16000)
    now = prepare(folder_corpus(music), made.folder, PLAIN, **QUIETLY)
    row = now.segments.index[now.segments["clip"] == "Ada/mono.wav"][:1].to_numpy()
    assert np.allclose(now.excerpts(row, 0 * row, 1000), 0.5, atol=1e-4)


# ---- stems ----

def test_four_true_stems(songs, tmp_path):
    four = prepare(songs, tmp_path / "four", Sound(16000, FOUR), **QUIETLY)
    two = prepare(songs, tmp_path / "two", **QUIETLY)
    places, rows = beginnings(two), np.arange(len(two.segments))
    for source in ("mixture", "accompaniment", "vocals"):
        assert np.abs(four.excerpts(*places, source) - two.excerpts(*places, source)).max() < 2e-4
        assert np.allclose(four.norms(rows, source), two.norms(rows, source), rtol=1e-3)
        assert (four.active(source) == two.active(source)).all()
    for row, clip in zip(places[0], two.clips["clip"]):
        truth = songs.read(clip, 16000).stems
        for name in FOUR:
            stored = four.excerpts(np.array([row]), np.array([0]), 80_000, name)[0].numpy()
            assert np.abs(stored - truth[name][0][:80_000]).max() < 1e-4
    with pytest.raises(VocalrepError, match="no stem 'drums'"):
        two.excerpts(*places, "drums")


class FourWays:
    "Stands for a separator of four stems: each is a known part of the mixture."
    fingerprint = "abcd1234"

    def describe(self):
        return dict(name="four ways", targets=list(FOUR), stands_in_for=None)


def test_four_separated_stems(music, tmp_path, monkeypatch):
    asked = []

    def load(name, device, targets):
        asked.append((name, targets))
        return FourWays()

    def separate(mixtures, rate, model):
        return {name: share * mixtures.mean(1) for name, share in zip(FOUR, (0.5, 0.25, 0.125, 0.125))}
    monkeypatch.setattr(room, "cached_separator", load)
    monkeypatch.setattr("vocalrep.data.stems.cached_separator", load)
    monkeypatch.setattr("vocalrep.data.separation.separate", separate)
    store = prepare(folder_corpus(music), tmp_path / "store", Sound(16000, FOUR), device="cuda", **QUIETLY)
    assert set(asked) == {("umxl", FOUR)} and store.about["weights"] == "abcd1234" and store.stems == FOUR
    places = beginnings(store)
    mixture = store.excerpts(*places)
    for source, share in (("vocals", 0.5), ("bass", 0.25), ("other", 0.125), ("accompaniment", 0.5)):
        assert torch.allclose(store.excerpts(*places, source), share * mixture, atol=1e-3 * float(mixture.abs().max()))
    again = prepare(folder_corpus(music), tmp_path / "store", Sound(16000, FOUR), device="cuda", **QUIETLY)
    assert again.identity == store.identity


def test_targets_of_separation():
    assert separation_targets(("vocals", "accompaniment")) == separation_targets(("accompaniment",)) == ("vocals",)
    assert separation_targets(FOUR) == FOUR and separation_targets(("drums", "accompaniment")) == ("drums", "vocals")


def test_a_separator_hears_the_sum_of_the_stems(songs):
    recording = songs.read(songs.clips["clip"][0], 16000)
    mixture = sum(wave for wave, _ in recording.stems.values())
    alone = separated_stems(Recording(mixture[None], 16000, {}), 16000, "studio-umx")
    summed = separated_stems(recording, 16000, "studio-umx")
    assert all(np.allclose(alone[name], summed[name], atol=1e-6) for name in ("vocals", "accompaniment"))


def test_only_vocals_are_known_but_four_stems_are_wanted(tmp_path):
    corpus = waiting_corpus(("a", 0.5, 1.0))
    with pytest.raises(VocalrepError, match="stems bass, drums, other are not known .*choose a separator"):
        prepare(corpus, tmp_path / "store", Sound(1000, FOUR), separator="true", **QUIETLY)
    with pytest.raises(VocalrepError, match="studio-umx separates vocals only"):
        prepare(corpus, tmp_path / "another", Sound(1000, FOUR), **UMX)


# ---- plain mixtures, other segments ----

def test_plain_mixtures_need_no_separator(songs, music, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "cached_separator", None)
    monkeypatch.setattr("vocalrep.data.stems.cached_separator", None)
    for name, corpus in (("songs", songs), ("files", folder_corpus(music))):
        for separator in ("auto", "true"):
            store = prepare(corpus, tmp_path / name, PLAIN, separator, **QUIETLY)
        assert store.about["separator"] == "none" and store.stems == ("mixture",)
        measured = [c for c in store.segments if c.startswith(("active_", "norm_"))]
        assert measured == ["active_mixture", "norm_mixture"]
        with pytest.raises(VocalrepError, match="no stem 'vocals'"):
            store.excerpts(*beginnings(store), "vocals")
        assert (store.active("vocals") == store.active()).all()
    truth = prepare(songs, tmp_path / "two", **QUIETLY)
    plain = Store(tmp_path / "songs")
    assert (plain.excerpts(*beginnings(plain)) - truth.excerpts(*beginnings(truth))).abs().max() < 2e-4
    assert np.allclose(plain.norms(np.arange(3)), truth.norms(np.arange(3)), rtol=1e-3)
    assert len(plain.shards[0]) * 2 == len(truth.shards[0])


@pytest.mark.parametrize("seconds, counts", [(3.92, [1, 2, 3]), (20.0, [1, 1, 1]), (5.0, [1, 2, 2])])
def test_segments_of_other_lengths(seconds, counts, tmp_path):
    corpus = waiting_corpus(("short", 0.5, 1.0), ("middle", 0.5, 5.0), ("long", 0.5, 7.0))
    store = prepare(corpus, tmp_path / "store", Sound(1000, ("vocals",), segment=seconds), **QUIETLY)
    size = int(seconds * 1000)
    assert store.segments.groupby("clip", sort=False).size().tolist() == counts and store.segment_seconds == seconds
    assert (store.clips.length == np.array(counts) * size).all()
    assert ("segment_seconds" in store.identity) == (seconds != 5)
    assert (store.segments.start - store.segments.position * size).isin(store.clips.start).all()
    for row, clip in enumerate(store.clips.itertuples()):
        truth = np.pad(corpus.read(clip.clip, 1000).stems["vocals"][0], (0, size))[:clip.length]
        rows = np.flatnonzero(store.segments["clip"] == clip.clip)
        stored = store.excerpts(rows, 0 * rows, size, "vocals").numpy().ravel()
        assert np.abs(stored - truth).max() < 1e-4


# ---- what clips know survives ----

def test_tags_cliques_and_missing_artists_survive(tmp_path):
    rows = pd.DataFrame(dict(clip=[f"c{i}" for i in range(20)], level=0.5, rest=1.0))
    rows["artist"] = ["Ada" if i > 15 else None for i in range(20)]                  # the first shard knows no artist
    rows["clique"] = [f"w{i // 2}" if i > 3 else None for i in range(20)]
    rows["tags"] = [[] if i < 9 else ["rock", "slow"][:1 + i % 2] for i in range(20)]     # nor any tag
    rows["split"] = [("train", "valid", "test")[i % 3] for i in range(20)]
    corpus = Corpus("tagged", tabulate(rows, "rows"), _waiting, ("vocals",))
    store = prepare(corpus, tmp_path / "store", Sound(1000, ("vocals",)), **QUIETLY)
    assert store.clips.tags.tolist() == rows.tags.tolist() and all(isinstance(tags, list) for tags in store.clips.tags)
    for table in (store.clips, store.segments.drop_duplicates("clip")):
        for column in ("artist", "clique"):
            assert table[column].isna().tolist() == rows[column].isna().tolist()
            assert table[column].dropna().tolist() == rows[column].dropna().tolist()
        assert table.split.tolist() == rows.split.tolist()
    assert prepare(corpus, store.folder, Sound(1000, ("vocals",))).identity == store.identity
    retagged = Corpus("tagged", corpus.clips.assign(tags=[["x"]] * 20), _waiting, ("vocals",))
    with pytest.raises(VocalrepError, match="listing"):
        prepare(retagged, store.folder, Sound(1000, ("vocals",)))


def test_columns_come_only_where_a_corpus_has_them(store):
    assert not {"tags", "clique"} & ({*store.clips} | {*store.segments})


def test_ones_own_splits_reach_the_store(music, tmp_path):
    own = tmp_path / "own.csv"
    own.write_text("clip,split\nAda/mono.wav,test\nZoë/loud.wav,valid\n", encoding="utf-8")
    store = open_store("folder", music, PLAIN, splits=own, **QUIETLY)
    splits = store.clips.set_index("clip").split
    assert splits["Ada/mono.wav"] == splits["Ada/stereo.mp3"] == "test" and splits["Zoë/loud.wav"] == "valid"
    assert store.folder.name.endswith("-own-mixture-whole-16000") and store.folder.parent == home() / "stores"


# ---- dry vocals ----

def _waiting(row, rate):
    "A second of voice, a rest, a second of voice."
    sung = np.full(rate, row["level"], np.float32)
    rest = np.zeros(round(row["rest"] * rate), np.float32)
    return Recording(None, rate, {"vocals": (np.concatenate([sung, rest, sung]), rate)})


def waiting_corpus(*rows):
    "A corpus from (name, level, seconds of rest)."
    table = pd.DataFrame([dict(clip=name, artist=name, gender=None, split="train", path=None, level=level, rest=rest)
                          for name, level, rest in rows])
    return Corpus("waiting", table, _waiting, ("vocals",))


def test_dry_vocals_are_stored_without_their_rests(tmp_path):
    corpus = waiting_corpus(("sings", 0.5, 9.0), ("hums", 0.02, 1.0), ("mute", 0.004, 1.0))
    store = prepare(corpus, tmp_path / "store", Sound(1000, ("vocals",), silence=1.3), **QUIETLY)
    assert dict(zip(store.clips["clip"], store.clips.samples)) == {"sings": 3300, "hums": 3000}
    assert (store.clips.length == 5000).all()
    reason = pd.read_csv(store.folder / "skipped.csv").set_index("clip").reason["mute"]
    assert "nobody sings in it: it stays below 0.5%" in reason
    voice = store.excerpts(np.array([0]), np.array([0]), 5000, "vocals")[0].numpy()
    assert np.allclose(voice, np.repeat([0.5, 0, 0.5, 0], [1000, 1300, 1000, 1700]), atol=1e-4)
    with pytest.raises(VocalrepError, match="silence: 1.3 there, None now"):
        prepare(corpus, tmp_path / "store", Sound(1000, ("vocals",)), progress=False)
    as_it_is = prepare(corpus, tmp_path / "as it is", Sound(1000, ("vocals",)), **QUIETLY)
    assert as_it_is.clips.samples.tolist() == [11_000, 3000, 3000]
    assert "silence" in store.identity and "silence" not in as_it_is.identity        # older stores are what they were


def test_samples_are_those_that_are_no_padding(dry):
    seconds = [1.0, 4.9999, 5.0, 5.499, 5.501, 9.3, 10.4]
    store = dry([("s", "train", s) for s in seconds], rate=1000)
    assert store.clips.samples.tolist() == [1000, 5000, 5000, 5000, 5501, 9300, 10_000]   # rests under 0.5 s go
    for clip in store.clips.itertuples():
        wave = store.gather(np.array([store.base[clip.shard] + clip.start]), clip.length)[0].numpy()
        assert (wave[:clip.samples] != 0).all() and not wave[clip.samples:].any()
