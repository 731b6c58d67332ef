"Separation under the conditions a page cannot show well: no internet, foreign folders, odd audio."
import shutil
import socket
import threading
import urllib.error
import warnings

import pytest
import torch

from vocalrep.data.separation import Separator, chunk_plan, crossfade, load_separator, sdr, separate
from vocalrep.data.unmix import SEPARATORS, SOURCES, StandInWarning, make_unmix, save_separator, shipped_weights
from vocalrep.project import VocalrepError

torch.set_num_threads(1)


def random_separator(channels: int = 1, targets: tuple[str, ...] = ("vocals",), niter: int = 0) -> Separator:
    "A tiny untrained separator."
    from openunmix.model import Separator as Unmix
    torch.manual_seed(0)
    networks = {target: make_unmix(16, channels) for target in targets}
    module = Unmix(networks, niter=niter, residual=niter > 0, nb_channels=channels).eval()
    return Separator("random", targets, module, "-", "-", niter)


@pytest.fixture
def folder(tmp_path):
    "A random model in open-unmix's layout, under a path with a space and letters beyond ASCII."
    torch.manual_seed(1)
    path = tmp_path / "my models" / "naïve ümx"
    save_separator(path, {"vocals": make_unmix(16)}, licence="test")
    return path


@pytest.fixture
def quartet(tmp_path):
    "Four random networks, stereo, in one folder."
    torch.manual_seed(2)
    save_separator(tmp_path / "four", {target: make_unmix(8, 2) for target in SOURCES}, channels=2)
    return tmp_path / "four"


# ---- loading ----

def test_shipped_weights_load_and_are_small():
    separator = load_separator("studio-umx")
    assert (separator.rate, separator.targets, separator.licence) == (44100, ("vocals",), "Apache-2.0")
    assert separator.stands_in_for is None and separator.stems == ("vocals", "accompaniment")
    assert sum(file.stat().st_size for file in shipped_weights().iterdir()) < 4e6
    assert (shipped_weights() / "README.md").read_text(encoding="utf-8").count("Apache-2.0")


def test_shipped_weights_are_what_their_name_says():
    import hashlib
    file, = shipped_weights().glob("vocals-*.pth")
    assert file.stem == "vocals-" + hashlib.sha256(file.read_bytes()).hexdigest()[:8]


def test_shipped_separator_improves_a_held_out_song():
    from vocalrep.studio.songs import render_clip, studio_table
    song = render_clip(studio_table(1, 1, 4.0, seed=30_000).iloc[0])
    stems = {name: torch.from_numpy(stem)[None] for name, stem in song.items()}
    mixture = sum(stems.values())
    estimate = separate(mixture, 16000, load_separator("studio-umx"))["vocals"]
    assert sdr(estimate, stems["vocals"]) > sdr(mixture, stems["vocals"]) + 2


FAILURES = [urllib.error.URLError("Name or service not known"), TimeoutError("timed out"),
            ConnectionResetError("reset")]


@pytest.mark.parametrize("name", ["umxl", "umxhq"])
@pytest.mark.parametrize("failure", FAILURES)
def test_an_unreachable_hub_falls_back_loudly(monkeypatch, name, failure):
    def fetch(*args, **kwargs):
        assert socket.getdefaulttimeout() is not None and socket.getdefaulttimeout() < 30   # it must not hang
        raise failure
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", fetch)
    before = socket.getdefaulttimeout()
    with pytest.warns(StandInWarning, match=f"{name} could not be fetched .*studio-umx STANDS IN") as said:
        separator = load_separator(name)
    assert said[0].filename == __file__                                                         # where it was asked for
    assert (separator.name, separator.stands_in_for, separator.licence) == ("studio-umx", name, "Apache-2.0")
    assert separator.describe()["stands_in_for"] == name
    assert socket.getdefaulttimeout() == before


def test_no_stand_in_for_targets_it_has_not(monkeypatch):
    def fetch(*args, **kwargs):
        raise urllib.error.URLError("no internet")
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", fetch)
    with pytest.raises(VocalrepError, match="umxl could not be fetched .*studio-umx separates vocals only"):
        load_separator("umxl", targets=SOURCES)


