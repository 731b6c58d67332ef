"Runs: same numbers, resumed numbers, shared numbers; schedules, stages, and which weights stay in the end."
import contextlib
import copy
import dataclasses
import math
import platform
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.fabric import Fabric

import vocalrep.training.loop as loop
from vocalrep.data.augment import without_pitch
from vocalrep.data.corpora import Size
from vocalrep.data.fragments import FragmentSampling
from vocalrep.data.levels import peak_normalize
from vocalrep.data.sampling import mix
from vocalrep.evaluation.early import early_similarity
from vocalrep.papers.cvsm import variants as cvsm
from vocalrep.papers.singer_identity import variants as singers
from vocalrep.models.encoders import save_encoder
from vocalrep.project import VocalrepError, read_json, write_json
from vocalrep.training.loop import TrainingState, enter_stage, keep_best, train, train_step, validate, watch
from vocalrep.training.runs import Run, claim_run, load_checkpoint, make_config, save_checkpoint
from vocalrep.training.variants import Preset, Stage

SECOND = 44_100
TRACKS = [(f"singer {i}", "train", 1.2 + 0.6 * i) for i in range(8)] + [(f"new {i}", "valid", 4.5) for i in range(6)]
PAPERS = dict(cvsm=cvsm, singers=singers)
ALL = [(paper, protocol, name)
       for paper, room in PAPERS.items() for protocol in room.PROTOCOLS for name in room.TRAINED]


def curve(run):
    return run.history.drop(columns="seconds")


def mixed(name, preset, protocol="released", **changes):
    "A variant of CVSM; `changes` are fields of its schedule."
    variant = cvsm.variants(cvsm.PROTOCOLS[protocol], preset)[name]
    return dataclasses.replace(variant, schedule=dataclasses.replace(variant.schedule, **changes))


