"Tags, families and genres of clips: areas against scikit-learn and by hand, official splits, pooling, bad input."
import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, roc_auc_score

from vocalrep.evaluation import classifiers
from vocalrep.evaluation.classifiers import Probe, probe_answers, probe_loss, train_probes
from vocalrep.evaluation.folds import TEST, TRAIN, VALID, Fold, arrange
from vocalrep.evaluation.jackknife import tags_without
from vocalrep.evaluation.probes import SCORE_COLUMNS
from vocalrep.evaluation.tagging import (
    FAMILIES, GENRES, TAGS, ClipProtocol, by_tag, label_clips, share_clips, split_fold, tag_scores)
from vocalrep.evaluation.tasks import Condition, Task, TestCorpus
from vocalrep.models.encoders import MeanMFCC
from vocalrep.project import VocalrepError
from vocalrep.report import scores as score_room
from vocalrep.report.systems import System

RELEASED = ClipProtocol(tag_loss="multilabel", class_loss="softmax", pooled="logits", macro_batch=8192, crops=0,
                        drop_connect=True)
PAPER = dataclasses.replace(RELEASED, tag_loss="softmax", class_loss="multilabel", pooled="probabilities",
                            macro_batch=0)
HASTY = dataclasses.replace(RELEASED, epochs=3, least_updates=10)
TAUGHT = dataclasses.replace(HASTY, crops=4)
WORDS = ["drums", "fast", "opera", "sitar"]


def invent(clips=60, windows=4, dim=12, strength=2.0, seed=0):
    "Windows of clips with several tags and one genre each, and their labels."
    rng = np.random.default_rng(seed)
    there = rng.random((clips, len(WORDS))) < 0.4
    names = [f"{k:03d}" for k in range(clips)]
    labels = pd.DataFrame(dict(
        clip=names, split=np.array(["train", "train", "valid", "test"])[np.arange(clips) % 4],
        tags=[[word for word, own in zip(WORDS, row) if own] for row in there],
        genre=np.array(["Folk", "Pop", "Rock"])[rng.integers(3, size=clips)]))
    places = pd.DataFrame(dict(clip=np.repeat(names, windows), row=np.repeat(np.arange(clips), windows),
                               artist=np.repeat([f"artist {k // 2 % 9}" for k in range(clips)], windows),
                               offset=np.tile(np.arange(windows) * 16000, clips)))
    known = np.concatenate([there, np.eye(3)[labels.genre.map(["Folk", "Pop", "Rock"].index)]], 1)
    vectors = strength * (known @ rng.normal(size=(7, dim))).repeat(windows, 0) + rng.normal(size=(len(places), dim))
    return places, vectors.astype(np.float32), labels


def ask(places, vectors, labels, protocol=HASTY, question=TAGS, **options):
    return label_clips(places, vectors, protocol, question, labels, device="cpu", **options)


def identical(a, b):
    pd.testing.assert_frame_equal(a.reset_index(drop=True), b.reset_index(drop=True), atol=1e-6)


# --- areas

def by_hand(truth, answer):
    "ROC-AUC over all pairs, and the mean precision at the clips that have the tag; equals are met together."
    have, lack = answer[truth == 1], answer[truth == 0]
    wins = [(a > b) + (a == b) / 2 for a in have for b in lack]
    precision = [sum(have >= a) / (sum(have >= a) + sum(lack >= a)) for a in have]
    return np.mean(wins), np.mean(precision)


labelled = st.integers(3, 25).flatmap(lambda n: st.tuples(
    arrays(np.int64, (n, 2), elements=st.integers(-1, 1)),
    arrays(np.float64, (n, 2), elements=st.integers(-6, 6).map(float))))             # few values: many ties


