"What every benchmark shares: fair timing and a table."
import os
import platform
import statistics
import time


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


def show(title, rows):
    "Print rows (dicts) as a markdown table under a title that names the machine."
    import torch
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine()) if os.path.exists("/proc/cpuinfo") else platform.machine()
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    print(f"\n{title}\n{cpu}, {os.cpu_count()} cores{gpu}, {torch.get_num_threads()} torch threads, torch {torch.__version__}\n")
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()) + " |", flush=True)
