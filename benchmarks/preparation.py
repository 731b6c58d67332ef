"""Rendering, separating and storing, in times real time per core.

    python benchmarks/preparation.py
"""
import tempfile

import numpy as np
import soundfile
import torch
from common import seconds, show

from vocalrep.data.corpora import folder_corpus, studio_corpus
from vocalrep.data.separation import load_separator, separate
from vocalrep.data.store import prepare, resample
from vocalrep.studio.songs import render_clip

SECONDS, CLIPS = 15.0, 8


def main():
    torch.set_num_threads(1)
    corpus = studio_corpus(artists=CLIPS, clips=1, seconds=SECONDS)
    rows = corpus.clips.to_dict("records")
    audio = SECONDS * CLIPS
    timings = {f"studio, all stems, {rate} Hz": seconds(lambda: [render_clip(row, rate) for row in rows], 3) for rate in (16000, 44100)}
    with tempfile.TemporaryDirectory() as place:
        for row in rows:
            (wave,) = [sum(render_clip(row, 44100).values())]
            soundfile.write(f"{place}/{row['clip']}.mp3", np.stack([wave, wave], 1), 44100)
        model = load_separator("studio-umx")
        stereo = torch.from_numpy(np.stack([soundfile.read(f"{place}/{row['clip']}.mp3", dtype="float32")[0].T for row in rows]))
        timings["separation alone (studio-umx)"] = seconds(lambda: [separate(wave[None], 44100, model) for wave in stereo], 2)
        stores = iter(range(99))
        timings["preparing mp3 files (decode, separate, resample, write)"] = seconds(
            lambda: prepare(folder_corpus(place), f"{place}/store{next(stores)}", separator="studio-umx", workers=1, progress=False), 2)
        timings["decoding and resampling the same files"] = seconds(
            lambda: [resample(soundfile.read(f"{place}/{row['clip']}.mp3", dtype="float32")[0].T.mean(0), 44100, 16000) for row in rows], 2)
    show("Preparation, one core", [dict(what=name, times_real_time=audio / took) for name, took in timings.items()])


if __name__ == "__main__":
    main()
