"Lists of trials and ranks: the definitions, spelled out by loops, and their sharp edges."
import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from vocalrep.evaluation.trials import (
    RankRule, draw_candidates, read_trials, sample_trials, trial_eer, trial_mnr, trial_scores, write_trials)
from vocalrep.project import VocalrepError

PAPER, RELEASED = RankRule("recording", 511, "pair"), RankRule("trials", 512, "substring")


def mnr(table, x, trials, rule):
    return trial_mnr(table, x, draw_candidates(table, trials, rule))


def world(singers=("Ada", "Béla", "Cleo", "Dan"), clips=4, pieces=3, D=8, voice=1.0, seed=0):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame([dict(name=f"{s}/song{c}_{4 * p}_{4 * p + 4}_4s.wav", artist=s, clip=f"{s}/song{c}")
                          for s in singers for c in range(clips) for p in range(pieces)])
    voices = voice * rng.normal(size=(len(singers), D))[table.artist.factorize()[0]]
    return table, voices + rng.normal(size=(len(table), D))


def cosine(a, b):
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


# ---- lists ----

letters = st.characters(blacklist_characters=",\r\n", blacklist_categories=("Cs", "Cc", "Zs", "Zl", "Zp"))
names = st.text(letters, min_size=1, max_size=12)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), names, names), min_size=1, max_size=8))
def test_lists_round_trip(tmp_path_factory, rows):
    file = tmp_path_factory.mktemp("lists") / "pairs.txt"
    trials = pd.DataFrame(rows, columns=["label", "first", "second"])
    write_trials(trials, file)
    assert read_trials(file).equals(trials)


@pytest.mark.parametrize("text", [
    "\ufeff1,a/b.wav,a/c.wav\r\n0,a/b.wav,d/NA.wav\r\n", "1,a/b.wav,a/c.wav\n\n0,a/b.wav,d/NA.wav"])
def test_lists_from_elsewhere(tmp_path, text):
    file = tmp_path / "speaker_pairs.txt"
    file.write_bytes(text.encode())
    assert read_trials(file).values.tolist() == [[1, "a/b.wav", "a/c.wav"], [0, "a/b.wav", "d/NA.wav"]]


@pytest.mark.parametrize("text, said", [
    ("", "holds no trials"), ("\n\n", "holds no trials"), ("1,a/b.wav\n", "line 1"), ("1,a/b,a/c\n1,a,b,c\n", "line 2"),
    ("same,a/b,a/c\n", "line 1"), ("1,,a/c\n", "line 1"), ("label,first,second\n", "line 1")])
def test_bad_lists(tmp_path, text, said):
    file = tmp_path / "speaker_pairs.txt"
    file.write_text(text)
    with pytest.raises(VocalrepError, match=said):
        read_trials(file)


def test_unreadable_lists_and_unwritable_names(tmp_path):
    (tmp_path / "audio.wav").write_bytes(b"\xff\xfe\x00\x80RIFF")
    for file in (tmp_path / "none.txt", tmp_path, tmp_path / "audio.wav"):
        with pytest.raises(VocalrepError, match="cannot be read as a list"):
            read_trials(file)
    with pytest.raises(VocalrepError, match="Ada, live"):
        unwritable = pd.DataFrame(dict(label=[1], first=["Ada, live/a.wav"], second=["b"]))
        write_trials(unwritable, tmp_path / "pairs.txt")
    assert not (tmp_path / "pairs.txt").exists()


def test_lists_are_drawn_as_the_released_ones():
    table, _ = world(("Ada", "Béla", "Cleo"), clips=2, pieces=2)
    many = pd.DataFrame(dict(name=[f"Dan/one_{i}.wav" for i in range(60)], artist="Dan", clip="Dan/one"))
    table = pd.concat([table, many], ignore_index=True)
    trials = sample_trials(table, 40_000, seed=3)
    first, second = (trials[c].map(table.set_index("name").artist) for c in ("first", "second"))
    assert ((first == second) == (trials.label == 1)).all()
    assert abs(trials.label.mean() - 0.5) < 0.01
    for singers in (first, second):                                        # alike, however much they have recorded
        assert singers.value_counts(normalize=True).sub(0.25).abs().max() < 0.01
    pairs = pd.crosstab(first[trials.label == 0], second[trials.label == 0], normalize=True).to_numpy()
    assert np.abs(pairs[~np.eye(4, dtype=bool)] - 1 / 12).max() < 0.01
    files = trials["first"][first == "Ada"].value_counts(normalize=True)
    assert len(files) == 4 and files.sub(0.25).abs().max() < 0.03
    itself = (trials["first"] == trials["second"])[trials.label == 1]                      # of four files, or of 60
    assert abs(itself.mean() - (3 / 4 + 1 / 60) / 4) < 0.02
    assert trials.equals(sample_trials(table.iloc[::-1], 40_000, seed=3))
    assert not trials.equals(sample_trials(table, 40_000, seed=4))


