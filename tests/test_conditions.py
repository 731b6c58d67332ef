"Singers in and out of domain: which voices, which fragments, which bands, and what their scores are made of."
import dataclasses

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

import vocalrep.papers.singer_identity.conditions as room
from vocalrep.data.corpora import CORPORA, named_folders
from vocalrep.data.layouts import m4singer_corpus, vocals_corpus, vocalset_corpus
from vocalrep.data.prepare import prepare
from vocalrep.data.store import Sound
from vocalrep.evaluation.backend import BACKENDS, fit_backend
from vocalrep.evaluation.embedding import clip_means, fragment_places
from vocalrep.evaluation.metrics import equal_error_rate, normalize_embeddings
from vocalrep.evaluation.tasks import TestCorpus
from vocalrep.evaluation.trials import RankRule, draw_candidates, sample_trials, trial_eer, trial_mnr, write_trials
from vocalrep.models.adapters import FragmentEncoder
from vocalrep.models.encoders import Encoder, MeanMFCC
from vocalrep.papers.singer_identity.conditions import (
    CORPUS_LABELS, DRY, DRY_TO_MIXED, FULL, MIXED, NARROW, OWN_NARROW, dry_and_mixed_task, find_voices,
    identification_task, similarity_task)
from vocalrep.papers.singer_identity.paper import PAPER
from vocalrep.project import VocalrepError
from vocalrep.report.scores import backends_of, clip_embeddings, embeddings, evaluate, listener
from vocalrep.report.systems import System

RULE = PAPER.protocol("released").rank


class Ear(Encoder):
    "Energies in bands up to half of its rate; it counts the fragments it hears."

    def __init__(self, rate=44100, level="peak"):
        super().__init__()
        self.name, self.rate, self.seconds, self.dim, self.level, self.heard = "ear", rate, 4.0, 24, level, 0

    def embed(self, features):
        self.heard += len(features)
        power = torch.fft.rfft(features).abs().square()
        return torch.stack([band.mean(1) for band in power.tensor_split(self.dim, dim=1)], 1).clamp(min=1e-9).log()


class Layered(Ear):
    "An ear with layers."

    def layers(self, features):
        return torch.stack([self.embed(features) * (k + 1) for k in range(3)], 1)     # (B, L, D)


def system(ear, name="ear", **fields):
    about = dict(identity=f"{name}-{ear.rate}-{ear.level}", rate=ear.rate, seconds=4.0, origin="made here")
    return System(name, lambda device: ear, **{**about, **fields})


def hear(who, voices, condition=FULL):
    return embeddings(who, voices.store, condition, voices.split, "cpu")


def at(task, *conditions):
    "A task under these conditions only."
    return dataclasses.replace(task, conditions=conditions)


