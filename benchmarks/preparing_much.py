"""Preparing much: the cost of a clip in a small and a large corpus, and the memory that a clip of an hour takes.

    python benchmarks/preparing_much.py [--tiny] [--json FILE]

Many short files show what a corpus costs besides its audio; each is prepared by one worker, as a plain mixture. The
hour is stereo at 44.1 kHz, prepared as a plain mixture and separated, each in a process of its own.
"""
import json
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import numpy as np
import soundfile
from common import run

from vocalrep.data.corpora import folder_corpus
from vocalrep.data.prepare import prepare
from vocalrep.data.store import Sound

PLAIN = Sound(16000, ("mixture",))
PROGRAM = """
    import json, resource, sys, time
    from vocalrep.data.corpora import folder_corpus
    from vocalrep.data.prepare import prepare
    from vocalrep.data.store import Sound
    sound = Sound(16000, ("mixture",)) if sys.argv[3] == "none" else Sound()
    begun = time.perf_counter()
    prepare(folder_corpus(sys.argv[1]), sys.argv[2], sound, separator=sys.argv[3], workers=1, progress=False)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(dict(seconds=time.perf_counter() - begun, megabytes=most)))
"""


def write_many(folder: Path, clips: int) -> None:
    "Short files in folders of fifty."
    rng = np.random.default_rng(0)
    for k in range(clips):
        path = folder / f"artist {k // 50}" / f"{k:05}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.normal(0, 0.1, 24_000), 16000)


def time_many(place: Path, clips: int) -> dict:
    "Milliseconds per clip of preparing so many, and of finding that nothing is left to do."
    root, store, times = place / f"{clips} files", place / f"{clips} store", []
    write_many(root, clips)
    for _ in range(2):
        begun = time.perf_counter()
        prepare(folder_corpus(root), store, PLAIN, workers=1, progress=False)
        times.append(1000 * (time.perf_counter() - begun) / clips)
    return dict(clips=clips, milliseconds_per_clip=times[0], milliseconds_per_clip_again=times[1])


def write_long(folder: Path, minutes: int) -> None:
    "A file of so many minutes."
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).normal(0, 0.1, (44100 * 60, 2)).astype(np.float32)
    with soundfile.SoundFile(folder / "long.flac", "w", 44100, 2) as file:
        for _ in range(minutes):
            file.write(noise)


def time_long(place: Path, minutes: int, separator: str) -> dict:
    "Speed and largest memory of preparing the long file."
    root = place / f"{minutes} min" / "artist"
    if not root.exists():
        write_long(root, minutes)
    folder = place / f"{minutes} min {separator}"
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(root.parent), str(folder), separator]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = json.loads(said.splitlines()[-1])
    return dict(minutes=minutes, separator=separator, times_real_time=60 * minutes / found["seconds"],
                megabytes=found["megabytes"])


def measure(given) -> dict[str, list[dict]]:
    "Two tables."
    counts, lengths = ((20, 40), (1,)) if given.tiny else ((500, 5000), (1, 60))
    separators = ("none",) if given.tiny else ("none", "studio-umx")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        return {"Corpora of two sizes, one worker": [time_many(place, clips) for clips in counts],
                "Clips of two lengths, one worker": [time_long(place, minutes, separator)
                                                     for separator in separators for minutes in lengths]}


if __name__ == "__main__":
    run(measure)
