"Dry voices in their published layouts, built here as small trees; what does not fit is refused with what was expected."
import numpy as np
import pandas as pd
import pytest
import soundfile

from vocalrep.data.corpora import CORPORA, load_corpus
from vocalrep.data.layouts import (LAYOUTS, LOADERS, m4singer_corpus, nus48e_corpus, vctk_corpus, vocals_corpus,
                                   vocalset_corpus)
from vocalrep.data.prepare import prepare
from vocalrep.data.store import Sound
from vocalrep.project import VocalrepError

TREES = {
    "vocalset": ["FULL/female1/arpeggios/belt/f1_arpeggios_belt_a.wav",
                 "FULL/female2/scales/vocal_fry/scales_vocal_fry.wav",
                 "FULL/male10/excerpts/spoken/m10_row_spoken.wav",
                 "FULL/male8/long_tones/trillo/m8_long_trillo_i(1).wav"],
    "m4singer": ["Alto-7#越来越不懂/0005.wav", "Soprano-1#最美中国/0018.wav", "Tenor-4#知否, 知否/0012.wav",
                 "Bass-3#后来/0035.wav"],
    "vctk": ["wav48_silence_trimmed/p225/p225_001_mic1.flac", "wav48_silence_trimmed/p225/p225_001_mic2.flac",
             "wav48_silence_trimmed/p226/p226_002_mic1.flac", "wav48_silence_trimmed/s5/s5_001_mic1.flac"],
    "nus48e": ["nus-smc-corpus_48/ADIZ/sing/01.wav", "nus-smc-corpus_48/ADIZ/read/01.wav",
               "nus-smc-corpus_48/JLEE/sing/05.wav"]}
SPEAKERS = "ID  AGE  GENDER  ACCENTS  REGION COMMENTS \n"


def write(path, seconds=0.1, channels=1, rate=44100, seed=0):
    "An audio file of noise; returns its samples."
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = np.random.default_rng(seed).uniform(-0.5, 0.5, (int(seconds * rate), channels))
    soundfile.write(path, wave, rate)
    return wave


@pytest.fixture
def tree(tmp_path):
    "name -> folder that holds the published tree of that data set, with what else lies there."
    def build(name):
        root = tmp_path / f"unpacked {name}"
        for file in TREES[name]:
            write(root / file)
        for clutter in ("README.txt", ".DS_Store", "__MACOSX/._x.wav"):
            (root / clutter).parent.mkdir(exist_ok=True)
            (root / clutter).write_text("no audio")
        first = (root / TREES[name][0]).parent
        (first / "._hidden.wav").write_bytes(b"")
        (first / "0005.TextGrid").write_text("no audio")
        return root
    return build


def table(corpus):
    "Its clips by their id."
    return corpus.clips.set_index("clip")


def test_vocalset(tree):
    clips = table(vocalset_corpus(tree("vocalset")))
    assert list(clips.index) == ["female1/f1_arpeggios_belt_a", "female2/scales_vocal_fry", "male10/m10_row_spoken",
                                 "male8/m8_long_trillo_i(1)"]
    assert clips.artist.tolist() == ["female1", "female2", "male10", "male8"]
    assert clips.gender.tolist() == ["female", "female", "male", "male"]
    assert clips.technique.tolist() == ["belt", "vocal_fry", "spoken", "trillo"]
    assert clips.exercise.tolist() == ["arpeggios", "scales", "excerpts", "long_tones"]
    assert clips.vowel.fillna("").tolist() == ["a", "", "", "i"]


def test_later_vocalset_is_read_once(tmp_path):
    for view in ("data_by_singer/female1/arpeggios/belt", "data_by_technique/belt/arpeggios", "data_by_vowel/a"):
        write(tmp_path / "VocalSet1-2" / view / "f1_arpeggios_belt_a.wav")
    for root in (tmp_path, tmp_path / "VocalSet1-2", tmp_path / "VocalSet1-2/data_by_singer"):
        clips = vocalset_corpus(root).clips
        assert clips["clip"].tolist() == ["female1/f1_arpeggios_belt_a"] and "data_by_singer" in clips.path[0]


def test_m4singer(tree):
    clips = table(m4singer_corpus(tree("m4singer")))
    assert set(clips.index) == {"Alto-7/Alto-7#越来越不懂-0005", "Soprano-1/Soprano-1#最美中国-0018",
                                "Tenor-4/Tenor-4#知否知否-0012", "Bass-3/Bass-3#后来-0035"}
    assert clips.gender.to_dict() == {clip: "female" if clip[0] in "AS" else "male" for clip in clips.index}
    about = clips.loc["Tenor-4/Tenor-4#知否知否-0012", ["artist", "voice", "song", "language", "type"]]
    assert about.tolist() == ["Tenor-4", "Tenor", "知否, 知否", "Chinese", "singing"]


def test_vctk(tree):
    root = tree("vctk")
    clips = table(vctk_corpus(root))
    assert list(clips.index) == ["p225/p225-p225_001_mic1", "p226/p226-p226_002_mic1", "s5/s5-s5_001_mic1"]
    assert clips.gender.isna().all() and set(clips.type) == {"speech"}
    people = "p225  23  F    English    Southern  England\np226  22  M    Scottish\n"
    (root / "speaker-info.txt").write_text(SPEAKERS + people)
    for place in (root, root.parent, root / "wav48_silence_trimmed"):
        clips = table(vctk_corpus(place))
        assert clips.gender.fillna("?").tolist() == ["female", "male", "?"]
        assert clips.accent.fillna("?").tolist() == ["English", "Scottish", "?"]