def score(who, voices, task):
    return evaluate([who], [voices], [task], device="cpu", progress=False)


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("VOCALREP_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def choir(dry):
    "Five singers with three tracks of two fragments."
    return dry([(f"singer {i}", "test", 8.5) for i in range(5) for _ in range(3)])


@pytest.fixture
def voices(choir):
    return TestCorpus("choir", choir)


ABSENT = System("H/ASP", None, origin="no weights here")


# ---- which voices ----

@pytest.mark.parametrize("text, expected", [
    ("", {}),
    (" ; ;", {}),
    ("techniques", {"techniques": ""}),
    ("vocalset=/data/Vocal Set, 1.1;vctk=/data/VCTK", {"vocalset": "/data/Vocal Set, 1.1", "vctk": "/data/VCTK"}),
    (" vocalset = /data/a=b ; techniques ;", {"vocalset": "/data/a=b", "techniques": ""}),
])
def test_named_folders(text, expected):
    assert named_folders(text) == expected


def test_a_misspelt_corpus_is_one_error():
    with pytest.raises(VocalrepError, match="unknown corpus 'vocal set'.*vocalset"):
        named_folders("vctk=/data;vocal set=/data")
    assert set(CORPUS_LABELS) <= set(CORPORA)


def test_voices_in_and_out_of_domain(choir, monkeypatch):
    asked = []

    def open_corpus(paper, *where):
        assert paper is PAPER
        asked.append(where)
        return f"store of {where[0]}"

    monkeypatch.setattr(room, "open_corpus", open_corpus)
    monkeypatch.setattr(room, "backend_store", lambda paper, store, preset: f"studio for {preset}")
    monkeypatch.setattr(room, "vocals_in_words", lambda store: f"vocals of the {store}")
    corpora = "vctk=/data/VCTK;music4all=/data/real;folder=/data/f"
    found = find_voices(PAPER, choir, corpora, "smoke", "vctk=/data/pairs.txt")
    known = dict(training="studio for smoke")
    assert found == [TestCorpus("dry (test)", choir, "test", "in-domain", **known),
                     TestCorpus("VCTK", "store of vctk", None, "out-of-domain", "/data/pairs.txt", **known),
                     TestCorpus("real, vocals of the store of music4all", "store of music4all", None, "out-of-domain",
                                **known),
                     TestCorpus("f, vocals of the store of folder", "store of folder", None, "out-of-domain", **known)]
    named = find_voices(PAPER, choir, "music4all=/data/real", voices="six friends")
    assert named[1].label == "six friends, vocals of the store of music4all"
    asked = asked[:3]
    whole = Sound(44100, ("vocals",))        # of the corpora that released lists name; of songs, rests are shortened
    assert asked == [("vctk", "/data/VCTK", "smoke", whole), ("music4all", "/data/real", "smoke", None),
                     ("folder", "/data/f", "smoke", None)]
    assert [v.store for v in find_voices(PAPER, choir)[1:]] == ["store of techniques"]
    with pytest.raises(VocalrepError, match="unknown corpus of a list of trials 'vctk'.*techniques"):
        find_voices(PAPER, choir, trial_lists="vctk=/data/pairs.txt")


# ---- fragments ----

def _file(path, seconds):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.3 * np.sin(np.arange(round(seconds * 8000)) * 0.3), 8000)


def test_fragments_are_called_as_the_release_calls_them(tmp_path):
    _file(tmp_path / "vocals/Ada/Album 1/My song, live.wav", 9.0)
    _file(tmp_path / "vocals/Béla/solo.wav", 4.0)
    _file(tmp_path / "vocals/Béla/brief.wav", 3.9)
    _file(tmp_path / "vocalset/FULL/female1/arpeggios/belt/f1_arpeggios_belt_a.wav", 13.0)
    _file(tmp_path / "m4singer/Alto-1#newboy/0000.wav", 5.0)
    found, sound = {}, Sound(8000, ("vocals",), silence=1.3)
    for name, corpus in (("vocals", vocals_corpus), ("vocalset", vocalset_corpus), ("m4singer", m4singer_corpus)):
        store = prepare(corpus(tmp_path / name), tmp_path / f"store of {name}", sound, workers=1, progress=False)
        found[name] = fragment_places(store)["name"].tolist()
    assert found == {
        "vocals": ["Ada/Ada-Album1-Mysonglive_0_4_4s.wav", "Ada/Ada-Album1-Mysonglive_4_8_4s.wav",
                   "Béla/Béla-solo_0_4_4s.wav"],
        "vocalset": [f"female1/f1_arpeggios_belt_a_{k}_{k + 4}_4s.wav" for k in (0, 4, 8)],
        "m4singer": ["Alto-1/Alto-1#newboy-0000_0_4_4s.wav"],
    }


