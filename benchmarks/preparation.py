"""Rendering, separating and storing, in times real time per core.

    python benchmarks/preparation.py [--tiny] [--json FILE]
"""
import itertools
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import torch
from common import run, seconds

from vocalrep.data.corpora import folder_corpus, studio_corpus
from vocalrep.data.audio import resample
from vocalrep.data.prepare import prepare
from vocalrep.data.separation import load_separator, separate
from vocalrep.data.store import Sound
from vocalrep.studio.songs import render_clip


def write_songs(rows: list[dict], folder: Path) -> list[Path]:
    "The songs as stereo mp3 files."
    files = []
    for row in rows:
        wave = sum(render_clip(row, 44100).values())
        files.append(folder / f"{row['clip']}.mp3")
        soundfile.write(files[-1], np.stack([wave, wave], 1), 44100)
    return files


def read(file: Path) -> np.ndarray:   # (2, T) float32
    return soundfile.read(file, dtype="float32")[0].T


def time_files(files: list[Path], folder: Path, repeats: int) -> dict[str, float]:
    "Seconds that each way of preparing the files takes."
    model = load_separator("studio-umx")
    waves = [torch.from_numpy(read(file)) for file in files]
    stores, options = itertools.count(), dict(workers=1, progress=False)

    def fresh(sound: Sound) -> None:
        prepare(folder_corpus(folder), folder / f"store{next(stores)}", sound, "studio-umx", **options)

    ways = {"separation alone (studio-umx)": lambda: [separate(wave[None], 44100, model) for wave in waves],
            "preparing mp3 files (decode, separate, resample, write)": lambda: fresh(Sound()),
            "preparing them as plain mixtures": lambda: fresh(Sound(16000, ("mixture",))),
            "decoding and resampling them": lambda: [resample(read(f).mean(0), 44100, 16000) for f in files]}
    return {name: seconds(way, repeats) for name, way in ways.items()}


def measure(given) -> dict[str, list[dict]]:
    "The table."
    clips, length, repeats, warm = (1, 6.0, 1, 0) if given.tiny else (8, 15.0, 3, 1)
    rows = studio_corpus(artists=clips, clips=1, seconds=length).clips.to_dict("records")
    timings = {f"studio, all stems, {rate} Hz": seconds(lambda: [render_clip(row, rate) for row in rows], repeats, warm)
               for rate in (16000, 44100)}
    with tempfile.TemporaryDirectory() as place:
        timings |= time_files(write_songs(rows, Path(place)), Path(place), 1 if given.tiny else 2)
    audio = length * clips
    return {"Preparation, one core": [dict(what=what, times_real_time=audio / t) for what, t in timings.items()]}


if __name__ == "__main__":
    run(measure)
