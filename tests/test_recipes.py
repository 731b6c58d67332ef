"Recipes: teachers by hand, augmentation that does not depend on workers or interruptions, and which weights stay in the end."
import copy
import dataclasses
import math
import os

import numpy as np
import pandas as pd
import pytest
import torch

import vocalrep.training.recipes as room
import vocalrep.training.loop as training
from vocalrep.data.augment import PitchShift, prefetch_augmented, without_pitch
from vocalrep.models.encoders import SingerEncoder
from vocalrep.models.adapters import Listener
from vocalrep.training.methods import BYOLObjective
from vocalrep.data.shifted_pitch import open_pool
from vocalrep.project import VocalrepError, find_preset
from vocalrep.training.recipes import ExcerptRecipe, FragmentRecipe, Learner, TaughtLearner, make_recipe
from vocalrep.data.sampling import mix, peak_normalize
from vocalrep.training.loop import TrainingState, load_checkpoint, save_checkpoint, train
from vocalrep.training.variants import PROTOCOLS, SINGER_PROTOCOLS, SINGER_VARIANTS, VARIANTS

SECOND = 44_100
TRACKS = [(f"singer {i}", "train", 1.2 + 0.6 * i) for i in range(8)] + [(f"new {i}", "valid", 4.5) for i in range(6)]