def sung(name, preset, protocol="released", **changes):
    "A variant of the singer-identity paper on unshifted fragments of half a second."
    variant = singers.variants(singers.PROTOCOLS[protocol], preset)[name]
    chain = without_pitch(variant.stages[0].sampling.augmentations)
    stage = Stage(1, FragmentSampling(SECOND // 2, chain))
    return dataclasses.replace(variant, stages=(stage,), schedule=dataclasses.replace(variant.schedule, **changes))


def short(**fields):
    "Four batches of fragments in two steps."
    sizes = dict(steps=2, step_pairs=8, batch=4, validate_every=1, patience=2)
    return Preset("smoke", Size(30, 3, 8.4), "small-cnn", **{**sizes, **fields})


def learn(variant, store, preset, out, **options):
    options = dict(validator=early_similarity(), device="cpu", progress=False) | options
    return train(variant, store, preset, out=out, **options)


def fabric():
    return Fabric(accelerator="cpu", devices=1)


def same(a, b):
    "Whether two nests of tensors and plain values are equal bit for bit."
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.fixture(autouse=True)
def _no_workers(monkeypatch):
    "Shifted tracks are made in this process: starting others would take longer than the work."
    monkeypatch.setattr("os.cpu_count", lambda: 1)


@pytest.fixture(scope="module")
def voices(dry):
    return dry(TRACKS)


@pytest.fixture(scope="module")
def run(store, tiny, tmp_path_factory):
    return learn(mixed("CVSM-AH", tiny), store, tiny, tmp_path_factory.mktemp("runs") / "AH")


# ---- runs ----

@pytest.mark.parametrize("paper, protocol, name", ALL)
def test_every_variant_leaves_a_complete_run(paper, protocol, name, store, tiny, vocals, tiny_singer, tmp_path):
    small = dataclasses.replace(tiny, steps=2, step_pairs=16)
    mine, preset = dict(cvsm=(store, small), singers=(vocals, tiny_singer))[paper]
    variant = PAPERS[paper].variants(PAPERS[paper].PROTOCOLS[protocol], preset)[name]
    run = learn(variant, mine, preset, tmp_path / "r", protocol=protocol)
    files = ["config.json", "encoder.json", "encoder.safetensors", "history.csv", "summary.json"]
    assert sorted(p.name for p in run.folder.iterdir()) == files
    assert run.config["variant"]["name"] == name and run.config["protocol"] == protocol
    assert run.config["provenance"]["packages"]["torch"]
    encoder = run.encoder()
    assert encoder(torch.randn(2, encoder.samples)).shape == (2, encoder.dim)
    assert encoder.level == variant.stages[0].sampling.scaling
    assert {"train_loss", "valid_loss"} <= set(run.history.columns)
    assert run.history.filter(like="loss").notna().all().all()


def test_the_history_has_its_columns(run):
    assert list(run.history) == ["step", "pairs", "stage", "learning_rate", "train_loss", "train_accuracy",
                                 "valid_loss", "valid_accuracy", "eer_mixture", "eer_vocals", "seconds"]
    assert run.history.step.tolist() == [1, 2, 3, 4] and run.summary["pairs"] == 128


def test_same_seed_same_numbers(run, store, tiny, tmp_path):
    again = learn(mixed("CVSM-AH", tiny), store, tiny, tmp_path / "again")
    other = learn(mixed("CVSM-AH", tiny), store, tiny, tmp_path / "other", seed=1)
    pd.testing.assert_frame_equal(curve(again), curve(run), check_exact=True)
    assert not curve(other).equals(curve(run))


def test_a_validator_changes_nothing_but_its_columns(run, store, tiny, tmp_path):
    alone = learn(mixed("CVSM-AH", tiny), store, tiny, tmp_path / "alone", validator=None)
    both = curve(run).drop(columns=["eer_mixture", "eer_vocals"])
    pd.testing.assert_frame_equal(curve(alone), both, check_exact=True)


@pytest.mark.parametrize("wrong, message", [
    (dict(devices=3), "cannot be shared by 3 devices"), (dict(devices=0), "devices is 0; give a whole number of at"),
    (dict(devices=-1), "devices is -1"), (dict(seed=-1), "seed is -1; give a whole number from 0"),
    (dict(seed=2**32), "seed is 4294967296"), (dict(seed=1.5), "seed is 1.5"), (dict(device="cpu:7"), "device 'cpu:7'"),
    (dict(device="cuda:99"), "device 'cuda:99'")])
def test_wrong_arguments_are_refused_and_claim_no_folder(wrong, message, store, tiny, tmp_path):
    with pytest.raises(VocalrepError, match=message):
        train(mixed("COLA", tiny), store, tiny, out=tmp_path / "r", **{"device": "cpu", **wrong})
    assert not list(tmp_path.iterdir())


# ---- disks, leftovers, losses that are no numbers

def two_steps(tiny):
    return dataclasses.replace(tiny, steps=2, step_pairs=16)


@pytest.fixture
def full_disk():
    "Inside, no file can grow beyond a number of bytes: the file system's own error, wherever it is written from."
    import resource
    import signal
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    @contextlib.contextmanager
    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    yield limit
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_one_error_and_training_goes_on_later(store, tiny, full_disk, tmp_path):
    preset = two_steps(tiny)
    for size, file in ((500_000, "checkpoint.pt"), (500, "config.json")):
        with full_disk(size), pytest.raises(VocalrepError, match=f"cannot write .*{file}: .*; free some space"):
            learn(mixed("COLA", preset), store, preset, tmp_path / file)
        assert not list(tmp_path.rglob(".*"))
        assert learn(mixed("COLA", preset), store, preset, tmp_path / file).complete


def test_saving_an_encoder_on_a_full_disk_is_one_error(run, full_disk, tmp_path):
    encoder = run.encoder()
    with full_disk(10_000), pytest.raises(VocalrepError, match="cannot write .*encoder.safetensors: .*; free some"):
        save_encoder(encoder, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_place_where_nothing_can_be_written_is_one_error(store, tiny, tmp_path):
    (tmp_path / "a file").touch()
    with pytest.raises(VocalrepError, match="choose another folder"):
        learn(mixed("COLA", tiny), store, tiny, tmp_path / "a file" / "run")


def test_what_a_killed_training_left_is_cleared(store, tiny, tmp_path):
    preset, dead = two_steps(tiny), subprocess.Popen(["true"])
    dead.wait()
    left = tmp_path / "r" / f".checkpoint~{platform.node()}~{dead.pid}~0123abcd.pt"
    left.parent.mkdir()
    left.write_bytes(bytes(1000))
    learn(mixed("COLA", preset), store, preset, tmp_path / "r")
    assert not left.exists() and not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("spoilt", ["loss", "weights"])
def test_a_loss_that_is_no_number_names_run_step_and_remedy(spoilt, store, tiny, monkeypatch, tmp_path):
    preset, real = two_steps(tiny), loop.train_step

    def spoil_weights(state, *arguments, **options):
        "The last update leaves no numbers."
        row = real(state, *arguments, **options)
        with torch.no_grad():
            next(state.method.encoder.parameters()).fill_(math.nan)
        return row
    if spoilt == "weights":
        monkeypatch.setattr(loop, "train_step", spoil_weights)
    else:
        monkeypatch.setattr(torch.optim.Adam, "step", lambda self, closure=None: [
            p.data.fill_(math.inf) for group in self.param_groups for p in group["params"]])
    with pytest.raises(VocalrepError, match="r: the loss became nan at step [01]; learning diverged: lower the"):
        learn(mixed("COLA", preset), store, preset, tmp_path / "r")
    assert not (tmp_path / "r" / "summary.json").exists()


def test_an_encoder_of_no_numbers_is_neither_saved_nor_loaded(run, tmp_path):
    encoder = run.encoder()
    with torch.no_grad():
        next(encoder.parameters()).fill_(math.nan)
    with pytest.raises(VocalrepError, match="encoder.safetensors: .* weights are not finite"):
        save_encoder(encoder, tmp_path)
    shutil.copytree(run.folder, tmp_path / "r")
    from safetensors.torch import save_file
    save_file({k: v.contiguous() for k, v in encoder.state_dict().items()}, tmp_path / "r/encoder.safetensors")
    spec = read_json(tmp_path / "r/encoder.json")
    write_json(tmp_path / "r/encoder.json", {k: v for k, v in spec.items() if k != "sha256"})
    with pytest.raises(VocalrepError, match="encoder.safetensors: .* weights are not finite"):
        Run(tmp_path / "r").encoder()


def test_a_flipped_bit_in_an_encoder_is_noticed(run, tmp_path):
    shutil.copytree(run.folder, tmp_path / "r")
    file = tmp_path / "r/encoder.safetensors"
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    with pytest.raises(VocalrepError, match="encoder.safetensors: its bytes are not those that were saved"):
        Run(tmp_path / "r").encoder()


def test_several_devices_are_another_run(store, tiny, tmp_path):
    variant = mixed("COLA", tiny)
    one, two = (make_config(variant, tiny, store, 0, devices=devices) for devices in (1, 2))
    assert "devices" not in one and two == one | dict(devices=2)
    claim_run(tmp_path, one)
    with pytest.raises(VocalrepError, match="devices: None there, 2 now"):
        claim_run(tmp_path, two)


# ---- schedules and stages ----

def test_a_plateau_halves_the_rate_where_the_schedule_says_so(store, tiny):
    for protocol, expected in (("paper", 1e-3), ("released", 2e-3)):
        state = TrainingState(mixed("COLA", tiny, protocol), tiny, store, 0)
        for state.step, loss in enumerate((3.0, 3.5, 3.5), start=1):
            watch(state, loss)
        assert state.optimizer.param_groups[0]["lr"] == expected


def test_halving_as_if_by_hand(store, tiny):
    "The running average, its best, and the step of the best; halved after `patience` steps, then waiting anew."
    preset = dataclasses.replace(tiny, patience=5, validate_every=2)
    losses = np.random.default_rng(0).normal(3, 0.5, 60)
    state = TrainingState(mixed("COLA", preset, "paper"), preset, store, 0)
    rate, average, best, since = 2e-3, None, None, 0
    for k, loss in enumerate(losses, start=1):
        state.step = 2 * k
        watch(state, loss)
        average = loss if average is None else 0.9 * average + 0.1 * loss
        if best is None or average < best:
            best, since = average, state.step
        if state.step - since >= 5:
            rate, since = rate / 2, state.step
        assert state.optimizer.param_groups[0]["lr"] == rate
    assert rate < 2e-3


def test_stages_begin_as_the_schedule_says(store, tiny):
    for protocol, fresh, rate in (("paper", False, 2e-3), ("released", True, 5e-4)):
        state = TrainingState(mixed("CVSM-AF", tiny, protocol), tiny, store, 0)
        before = state.optimizer
        state.step = 3
        assert enter_stage(state) == fresh and (state.optimizer is not before) == fresh
        assert state.optimizer.param_groups[0]["lr"] == rate
        (vocals, accompaniment), _ = state.sampler.step().views
        assert (vocals.rows == accompaniment.rows).all()                                # real mixtures only


def test_the_reduction_scales_the_gradient(store, tiny):
    norms, one = {}, dataclasses.replace(tiny, step_pairs=16)
    for reduction in ("mean", "sum"):
        state = TrainingState(mixed("MSCOL", one, reduction=reduction), one, store, 0)
        train_step(state, state.method, fabric(), state.optimizer)
        norms[reduction] = torch.cat([p.grad.flatten() for p in state.method.parameters()]).norm()
    assert torch.isclose(norms["sum"], 16 * norms["mean"], rtol=1e-3)


def expected_rate(progress, full=3e-4, start=0.01):
    "Warm-up, then half a cosine."
    if progress < start:
        return full * progress / start
    return full * (1 + math.cos(math.pi * (progress - start) / (1 - start))) / 2


def test_a_run_has_the_rate_of_its_schedule(voices, monkeypatch):
    preset = short(steps=4)
    state = TrainingState(sung("BYOL", preset), preset, voices, seed=0)
    rates, updates = [], []
    state.optimizer.register_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    monkeypatch.setattr(state.method, "after_update", updates.append)
    for state.step in range(4):
        train_step(state, state.method, fabric(), state.optimizer)
    assert updates == [k / 8 for k in range(8)]                              # two batches in each of four steps
    assert rates == pytest.approx([expected_rate(p) for p in updates])


def test_without_a_schedule_the_rate_is_constant(voices):
    for name, protocol, rate, decay in (("CONT", "released", 1e-3, 1e-5), ("BYOL", "paper", 3e-4, 1.5e-6)):
        state = TrainingState(sung(name, short(), protocol), short(), voices, seed=0)
        assert state.scheduler is None
        groups = state.optimizer.param_groups
        assert [g["lr"] for g in groups] == pytest.approx([rate, rate])
        assert [g["weight_decay"] for g in groups] == [decay, decay]


def test_the_optimiser_has_all_but_the_teacher(voices):
    state = TrainingState(sung("BYOL", short()), short(), voices, seed=0)
    optimised = {id(p) for group in state.optimizer.param_groups for p in group["params"]}
    method = state.method
    assert optimised == {id(p) for part in (method.encoder, method.project, method.predict) for p in part.parameters()}


# ---- validation ----

def test_validation_has_no_augmentation(voices, monkeypatch):
    import vocalrep.data.fragments as room
    monkeypatch.setattr(room, "prefetch_augmented", None)                    # would be called
    state, heard = TrainingState(sung("CONT", short()), short(), voices, seed=0), []
    state.method.register_forward_pre_hook(lambda module, inputs: heard.append(inputs[0]))
    assert validate(state, state.method, fabric()) == validate(state, state.method, fabric())
    draw = state.validation_draw
    names = set(voices.segments["clip"].iloc[draw.views[0][0].rows])
    assert len(names) == 4 and all(name.startswith("new") for name in names)
    for view, layers in zip(heard[0].views, draw.views, strict=True):
        assert torch.equal(view, peak_normalize(mix(voices, layers, SECOND // 2)))


def test_artists_with_one_clip_train_but_have_no_early_score(tiny, tmp_path):
    from vocalrep.data.corpora import studio_corpus
    from vocalrep.data.prepare import prepare
    corpus = studio_corpus(artists=20, clips=1, seconds=5.0)
    single = prepare(corpus, tmp_path / "store", cvsm.SOUND, workers=1, progress=False)
    preset = dataclasses.replace(tiny, steps=1, step_pairs=16)
    run = learn(mixed("CVSM-ART", preset), single, preset, tmp_path / "r")
    assert run.complete and "eer_mixture" not in run.history


# ---- what cannot be trained ----

def test_a_corpus_without_validation_tracks_is_one_error(dry):
    with pytest.raises(VocalrepError, match="valid"):
        TrainingState(sung("CONT", short()), short(), dry([(f"s{i}", "train", 2.0) for i in range(4)]), seed=0)


def test_a_corpus_without_vocals_is_one_error(store, tiny, tmp_path):
    from vocalrep.data.store import Store
    silent = Store(store.folder)
    silent.segments["active_vocals"] = False
    with pytest.raises(VocalrepError, match="no segment with vocals in the train split"):
        learn(mixed("MSCOL", tiny), silent, tiny, tmp_path / "r")


def test_another_run_in_the_same_folder_is_refused(run, store, tiny):
    with pytest.raises(VocalrepError, match="holds another run.*seed: 0 there, 3 now"):
        learn(mixed("CVSM-AH", tiny), store, tiny, run.folder, seed=3)
    with pytest.raises(VocalrepError, match="protocol"):
        learn(mixed("CVSM-AH", tiny, "paper"), store, tiny, run.folder, protocol="paper")


def test_a_store_of_another_sound_is_refused_and_claims_no_folder(voices, store, tiny, dry, tmp_path):
    with pytest.raises(VocalrepError, match="CONT is trained on vocals at 44100 .* vocals, accompaniment at 16000"):
        learn(sung("CONT", short()), store, short(), tmp_path / "run")
    with pytest.raises(VocalrepError, match="COLA is trained on vocals and accompaniment at 16000 .* vocals at 44100"):
        learn(mixed("COLA", tiny), voices, tiny, tmp_path / "run")
    with pytest.raises(VocalrepError, match="holds vocals at 16000"):
        learn(mixed("COLA", tiny), dry(TRACKS[:1], 16000), tiny, tmp_path / "run")
    assert learn(sung("CONT", short(steps=1)), voices, short(steps=1), tmp_path / "run").complete


def test_levels_that_do_not_match_are_one_error(store, tiny):
    variant = mixed("COLA", tiny)
    other = dataclasses.replace(variant, encoder={**variant.encoder, "level": "peak"})
    with pytest.raises(VocalrepError, match="waveforms of level 'unit-norm', and its encoder expects 'peak'"):
        TrainingState(other, tiny, store, seed=0)


def test_keeping_the_best_of_a_score_needs_a_validator(voices):
    with pytest.raises(VocalrepError, match="'eer_vocals', and nothing computes it"):
        train(sung("CONT", short(), "paper"), voices, short())


# ---- which weights stay, when a run ends, and what an interrupted one does ----

def spoil(monkeypatch, after):
    "From some step on, training ruins the encoder. Returns what it was after each step."
    real, seen = loop.train_step, []

    def step(state, *arguments, **options):
        row = real(state, *arguments, **options)
        if len(seen) >= after:
            with torch.no_grad():
                for p in state.method.encoder.parameters():
                    p.zero_()
        seen.append({k: v.clone() for k, v in state.method.encoder.state_dict().items()})
        return row
    monkeypatch.setattr(loop, "train_step", step)
    return seen


def test_the_best_encoder_is_the_one_that_stays(voices, monkeypatch, tmp_path):
    seen, preset = spoil(monkeypatch, after=2), short(steps=4)
    run = learn(sung("CONT", preset), voices, preset, tmp_path / "run")
    losses = run.history.valid_loss
    assert len(seen) == 4 and losses[:2].max() < losses[2:].min()
    best = int(losses.argmin())
    assert run.summary["kept_step"] == best + 1 and run.summary["step"] == 4
    assert same(dict(run.encoder().state_dict()), seen[best]) and not same(seen[best], seen[-1])


def test_the_best_encoder_survives_an_interruption(voices, tmp_path):
    state = TrainingState(sung("CONT", short()), short(), voices, seed=0)
    state.step = 1
    keep_best(state, dict(valid_loss=1.0))
    kept = copy.deepcopy(state.best)
    with torch.no_grad():
        for p in state.method.encoder.parameters():
            p.zero_()
    assert same(state.best, kept)                                            # a copy, not a view
    config = make_config(state.variant, state.preset, voices, 0)
    save_checkpoint(tmp_path / "checkpoint.pt", state, config)
    other = TrainingState(sung("CONT", short()), short(), voices, seed=9)
    load_checkpoint(tmp_path / "checkpoint.pt", other, config)
    other.step = 2
    keep_best(other, dict(valid_loss=1.0))                                   # not better
    assert same(other.best, kept)
    keep_best(other, dict(valid_loss=0.9))
    assert other.best["step"] == 2 and other.best["value"] == 0.9


def test_what_best_means_is_a_column_of_the_history(voices, store, tiny):
    rows = [dict(valid_loss=loss, eer_vocals=eer) for loss, eer in ((1.0, 0.2), (2.0, 0.1), (0.5, 0.3))]

    def best(variant, store, preset, rows):
        state = TrainingState(variant, preset, store, 0)
        for state.step, row in enumerate(rows, 1):
            keep_best(state, row)
        return state.best and state.best["step"]
    released, paper = (sung("CONT", short(), protocol) for protocol in ("released", "paper"))
    assert best(released, voices, short(), rows) == 3
    assert best(paper, voices, short(), rows) == 2
    unscored = [dict(valid_loss=row["valid_loss"]) for row in rows]          # too few singers for the early score
    assert best(paper, voices, short(), unscored) == 3
    assert best(mixed("COLA", tiny), store, tiny, rows) is None              # CVSM keeps the last


def test_a_schedule_may_stop_when_the_validation_loss_stalls(voices, monkeypatch, tmp_path):
    seen, preset = spoil(monkeypatch, after=1), short(steps=5)
    early, late = (learn(sung("CONT", preset, "paper", stop_on_plateau=stops), voices, preset, tmp_path / str(stops))
                   for stops in (True, False))
    assert len(early.history) == 3 and len(late.history) == 5                # a good step, and two without improvement
    assert early.complete and early.summary["step"] == 3 and early.summary["kept_step"] == 1
    assert same(dict(early.encoder().state_dict()), seen[0])
    again = learn(sung("CONT", preset, "paper"), voices, preset, tmp_path / "True")
    assert again.folder == early.folder and len(seen) == 8                   # nothing is trained again


class Killed(BaseException):
    "As sudden as a signal."


@pytest.mark.parametrize("name", ["BYOL", "VICReg"])
def test_a_killed_run_resumes_to_the_same_curve_and_weights(name, voices, monkeypatch, tmp_path):
    preset = short(steps=4, validate_every=2, step_pairs=4)
    whole, real = learn(sung(name, preset), voices, preset, tmp_path / "whole"), loop.train_step

    def until_the_third(state, *arguments, **others):
        row = real(state, *arguments, **others)
        if state.step == 2:
            raise Killed
        return row
    monkeypatch.setattr(loop, "train_step", until_the_third)
    with pytest.raises(Killed):
        learn(sung(name, preset), voices, preset, tmp_path / "killed")
    monkeypatch.setattr(loop, "train_step", real)
    assert (tmp_path / "killed" / "checkpoint.pt").exists() and not (tmp_path / "killed" / "summary.json").exists()
    torch.manual_seed(99)
    resumed = learn(sung(name, preset), voices, preset, tmp_path / "killed")
    pd.testing.assert_frame_equal(curve(resumed), curve(whole), check_exact=True)
    assert same(dict(resumed.encoder().state_dict()), dict(whole.encoder().state_dict())) and len(whole.history) == 2


def test_a_fresh_state_goes_on_bit_for_bit(voices, tmp_path):
    preset = short(steps=6)
    states = [TrainingState(sung("BYOL", preset), preset, voices, seed=0)]

    def go(state):
        row = train_step(state, state.method, fabric(), state.optimizer)
        state.step += 1
        return row
    for _ in range(2):
        go(states[0])
    file, config = tmp_path / "checkpoint.pt", make_config(sung("BYOL", preset), preset, voices, 0)
    save_checkpoint(file, states[0], config)
    random = torch.get_rng_state()                                           # of dropout, had this network any
    states.append(TrainingState(sung("BYOL", preset), preset, voices, seed=0))
    assert not same(*(dict(state.method.teacher.state_dict()) for state in states))
    torch.manual_seed(7)
    load_checkpoint(file, states[1], config)
    assert torch.equal(torch.get_rng_state(), random)
    rows = [[go(state) for _ in range(2)] for state in states]
    assert rows[0] == rows[1] and states[0].step == states[1].step == 4
    first, second = (state.state_dict() for state in states)
    assert all(same(dict(first[k]), dict(second[k])) for k in ("method", "optimizer", "scheduler", "sampler"))
    assert any(name.startswith("teacher.") and name.endswith("running_mean") for name in first["method"])