@settings(max_examples=60, deadline=None)
@given(labelled)
def test_areas_with_ties_and_unknown_labels(case):
    truth, answer = case
    found = tag_scores(truth, answer, ["a", "b"])
    values = dict(roc_auc=[], pr_auc=[])
    for k, name in enumerate("ab"):
        known = truth[:, k] >= 0
        if len(set(truth[known, k])) < 2:
            assert f"roc_auc of {name}" not in found and f"pr_auc of {name}" not in found
            continue
        roc, precision = by_hand(truth[:, k], answer[:, k])
        assert found[f"roc_auc of {name}"] == pytest.approx(roc)
        assert found[f"pr_auc of {name}"] == pytest.approx(precision)
        assert roc == pytest.approx(roc_auc_score(truth[known, k], answer[known, k]))
        assert precision == pytest.approx(average_precision_score(truth[known, k], answer[known, k]))
        values["roc_auc"].append(roc)
        values["pr_auc"].append(precision)
    for metric, own in values.items():
        assert found[metric] == pytest.approx(np.mean(own)) if own else np.isnan(found[metric])


@settings(max_examples=60, deadline=None)
@given(labelled)
def test_areas_know_nothing_but_the_order(case):
    truth, answer = case
    plain = tag_scores(truth, answer, ["a", "b"])
    for mapped in (np.exp(answer / 2), 3 * answer - 100, np.arctan(answer), answer ** 3):
        assert tag_scores(truth, mapped, ["a", "b"]) == pytest.approx(plain, nan_ok=True)
    turned = tag_scores(truth, -answer, ["a", "b"])
    swapped = tag_scores(np.where(truth < 0, -1, 1 - truth), answer, ["a", "b"])
    for metric in filter(lambda name: name.startswith("roc"), plain):
        assert turned[metric] == pytest.approx(1 - plain[metric], nan_ok=True)
        assert swapped[metric] == pytest.approx(1 - plain[metric], nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(labelled, st.integers(0, 99))
def test_without_each_artist_is_scoring_anew(case, seed):
    truth, answer = case
    group = np.random.default_rng(seed).integers(4, size=len(truth))
    found = by_tag(tags_without(truth, answer, group, 5), ["a", "b"])
    for g in range(5):                                                               # the last is nobody's
        kept = group != g
        anew = tag_scores(truth[kept], answer[kept], ["a", "b"]) if kept.any() else {}
        for metric, values in found.items():
            assert values[g] == pytest.approx(anew.get(metric, np.nan), nan_ok=True)


def test_areas_of_noise_and_of_the_truth():
    rng = np.random.default_rng(0)
    truth = (rng.random((20_000, 2)) < (0.5, 0.1)).astype(int)
    noise = tag_scores(truth, rng.random(truth.shape), ["half", "tenth"])
    assert noise["roc_auc of half"] == pytest.approx(0.5, abs=0.02)
    assert noise["roc_auc of tenth"] == pytest.approx(0.5, abs=0.02)
    assert noise["pr_auc of half"] == pytest.approx(0.5, abs=0.03)
    assert noise["pr_auc of tenth"] == pytest.approx(0.1, abs=0.03)
    assert set(tag_scores(truth, truth, ["half", "tenth"]).values()) == {1.0}
    assert tag_scores(truth, 0 * truth, ["half", "tenth"])["roc_auc"] == 0.5         # all answers equal


def test_areas_of_float32_and_of_lists():
    truth, answer = [[1, 0], [0, 1], [1, 1], [0, 0]], [[0.9, 0.1], [0.2, 0.7], [0.6, 0.4], [0.6, 0.4]]
    single = tag_scores(np.array(truth, np.int8), np.array(answer, np.float32), ("a", "b"))
    assert tag_scores(truth, answer, ["a", "b"]) == pytest.approx(single)
    assert single["roc_auc"] == pytest.approx(0.875)                                 # of four pairs, a tie in each tag


def test_without_each_artist_of_a_whole_test_set():
    rng = np.random.default_rng(0)
    truth = (rng.random((5000, 50)) < 0.07).astype(int)
    answer, group = truth + rng.normal(size=truth.shape), rng.integers(60, size=5000)
    found = tags_without(truth, answer, group, 60)
    assert found["pr_auc"].shape == (60, 50)
    kept = group != 17
    assert found["roc_auc"][17, 3] == pytest.approx(roc_auc_score(truth[kept, 3], answer[kept, 3]))
    assert found["pr_auc"][17, 3] == pytest.approx(average_precision_score(truth[kept, 3], answer[kept, 3]))


@pytest.mark.parametrize("truth, answer, names, message", [
    (np.ones((3, 2)), np.ones((3, 1)), ["a", "b"], "one column a named tag"),
    (np.ones((3, 2)), np.ones((3, 2)), ["a"], "1 names of tags"), (np.ones(3), np.ones(3), ["a"], "one row a clip"),
    (np.ones((0, 2)), np.ones((0, 2)), ["a", "b"], "one row a clip"),
    (np.full((3, 1), 2), np.ones((3, 1)), ["a"], "labels are 0, 1"),
    (np.ones((3, 1)), np.full((3, 1), np.nan), ["a"], "3 NaN or infinite answers")])
def test_answers_that_cannot_be_scored(truth, answer, names, message):
    with pytest.raises(VocalrepError, match=message):
        tag_scores(truth, answer, names)


# --- the engine: losses the other way round, and what is pooled

def test_classes_by_a_sigmoid_each_and_tags_by_one_softmax():
    logits, classes = torch.randn(2, 5, 3), torch.randint(3, (2, 5))
    hot = torch.nn.functional.one_hot(classes, 3)
    torch.testing.assert_close(probe_loss(logits, classes, "multilabel"), probe_loss(logits, hot, "multilabel"))
    torch.testing.assert_close(probe_loss(logits, hot, "softmax"), probe_loss(logits, classes, "softmax"))
    tags = torch.tensor([[[1, 1, 0], [0, -1, 1], [0, 0, 0]]])
    p = logits[:1, :3].log_softmax(2)
    expected = -(p[0, 0, 0] + p[0, 0, 1] + p[0, 1, 2]) / 3                           # what is not known is not there
    torch.testing.assert_close(probe_loss(logits[:1, :3], tags, "softmax"), expected)


def test_the_sum_of_logits_is_not_the_mean_of_probabilities():
    logits = torch.tensor([[9.0, 0.0], [0.0, 3.0], [0.0, 3.0]])
    named = {how: probe_answers(logits, dataclasses.replace(PLAIN, pooled=how)).mean(0).argmax()
             for how in ("logits", "probabilities")}
    assert named == dict(logits=0, probabilities=1) and int(logits.sum(0).argmax()) == 0
    torch.testing.assert_close(torch.from_numpy(probe_answers(logits, PLAIN)), logits.softmax(1))


@pytest.mark.parametrize("change", [dict(pooled="votes"), dict(pooled="logits", loss="multilabel"),
                                    dict(pooled="logits", loss="sigmoid")])
def test_unknown_answers_of_a_probe(change):
    with pytest.raises(VocalrepError, match="unknown answer of a probe"):
        dataclasses.replace(PLAIN, **change)


PLAIN = Probe(learning_rate=1e-2, epochs=6, patience=6, epoch_items=512, unit="excerpt")


def test_logits_are_those_of_the_same_probe():
    places, vectors, labels = invent()
    data = arrange(places, vectors)
    fold = split_fold(data, labels.genre.factorize(sort=True)[0], labels.split.to_numpy())
    answers = {how: train_probes(data, [fold], dataclasses.replace(PLAIN, pooled=how), device="cpu")
               for how in ("logits", "probabilities")}
    (z,), history = answers["logits"]
    (p,), same = answers["probabilities"]
    np.testing.assert_array_equal(history, same)                                     # it stops at the same epoch
    np.testing.assert_allclose(torch.from_numpy(z).softmax(1).numpy(), p, atol=1e-6)
    assert (z < 0).any() and fold.classes == 3


def test_what_is_pooled_decides(monkeypatch):
    "Windows whose logits are known: two clips of the test, one of which the two rules name differently."
    places, vectors, labels = invent(clips=8, windows=3)
    labels = labels.assign(genre=["Folk", "Rock"] * 4)
    odd = torch.tensor([[9.0, 0.0], [0.0, 3.0], [0.0, 3.0]])
    plain = torch.tensor([[0.0, 1.0]] * 3)
    monkeypatch.setattr(classifiers.ProbeStack, "logits", lambda self, place, rows: torch.cat([odd, plain]))
    assert labels[labels.split == "test"].genre.tolist() == ["Rock", "Rock"]
    for how, right in (("logits", 0.5), ("probabilities", 1.0)):
        table = ask(places, vectors, labels, dataclasses.replace(HASTY, pooled=how), GENRES)
        assert table.set_index("metric").value["accuracy"] == right


# --- official splits

def test_parts_are_the_official_ones():
    places, vectors, labels = invent()
    data = arrange(places, vectors)
    tags = np.array([[word in own for word in WORDS] for own in labels.tags]).astype(int)
    tags[5] = -1
    split = labels.split.to_numpy(object).copy()
    split[6] = None
    fold = split_fold(data, tags, split)
    assert isinstance(fold, Fold) and (fold.classes, fold.repetition) == (4, 0) and not fold.known[5]
    assert fold.part.tolist() == [-1 if k == 6 else [TRAIN, TRAIN, VALID, TEST][k % 4] for k in range(60)]
    with pytest.raises(VocalrepError, match="60 clips came with 60 labels and 59 splits"):
        split_fold(data, tags, split[:-1])


def test_only_test_clips_are_scored_and_only_training_clips_teach(monkeypatch):
    places, vectors, labels = invent()
    drawn, draw = [], classifiers.draw_epoch
    monkeypatch.setattr(classifiers, "draw_epoch", lambda *args: drawn.append(draw(*args)) or drawn[-1])
    table = ask(places, vectors, labels, question=GENRES)
    split = labels.set_index("clip").split[places["clip"]].to_numpy()
    assert set(split[np.concatenate(drawn)]) == {"train"}
    assert tuple(table.columns) == SCORE_COLUMNS and list(table.metric) == ["accuracy", "macro_f1"]
    assert (set(table["clips"]), set(table.artists), set(table.task)) == ({15}, {9}, {"genre"})
    assert table.seconds.isna().all() and (table.reduced == "epochs of 1 updates lengthened to 10").all()


@pytest.mark.parametrize("protocol", [RELEASED, PAPER])
@pytest.mark.parametrize("question, chance", [(TAGS, 0.6), (GENRES, 0.5)])
def test_easy_and_hopeless(protocol, question, chance):
    places, vectors, labels = invent(clips=160, strength=3.0)
    quick = dataclasses.replace(protocol, epochs=25, least_updates=40)
    question = dataclasses.replace(question, learning_rate=5e-3)
    assert ask(places, vectors, labels, quick, question).value[0] > 0.9
    noise = np.random.default_rng(0).normal(size=vectors.shape).astype(np.float32)
    assert ask(places, noise, labels, quick, question).value[0] < chance


def test_families_need_a_hidden_layer():
    rng = np.random.default_rng(0)
    x = 1.5 * rng.choice([-1, 1], size=(400, 2)) + 0.3 * rng.normal(size=(400, 2))
    notes = pd.DataFrame(dict(clip=[f"{k:03d}" for k in range(400)], artist=None, row=range(400), offset=0))
    labels = notes[["clip"]].assign(split=np.array(["train", "train", "valid", "test"])[np.arange(400) % 4],
                                    family=np.where(x.prod(1) > 0, "reed", "brass"))
    right = {hidden: ask(notes, x.astype(np.float32), labels, RELEASED, dataclasses.replace(FAMILIES, hidden=hidden))
             for hidden in (None, 512)}
    assert right[None].value[0] < 0.7 < 0.95 < right[512].value[0]
    assert set(right[512].artists) == {0} and right[512].task[0] == "instrument"


def test_order_and_repetition_change_nothing_and_seeds_do():
    places, vectors, labels = invent(strength=0.5)
    order = np.random.default_rng(0).permutation(len(places))
    first = ask(places, vectors, labels)
    identical(first, ask(places, vectors, labels))
    identical(first, ask(places.iloc[order], vectors[order], labels.sample(frac=1, random_state=0)))
    assert not first.value.equals(ask(places, vectors, labels, seed=1).value)


def test_names_choose_the_tags_and_their_order():
    places, vectors, labels = invent()
    table = ask(places, vectors, labels, names=["sitar", "drums"])
    assert list(table.metric) == ["roc_auc", "pr_auc", "roc_auc of sitar", "roc_auc of drums", "pr_auc of sitar",
                                  "pr_auc of drums"]
    value = table.set_index("metric").value
    assert value["pr_auc"] == pytest.approx((value["pr_auc of sitar"] + value["pr_auc of drums"]) / 2)
    joined = labels.assign(tags=labels.tags.map("|".join))
    identical(table, ask(places, vectors, joined, names=["sitar", "drums"]))
    without = labels.assign(tags=[own if set(own) & {"sitar", "drums"} else None for own in labels.tags])
    other = ask(places, vectors, without, names=["sitar", "drums"])                  # none of them, or not known
    lost = sum(not set(own) & {"sitar", "drums"} for own in labels.tags)
    assert f"{lost} clips without a split or a known value of tags left out" in other.reduced[0]
    assert other["clips"][0] < table["clips"][0] == 15


def test_clips_that_nobody_labelled_take_no_part():
    places, vectors, labels = invent(clips=80)
    unknown = labels["clip"].isin(labels["clip"][::9])
    kept = ~places["clip"].isin(labels["clip"][unknown]).to_numpy()
    alone = ask(places[kept], vectors[kept], labels)
    for own in (labels[~unknown], labels.assign(tags=labels.tags.mask(unknown)),
                labels.assign(split=labels.split.mask(unknown))):
        table = ask(places, vectors, own)
        identical(table.drop(columns=["reduced", "artists"]), alone.drop(columns=["reduced", "artists"]))
        assert table.reduced.str.startswith("9 clips without a split or a known value of tags left out").all()


# --- what is missing is said

def test_labels_that_were_never_taught_or_cannot_be_scored():
    places, vectors, labels = invent()
    train, test = labels.split == "train", labels.split == "test"
    untaught = labels.assign(tags=[[tag for tag in own if tag != "opera" or not here]
                                   for own, here in zip(labels.tags, train)])
    table = ask(places, vectors, untaught)
    assert table.reduced.str.contains("1 of 4 labels never taught (opera)", regex=False).all()
    assert "pr_auc of opera" in set(table.metric)
    everywhere = labels.assign(tags=[own + ["sitar"] if here and "sitar" not in own else own
                                     for own, here in zip(labels.tags, test)])
    table = ask(places, vectors, everywhere)
    assert "pr_auc of sitar" not in set(table.metric) and table.value.notna().all()
    assert table.reduced.str.contains("1 of 4 tags without a clip that has it and one that has not in the test "
                                      "(sitar)", regex=False).all()
    own = table.set_index("metric").value
    assert own["roc_auc"] == pytest.approx(own[[f"roc_auc of {word}" for word in WORDS[:3]]].mean())
    folk = labels.assign(genre=labels.genre.where(~test | (labels.genre != "Folk"), "Pop"))
    assert "1 of 3 labels without a clip in the test (Folk)" in ask(places, vectors, folk, question=GENRES).reduced[0]


@pytest.mark.parametrize("question, metrics", [(TAGS, ["roc_auc", "pr_auc"]), (GENRES, ["accuracy", "macro_f1"])])
def test_a_split_without_clips_is_not_possible(question, metrics):
    places, vectors, labels = invent()
    for split in ("train", "valid", "test"):
        table = ask(places, vectors, labels[labels.split != split], question=question)
        assert tuple(table.columns) == SCORE_COLUMNS and list(table.metric) == metrics and table.value.isna().all()
        assert (table.reduced == f"not possible: no clip with a known value of {question.column} in the split {split}"
                ).all()
    nothing = ask(places, vectors, labels.iloc[:0], question=question)
    assert nothing.value.isna().all()
    assert (nothing.reduced == f"not possible: no value of {question.column} in any split").all()


def test_without_a_choice_there_is_no_question():
    places, vectors, labels = invent()
    one = ask(places, vectors, labels.assign(genre="Folk"), question=GENRES)
    assert (one.reduced == "not possible: 1 value of genre in the split train").all()
    none = ask(places, vectors, labels.assign(tags=[[]] * len(labels)), names=WORDS)
    assert none.reduced.str.contains("not possible: no tag that some clips of the test have").all()
    assert ask(places, vectors, labels.assign(tags=[[]] * len(labels))).reduced[0] == (
        "not possible: no value of tags in any split")


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 12), st.integers(1, 2), st.integers(0, 9))
def test_no_corpus_is_too_small(clips, windows, seed):
    places, vectors, labels = invent(clips, windows, dim=3, seed=seed)
    protocol = dataclasses.replace(HASTY, epochs=1, least_updates=1)
    for question in (TAGS, GENRES):
        table = ask(places, vectors, labels, protocol, question, left_out=True) if clips > 3 else ask(
            places, vectors, labels, protocol, question)
        assert table.value.dropna().between(0, 1).all() and len(table)
        assert (table.value.isna() == table.reduced.str.startswith("not possible")).all()


