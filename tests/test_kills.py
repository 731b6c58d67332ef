"Jobs that are killed end in the bytes of undisturbed ones: five kills here, `python tests/kills.py 100` for more."
import re
import subprocess
import sys
from pathlib import Path


def test_five_kills_end_in_the_same_bytes():
    script = Path(__file__).with_name("kills.py")
    done = subprocess.run([sys.executable, script, "5"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    counts = re.findall(r"(\w+): (\d+) kills, and (\d+) times the same bytes", done.stdout)
    assert [(job, int(kills)) for job, kills, _ in counts] == [("prepare", 2), ("train", 2), ("reproduce", 1)]
    assert all(int(times) > 0 for *_, times in counts)