def test_earlier_vctk(tmp_path):
    write(tmp_path / "VCTK-Corpus/wav48/p225/p225_001.wav")
    (tmp_path / "VCTK-Corpus/txt/p225").mkdir(parents=True)
    (tmp_path / "VCTK-Corpus/txt/p225/p225_001.txt").write_text("Please call Stella.")
    (tmp_path / "VCTK-Corpus/speaker-info.txt").write_text(SPEAKERS + "225  23  F    English    Southern  England\n")
    clips = vctk_corpus(tmp_path / "VCTK-Corpus").clips
    assert clips[["clip", "gender"]].values.tolist() == [["p225/p225-p225_001", "female"]]


def test_nus48e(tree):
    root = tree("nus48e")
    clips = table(nus48e_corpus(root))
    types = {"ADIZ/ADIZ-read-01": "speech", "ADIZ/ADIZ-sing-01": "singing", "JLEE/JLEE-sing-05": "singing"}
    assert clips.type.to_dict() == types
    assert clips.gender.tolist() == ["female", "female", "male"] and clips.song.tolist() == ["01", "01", "05"]
    inside = nus48e_corpus(root / "nus-smc-corpus_48").clips
    assert inside.drop(columns="path").equals(nus48e_corpus(root).clips.drop(columns="path"))


def test_a_released_list_finds_its_clips(tree, tmp_path):
    from vocalrep.evaluation.trials import read_trials
    (tmp_path / "speaker_pairs.txt").write_text(
        "1,female1/f1_arpeggios_belt_a_0_4_4s.wav,female2/scales_vocal_fry_12_16_4s.wav\n"
        "0,Alto-7/Alto-7#越来越不懂-0005_0_4_4s.wav,Bass-3/Bass-3#后来-0035_4_8_4s.wav\n")
    pairs = read_trials(tmp_path / "speaker_pairs.txt")
    for root, row in ((tree("vocalset"), 0), (tree("m4singer"), 1)):
        clips = set(load_corpus(root.name.split()[1], root).clips["clip"])
        assert {pairs[c][row].rsplit("_", 3)[0] for c in ("first", "second")} <= clips


@pytest.mark.parametrize("name", LAYOUTS)
def test_another_layout_is_refused(name, tree, tmp_path):
    (tmp_path / "empty").mkdir()
    others = [tree(other) for other in TREES if other != name]
    for root in (tmp_path / "empty", *others):
        with pytest.raises(VocalrepError) as error:
            load_corpus(name, root)
        assert LAYOUTS[name].expected in str(error.value) and str(root) in str(error.value)
    for root in ("", tmp_path / "nowhere"):
        with pytest.raises(VocalrepError, match="is not a folder"):
            load_corpus(name, root)


def test_folder_of_vocals(tmp_path):
    root = tmp_path / "Música"
    for file in ("Zoë/a.WAV", "Zoë/take 1, best/b.flac", "Ada/x/y/z/deep.wav", "Ada/x/y/z/deep.flac",
                 "Ada/mono_mic2.wav", "Ada/notes.json.wav"):
        write(root / file, channels=2)
    (root / "gender.csv").write_text("artist,gender\nZoë,female\n", encoding="utf-8")
    corpus = vocals_corpus(root)
    names = {"Zoë/Zoë-a", "Zoë/Zoë-take1best-b", "Ada/Ada-x-y-z-deep", "Ada/Ada-x-y-z-deep-2"}
    assert set(corpus.clips["clip"]) == names and corpus.stems == ("vocals",)
    genders = corpus.clips.drop_duplicates("artist").set_index("artist").gender.fillna("?")
    assert genders.to_dict() == {"Ada": "?", "Zoë": "female"}
    write(root / "loose.wav")
    with pytest.raises(VocalrepError, match="loose.wav.*singer/file.wav"):
        vocals_corpus(root)


def test_an_empty_or_crowded_folder_says_what_is_there(tmp_path):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(VocalrepError, match="singer/file.wav.*There: nothing"):
        vocals_corpus(tmp_path / "nothing")
    for k in range(7):
        (tmp_path / f"crowded/{k}").mkdir(parents=True)
    with pytest.raises(VocalrepError, match="There: 0/, 1/, 2/, 3/, 4/ and 2 more"):
        vocals_corpus(tmp_path / "crowded")


def test_the_first_channel_is_the_voice(tmp_path):
    wave = write(tmp_path / "Ada/one.wav", channels=2, rate=22050)
    corpus = vocals_corpus(tmp_path)
    recording = corpus.read("Ada/Ada-one", rate=44100)
    voice, rate = recording.stems["vocals"]
    assert recording.mixture is None and rate == 22050 == recording.rate and voice.dtype == np.float32
    assert np.abs(voice - wave[:, 0]).max() < 1e-4


def test_a_store_of_dry_vocals_lists_what_it_skips(tmp_path):
    for k, singer in enumerate(("Ada", "Béla", "Zoë")):
        write(tmp_path / "dry" / singer / "one.wav", seconds=1.5, seed=k)
    (tmp_path / "dry/Ada/broken.wav").write_bytes(b"RIFF, but no more")
    corpus = vocals_corpus(tmp_path / "dry")
    store = prepare(corpus, tmp_path / "store", Sound(44100, ("vocals",)), workers=1, progress=False)
    assert set(store.clips["clip"]) == {"Ada/Ada-one", "Béla/Béla-one", "Zoë/Zoë-one"}
    assert pd.read_csv(tmp_path / "store/skipped.csv")["clip"].tolist() == ["Ada/Ada-broken"]


def test_every_loader_has_a_name(tree, tmp_path):
    write(tmp_path / "vocals/Ada/one.wav")
    assert set(LOADERS) == {"vocals", *LAYOUTS} and set(LOADERS) < set(CORPORA)
    roots = {"vocals": tmp_path / "vocals", **{name: tree(name) for name in TREES}}
    for name, root in roots.items():
        assert load_corpus(name, root).name == name