@pytest.mark.parametrize("spoil, options, message", [
    (lambda labels: labels.drop(columns="tags"), {}, "labels without column tags: they have clip, split, genre"),
    (lambda labels: labels.drop(columns="split"), {}, "labels without column split"),
    (lambda labels: pd.concat([labels, labels[:1]]), {}, "'000' has several rows"),
    (lambda labels: labels.assign(split="dev"), {}, "unknown split 'dev'"),
    (lambda labels: labels, dict(names=["drums", "drums"]), "some twice"),
    (lambda labels: labels, dict(probe="exact"), "unknown probe 'exact'"),
    (lambda labels: labels, dict(question=GENRES, probe="mlp"), "unknown probe 'mlp'"),
    (lambda labels: labels, dict(question=FAMILIES), "labels without column family")])
def test_wrong_labels(spoil, options, message):
    places, vectors, labels = invent(clips=8)
    with pytest.raises(VocalrepError, match=message):
        ask(places, vectors, spoil(labels), **options)


# --- what teaches

def test_an_epoch_is_as_long_as_the_released_loop():
    for chunks in (1, 8192, 8193, 16_384, 16_385, 106_708):
        seen = 8192 * len(range(0, chunks - 8192, 8192))
        assert RELEASED.probe(TAGS, chunks).epoch_items == seen
        assert PAPER.probe(TAGS, chunks).epoch_items == 0
    tags, families = (RELEASED.probe(question, 1000) for question in (TAGS, FAMILIES))
    assert (tags.loss, tags.pooled, tags.hidden, tags.learning_rate) == ("multilabel", "probabilities", None, 5e-4)
    assert (families.loss, families.pooled, families.hidden, families.learning_rate) == ("softmax", "logits", 512, 3e-4)
    assert {(p.batch, p.epochs, p.patience, p.eps, p.unit) for p in (tags, families)} == {(128, 50, 5, 1e-7, "excerpt")}
    told = [(p.loss, p.pooled) for p in (PAPER.probe(TAGS, 1000), PAPER.probe(GENRES, 1000))]
    assert told == [("softmax", "probabilities"), ("multilabel", "probabilities")]