# ---- EER ----

def test_eer_is_that_of_the_released_code():
    from scipy.interpolate import interp1d
    from scipy.optimize import brentq
    from sklearn.metrics import roc_curve
    table, x = world(voice=0.6)
    trials = sample_trials(table, 700)
    row = dict(zip(table.name, x))
    scores = np.array([cosine(row[t.first], row[t.second]) for t in trials.itertuples()])
    assert np.allclose(trial_scores(table, x, trials), scores, atol=1e-6)
    fpr, tpr, _ = roc_curve(trials.label, scores, drop_intermediate=False)
    expected = brentq(lambda v: 1 - v - interp1d(fpr, tpr)(v), 0, 1)
    score = trial_eer(table, x, trials)
    assert 0.1 < expected < 0.5 and score["value"] == pytest.approx(expected, abs=2e-3)
    score.pop("value")
    assert score == dict(metric="eer", trials=700, artists=4, clips=16, reduced="")


def test_scores_do_not_depend_on_length_nor_on_the_order_of_the_table():
    table, x = world()
    trials, order = sample_trials(table, 300), np.random.default_rng(1).permutation(len(table))
    scores, longer = trial_scores(table, x, trials), x * np.linspace(0.01, 100, len(x))[:, None]
    assert np.allclose(trial_scores(table, longer, trials), scores, atol=1e-6)
    assert np.allclose(trial_scores(table.iloc[order], x[order], trials), scores, atol=1e-6)


def test_collapsed_and_zero_vectors_are_chance():
    table, x = world()
    trials = sample_trials(table, 400)
    for same in (np.ones_like(x), np.zeros_like(x)):
        assert trial_eer(table, same, trials)["value"] == pytest.approx(0.5)
    assert mnr(table, np.zeros_like(x), None, PAPER)["value"] == pytest.approx(0.5, abs=0.03)


def with_nan(x):
    return np.where(np.arange(len(x))[:, None] == 5, np.nan, x)


@pytest.mark.parametrize("spoil, said", [
    (lambda t, x, p: (t, x[:-1], p), "as many vectors"),
    (lambda t, x, p: (t, x[:, 0], p), "as many vectors"),
    (lambda t, x, p: (x, t, p), "fragments come first"),
    (lambda t, x, p: (t.drop(columns="name"), x, p), "columns name, artist, clip"),
    (lambda t, x, p: (t.assign(name="a/b.wav"), x, p), "appear twice"),
    (lambda t, x, p: (t.assign(artist=None), x, p), "48 of 48 clips have no artist"),
    (lambda t, x, p: (t, with_nan(x), p), "NaN or infinite vectors in 1 of 48 .* first is 'Ada/song1_8_12_4s.wav'"),
    (lambda t, x, p: (t, x, p.assign(second="Eve/x_0_4_4s.wav")), "1 files of the trials are not among the 48"),
    (lambda t, x, p: (t, x, p[p.label == 1]), "have the label 1"),
    (lambda t, x, p: (t, x, p[:0]), "0 rows"),
    (lambda t, x, p: (t, x, p.rename(columns=dict(label="same"))), "label, first, second"),
    (lambda t, x, p: (t, x, p.to_numpy()), "found ndarray")])
def test_what_does_not_fit_together_is_said(spoil, said):
    table, x = world()
    with pytest.raises(VocalrepError, match=said):
        trial_eer(*spoil(table, x, sample_trials(table, 50)))


# ---- MNR ----

def test_released_rank_spelled_out():
    "Exactly 512 candidates are left for either singer, so that nothing is drawn by chance."
    rng = np.random.default_rng(0)
    table = pd.DataFrame([dict(name=f"{s}/f{i}.wav", artist=s, clip=f"{s}/f{i}")
                          for s in ("Ada", "Zoë") for i in range(512)])
    x = rng.normal(size=(1024, 6)) + 1.0 * rng.normal(size=(2, 6))[table.artist.factorize()[0]]
    order = rng.permutation(512)
    trials = pd.DataFrame([dict(label=1, first=f"{s}/f{i}.wav", second=f"{s}/f{j}.wav")
                           for i, j in enumerate(order) for s in ("Ada", "Zoë")])      # 1024: the last 24 do not count
    row, ranks = dict(zip(table.name, x / np.linalg.norm(x, axis=1, keepdims=True))), []
    for t in trials[:1000].itertuples():
        others = [name for name in table.name if t.first.split("/")[-2] not in name]
        similarity = np.array([row[name] for name in [t.second, *others]]) @ row[t.first]
        ranks.append(np.where(np.argsort(similarity)[::-1] == 0)[0][0] / len(similarity))
    score = mnr(table, x, trials, RELEASED)
    assert score["value"] == pytest.approx(np.mean(ranks), abs=1e-5) and 0.01 < score["value"] < 0.45
    assert (score["trials"], score["reduced"]) == (1000, "")


