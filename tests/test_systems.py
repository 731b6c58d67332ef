"Systems by name: what is missing is trained once, and nothing is mistaken for another."
import dataclasses
import shutil

import pytest
import torch

import vocalrep.data.fragments
from vocalrep.data.corpora import studio_corpus
from vocalrep.data.prepare import prepare
from vocalrep.papers.cvsm.paper import PAPER as CVSM
from vocalrep.papers.singer_identity.paper import PAPER as SINGERS
from vocalrep.papers.singer_identity import variants as singer_records
from vocalrep.project import VocalrepError, write_json
from vocalrep.report.systems import System, describe, find_systems, score_run, system_of_run
from vocalrep.training.runs import Run, run_folder

NAMES = ["COLA", "CVSM-AH", "mean MFCC"]


def with_presets(paper, *presets):
    "A paper with these presets only."
    return dataclasses.replace(paper, presets_of=lambda protocol: {preset.name: preset for preset in presets})


@pytest.fixture(scope="module")
def paper(tiny):
    "CVSM, with a preset `smoke` of four small steps."
    return with_presets(CVSM, tiny)


@pytest.fixture(scope="module")
def systems(store, paper):
    return find_systems(paper, store, "smoke", seeds=2, names=NAMES, device="cpu", progress=False)


def test_missing_runs_are_trained_and_finished_ones_reused(store, paper, systems):
    again = find_systems(paper, store, "smoke", seeds=2, names=NAMES, device="cpu", progress=False)
    assert [s.origin for s in systems[:-1]] == ["trained now"] * 4
    assert [s.origin for s in again[:-1]] == ["a finished run"] * 4
    assert [(s.name, s.seed, s.identity) for s in again] == [(s.name, s.seed, s.identity) for s in systems]
    assert [(s.name, s.seed) for s in again] == [("COLA", 0), ("COLA", 1), ("CVSM-AH", 0), ("CVSM-AH", 1),
                                                 ("mean MFCC", 0)]
    assert len({s.identity for s in systems}) == 5
    assert "- **COLA**: trained now, trained on studio, seed 0, 1\n" in describe(systems).data


def test_another_protocol_is_another_training(store, paper, systems):
    other = find_systems(paper, store, "smoke", names=["COLA"], protocol="paper", device="cpu", progress=False)[0]
    assert other.identity != systems[0].identity
    assert (systems[0].make("cpu").level, other.make("cpu").level) == ("unit-norm", "recorded")


def test_unknown_systems_are_named(store):
    with pytest.raises(VocalrepError, match="unknown system 'CVSM-X'.*CVSM-AH"):
        find_systems(CVSM, store, names=["CVSM-X"])
    with pytest.raises(VocalrepError, match="unknown system 'COLA'.*" + SINGERS.systems[-1]):
        find_systems(SINGERS, store, names=["COLA"])


@pytest.mark.parametrize("left", [(), ("config.json",), ("summary.json",)])
def test_an_unfinished_run_is_no_system(tmp_path, left):
    for name in left:
        (tmp_path / name).write_text("{}")
    with pytest.raises(VocalrepError, match="no finished run"):
        system_of_run(Run(tmp_path))


def test_a_run_of_another_corpus_is_refused(paper, mixed, systems, tmp_path):
    other = prepare(studio_corpus(artists=12, clips=2, seconds=5.0), tmp_path / "other", mixed, workers=1,
                    progress=False)
    with pytest.raises(VocalrepError, match="another run"):
        find_systems(paper, other, "smoke", names=["COLA"], device="cpu", progress=False)


def test_what_cannot_be_had_is_listed_with_the_reason():
    assert describe([System("MERT", None, origin="no weights")]).data == "- MERT: not run. no weights"


def test_a_run_is_scored_beside_its_untrained_twin(store, systems):
    run = Run(run_folder("COLA", "studio", "smoke"))
    table = score_run(run, store, None, per_clip=1)
    assert list(dict.fromkeys(table.system)) == ["COLA", "untrained", "mean MFCC"] and len(table) == 3 * 2 * 3
    assert set(table.condition) == {"mixture", "vocals"} and table.eer.between(0, 1).all()
    floor, again = (score_run(run, store, None, per_clip=1).query("system == 'untrained'").eer for _ in range(2))
    assert floor.tolist() == again.tolist()


# ---- baselines ----

def test_a_run_is_not_judged_on_artists_whom_it_met(store, paper, systems, tmp_path):
    run = Run(shutil.copytree(run_folder("CVSM-AH", "studio", "smoke"), tmp_path / "run"))
    met = run.summary["trained_on"]
    assert met["artists"] == store.artists_of("train") and not set(met["artists"]) & set(store.artists_of("test"))
    met["artists"] = [*met["artists"], store.artists_of("test")[0]]
    write_json(run.folder / "summary.json", {**run.summary, "trained_on": met})
    with pytest.raises(VocalrepError, match="1 test artists of .* were met in the training of .*splits="):
        score_run(run, store)
    assert len(score_run(run, store, None, per_clip=1))                          # all clips, where one asks for them


def test_systems_without_training(dry):
    store = dry([(f"singer {i}", "test", 8.5) for i in range(2)])
    options = dict(preset="smoke", seed=3, device="cpu", progress=False)
    found = find_systems(SINGERS, store, seeds=2, names=["mean MFCC", "H/ASP", "untrained"], **options)
    assert [(s.name, s.seed) for s in found] == [("mean MFCC", 0), ("H/ASP", 0), ("untrained", 3), ("untrained", 4)]
    assert found[1].make is None and "h-asp" in found[1].origin.lower()
    assert {s.make("cpu").level for s in found if s.make} == {"peak"}
    first, again, second = (s.make("cpu") for s in (found[2], found[2], found[3]))
    waves = torch.randn(2, 44_100)
    with torch.no_grad():
        assert torch.equal(first(waves), again(waves)) and not torch.equal(first(waves), second(waves))
    other = find_systems(SINGERS, store, names=["untrained"], protocol="paper", **options)
    assert len({s.identity for s in (*found[2:], *other)}) == 3 and other[0].make("cpu").spec["bands"] == 80


def test_systems_of_dry_voices_are_trained_once(dry, tiny_singer, monkeypatch):
    smoke = dataclasses.replace(tiny_singer, steps=1, step_pairs=2, batch=2)

    def variants(protocol, preset):
        "Pitch would be shifted on the way; here nothing is."
        return singer_records.variants(protocol, dataclasses.replace(preset, name="paper"))

    monkeypatch.setattr(vocalrep.data.fragments, "prefetch_augmented", lambda blocks, *_: blocks)
    paper = dataclasses.replace(with_presets(SINGERS, smoke), variants_of=variants)
    store = dry([(f"s{i}", split, 4.1) for i, split in enumerate(["train"] * 3 + ["valid"] * 2)])
    first, again = (find_systems(paper, store, "smoke", names=["UNIF"], device="cpu", progress=False)[0]
                    for _ in range(2))
    assert (first.origin, again.origin) == ("trained now", "a finished run") and first.identity == again.identity
    assert (first.trained_on, first.rate, first.seconds) == ("dry", 44100, again.seconds)
    assert first.make("cpu").spec["kind"] == "singer" and first.make("cpu").level == "peak"