def test_hub_weights_are_used_when_they_come_and_load_safely(monkeypatch):
    import os
    def fetch(url, **kwargs):
        assert os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == "1"
        bins = 1487
        return {"input_mean": torch.zeros(bins), "input_scale": torch.ones(bins)}   # open-unmix loads with strict=False
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", fetch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        separator = load_separator("umxhq")
    assert (separator.name, separator.licence, separator.stands_in_for) == ("umxhq", "MIT", None)
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_a_damaged_cache_is_an_error_not_a_stand_in(monkeypatch, tmp_path):
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "vocals-bccbd9aa.pth").write_bytes(b"half a download")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(VocalrepError, match="umxl.*checkpoints.*delete the damaged file"):
        load_separator("umxl")


def test_unknown_names_list_the_choices():
    with pytest.raises(VocalrepError) as error:
        load_separator("umxxl")
    assert all(name in str(error.value) for name in SEPARATORS) and "or a folder" in str(error.value)
    with pytest.raises(VocalrepError, match="vocals, drums, bass, other"):
        load_separator("studio-umx", targets=["voice"])


def test_a_folder_with_odd_letters_loads_as_it_does_in_openunmix(folder):
    from openunmix.utils import load_separator as reference
    separator = load_separator(str(folder))
    audio = 0.1 * torch.randn(1, 1, 44100)
    with torch.no_grad():
        expected = reference(str(folder), targets=["vocals"], niter=0, residual=True).eval()(audio)[:, 0, 0]
    assert torch.allclose(separate(audio, 44100, separator)["vocals"], expected, atol=1e-5)
    assert separator.name == "naïve ümx" and len(separator.fingerprint) == 8


class _Bomb:
    "What a malicious checkpoint looks like: it runs code when it is unpickled."
    def __reduce__(self):
        return (exec, ("raise SystemExit('code ran')",))


DAMAGES = ["truncated", "empty", "text", "foreign", "lacking", "nan", "bomb", "config", "no config", "gone", "two"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_folder_is_one_clear_error(folder, damage):
    weights, = folder.glob("vocals-*.pth")
    state = torch.load(weights, weights_only=True)
    match damage:
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:5000])
        case "empty":
            weights.write_bytes(b"")
        case "text":
            weights.write_text("<html>not found</html>")
        case "foreign":
            torch.save({"layer.weight": torch.zeros(3)}, weights)
        case "lacking":
            torch.save({name: v for name, v in state.items() if not name.startswith("lstm")}, weights)
        case "nan":
            torch.save(state | {"fc1.weight": state["fc1.weight"] * float("nan")}, weights)
        case "bomb":
            torch.save(state | {"x": _Bomb()}, weights)
        case "config":
            (folder / "vocals.json").write_text("{")
        case "no config":
            (folder / "separator.json").unlink()
        case "gone":
            weights.unlink()
        case "two":
            (folder / "vocals-00000000.pth").write_bytes(weights.read_bytes())
    with pytest.raises(VocalrepError) as error:
        load_separator(folder)
    assert "naïve ümx" in str(error.value)
    assert "restore" in str(error.value) or "keep" in str(error.value)


def test_loading_in_threads_leaves_the_process_as_it_was(folder):
    import os

    def settings():
        return socket.getdefaulttimeout(), os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")

    before, failures = settings(), []

    def work():
        try:
            load_separator(folder)
        except BaseException as error:
            failures.append(error)
    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and before == settings()


# ---- separating ----

@pytest.mark.parametrize("network_channels", [1, 2])
@pytest.mark.parametrize("channels", [None, 1, 2, 6])
def test_any_number_of_channels_adds_up(network_channels, channels):
    separator = random_separator(network_channels)
    shape = (2, 9000) if channels is None else (2, channels, 9000)
    mixture = 0.1 * torch.randn(shape)
    stems = separate(mixture, 16000, separator)
    assert list(stems) == ["vocals", "accompaniment"]
    assert all(stem.shape == (2, 9000) for stem in stems.values())
    mono = mixture if channels is None else mixture.mean(1)
    assert torch.allclose(stems["vocals"] + stems["accompaniment"], mono, atol=1e-6)