def test_fragments_lie_one_after_the_other_and_never_in_the_padding(dry):
    seconds = dict(Ada=[3.99, 4.0, 7.99], Béla=[8.0, 21.3], Cleo=[2.0])
    tracks = [(artist, i, s) for artist, lengths in seconds.items() for i, s in enumerate(lengths)]
    store = dry([(artist, "test" if artist == "Cleo" else "valid", s) for artist, _, s in tracks], rate=500)
    places = fragment_places(store)
    expected = [(f"{artist}-{i}", artist, k * 2000, f"{artist}/{artist}-{i}_{4 * k}_{4 * k + 4}_4s.wav")
                for artist, i, s in tracks for k in range(int(s // 4))]
    assert list(places[["clip", "artist", "offset", "name"]].itertuples(index=False, name=None)) == expected
    rows = places["row"].to_numpy()
    assert places["name"].is_unique and (store.segments.position.to_numpy()[rows] == 0).all()
    assert (store.segments["clip"].to_numpy()[rows] == places["clip"]).all()
    assert (store.excerpts(rows, places.offset.to_numpy(), 2000, "vocals") > 0).all()     # these voices never pause
    assert len(fragment_places(store, "valid")) == len(expected)
    assert len(fragment_places(store, "valid", seconds=2.0)) == 1 + 2 + 3 + 4 + 10
    with pytest.raises(VocalrepError, match="no clip of .* in the test split lasts 4 s"):
        fragment_places(store, "test")


def test_embeddings_stand_in_the_order_of_the_fragments(voices):
    ear = Ear()
    places, vectors = hear(system(ear), voices)
    assert vectors.shape == (30, 24) and ear.heard == 30 and isinstance(vectors, np.memmap)
    single = FragmentEncoder(Ear(), 44100, 4.0)
    for place, vector in zip(places.itertuples(), vectors, strict=True):
        wave = voices.store.excerpts(np.array([place.row]), np.array([place.offset]), 176_400, "vocals")
        np.testing.assert_allclose(vector, single(wave)[0], rtol=1e-4, atol=1e-4)
    assert np.array_equal(hear(system(ear), voices)[1], vectors) and ear.heard == 30     # read, not computed
    hear(system(ear, identity="another"), voices)
    assert ear.heard == 60


def test_the_narrow_band_and_the_level_are_what_they_say(voices):
    ears = Ear(), Ear(), Ear(level="recorded")
    narrow, full, loud = (np.asarray(hear(system(ear), voices, condition)[1])
                          for ear, condition in zip(ears, (NARROW, FULL, FULL)))
    assert [ear.heard for ear in ears] == [30, 30, 30]                       # none stands in for another
    np.testing.assert_allclose(narrow[:, 0], full[:, 0], atol=0.02)          # these voices are below 1 kHz
    assert not np.allclose(narrow, full, atol=0.5) and not np.allclose(loud[:, 0], full[:, 0], atol=0.02)


def test_layers_of_an_encoder_that_has_several(voices):
    ear = Layered(16000)
    vectors, plain = (hear(system(ear), voices, condition)[1] for condition in (OWN_NARROW, NARROW))
    assert vectors.shape == (30, 3, 24) and plain.shape == (30, 24)
    np.testing.assert_allclose(vectors, plain[:, None] * np.array([1, 2, 3])[:, None], rtol=1e-4, atol=1e-5)
    assert hear(system(Ear(16000), "plain"), voices, OWN_NARROW)[1].shape == (30, 24)
    with pytest.raises(VocalrepError, match="H/ASP cannot be run here: no weights here"):
        hear(ABSENT, voices)


# ---- scores ----

def test_similarity_scores_are_those_of_the_trials(voices):
    scores = score(system(Ear()), voices, at(similarity_task(RULE, 300), FULL))
    places, vectors = hear(system(Ear()), voices)
    pairs, x = sample_trials(places, 300), np.array(vectors)
    assert len(scores) == 6 and set(scores.normalisation) == {"none", "center", "zscore"}
    queries = draw_candidates(places, pairs, RULE)
    for row in scores.itertuples():
        unit = normalize_embeddings(x, row.normalisation)
        how = dict(eer=trial_eer(places, unit, pairs), mnr=trial_mnr(places, unit, queries))[row.metric]
        assert row.value == pytest.approx(how["value"], abs=1e-6)
        assert (row.trials, row.artists, row.clips, row.reduced) == (how["trials"], how["artists"], how["clips"],
                                                                     how["reduced"])


def test_back_ends_are_estimated_on_training_singers_and_scored_on_others(dry):
    splits = 8 * ["train"] + 4 * ["test"]
    heard = dry([(f"singer {i:02d}", split, 8.5) for i, split in enumerate(splits) for _ in range(3)])
    for condition, task in ((FULL, at(similarity_task(RULE, 300), FULL)), (DRY, at(dry_and_mixed_task(), DRY))):
        scores = score(system(Ear()), TestCorpus("all", heard, training=heard), task)
        assert list(dict.fromkeys(scores.normalisation)) == ["none", "center", "zscore", *BACKENDS]
        assert set(scores.artists) == {4}
    learnt, x = embeddings(system(Ear()), heard, FULL, "train", "cpu", per_clip=5)
    assert learnt.artist.nunique() == 8
    found = backends_of(system(Ear()), heard, FULL, "cpu")
    for name, column in zip(BACKENDS, ("artist", "clip")):       # fragments are compared, so fragments are the rows
        expected = fit_backend(x, learnt[column])
        np.testing.assert_allclose(found[name].matrix, expected.matrix, rtol=1e-9)
        np.testing.assert_allclose(found[name].mean, expected.mean)


def test_across_sources_the_band_is_a_difference_within_a_singer(store):
    who, train = mean_mfcc("peak"), TestCorpus("studio", store, "train")
    parts = [embeddings(who, store, DRY_TO_MIXED, "train", "cpu", source, 5) for source in ("vocals", "mixture")]
    means = [clip_means(*part) for part in parts]
    expected = fit_backend(np.concatenate([x for _, x in means]), 2 * means[0][0].artist.tolist())
    np.testing.assert_allclose(backends_of(who, store, DRY_TO_MIXED, "cpu")["wccn"].matrix, expected.matrix, rtol=1e-9)
    scores = score(who, dataclasses.replace(train, split=None, training=store), at(dry_and_mixed_task(), DRY_TO_MIXED))
    by = scores.set_index("normalisation").value
    assert by["wccn"] < by["center"]


def test_the_number_of_trials_may_depend_on_the_role(voices):
    task = at(similarity_task(RULE, {"in-domain": 100, "out-of-domain": 50}), FULL)
    for heard, expected in ((voices, 100), (dataclasses.replace(voices, role="out-of-domain"), 50)):
        scores = score(system(Ear()), heard, task)
        assert set(scores[scores.metric == "eer"].trials) == {expected}


class Counted:
    "Computes a task, and how often."

    def __init__(self, task):
        self.task, self.times = task, 0

    def __call__(self, places, vectors, **options):
        self.times += 1
        return self.task.score(places, vectors, **options)


def test_scores_are_computed_once(voices):
    ear, worked = Ear(), Counted(similarity_task(RULE))

    def ask(trials=200, rule=RULE, heard=voices, **fields):
        task = dataclasses.replace(similarity_task(rule, trials), score=worked)
        return score(system(ear, **fields), heard, task)

    first, renamed = ask(), dataclasses.replace(voices, label="the same choir", role="out-of-domain")
    assert (worked.times, ear.heard) == (2, 60)                              # both bands
    pd.testing.assert_frame_equal(ask(), first)
    assert (worked.times, ear.heard) == (2, 60)
    ask(trials=201)
    ask(rule=PAPER.protocol("paper").rank)
    ask(rule=RankRule("trials", 7, "singer", count=3))
    assert (worked.times, ear.heard) == (8, 60)                              # other scores of the same embeddings
    other = ask(heard=renamed)
    assert worked.times == 8 and np.array_equal(other.value, first.value)
    assert set(other.corpus) == {"the same choir"} and set(other.role) == {"out-of-domain"}
    ask(heard=dataclasses.replace(voices, split=None))
    ask(identity="trained longer")
    assert (worked.times, ear.heard) == (12, 180)


def test_a_list_of_trials_is_used_and_a_changed_one_is_another(voices, tmp_path):
    places, vectors = hear(system(Ear()), voices)
    heard, task = dataclasses.replace(voices, trials=str(tmp_path / "pairs.txt")), at(similarity_task(RULE), FULL)
    values = []
    for seed in (1, 2):
        pairs = sample_trials(places, 100, seed)
        write_trials(pairs, heard.trials)
        scores = score(system(Ear()), heard, task).set_index(["metric", "normalisation"])
        values.append(scores.value["eer", "none"])
        assert values[-1] == pytest.approx(trial_eer(places, np.asarray(vectors), pairs)["value"])
    assert values[0] != values[1]
    first, second = "x/y_0_4_4s.wav", "x/y_4_8_4s.wav"
    write_trials(pd.DataFrame(dict(label=[1, 0], first=[first] * 2, second=[second] * 2)), heard.trials)
    with pytest.raises(VocalrepError, match="files of the trials are not among the 30 fragments, such as 'x/y_0_4_4s"):
        score(system(Ear()), heard, task)


@pytest.mark.parametrize("rate, conditions, expected", [
    (44100, (NARROW, FULL), {"16 kHz", "44.1 kHz"}), (44100, (FULL,), {"44.1 kHz"}), (44100, (NARROW,), {"16 kHz"}),
    (16000, (NARROW, FULL), {"16 kHz"}), (16000, (NARROW,), {"16 kHz"}), (8000, (NARROW, FULL), {"16 kHz"}),
])
def test_an_encoder_is_heard_in_the_bands_it_has(voices, rate, conditions, expected):
    scores = score(system(Ear(rate)), voices, at(similarity_task(RULE, 100), *conditions))
    assert set(scores["condition"]) == expected and len(scores) == 6 * len(expected)


def test_singers_are_named_in_the_band_an_encoder_has_or_in_both(voices):
    for rate, both, expected in ((44100, False, ["44.1 kHz"]), (44100, True, ["16 kHz", "44.1 kHz"]),
                                 (16000, True, ["16 kHz"]), (16000, False, ["16 kHz"])):
        conditions = [c.name for c in identification_task(both).conditions if c.rates[0] <= rate <= c.rates[1]]
        assert conditions == expected


def test_what_cannot_be_run_is_left_out_and_nothing_at_all_is_one_error(voices):
    tasks = [similarity_task(RULE, 100)]
    scores = evaluate([ABSENT, system(Ear())], [voices], tasks, device="cpu", progress=False)
    assert set(scores.system) == {"ear"}
    with pytest.raises(VocalrepError, match="no system can be scored here .H/ASP: no weights here"):
        score(ABSENT, voices, tasks[0])


def test_voices_may_come_one_by_one(voices):
    systems, tasks = [system(Ear()), system(Ear(), "other")], (t for t in [similarity_task(RULE, 100)])
    scores = evaluate((s for s in systems), (v for v in [voices]), tasks, device="cpu", progress=False)
    assert set(scores.system) == {"ear", "other"}


def test_a_narrow_encoder_asked_for_the_full_band_says_so(voices):
    with pytest.raises(VocalrepError, match="narrow: no condition for 16000 samples/s"):
        score(system(Ear(16000), "narrow"), voices, at(similarity_task(RULE, 100), FULL))


def test_scores_of_few_voices_say_so(voices):
    scores = score(system(Ear()), voices, at(similarity_task(RULE, 100), FULL)).set_index(["metric", "normalisation"])
    reduced, positives = scores.reduced["mnr", "none"], int(scores.trials["mnr", "none"])
    assert 30 < positives < 70 and f"{positives} of 1000 queries" in reduced and "of 513 candidates" in reduced
    assert not scores.reduced["eer", "none"] and (scores.trials.xs("eer") == 100).all()
    assert (scores.artists == 5).all() and scores.clips.le(15).all()
    named = score(system(Ear()), voices, at(identification_task(), FULL))
    assert len(named) == 1 and named.metric[0] == "accuracy" and "3 of 5 folds" in named.reduced[0]
    assert 0 <= named.value[0] <= 1 and named.trials[0] == 30


def test_one_voice_alone_is_no_question(dry):
    single = TestCorpus("one", dry([("Ada", "test", 9.0)] * 4), None, "out-of-domain")
    alone = score(system(Ear()), single, at(identification_task(), FULL))
    assert np.isnan(alone.value[0]) and "not possible" in alone.reduced[0]
    with pytest.raises(VocalrepError, match="two singers, found 1"):
        score(system(Ear()), single, at(similarity_task(RULE), FULL))


def test_folds_are_those_of_the_corpus(choir):
    task = identification_task()
    folds = {label: task.options_for(TestCorpus(label, choir))["folds"] for label in ("NUS-48E", "VCTK", "choir")}
    assert folds == {"NUS-48E": 4, "VCTK": 5, "choir": 5}


# ---- dry and mixed ----

def mean_mfcc(level):
    return System("mean MFCC", lambda device: MeanMFCC(level=level).eval(), f"mfcc-{level}")


def test_a_system_that_hears_fragments():
    waves = 0.1 * torch.randn(2, 64_000)
    loudest = waves.abs().amax(1, keepdim=True)
    encoder = listener(MeanMFCC(level="peak").eval(), DRY, 16000)
    bare = MeanMFCC(level="recorded").eval()
    expected = torch.stack([bare((waves / loudest)[:, k * 16000:(k + 1) * 16000]) for k in range(4)]).mean(0)
    assert (encoder.rate, encoder.seconds, encoder.training) == (16000, 4.0, False)
    torch.testing.assert_close(encoder(waves), expected, atol=1e-4, rtol=1e-4)


def test_what_is_heard_decides_which_embeddings_are_read(store):
    longer = dataclasses.replace(DRY, seconds=5.0)
    heard = [(who, condition) for who in (mean_mfcc("peak"), mean_mfcc("recorded")) for condition in (DRY, longer)]
    vectors = [embeddings(who, store, condition, None, "cpu")[1] for who, condition in heard]
    files = {x.filename for x in vectors}
    assert len(files) == 4


def test_dry_and_mixed_voices_against_loops(store):
    who, everybody = mean_mfcc("peak"), TestCorpus("studio", store, None)
    artists = sorted(store.clips.artist.unique())[:6]
    table = score(who, everybody, dry_and_mixed_task(artists))
    assert len(table) == 9
    clips, dry_vectors = clip_embeddings(who, store, DRY, None, "cpu")
    _, mixed = clip_embeddings(who, store, MIXED, None, "cpu")
    keep = np.flatnonzero(clips.artist.isin(artists))
    names = clips.artist.to_numpy()[keep]
    pairs = [(i, j) for i in range(len(names)) for j in range(len(names)) if i != j]
    for row in table.itertuples():
        sides = {"vocals": normalize_embeddings(dry_vectors[keep], row.normalisation),
                 "mixture": normalize_embeddings(mixed[keep], row.normalisation)}
        first, _, second = row.condition.partition(" to ")
        a, b = sides[first], sides[second or first]
        cosine = {(i, j): a[i] @ b[j] / np.linalg.norm(a[i]) / np.linalg.norm(b[j]) for i, j in pairs}
        same = np.array([cosine[i, j] for i, j in pairs if names[i] == names[j]])
        different = np.array([cosine[i, j] for i, j in pairs if names[i] != names[j]])
        assert row.value == pytest.approx(equal_error_rate(same, different), abs=1e-3)
        assert (row.artists, row.clips) == (len(set(names)), len(names))
    with pytest.raises(VocalrepError, match="two artists with two clips, found 1 artists"):
        score(who, everybody, dry_and_mixed_task(artists[:1]))
