"Search agrees with a plain loop, an index survives the disk, and damage is recognised."
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from vocalrep.evaluation.metrics import normalize_embeddings
from vocalrep.evaluation.retrieval import ClipIndex, nearest_clips, retrieval_overlap, stack_overlaps
from vocalrep.project import VocalrepError

rng = np.random.default_rng(0)
CLIPS = pd.DataFrame(dict(clip=[f"song {i:02} ä" for i in range(30)], artist=[f"singer {i // 3}" for i in range(30)]))
VECTORS = (rng.normal(size=(30, 6)) + 3).astype(np.float32)


def by_hand(vectors, row):
    "Rows from the most to the least similar, without the query."
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return sorted((i for i in range(len(unit)) if i != row), key=lambda i: -unit[i] @ unit[row])


@pytest.mark.parametrize("normalisation", ["none", "center", "zscore"])
def test_search_is_a_sorted_list_of_cosines(normalisation):
    index = ClipIndex.build(CLIPS, VECTORS, normalisation)
    for row in range(30):
        answer = index.search(CLIPS["clip"][row], k=29)
        expected = by_hand(normalize_embeddings(VECTORS, normalisation), row)
        assert answer["clip"].tolist() == CLIPS["clip"][expected].tolist()
        assert answer["rank"].tolist() == list(range(1, 30)) and (np.diff(answer.similarity) <= 1e-6).all()


def test_a_clip_is_not_its_own_answer_but_a_vector_may_find_its_clip():
    index = ClipIndex.build(CLIPS, VECTORS)
    name = CLIPS["clip"][4]
    assert name not in index.search(name, 30)["clip"].tolist() and len(index.search(name, 30)) == 29
    found = index.search(VECTORS[4], 1)
    assert found["clip"].item() == name and found.similarity.item() == pytest.approx(1, abs=1e-5)


def test_a_twin_is_found_though_it_equals_the_query():
    vectors = VECTORS.copy()
    vectors[7] = vectors[4]
    assert ClipIndex.build(CLIPS, vectors).search(CLIPS["clip"][4], 1)["clip"].item() == CLIPS["clip"][7]


def test_other_artists_and_several_queries():
    index = ClipIndex.build(CLIPS, VECTORS)
    answers = index.search(CLIPS["clip"][:3].tolist(), k=27, other_artists=True)
    assert answers["query"].value_counts().tolist() == [27] * 3 and "singer 0" not in answers.artist.tolist()
    assert index.search(VECTORS[:2], 4)["query"].tolist() == [0] * 4 + [1] * 4
    assert len(index.search(CLIPS["clip"][0], k=99, other_artists=True)) == 27


def test_a_dimension_that_never_changes_says_nothing():
    index = ClipIndex.build(CLIPS, np.hstack([VECTORS, np.full((30, 1), 5.0)]), "zscore")
    plain = ClipIndex.build(CLIPS, VECTORS, "zscore")
    assert index.search(CLIPS["clip"][0])["clip"].tolist() == plain.search(CLIPS["clip"][0])["clip"].tolist()


def test_saved_and_loaded(tmp_path):
    folder = tmp_path / "meine Stimmen ü"
    index = ClipIndex.build(CLIPS, VECTORS, "zscore", about="an encoder")
    again = ClipIndex.load(index.save(folder))
    assert repr(again) == repr(index) and again.clips.equals(index.clips)
    assert np.array_equal(again.vectors, index.vectors)
    for query in (CLIPS["clip"][3], VECTORS[3] + 1):
        assert again.search(query).equals(index.search(query))
    assert sorted(p.name for p in folder.iterdir()) == ["clips.parquet", "vectors.safetensors"]