def test_crops_of_training_clips_teach_and_windows_of_the_others_are_asked(monkeypatch):
    places, vectors, labels = invent()
    train = places["clip"].map(labels.set_index("clip").split).eq("train").to_numpy()
    crops = (places[train].assign(row=lambda table: table["row"] * 2 + (table.offset > 16000)), vectors[train])
    drawn, draw = [], classifiers.draw_epoch
    monkeypatch.setattr(classifiers, "draw_epoch", lambda own, segments, *args:
                        drawn.append((len(own.clip), len(segments))) or draw(own, segments, *args))
    table = ask(places[~train], vectors[~train], labels, TAUGHT, crops=crops)
    assert set(drawn) == {(train.sum(), 2 * 30)}                                     # two chunks a training clip
    assert "taught" not in table.reduced[0] and table["clips"][0] == 15
    everything = ask(places, vectors, labels, TAUGHT, crops=crops)
    identical(table, everything)                                                     # windows that teach nobody
    nonsense = (crops[0], np.random.default_rng(0).normal(size=crops[1].shape).astype(np.float32))
    assert not ask(places, vectors, labels, TAUGHT, crops=nonsense).value.equals(table.value)
    untaught = ask(places, vectors, labels, TAUGHT)
    assert untaught.reduced.str.contains("taught by the excerpts that are asked").all()
    lost = ask(places[~train], vectors[~train], labels, TAUGHT)
    assert lost.reduced.str.contains("in the split train").all()


