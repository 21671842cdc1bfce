"""Reading and writing volumes, beside nibabel: CPU time and peak memory of whole child processes.

    files.py COPY_VOLUME [SIDE]

Three files: a smooth depth-like float32, a noisy float32, a noisy int16. Reading gives float32 values
on both sides (`copy_volume IN`; `get_fdata(dtype=float32)`); a copy reads the stored values and writes
them, both compress with level 1. What importing numpy and nibabel costs in CPU time is measured on its own
and subtracted from nibabel's; what is left counts as one tick of the clock at least, since files too
small to time leave nothing. Memory is the peak of the whole process on both sides, since there is no
reading with nibabel without them; what it takes beyond an import is printed, too.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np

ROUNDS = 5
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
IMPORT = "import sys, numpy, nibabel\n"
READ = IMPORT + "nibabel.load(sys.argv[1]).get_fdata(dtype=numpy.float32)"
COPY = IMPORT + ("i = nibabel.load(sys.argv[1]); a = numpy.asanyarray(i.dataobj)\n"
                 "nibabel.save(nibabel.Nifti1Image(a, i.affine), sys.argv[2])")
LAUNCH = Path(__file__).resolve().parent / "launch.py"


def child(command, result):
    """CPU seconds and peak MiB of one child process."""
    subprocess.run([sys.executable, "-I", "-S", LAUNCH, result, *command], check=True)
    cost = json.loads(result.read_text())
    return cost["cpu_s"], cost["peak_mib"]


def volumes(folder, side):
    """Writes the three files; returns their paths by name."""
    axis = np.linspace(0, 6, side, dtype=np.float32)
    smooth = np.clip(0.5 + np.sin(axis)[:, None, None] * np.cos(axis)[None, :, None] + 0.1 * axis, 0, 1)
    noise = np.random.default_rng(1).standard_normal((side,) * 3, dtype=np.float32)
    arrays = {"smooth-f32": smooth.astype(np.float32), "noisy-f32": noise,
              "noisy-i16": (200 * noise).astype(np.int16)}
    paths = {}
    for name, array in arrays.items():
        paths[name] = folder / f"{name}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(array, np.diag([0.5, 0.5, 0.5, 1])), paths[name])
    return paths


def medians(commands, result):
    """Median CPU seconds and peak MiB of each command, run in turn so that a busy moment hits all."""
    costs = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            costs[name].append(child(command, result))
    return {name: tuple(map(statistics.median, zip(*runs))) for name, runs in costs.items()}


def figure(name, value, bar):
    print(f"figure {name} {value:.2f} ratio bar {bar} {'ok' if value <= bar else 'short'}", flush=True)


def main():
    copy_volume, side = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 256
    python = [sys.executable, "-c"]
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        for name, path in volumes(folder, side).items():
            out = str(folder / "out.nii.gz")
            cost = medians({
                "import": [*python, IMPORT],
                "read": [copy_volume, str(path)],
                "nibabel read": [*python, READ, str(path)],
                "copy": [copy_volume, str(path), out],
                "nibabel copy": [*python, COPY, str(path), out],
            }, folder / "usage.json")
            for what, (cpu, peak) in cost.items():
                print(f"{name} {what}: {cpu:.2f} CPU s, {peak:.0f} MiB")
            start_cpu, start_peak = cost["import"]
            beyond = {what: peak - start_peak for what, (_, peak) in cost.items() if what.startswith("nibabel")}
            print(f"{name} beyond the import: " + ", ".join(f"{what} {mib:.0f} MiB" for what, mib in beyond.items()))
            for what in ("read", "copy"):
                (cpu, peak), (their_cpu, their_peak) = cost[what], cost[f"nibabel {what}"]
                figure(f"files-{name}-{what}-cpu-to-nibabel", cpu / max(their_cpu - start_cpu, TICK_S), 1)
                figure(f"files-{name}-{what}-memory-to-nibabel", peak / their_peak, 0.5)


if __name__ == "__main__":
    main()