@pytest.mark.parametrize("niter", [0, 1])
def test_four_targets_add_up(niter):
    separator = random_separator(2, SOURCES if niter else SOURCES[:3], niter)
    separator.module.residual = False
    separator.targets = SOURCES
    mixture = 0.1 * torch.randn(2, 2, 30000)
    stems = separate(mixture, 44100, separator)
    assert list(stems) == list(SOURCES)
    assert torch.allclose(sum(stems.values()), mixture.mean(1), atol=1e-6)


@pytest.mark.parametrize("niter", [0, 1])
@pytest.mark.parametrize("rate, seconds", [(16000, 0.6), (44100, 2.5)])
def test_four_stems_of_a_folder_at_any_rate(quartet, niter, rate, seconds):
    separator = load_separator(quartet, targets=reversed(SOURCES), niter=niter)                 # asked for in any order
    assert separator.stems == separator.targets == SOURCES
    networks = SOURCES if niter else SOURCES[:3]                                          # the last is the remainder
    assert tuple(separator.module.target_models) == networks
    assert separator.describe()["targets"] == list(SOURCES)
    mixture = 0.1 * torch.randn(2, 2, int(seconds * rate))
    stems = separator(mixture, rate, chunk_seconds=1., overlap_seconds=0.25, batch=3)
    assert tuple(stems) == SOURCES
    assert all(stem.shape == (2, mixture.shape[-1]) and stem.isfinite().all() for stem in stems.values())
    assert torch.allclose(sum(stems.values()), mixture.mean(1), atol=1e-6)


def test_each_of_four_stems_is_its_own_networks_estimate(quartet):
    from openunmix.utils import load_separator as reference
    mixture = 0.1 * torch.randn(1, 2, 30000)
    stems = separate(mixture, 44100, load_separator(quartet, targets=SOURCES))
    with torch.no_grad():
        module = reference(str(quartet), targets=list(SOURCES[:3]), niter=0, residual=False).eval()
        expected = dict(zip(SOURCES, module(mixture)[0].mean(1)))
    for target, stem in expected.items():
        assert torch.allclose(stems[target][0], stem, atol=1e-5), target
    alone = separate(mixture, 44100, load_separator(quartet))
    assert torch.allclose(alone["vocals"], stems["vocals"], atol=1e-6)
    assert torch.allclose(alone["accompaniment"], stems["drums"] + stems["bass"] + stems["other"], atol=1e-6)


def test_silence_has_four_silent_stems(quartet):
    stems = separate(torch.zeros(1, 9000), 16000, load_separator(quartet, targets=SOURCES))
    assert tuple(stems) == SOURCES and not any(stem.any() for stem in stems.values())


def test_some_targets_leave_a_remainder(quartet):
    separator = load_separator(quartet, targets=["bass", "vocals"])
    assert separator.stems == ("vocals", "bass", "remainder")
    assert tuple(separate(torch.zeros(1, 9000), 16000, separator)) == separator.stems


def test_a_folder_without_the_four_says_which_is_missing(folder, quartet):
    with pytest.raises(VocalrepError, match="no drums.json, so it is no open-unmix model of 'drums'"):
        load_separator(folder, targets=SOURCES)
    next(quartet.glob("bass-*.pth")).unlink()
    with pytest.raises(VocalrepError, match="should hold one bass-.*holds: none"):
        load_separator(quartet, targets=SOURCES)
    with pytest.raises(VocalrepError, match="studio-umx separates vocals only, not bass, drums, other"):
        load_separator("studio-umx", targets=SOURCES)


def test_wiener_filtering_of_vocals_alone_keeps_its_shape():
    stems = separate(0.1 * torch.randn(2, 2, 20000), 44100, random_separator(2, niter=1))
    assert all(stem.shape == (2, 20000) and torch.isfinite(stem).all() for stem in stems.values())


def test_chunks_agree_with_the_whole_away_from_the_seams():
    separator = random_separator()
    torch.nn.init.zeros_(separator.module.target_models["vocals"].fc2.weight)   # no memory: chunks can agree
    mixture = 0.1 * torch.randn(1, 16000 * 8)
    whole = separate(mixture, 16000, separator)["vocals"]
    chunked = separate(mixture, 16000, separator, chunk_seconds=3, overlap_seconds=0.5)["vocals"]
    assert (chunked - whole).abs().max() < 0.02 * whole.abs().max()


