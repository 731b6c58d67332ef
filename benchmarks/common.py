"What every benchmark shares: a command line, fair timing, a table, a file."
import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path


def seconds(run, repeats=5, warm=1):
    "Median wall-clock seconds of `run()` over some repeats, after warming up."
    for _ in range(warm):
        run()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def processor():
    "What the machine calls its processor."
    lines = Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def machine():
    "Where numbers were measured, in a line."
    import torch
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    threads = f"{torch.get_num_threads()} torch threads, torch {torch.__version__}"
    return f"{processor()}, {os.cpu_count()} cores{gpu}, {threads}"


def show(title, rows):
    "Print rows (dicts) as a markdown table."
    print(f"\n{title}\n\n| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        cells = (f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values())
        print("| " + " | ".join(cells) + " |", flush=True)


def run(measure, words=None):
    "A benchmark as a command: `measure(given)` gives tables (title -> rows), which are printed and kept."
    import torch
    words = words or argparse.ArgumentParser()
    words.add_argument("--tiny", action="store_true", help="seconds instead of minutes: whether it works at all")
    words.add_argument("--json", type=Path, help="a file for the tables, too")
    given = words.parse_args()
    torch.set_num_threads(1)
    tables = measure(given)
    print(machine())
    for title, rows in tables.items():
        show(title, rows)
    if given.json:
        kept = dict(machine=machine(), tiny=given.tiny, tables=tables)
        given.json.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