def test_numbers_of_clips_are_shared():
    places, vectors, _ = invent(clips=6, windows=2)
    first, second = (places["clip"].isin(own).to_numpy() for own in (["000", "002", "005"], ["001", "002"]))
    a, b = share_clips(arrange(places[first], vectors[first]), arrange(places[second], vectors[second]))
    assert a.clips is b.clips and list(a.clips["clip"]) == ["000", "001", "002", "005"]
    assert a.clip.tolist() == [0, 0, 2, 2, 3, 3] and b.clip.tolist() == [1, 1, 2, 2]
    assert a.segment_clip.tolist() == [0, 2, 3] and b.segment_clip.tolist() == [1, 2]


def test_crops_of_another_shape_are_refused():
    places, vectors, labels = invent()
    with pytest.raises(VocalrepError, match="does not belong to what is asked"):
        ask(places, vectors, labels, TAUGHT, crops=(places, vectors[:, :5]))


# --- without each artist

@pytest.mark.parametrize("question", [TAGS, GENRES])
def test_scores_without_each_artist(question):
    places, vectors, labels = invent(strength=0.7)
    table = ask(places, vectors, labels, question=question, left_out=True)
    whole = table[table.left_out.isna()]
    assert tuple(table.columns) == (*SCORE_COLUMNS, "left_out")
    identical(whole.drop(columns="left_out"), ask(places, vectors, labels, question=question))
    test = labels["clip"][labels.split == "test"]
    assert set(table.left_out.dropna()) == set(places.artist[places["clip"].isin(test)])
    gone = table.left_out.dropna().iloc[0]
    kept = (~(places["clip"].isin(test) & (places.artist == gone))).to_numpy()       # the probe stays as it was
    anew = ask(places[kept], vectors[kept], labels, question=question).set_index("metric").value
    left = table[table.left_out == gone].set_index("metric").value
    pd.testing.assert_series_equal(left.sort_index(), anew[left.index].sort_index(), atol=1e-6)
    assert set(left.index) == set(anew.index)