def test_clips_of_a_batch_do_not_touch_each_other():
    separator = random_separator()
    mixture = 0.1 * torch.randn(3, 40000)
    together = separate(mixture, 16000, separator, chunk_seconds=1, overlap_seconds=0.25, batch=5)["vocals"]
    options = dict(chunk_seconds=1, overlap_seconds=0.25, batch=1)
    alone = torch.cat([separate(clip[None], 16000, separator, **options)["vocals"] for clip in mixture])
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("length", [1, 7, 100, 101, 999])
def test_chunks_cover_a_clip_and_fades_never_vanish(length):
    starts, size = chunk_plan(length, 100, 20)
    weight = torch.zeros(length)
    for start in starts:
        weight[start:start + size] += crossfade(size, 20, weight.device)
    assert starts[0] == 0 and starts[-1] + size == length and size <= 100
    assert (weight > 0).all()


@pytest.mark.parametrize("length", [1, 100, 743, 4096, 16001])
@pytest.mark.parametrize("rate", [16000, 44100, 48000])
def test_short_clips_keep_their_length(length, rate):
    stems = separate(0.1 * torch.randn(1, length), rate, random_separator())
    assert all(stem.shape == (1, length) and torch.isfinite(stem).all() for stem in stems.values())


def test_silence_stays_silent_and_the_input_stays_whole():
    mixture = torch.cat([torch.zeros(1, 20000), 0.1 * torch.randn(1, 20000)])
    copy = mixture.clone()
    stems = separate(mixture, 16000, random_separator())
    assert all((stem[0] == 0).all() for stem in stems.values()) and torch.equal(mixture, copy)


@pytest.mark.parametrize("mixture, reason", [
    (torch.full((2, 800), float("nan")), "mixture 0, 1 of 2 holds NaN"),
    (torch.tensor([[0.0, float("inf")]]), "NaN or infinite"),
    (torch.zeros(2, 0), "cannot be separated"),
    (torch.zeros(0, 5), "cannot be separated"),
    (torch.zeros(80), "clips, samples"),
    (torch.zeros(1, 80, dtype=torch.int16), "floating point"),
])
def test_bad_audio_is_refused_with_a_reason(mixture, reason):
    with pytest.raises(VocalrepError, match=reason):
        separate(mixture, 16000, random_separator())


def test_bad_chunks_and_rates_are_refused():
    with pytest.raises(VocalrepError, match="overlap"):
        separate(torch.zeros(1, 800), 16000, random_separator(), chunk_seconds=1, overlap_seconds=1)
    with pytest.raises(VocalrepError, match="rate"):
        separate(torch.zeros(1, 800), 0, random_separator())


def test_sdr_is_its_definition():
    torch.manual_seed(0)
    truth, noise = torch.randn(2, 4, 2000, dtype=torch.float64)
    estimate = truth + 0.1 * noise
    alpha = (estimate * truth).sum(-1, keepdim=True) / truth.square().sum(-1, keepdim=True)
    expected = 10 * torch.log10((alpha * truth).square().sum(-1) / (alpha * truth - estimate).square().sum(-1))
    assert torch.allclose(sdr(estimate, truth), expected.float(), atol=1e-3)
    assert torch.isnan(sdr(noise, torch.zeros_like(noise))).all()
    with pytest.raises(VocalrepError, match="one shape"):
        sdr(truth, truth[:, 1:])
    with pytest.raises(VocalrepError, match="si-sdr, bss"):
        sdr(truth, truth, "sdri")


class Evil:
    "Runs something when it is read back."

    def __reduce__(self):
        return print, ("it ran",)


def test_a_hostile_separator_is_refused_in_our_own_words(tmp_path, capsys):
    folder = shutil.copytree(shipped_weights(), tmp_path / "evil")
    for file in folder.glob("vocals*.pth"):
        torch.save(Evil(), file)
    with pytest.raises(VocalrepError, match="it holds more than tensors, and was not opened; restore it") as found:
        load_separator(str(folder))
    assert "weights_only" not in str(found.value) and "it ran" not in capsys.readouterr().out
