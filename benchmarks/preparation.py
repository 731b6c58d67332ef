"""Rendering, separating and storing, in times real time per core.

    python benchmarks/preparation.py
"""
import itertools
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import torch
from common import seconds, show

from vocalrep.data.corpora import folder_corpus, studio_corpus
from vocalrep.data.prepare import prepare, resample
from vocalrep.data.separation import load_separator, separate
from vocalrep.data.store import Sound
from vocalrep.studio.songs import render_clip

SECONDS, CLIPS = 15.0, 8


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


def time_files(files: list[Path], folder: Path) -> dict[str, float]:
    "Seconds that each way of preparing the files takes."
    model = load_separator("studio-umx")
    waves = [torch.from_numpy(read(file)) for file in files]
    stores, options = itertools.count(), dict(workers=1, progress=False)

    def fresh(sound: Sound) -> None:
        prepare(folder_corpus(folder), folder / f"store{next(stores)}", sound, "studio-umx", **options)
    return {
        "separation alone (studio-umx)": seconds(lambda: [separate(wave[None], 44100, model) for wave in waves], 2),
        "preparing mp3 files (decode, separate, resample, write)": seconds(lambda: fresh(Sound()), 2),
        "preparing them as plain mixtures": seconds(lambda: fresh(Sound(16000, ("mixture",))), 2),
        "decoding and resampling them": seconds(lambda: [resample(read(f).mean(0), 44100, 16000) for f in files], 2)}


def main():
    torch.set_num_threads(1)
    rows = studio_corpus(artists=CLIPS, clips=1, seconds=SECONDS).clips.to_dict("records")
    timings = {"studio, all stems, 16000 Hz": seconds(lambda: [render_clip(row, 16000) for row in rows], 3),
               "studio, all stems, 44100 Hz": seconds(lambda: [render_clip(row, 44100) for row in rows], 3)}
    with tempfile.TemporaryDirectory() as place:
        timings |= time_files(write_songs(rows, Path(place)), Path(place))
    audio = SECONDS * CLIPS
    show("Preparation, one core", [dict(what=name, times_real_time=audio / took) for name, took in timings.items()])


if __name__ == "__main__":
    main()