@pytest.mark.parametrize("rule", [
    PAPER, RELEASED, RankRule("trials", 40, "singer", 30), RankRule("trials", 40, "pair", 30),
    RankRule("recording", 10, "substring", 30)])
def test_candidates_obey_their_rule(rule):
    table, _ = world([f"female{i}" for i in (1, 2)] + [f"male{i}" for i in (1, 2, 10, 11)], clips=10, pieces=3)
    rule = dataclasses.replace(rule, count=60, distractors=min(rule.distractors, 40))
    trials = sample_trials(table, 300)
    queries, candidates, _ = draw_candidates(table, trials, rule, seed=5)
    name, artist, clip = (table[c].to_numpy() for c in ("name", "artist", "clip"))
    assert candidates.shape == (60, rule.distractors + 1) and all(len(set(row)) == len(row) for row in candidates)
    for q, (match, *others) in zip(queries, candidates):
        assert artist[q] == artist[match] and q not in others
        assert rule.queries == "trials" or (clip[q] == clip[match] and q != match)
        assert rule.excluded != "singer" or artist[q] not in artist[others]
        assert rule.excluded != "substring" or not any(artist[q] in n for n in name[others])
    if rule.queries == "trials":
        asked = [(t.first, t.second) for t in trials[trials.label == 1][:60].itertuples()]
        assert list(zip(name[queries], name[candidates[:, 0]])) == asked
        listed = set(trials["first"]) | set(trials["second"])
        assert set(name[candidates[:, 1:]].ravel()) <= listed
    if rule.excluded == "pair":
        assert any(artist[q] in artist[c[1:]] for q, c in zip(queries, candidates))      # the same singer may be met
    again = draw_candidates(table, trials, rule, seed=5)
    assert (again[0] == queries).all() and (again[1] == candidates).all()


def test_candidates_are_uniform():
    table, _ = world(clips=4, pieces=3)
    _, candidates, _ = draw_candidates(table, None, RankRule("recording", 20, "pair", 4000))
    seen = np.bincount(candidates[:, 1:].ravel(), minlength=48)
    assert seen.min() > 0.9 * seen.mean() and seen.max() < 1.1 * seen.mean()
    assert (np.bincount(candidates[:, 0], minlength=48) > 40).all()


def test_perfect_and_hopeless_ranks():
    table, _ = world(("Ada", "Béla", "Cleo"), clips=30, pieces=6)
    apart = np.eye(3)[table.artist.factorize()[0]] + 1e-3 * np.random.default_rng(0).normal(size=(len(table), 3))
    trials = sample_trials(table, 5000)
    best = mnr(table, apart, trials, RELEASED)
    assert best["value"] == 0 and best["reduced"] == "361 of 513 candidates"
    noise = np.random.default_rng(1).normal(size=(len(table), 9))
    assert mnr(table, noise, trials, RELEASED)["value"] == pytest.approx(0.5, abs=0.05)
    own = np.eye(90)[table["clip"].factorize()[0]]         # four more fragments of the recording tie with the match
    assert mnr(table, own, None, PAPER)["value"] == pytest.approx(2 / 512, abs=2e-3)


def test_ranks_that_are_not_possible():
    table, x = world(clips=4, pieces=1)
    trials = sample_trials(table, 100)
    for arguments, said in (
            ((None, RELEASED), "takes its queries from a list"),
            ((None, PAPER), "none of the 16 recordings has two fragments"),
            ((trials[trials.label == 0], RELEASED), "no query"),
            ((trials, RankRule("list", 5, "pair")), "recording, trials"),
            ((trials, RankRule("trials", 5, "anybody")), "pair, singer, substring")):
        with pytest.raises(VocalrepError, match=said):
            mnr(table, x, *arguments)
    nested = table.assign(name="a/" + table.name.str.replace("/", "_"), artist="a")
    with pytest.raises(VocalrepError, match="no candidate is left"):
        pair = pd.DataFrame(dict(label=[1], first=nested.name[:1], second=nested.name[1:2].to_numpy()))
        mnr(nested, x, pair, RELEASED)
    flat = table.assign(name=table.name.str.replace("/", "_"))
    with pytest.raises(VocalrepError, match="singer/file"):
        mnr(flat, x, sample_trials(flat, 100), RELEASED)