def protocol(name="released", pitch=False, **fields):
    "A protocol whose fragments last half a second, with pitch shifting or without."
    p = SINGER_PROTOCOLS[name]
    return dataclasses.replace(p, samples=SECOND // 2, **{"augmentations": p.augmentations if pitch else without_pitch(p.augmentations), **fields})


def preset(**fields):
    "Four batches in two steps; pitch is shifted while training goes on."
    return dataclasses.replace(find_preset("smoke", "singer_identity"), **{**dict(steps=2, step_pairs=8, batch=4, validate_every=1, patience=2, shifted_clips=None), **fields})


@pytest.fixture(scope="module")
def voices(dry):
    return dry(TRACKS)


def recipe(voices, variant="CONT", reading=protocol(), **fields):
    return FragmentRecipe(SINGER_VARIANTS[variant], reading, preset(**fields), voices)


def same(a, b):
    "Whether two nests of tensors and plain values are equal bit for bit."
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


# ---- the teacher ----

@pytest.fixture
def taught():
    torch.manual_seed(0)
    return TaughtLearner(SingerEncoder("small-cnn", bands=40, scaling="fixed"), BYOLObjective(), momentum=0.9)


def waves(n=6):
    "Noises, each of its own colour."
    white = torch.fft.rfft(torch.randn(n, 12_000, generator=torch.Generator().manual_seed(0)))
    slope = torch.linspace(0, 2, n)[:, None]
    return peak_normalize(torch.fft.irfft(white / torch.arange(1, 6002) ** slope))


def test_the_teacher_follows_as_if_by_hand(taught):
    names = [n for n, _ in Learner(taught.encoder, taught.objective).named_parameters()]
    assert "objective.predict.0.weight" in names and names == [n for n, _ in taught.teacher.named_parameters()]
    by_hand = {n: p.detach().clone() for n, p in taught.teacher.named_parameters()}
    for k in range(4):
        progress = k / 4
        with torch.no_grad():
            for p in (*taught.encoder.parameters(), *taught.objective.parameters()):
                p += 0.1 * torch.randn_like(p)
        tau = 1 - 0.1 * (math.cos(math.pi * progress) + 1) / 2
        student = dict(Learner(taught.encoder, taught.objective).named_parameters())
        by_hand = {n: tau * by_hand[n] + (1 - tau) * student[n].detach() for n in names}
        taught.follow(progress)
        for n, p in taught.teacher.named_parameters():
            torch.testing.assert_close(p, by_hand[n], atol=1e-6, rtol=1e-5)
    before = copy.deepcopy(taught.teacher.state_dict())
    taught.follow(1.0)                                                       # at the end it stands still
    assert same(before, taught.teacher.state_dict())


def test_no_gradient_reaches_the_teacher(taught, voices):
    out = taught(*waves().chunk(2))
    out["loss"].backward()
    assert all(p.grad is None and not p.requires_grad for p in taught.teacher.parameters())
    assert all(p.grad is not None for p in (*taught.encoder.parameters(), *taught.objective.parameters()))
    learner = recipe(voices, "BYOL").learner()
    optimised = {id(p) for group in recipe(voices, "BYOL").optimizer(learner, 1e-3).param_groups for p in group["params"]}
    assert optimised == {id(p) for p in (*learner.encoder.parameters(), *learner.objective.parameters())}


def test_the_teachers_statistics_are_its_own(taught):
    assert all(same(t, s) for t, s in zip(taught.teacher.encoder.buffers(), taught.encoder.buffers(), strict=True))
    with torch.no_grad():
        for p in taught.encoder.parameters():
            p *= 1.5
        taught.train()(*waves().chunk(2))
    theirs, ours = ({n: b.clone() for n, b in m.named_buffers() if n.endswith(("mean", "var"))} for m in (taught.teacher.encoder, taught.encoder))
    moved = [n for n in theirs if not torch.allclose(theirs[n], ours[n])]
    assert moved and any(theirs[n].any() for n in moved)                     # both have seen the batch, each with its own weights
    taught.follow(0.0)
    assert all(torch.equal(b, theirs[n]) for n, b in taught.teacher.encoder.named_buffers() if n in theirs)
    assert any(torch.equal(t, s) is False for t, s in zip(taught.teacher.objective.predict[1].buffers(), taught.objective.predict[1].buffers()))


def test_the_student_predicts_what_the_teacher_says_of_the_other_view(taught):
    with torch.no_grad():
        for p in taught.teacher.parameters():
            p += 0.02 * torch.randn_like(p)
    taught.eval()
    first, second = waves().chunk(2)
    said = lambda x: taught.objective.predict(taught.objective.project(taught.encoder(x)))
    target = lambda x: taught.teacher.objective.project(taught.teacher.encoder(x))
    expected = ((said(first) - target(second)) ** 2).mean() / 2 + ((said(second) - target(first)) ** 2).mean() / 2
    torch.testing.assert_close(taught(first, second)["loss"], expected)
    assert not torch.isclose(expected, ((said(first) - target(first)) ** 2).mean(), rtol=1e-3)       # not of the same view


def test_schedules(voices):
    byol = recipe(voices, "BYOL")
    full = preset().learning_rate * 0.3
    for progress in np.linspace(0, 1, 41):
        expected = progress / 0.01 if progress < 0.01 else (1 + math.cos(math.pi * (progress - 0.01) / 0.99)) / 2
        assert byol.rate_at(progress) == pytest.approx(full * expected)
    assert byol.rate_at(0.005) == pytest.approx(full / 2)
    assert recipe(voices, "BYOL", protocol("paper")).rate_at(0.3) is None and recipe(voices, "CONT").rate_at(0.3) is None
    published = FragmentRecipe(SINGER_VARIANTS["BYOL"], SINGER_PROTOCOLS["released"], find_preset("paper", "singer_identity"), None)
    assert published.rate_at(0.01) == pytest.approx(3e-5)                    # section 4.5
    for variant, rate, decay in (("CONT", 1e-4, 1e-5), ("BYOL", 3e-5, 1.5e-6)):
        (group,) = recipe(voices, variant).optimizer(recipe(voices, variant).learner(), 1e-4).param_groups
        assert (group["lr"], group["weight_decay"]) == pytest.approx((rate, decay))


def test_a_run_has_the_rate_of_its_schedule(voices, monkeypatch):
    import lightning.fabric as lf
    state = TrainingState(SINGER_VARIANTS["BYOL"], protocol(), preset(steps=4), voices, seed=0)
    rates, follows = [], []
    monkeypatch.setattr(state.optimizer, "step", lambda *_, **__: rates.append(state.optimizer.param_groups[0]["lr"]))
    monkeypatch.setattr(state.learner, "follow", follows.append)
    for state.step in (0, 3):
        training.train_step(state, state.learner, lf.Fabric(accelerator="cpu", devices=1), state.optimizer)
    assert follows == [0.0, 1 / 8, 6 / 8, 7 / 8]                             # two batches in each of four steps
    assert rates == pytest.approx([state.recipe.rate_at(p) for p in follows])


# ---- batches ----

def plain(voices, layers, samples=SECOND // 2):
    return peak_normalize(mix(voices, layers, samples))


def test_without_a_seed_fragments_are_as_they_were_sung(voices):
    some = recipe(voices, step_pairs=40, batch=8)
    some.block = 3                                                           # that divides nothing
    pairs = some.sampler("train", 0, 0).step()
    batches = list(some.batches(pairs))
    assert [a.shape for a, _ in batches] == [(8, SECOND // 2)] * 5
    assert torch.equal(torch.cat([a for a, _ in batches]), plain(voices, pairs.anchor)) and torch.equal(torch.cat([p for _, p in batches]), plain(voices, pairs.positive))
    for rank in range(2):                                                    # half of each batch
        shares = list(some.batches(pairs, rank, 2))
        assert all(torch.equal(a[0], b[0][4 * rank:4 * rank + 4]) and torch.equal(a[1], b[1][4 * rank:4 * rank + 4]) for a, b in zip(shares, batches, strict=True))


def test_validation_has_no_augmentation(voices, monkeypatch):
    import lightning.fabric as lf
    monkeypatch.setattr(room, "prefetch_augmented", None)                    # would be called
    state = TrainingState(SINGER_VARIANTS["CONT"], protocol(pitch=True), preset(), voices, seed=0)
    heard = []
    state.learner.register_forward_pre_hook(lambda module, inputs: heard.append(inputs))
    row = training.validate(state, state.learner, lf.Fabric(accelerator="cpu", devices=1), None)
    again = training.validate(state, state.learner, lf.Fabric(accelerator="cpu", devices=1), None)
    names = set(voices.segments["clip"].iloc[state.validation.anchor[0].rows])
    assert len(names) == 4 and all(name.startswith("new") for name in names) and row == again
    ((anchor, positive),) = heard[:1]
    assert torch.equal(anchor, plain(voices, state.validation.anchor)) and torch.equal(positive, plain(voices, state.validation.positive))


def test_validation_with_few_tracks_takes_a_smaller_batch(voices):
    few = recipe(voices, step_pairs=16, batch=8)
    pairs = few.sampler("valid", 0, 1).step()
    assert len(pairs) == 6 and [a.shape[0] for a, _ in few.batches(pairs)] == [6]
    some = recipe(voices, batch=4)
    assert len(some.sampler("valid", 0, 1).step()) == 4                      # whole batches only


def test_a_corpus_without_validation_tracks_is_one_error(dry):
    with pytest.raises(VocalrepError, match="valid"):
        TrainingState(SINGER_VARIANTS["CONT"], protocol(), preset(), dry([(f"s{i}", "train", 2.0) for i in range(4)]), seed=0)


def test_augmentation_does_not_depend_on_workers_nor_on_interruptions(voices, monkeypatch):
    from joblib.externals.loky import get_reusable_executor
    some = recipe(voices, reading=protocol(pitch=True), step_pairs=6, batch=3)
    sampler = some.sampler("train", 0, 5)
    sampler.step()
    state, pairs = sampler.state(), sampler.step()
    count = []

    def spied(sides, rate, chain, rng, workers, ahead):
        count.append(workers)
        return prefetch_augmented(sides, rate, chain, rng, workers, ahead)
    monkeypatch.setattr(room, "prefetch_augmented", spied)
    with_workers = list(some.batches(pairs, seed=[5, 1]))
    assert count == [max((os.cpu_count() or 2) - 1, 1)] and len(with_workers) == 2
    get_reusable_executor(reuse=True).shutdown(wait=True)
    sides = ((plain(voices, part.anchor), plain(voices, part.positive)) for part in (pairs[:3], pairs[3:]))
    alone = list(prefetch_augmented(sides, SECOND, some.chain, np.random.default_rng([5, 1, 0]), workers=0))
    assert same(with_workers, alone) and any(isinstance(t, PitchShift) for t in some.chain)

    monkeypatch.setattr(room, "prefetch_augmented", lambda *a: prefetch_augmented(*a[:4], 0, a[5]))
    resumed = recipe(voices, reading=protocol(pitch=True), step_pairs=6, batch=3)
    again = resumed.sampler("train", 0, 5)
    again.restore(state)
    assert same(list(resumed.batches(again.step(), seed=[5, 1])), alone)
    begun = resumed.batches(pairs, seed=[5, 1])                              # and a generator that was left in the middle changes nothing
    next(begun)
    begun.close()
    assert same(list(resumed.batches(pairs, seed=[5, 1])), alone)


def test_each_step_each_rank_and_each_side_is_augmented_by_itself(voices):
    some = recipe(voices, step_pairs=8, batch=8)
    pairs = some.sampler("train", 0, 0).step()
    pairs = dataclasses.replace(pairs, positive=pairs.anchor)                # the same fragment twice
    (a, b), = some.batches(pairs, seed=[0, 0])
    assert not torch.equal(a, b) and not torch.equal(a, plain(voices, pairs.anchor))
    (other, _), = some.batches(pairs, seed=[0, 1])
    assert not torch.equal(a, other)
    twice = pairs[[0, 1, 2, 3, 0, 1, 2, 3]]                                  # two ranks with the same four fragments
    (first, _), (second, _) = (next(some.batches(twice, rank, 2, [0, 0])) for rank in range(2))
    assert first.shape == second.shape == (4, SECOND // 2) and not torch.equal(first, second)


def test_blocks_do_not_share_their_augmentation(voices):
    some = recipe(voices, step_pairs=8, batch=8)
    some.block = 4
    pairs = some.sampler("train", 0, 0).step()
    pairs = dataclasses.replace(pairs, anchor=tuple(layer[[0] * 8] for layer in pairs.anchor))     # one fragment eight times
    (a, _), = some.batches(pairs, seed=[0, 0])
    assert a.shape == (8, SECOND // 2) and torch.cdist(a[:4], a[4:]).diagonal().max() > 0.1


def test_a_pool_takes_the_place_of_the_pitch_shift(voices):
    pitch = next(t for t in protocol(pitch=True).augmentations if isinstance(t, PitchShift))
    open_pool(voices, pitch, 1, workers=1, progress=False)                   # here rather than in processes of their own
    pooled = recipe(voices, reading=protocol(pitch=True), shifted_clips=1)
    assert not any(isinstance(t, PitchShift) for t in pooled.chain) and pooled.p_shifted == 0.5 and len(pooled.store.clips) == len(voices.clips) + 8
    names = pooled.store.segments["clip"].to_numpy()
    train_rows = np.concatenate([pooled.sampler("train", 0, seed).step().anchor[0].rows for seed in range(20)])
    assert 0.3 < np.mean(["~" in name for name in names[train_rows]]) < 0.7
    valid = pooled.sampler("valid", 0, 1).step()
    assert not any("~" in name for name in names[np.concatenate([valid.anchor[0].rows, valid.positive[0].rows])])
    without = recipe(voices, shifted_clips=1)                                # no pitch shift in the chain: no pool
    assert without.store is voices and without.p_shifted == 0


def test_excerpts_are_never_augmented(store, tiny):
    some = make_recipe(VARIANTS["CVSM-AH"], PROTOCOLS["released"], tiny, store)
    pairs = some.sampler("train", 0, 0).step()
    assert isinstance(some, ExcerptRecipe) and some.keep_best is None and some.rate_at(0.5) is None
    batches = list(some.batches(pairs, seed=[0, 0]))
    assert torch.equal(torch.cat([a for a, _ in batches]), mix(store, pairs.anchor, 16000)) and torch.equal(torch.cat([p for _, p in batches]), mix(store, pairs.positive, 16000))


# ---- what a recipe is made for ----

def test_a_store_of_another_paper_is_one_error(voices, store, tiny, dry):
    with pytest.raises(VocalrepError, match="CONT is trained on vocals at 44100 samples/s, and .* holds vocals, accompaniment at 16000; open the store for the paper 'singer_identity'"):
        make_recipe(SINGER_VARIANTS["CONT"], protocol(), preset(), store)
    with pytest.raises(VocalrepError, match="COLA is trained on vocals and accompaniment at 16000 samples/s, and .* holds vocals at 44100; open the store for the paper 'cvsm'"):
        make_recipe(VARIANTS["COLA"], PROTOCOLS["released"], tiny, voices)
    with pytest.raises(VocalrepError, match="holds vocals at 16000"):
        make_recipe(VARIANTS["COLA"], PROTOCOLS["released"], tiny, dry(TRACKS[:1], 16000))


def test_a_refused_store_claims_no_folder(voices, store, tmp_path):
    with pytest.raises(VocalrepError, match="CONT is trained on vocals at 44100"):
        train("CONT", store, preset(steps=1), protocol=protocol(), out=tmp_path / "run", device="cpu", progress=False)
    assert train("CONT", voices, preset(steps=1), protocol=protocol(), out=tmp_path / "run", device="cpu", progress=False).complete


def test_the_batch_of_the_paper_preset_is_the_protocols(voices):
    whole = find_preset("paper", "singer_identity")
    assert [FragmentRecipe(SINGER_VARIANTS["CONT"], SINGER_PROTOCOLS[name], whole, voices).preset.batch for name in ("paper", "released")] == [120, 140]
    with pytest.raises(VocalrepError, match="a batch of 140 pairs needs 140 vocal tracks"):
        FragmentRecipe(SINGER_VARIANTS["CONT"], SINGER_PROTOCOLS["released"], whole, voices).sampler("train", 0, 0)


@pytest.mark.parametrize("name", SINGER_PROTOCOLS)
def test_learners_follow_the_records(name, voices):
    p = protocol(name)
    for variant in SINGER_VARIANTS.values():
        learner = FragmentRecipe(variant, p, preset(), voices).learner()
        assert learner.encoder.spec == dict(kind="singer", name="small-cnn", bands=p.bands, mel_rate=p.mel_rate, scaling=p.scaling) and learner.objective.reading == p.reading
        assert isinstance(learner, TaughtLearner) == variant.teacher and tuple(getattr(learner.objective, "losses", {}).items()) == variant.losses
        out = learner(*waves(8).chunk(2))
        assert set(out) >= {"loss", "accuracy"} and out["loss"].isfinite()
    heard, scaling = recipe(voices, reading=p).hears(learner.encoder)
    assert isinstance(heard, Listener) and scaling == "recorded" and (heard.rate, heard.seconds) == (44100, 4.0)
    loud, soft = heard.eval()(3 * waves(2)), heard(waves(2))
    torch.testing.assert_close(loud, soft, atol=1e-3, rtol=1e-3)             # fragments are brought to their peak


# ---- which weights stay, when a run ends, and what an interrupted one does ----

def spoil(monkeypatch, after):
    "From some step on, training ruins the encoder. Returns what it was after each step."
    real, seen = training.train_step, []

    def step(state, *arguments, **options):
        row = real(state, *arguments, **options)
        if len(seen) >= after:
            with torch.no_grad():
                for p in state.learner.encoder.parameters():
                    p.zero_()
        seen.append({k: v.clone() for k, v in state.learner.encoder.state_dict().items()})
        return row
    monkeypatch.setattr(training, "train_step", step)
    return seen


def test_the_best_encoder_is_the_one_that_stays(voices, monkeypatch, tmp_path):
    seen = spoil(monkeypatch, after=2)
    run = train("CONT", voices, preset(steps=4), protocol=protocol(), out=tmp_path / "run", device="cpu", progress=False)
    losses = run.history.valid_loss
    assert len(seen) == 4 and losses[:2].max() < losses[2:].min()
    best = int(losses.argmin())
    assert run.summary["kept_step"] == best + 1 and run.summary["step"] == 4
    assert same(dict(run.encoder().state_dict()), seen[best]) and not same(seen[best], seen[-1])


def test_the_best_encoder_survives_an_interruption(voices, monkeypatch, tmp_path):
    state = TrainingState(SINGER_VARIANTS["CONT"], protocol(), preset(), voices, seed=0)
    state.step = 1
    state.keep(dict(valid_loss=1.0))
    kept = copy.deepcopy(state.best)
    with torch.no_grad():
        for p in state.learner.encoder.parameters():
            p.zero_()
    assert same(state.best, kept)                                            # a copy, not a view
    save_checkpoint(tmp_path / "checkpoint.pt", state)
    other = TrainingState(SINGER_VARIANTS["CONT"], protocol(), preset(), voices, seed=9)
    load_checkpoint(tmp_path / "checkpoint.pt", other)
    other.step = 2
    other.keep(dict(valid_loss=1.0))                                         # not better
    assert same(other.best, kept)
    other.keep(dict(valid_loss=0.9))
    assert other.best["step"] == 2 and other.best["value"] == 0.9


def test_what_best_means_follows_the_protocol(voices, store, tiny):
    rows = [dict(valid_loss=1.0, eer_vocals=0.2), dict(valid_loss=2.0, eer_vocals=0.1), dict(valid_loss=0.5, eer_vocals=0.3)]

    def best(variant, reading, store, fields, rows):
        state = TrainingState(variant, reading, fields, store, 0)
        for state.step, row in enumerate(rows, 1):
            state.keep(row)
        return state.best and state.best["step"]
    assert best(SINGER_VARIANTS["CONT"], protocol("released"), voices, preset(), rows) == 3
    assert best(SINGER_VARIANTS["CONT"], protocol("paper"), voices, preset(), rows) == 2
    assert best(SINGER_VARIANTS["CONT"], protocol("paper"), voices, preset(), [{"valid_loss": r["valid_loss"]} for r in rows]) == 3     # too few singers for the early score
    assert best(VARIANTS["COLA"], PROTOCOLS["released"], store, tiny, rows) is None                                                    # CVSM keeps the last


def test_the_paper_stops_when_the_validation_loss_stalls(voices, monkeypatch, tmp_path):
    seen = spoil(monkeypatch, after=1)
    early, late = (train("CONT", voices, preset(steps=5), protocol=protocol("paper", stop_on_plateau=stops), out=tmp_path / str(stops), device="cpu", progress=False) for stops in (True, False))
    assert len(early.history) == 3 and len(late.history) == 5                # a good step, and two (`patience`) without improvement
    assert early.complete and early.summary["step"] == 3 and early.summary["kept_step"] == 1
    assert same(dict(early.encoder().state_dict()), seen[0])
    assert train("CONT", voices, preset(steps=5), protocol=protocol("paper"), out=tmp_path / "True", device="cpu").folder == early.folder and len(seen) == 8      # nothing is trained again


class Killed(BaseException):
    "As sudden as a signal."


def curve(run):
    return run.history.drop(columns="seconds")


@pytest.mark.parametrize("variant", ["BYOL", "VICReg"])
def test_a_killed_run_resumes_to_the_same_curve_and_weights(variant, voices, monkeypatch, tmp_path):
    options = dict(variant=variant, store=voices, preset=preset(steps=4, validate_every=2, step_pairs=4), protocol=protocol(), device="cpu", progress=False)
    whole = train(out=tmp_path / "whole", **options)
    real = training.train_step

    def until_the_third(state, *arguments, **others):
        row = real(state, *arguments, **others)
        if state.step == 2:
            raise Killed
        return row
    monkeypatch.setattr(training, "train_step", until_the_third)
    with pytest.raises(Killed):
        train(out=tmp_path / "killed", **options)
    monkeypatch.setattr(training, "train_step", real)
    assert (tmp_path / "killed" / "checkpoint.pt").exists() and not (tmp_path / "killed" / "summary.json").exists()
    torch.manual_seed(99)
    resumed = train(out=tmp_path / "killed", **options)
    pd.testing.assert_frame_equal(curve(resumed), curve(whole), check_exact=True)
    assert same(dict(resumed.encoder().state_dict()), dict(whole.encoder().state_dict())) and len(whole.history) == 2


def test_a_fresh_byol_state_goes_on_bit_for_bit(voices, tmp_path):
    import lightning.fabric as lf
    fabric = lf.Fabric(accelerator="cpu", devices=1)
    make = lambda seed: TrainingState(SINGER_VARIANTS["BYOL"], protocol(), preset(steps=6), voices, seed)
    states = [make(0)]

    def go(state):
        row = training.train_step(state, state.learner, fabric, state.optimizer)
        state.step += 1
        return row
    for _ in range(2):
        go(states[0])
    file = tmp_path / "checkpoint.pt"
    save_checkpoint(file, states[0])
    random = torch.get_rng_state()                                           # of dropout, which this small network has none of
    states.append(make(0))
    assert not same(dict(states[1].learner.teacher.state_dict()), dict(states[0].learner.teacher.state_dict()))
    torch.manual_seed(7)
    load_checkpoint(file, states[1])
    assert torch.equal(torch.get_rng_state(), random)
    rows = [[go(state) for _ in range(2)] for state in states]
    assert rows[0] == rows[1] and states[0].step == states[1].step == 4
    first, second = (state.state_dict() for state in states)
    assert same(dict(first["learner"]), dict(second["learner"])) and same(first["optimizer"], second["optimizer"]) and same(first["sampler"], second["sampler"])
    assert any(name.startswith("teacher.") and name.endswith("running_mean") for name in first["learner"])
