"A corpus of a hundred files, forty of them damaged: it is prepared to the end, and mended ones are taken in."
import errno
import json
import os
import shutil
import struct
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
import soundfile

from vocalrep.data.corpora import folder_corpus, music4all_corpus
from vocalrep.data.prepare import prepare
from vocalrep.data.recordings import Corpus, Recording, tabulate
from vocalrep.data.store import Sound, Store, verify
from vocalrep.project import VocalrepError

PLAIN = Sound(16000, ("mixture",))
QUIETLY = dict(workers=1, progress=False)


# ---- forty ways ----

def _flip(content, place, count=1):
    "Bytes with some turned over."
    found = bytearray(content)
    for k in range(place, place + count):
        found[k] ^= 0x55
    return bytes(found)


def _with(content, place, new):
    "Bytes with others in a place."
    return content[:place] + new + content[place + len(new):]


def _field(content, name, value, shift=4):
    "A wav whose little-endian field after a chunk's name says something else."
    return _with(content, content.find(name) + shift, struct.pack("<I", value))


def _frames(flac, count):
    "A flac whose header claims another number of samples."
    claimed = int.from_bytes(flac[18:26], "big") >> 36 << 36 | count
    return _with(flac, 18, claimed.to_bytes(8, "big"))


def damaged_contents(whole):   # suffix -> the bytes of a sound file
    "name -> (bytes of a damaged file, a word of the reason)."
    wav, flac, mp3, ogg = (whole[suffix] for suffix in ("wav", "flac", "mp3", "ogg"))
    tag = mp3.find(b"Xing")
    return {
        "empty.wav": (b"", "empty.wav"), "empty.mp3": (b"", "empty.mp3"), "empty.flac": (b"", "empty.flac"),
        "text.wav": (b"no audio " * 99, "text.wav"), "text.ogg": (b"no audio " * 99, "text.ogg"),
        "zeros.mp3": (bytes(9999), "zeros.mp3"), "page.opus": (b"<html>404</html>", "page.opus"),
        "header.wav": (wav[:20], "header.wav"), "header.flac": (flac[:30], "header.flac"),
        "half.wav": (wav[:len(wav) // 2], "cut short"), "half.flac": (flac[:len(flac) // 2], "half.flac"),
        "half.mp3": (mp3[:len(mp3) // 2], "breaks off"), "most.mp3": (mp3[:-len(mp3) // 5], "breaks off"),
        "bit.flac": (_flip(flac, len(flac) // 2), "cannot be decoded"),
        "stretch.flac": (_flip(flac, len(flac) // 3, 3000), "cannot be decoded"),
        "stretch.ogg": (_flip(ogg, len(ogg) // 2, 6000), "stretch.ogg"),
        "four gigabytes.wav": (_field(wav, b"data", 0xFFFFFFFF), "4294967295 bytes"),
        "nearly four.wav": (_field(wav, b"data", 4_000_000_000), "4000000000 bytes"),
        "no channels.wav": (_with(wav, 22, b"\0\0"), "no channels.wav"),
        "many channels.wav": (_with(wav, 22, b"\xff\0"), "many channels.wav"),
        "no rate.wav": (_field(wav, b"fmt ", 0, 12), "no rate.wav"),
        "one hertz.wav": (_field(wav, b"fmt ", 1, 12), "1 samples/s"),
        "megahertz.wav": (_field(wav, b"fmt ", 2_000_000_000, 12), "2000000000 samples/s"),
        "claims more.mp3": (_with(mp3, tag + 8, struct.pack(">I", 100_000)), "breaks off"),
        "claims a day.mp3": (_with(mp3, tag + 8, struct.pack(">I", 2**31 - 1)), "breaks off"),
        "claims one.mp3": (_with(mp3, tag + 8, struct.pack(">I", 1)), "claims one.mp3"),
        "claims a terabyte.flac": (_frames(flac, 2**36 - 1), "claims a terabyte.flac")}


def damaged_audio():
    "name -> (samples, a word of the reason)."
    noise = np.random.default_rng(1).normal(0, 0.1, 32000)
    silent, one_nan, one_inf = 0 * noise, noise.copy(), noise.copy()
    one_nan[31_999], one_inf[0] = np.nan, np.inf
    return {"silent.wav": (silent, "silent"), "nan.wav": (np.full(32000, np.nan), "NaN"),
            "nan end.wav": (one_nan, "NaN"), "infinite.wav": (one_inf, "NaN or infinite"),
            "short.wav": (noise[:9000], "shorter"), "nearly.wav": (noise[:15_999], "0.999 s is shorter"),
            "nothing.wav": (noise[:0], "no samples")}


def _write(path, wave, rate=16000, **options):
    "A sound file."
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate, **options)
    return path.read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    "suffix -> the bytes of two seconds of noise."
    folder, noise = tmp_path_factory.mktemp("whole"), np.random.default_rng(2).normal(0, 0.1, (44100 * 2, 2))
    return {suffix: _write(folder / f"a.{suffix}", noise, 44100) for suffix in ("wav", "flac", "mp3", "ogg")}


@pytest.fixture
def hundred(tmp_path, whole):
    "A folder of sixty good files and forty that are not, and what the reason of each should say."
    root, reasons, rng = tmp_path / "Música", {}, np.random.default_rng(3)
    for k in range(59):
        suffix, rate = ("wav", "flac", "mp3", "ogg")[k % 4], (44100, 48000, 22050, 44101)[k // 4 % 4]
        rate = 44100 if suffix == "mp3" and rate == 44101 else rate
        _write(root / f"artist {k % 7}" / f"{k}.{suffix}", rng.normal(0, 0.1, (rate * 3 // 2, 1 + k % 2)), rate)
    _write(root / "artist 0" / "six.wav", rng.normal(0, 0.1, (24000, 6)))
    bad = root / "bad"
    for name, (content, reason) in damaged_contents(whole).items():
        bad.mkdir(exist_ok=True)
        (bad / name).write_bytes(content)
        reasons[f"bad/{name}"] = reason
    for name, (wave, reason) in damaged_audio().items():
        _write(bad / name, wave, subtype="FLOAT")
        reasons[f"bad/{name}"] = reason
    os.mkfifo(bad / "pipe.wav")
    (bad / "folder.mp3").mkdir()
    (bad / "nowhere.flac").symlink_to("gone.flac")
    (bad / "loop.wav").symlink_to("loop.wav")
    _write(tmp_path / "private.wav", rng.normal(0, 0.1, 32000))
    (bad / "outside.wav").symlink_to(tmp_path / "private.wav")
    (root / "linked artist").symlink_to(tmp_path)
    reasons |= {"bad/pipe.wav": "a pipe", "bad/folder.mp3": "a folder", "bad/nowhere.flac": "link to nowhere",
                "bad/loop.wav": "loop.wav", "bad/outside.wav": "link out of", "linked artist": "link to a folder"}
    return root, reasons


def skipped_of(store):
    "clip -> reason."
    return pd.read_csv(store.folder / "skipped.csv").set_index("clip")["reason"].to_dict()


def test_a_hundred_files_of_which_forty_are_damaged(hundred, tmp_path):
    root, reasons = hundred
    assert len(reasons) == 40
    store = prepare(folder_corpus(root), tmp_path / "store", PLAIN, **QUIETLY)
    found = skipped_of(store)
    assert set(found) == set(reasons) and len(store.clips) == 60
    for clip, word in reasons.items():
        assert word in found[clip] and "\n" not in found[clip] and len(found[clip]) < 600, clip
    assert not any((store.folder / "shards").glob(".*"))


def _mend(root):
    "Another content for a file, a file for a folder, a name without its file, and a file that nobody knew."
    rng = np.random.default_rng(4)
    _write(root / "bad/half.flac", rng.normal(0, 0.1, 32000))
    (root / "bad/folder.mp3").rmdir()
    _write(root / "bad/folder.mp3", rng.normal(0, 0.1, 48000), 48000)
    for name in ("silent.wav", "pipe.wav", "loop.wav"):
        (root / "bad" / name).unlink()
    _write(root / "artist 9" / "new.wav", rng.normal(0, 0.1, 32000))


def test_mended_files_are_taken_in_and_removed_ones_forgotten(hundred, tmp_path, monkeypatch):
    root, reasons = hundred
    first = prepare(folder_corpus(root), tmp_path / "store", PLAIN, **QUIETLY)
    untouched = {path.name: path.stat().st_mtime_ns for path in first.folder.glob("shards/*.npy")}
    assert prepare(folder_corpus(root), first.folder, PLAIN, **QUIETLY).identity == first.identity
    _mend(root)
    now = prepare(folder_corpus(root), first.folder, PLAIN, **QUIETLY)
    gone = {"bad/half.flac", "bad/folder.mp3", "bad/silent.wav", "bad/pipe.wav", "bad/loop.wav"}
    assert set(skipped_of(now)) == set(reasons) - gone and now.identity != first.identity
    assert set(now.clips["clip"]) == {*first.clips["clip"], "bad/half.flac", "bad/folder.mp3", "artist 9/new.wav"}
    same = [name for name, time in untouched.items() if (now.folder / "shards" / name).stat().st_mtime_ns == time]
    assert len(same) >= len(untouched) - 3                                       # only the chunks that they are in
    afresh = prepare(folder_corpus(root), tmp_path / "afresh", PLAIN, **QUIETLY)
    assert afresh.identity == now.identity
    for clip in now.clips["clip"]:
        assert (audio_of(now, clip) == audio_of(afresh, clip)).all()
    monkeypatch.setattr("vocalrep.data.prepare.prepare_chunk", None)             # and nothing is left to do
    assert prepare(folder_corpus(root), now.folder, PLAIN, **QUIETLY).identity == now.identity


def audio_of(store, clip):
    "All stored samples of a clip."
    row = store.clips.set_index("clip").loc[clip]
    first = np.array([store.base[row["shard"]] + row["start"]])
    return store.gather(first, int(row["length"]) * len(store.stems)).numpy()


def test_a_chunk_of_which_nothing_is_left_leaves_a_hole_that_does_not_matter(tmp_path):
    root, rng = tmp_path / "root", np.random.default_rng(0)
    for k in range(24):
        loud = k not in (8, 9, 10, 11, 16, 17, 18, 19)
        _write(root / "a" / f"{k:02}.wav", rng.normal(0, 0.1, 32000) * loud)
    store = prepare(folder_corpus(root), tmp_path / "store", PLAIN, **QUIETLY)
    assert len(store.shards) == 3
    for k in (8, 9, 10, 16, 17, 18):
        (root / "a" / f"{k:02}.wav").unlink()
    for k in (11, 19):
        _write(root / "a" / f"{k:02}.wav", rng.normal(0, 0.1, 32000))
    now = prepare(folder_corpus(root), store.folder, PLAIN, **QUIETLY)
    verify(now)
    afresh = prepare(folder_corpus(root), tmp_path / "afresh", PLAIN, **QUIETLY)
    assert len(now.clips) == 18 and all((audio_of(now, c) == audio_of(afresh, c)).all() for c in afresh.clips["clip"])


def test_what_was_prepared_is_never_thrown_away(tmp_path, whole):
    for name in ("a/one.wav", "a/two.wav"):
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_bytes(whole["wav"])
    corpus = folder_corpus(tmp_path / "root")
    store = prepare(corpus, tmp_path / "store", PLAIN, **QUIETLY)
    (tmp_path / "root/a/two.wav").unlink()
    with pytest.raises(VocalrepError, match="1 of its clips are not in the corpus, such as a/two.wav; put them back"):
        prepare(folder_corpus(tmp_path / "root"), store.folder, PLAIN, **QUIETLY)
    shutil.rmtree(tmp_path / "root")                             # the audio may be gone, as long as the table is not
    assert prepare(corpus, store.folder, PLAIN, **QUIETLY).identity == store.identity


def test_paths_in_tables_stay_inside_their_folder(tmp_path, whole):
    ids = ["good", "../outside", "/tmp/absolute", "x" * 3_000_000, "nul\0byte", "absent", "sub/../good"]
    (tmp_path / "root/audios").mkdir(parents=True)
    for path in ("root/audios/good.mp3", "root/outside.mp3"):
        (tmp_path / path).write_bytes(whole["mp3"])
    table = pd.DataFrame(dict(id=ids, artist=list("abcdefg")))
    table.to_csv(tmp_path / "root/id_information.csv", index=False)
    store = prepare(music4all_corpus(tmp_path / "root"), tmp_path / "store", PLAIN, **QUIETLY)
    found = skipped_of(store)
    assert set(store.clips["clip"]) == {"good"} and len(found) == 6
    assert "leads out of" in found["../outside"] and "leads out of" in found["/tmp/absolute"]
    assert "no such file" in found["absent"] and all(len(reason) < 700 for reason in found.values())


def test_names_that_are_no_text_and_folders_that_cannot_be_searched(tmp_path, whole, monkeypatch):
    (tmp_path / "root/a").mkdir(parents=True)
    (tmp_path / "root/closed").mkdir()
    (tmp_path / "root/a/good.wav").write_bytes(whole["wav"])
    with open(os.fsencode(tmp_path / "root/a") + b"/caf\xe9.wav", "wb") as file:
        file.write(whole["wav"])
    listing = os.scandir

    def closed(path):
        if os.fspath(path).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return listing(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", closed)
        corpus = folder_corpus(tmp_path / "root")
    store = prepare(corpus, tmp_path / "store", PLAIN, **QUIETLY)
    found = skipped_of(store)
    assert "cannot be searched (Permission denied)" in found.pop("closed")
    assert store.clips["clip"].tolist() == ["a/good.wav"]
    assert [(clip, "no UTF-8" in reason) for clip, reason in found.items()] == [("a/caf\\udce9.wav", True)]
    (tmp_path / "root/closed/now.wav").write_bytes(whole["wav"])
    now = prepare(folder_corpus(tmp_path / "root"), store.folder, PLAIN, **QUIETLY)
    assert set(now.clips["clip"]) == {"a/good.wav", "closed/now.wav"}


# ---- whatever a reader raises ----

def _raising(row, rate):
    "A second of sound, or what its row says."
    if row["raises"]:
        raise {"memory": MemoryError(), "runtime": RuntimeError("kernel\nof 16 GB"), "system": OSError(5, "I/O error"),
               "value": ValueError("odd"), "full": OSError(errno.ENOSPC, "No space left on device")}[row["raises"]]
    return Recording(np.full((1, rate), 0.5, np.float32), rate, {})


def raising_corpus(*names):
    "A corpus from what its clips raise."
    rows = pd.DataFrame(dict(clip=[f"c{k}" for k in range(len(names))], artist="a", raises=names))
    return Corpus("raising", tabulate(rows, "rows"), _raising)


def test_every_exception_is_one_clips_matter(tmp_path, monkeypatch):
    corpus = raising_corpus("", "memory", "runtime", "system", "value", "")
    store = prepare(corpus, tmp_path / "store", PLAIN, **QUIETLY)
    found = skipped_of(store)
    assert store.clips["clip"].tolist() == ["c0", "c5"]
    assert [found[f"c{k}"] for k in (1, 2, 3, 4)] == [
        "MemoryError: ", "RuntimeError: kernel", "OSError: [Errno 5] I/O error", "ValueError: odd"]
    monkeypatch.setattr(sys.modules[__name__], "_raising", None)
    mended = Corpus("raising", corpus.clips, _always)                           # the machine has more memory now
    assert prepare(mended, store.folder, PLAIN, **QUIETLY).clips["clip"].tolist() == [f"c{k}" for k in range(6)]


def _always(row, rate):
    return Recording(np.full((1, rate), 0.5, np.float32), rate, {})


def test_a_full_disk_is_not(tmp_path):
    with pytest.raises(VocalrepError, match="cannot write .*No space left"):
        prepare(raising_corpus("", "full", ""), tmp_path / "store", PLAIN, **QUIETLY)
    assert not (tmp_path / "store/store.json").exists()


# ---- memory ----

PROGRAM = """
    import json, re, sys
    from vocalrep.data.corpora import folder_corpus
    from vocalrep.data.prepare import prepare
    from vocalrep.data.store import Sound
    sound = Sound(16000, ("mixture",)) if sys.argv[3] == "none" else Sound()
    import torch, openunmix
    def most():
        return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
    before = most()
    prepare(folder_corpus(sys.argv[1]), sys.argv[2], sound, separator=sys.argv[3], workers=1, progress=False)
    print(json.dumps([before, most()]))
"""


def memory_of(root, folder, separator):
    "Megabytes that preparing takes in a process of its own: before, and at most."
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(root), str(folder), separator]
    words = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [kilobytes / 1024 for kilobytes in json.loads(words.splitlines()[-1])]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_long_clips_take_no_more_memory_than_short_ones(tmp_path):
    "Six minutes at 48 kHz: 138 MB as they are decoded, more than a gigabyte with the copies of resampling."
    (tmp_path / "root/a").mkdir(parents=True)
    noise = np.random.default_rng(0).normal(0, 0.1, (48000 * 60, 2)).astype(np.float32)
    with soundfile.SoundFile(tmp_path / "root/a/long.flac", "w", 48000, 2) as file:
        for _ in range(6):
            file.write(noise)
    before, most = memory_of(tmp_path / "root", tmp_path / "store", "none")
    assert most - before < 400 and most < 1500, (before, most)
    store = Store(tmp_path / "store")
    assert store.clips["samples"].tolist() == [16000 * 360]
    rows = np.array([0, 12 * 2, 12 * 5])                                       # the same minute, in three pieces
    ends = store.excerpts(rows, np.full(3, 40_000), 40_000)
    assert np.abs(ends - ends[0]).max() < 2e-3