def test_damage_and_half_replaced_indices(tmp_path):
    index = ClipIndex.build(CLIPS, VECTORS)
    with pytest.raises(VocalrepError, match="no complete index"):
        ClipIndex.load(tmp_path / "nowhere")
    folder = index.save(tmp_path / "a")
    other = ClipIndex.build(CLIPS.iloc[::-1], VECTORS).save(tmp_path / "b")
    whole = {p.name: p.read_bytes() for p in folder.iterdir()}
    (folder / "clips.parquet").write_bytes((other / "clips.parquet").read_bytes())
    with pytest.raises(VocalrepError, match="not the table"):
        ClipIndex.load(folder)
    for name in whole:
        index.save(folder)
        for cut in (0, 20, len(whole[name]) // 2):
            (folder / name).write_bytes(whole[name][:cut])
            with pytest.raises(VocalrepError, match="no complete index|not the table"):
                ClipIndex.load(folder)


INFINITE = np.where(np.arange(30)[:, None] == 9, np.inf, VECTORS)
TWICE = pd.concat([CLIPS, CLIPS])


@pytest.mark.parametrize("attempt, said", [
    (lambda i: i.search("song 99"), "did you mean"),
    (lambda i: i.search(np.ones(5)), "6 dimensions"),
    (lambda i: i.search(np.full(6, np.nan)), "6 NaN"),
    (lambda i: i.search([]), "no query"),
    (lambda i: i.search(np.ones((2, 2, 6))), "shape"),
    (lambda i: i.search("song 01 ä", 0), "at least one"),
    (lambda i: ClipIndex.build(CLIPS, VECTORS[:5]), "one vector a clip"),
    (lambda i: ClipIndex.build(CLIPS.rename(columns={"clip": "id"}), VECTORS), "no column `clip`"),
    (lambda i: ClipIndex.build(CLIPS.iloc[:0], VECTORS[:0]), "one vector a clip"),
    (lambda i: ClipIndex.build(TWICE, np.vstack([VECTORS] * 2)), "more than once"),
    (lambda i: ClipIndex.build(CLIPS, INFINITE), "song 09"),
    (lambda i: ClipIndex.build(CLIPS, VECTORS, "whiten"), "none, center, zscore"),
    (lambda i: ClipIndex.build(CLIPS[["clip"]], VECTORS).search("song 01 ä", other_artists=True), "a column `artist`")])
def test_errors_say_what_to_do(attempt, said):
    with pytest.raises(VocalrepError, match=said):
        attempt(ClipIndex.build(CLIPS, VECTORS))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 40), st.integers(1, 8), st.integers(0, 10_000))
def test_nearest_by_brute_force(count, dimensions, seed):
    vectors = np.random.default_rng(seed).normal(size=(count, dimensions + 1))
    assert nearest_clips(vectors).tolist() == [by_hand(vectors.astype(np.float32), row)[0] for row in range(count)]


def test_blocks_and_chosen_queries():
    vectors = rng.normal(size=(1300, 4))
    whole = nearest_clips(vectors)
    rows = rng.permutation(1300)[:700]
    assert (nearest_clips(vectors, rows) == whole[rows]).all() and (whole != np.arange(1300)).all()


def test_overlap():
    a, b, c = rng.normal(size=(3, 200, 16))
    table = retrieval_overlap(dict(A=a, B=b, C=c, twin=5 * a))
    assert np.allclose(table, table.T) and (np.diag(table) == 1).all()
    assert table.loc["A", "twin"] == 1 and table.loc["A", "B"] < 0.05
    expected = np.mean([by_hand(a, i)[0] == by_hand(a + 0.3 * b, i)[0] for i in range(200)])
    assert retrieval_overlap(dict(A=a, mixed=a + 0.3 * b)).loc["A", "mixed"] == pytest.approx(expected)
    tidy = stack_overlaps(dict(mixture=table))
    assert len(tidy) == 16
    assert tidy.set_index(["condition", "system", "other"]).share["mixture", "B", "C"] == table.loc["B", "C"]
    for wrong in (dict(A=a, B=b[:9]), {}, dict(A=a * np.nan), dict(A=a[:1])):
        with pytest.raises(VocalrepError):
            retrieval_overlap(wrong)