def test_a_clip_without_an_artist_is_left_out_by_itself():
    places, vectors, labels = invent()
    table = ask(places.assign(artist=None), vectors, labels, left_out=True)
    assert set(table.left_out.dropna()) == set(labels["clip"][labels.split == "test"])
    assert set(table.artists[table.left_out.isna()]) == {0}


def test_the_exact_probe_names_classes_too():
    places, vectors, labels = invent(clips=160)
    table = ask(places, vectors, labels, question=GENRES, probe="exact", left_out=True)
    assert table.value[0] > 0.9 and set(table.probe) == {"exact"} and (table.reduced == "").all()


# --- as a task

def test_a_task_hands_in_the_labels_of_its_corpus(store, tmp_path, monkeypatch):
    "Songs of the studio, asked whether a voice is female and whether a song is one of the even ones; scores are kept."
    monkeypatch.setenv("VOCALREP_HOME", str(tmp_path / "home"))
    table = store.clips[["clip", "gender"]].assign(
        split=np.array(["train", "train", "valid", "test"])[np.arange(len(store.clips)) % 4],
        tags=[[gender, "even"] if k // 4 % 2 else [gender] for k, gender in enumerate(store.clips.gender)])
    labels = [table]
    asked = Condition("mixture", unit="fragments", seconds=1.0)
    task = Task("tagging", label_clips, (asked,), dict(protocol=TAUGHT, question=TAGS, probe="linear"),
                per_corpus=lambda corpus: dict(labels=labels[0]), context=("device", "crops", "left_out"))
    system = System("mean MFCC", lambda device: MeanMFCC().eval(), "mfcc", 0)
    found = score_room.score(system, TestCorpus("studio", store, None), task, asked, "cpu")
    assert list(found) == list(score_room.SCORE_COLUMNS) and {"roc_auc", "pr_auc of even"} <= set(found.metric)
    assert found[found.left_out == ""].metric.is_unique and (found.left_out != "").any()
    monkeypatch.setattr(score_room, "material", lambda *given: pytest.fail("computed twice"))
    identical(found, score_room.score(system, TestCorpus("studio", store, None), task, asked, "cpu"))
    labels[0] = table.assign(tags=[*table.tags[:-1], ["even"]])                      # one tag of one clip
    with pytest.raises(pytest.fail.Exception):
        score_room.score(system, TestCorpus("studio", store, None), task, asked, "cpu")
