"""Runs the programs that are compared, each as a user would, and measures the child processes.

CPU is user + system time of the whole child process with its own children, as the kernel counts it
(wait4): reading and writing both fields is included for everybody. Two corrections, both in favour
of the peers and both named in the report: what importing a Python wheel costs is measured on its own
and subtracted for ANTs and greedy; the prototype states its own time, without import, compilation
and files. Carrying the image through the result is not counted for anybody.
"""
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

THREADS = 2
HERE = Path(__file__).resolve().parent
ANTS = "import sys; from ants import lib; getattr(lib, sys.argv[1])(sys.argv[2:])"
GREEDY = "import sys; from picsl_greedy import Greedy3D; Greedy3D().execute(sys.argv[1])"
# Sigmas of the update and of the warp; the first is greedy's default.
GREEDY_SETTINGS = {"greedy": "-s 1.732vox 0.7071vox", "greedy-3-0": "-s 3vox 0vox",
                   "greedy-sv": "-s 2vox 0.5vox -sv"}
JITTER_SEEDS = (1, 2, 3)
LANDMARK_RUNS = ["landmarks-exact"] + [f"landmarks-jitter-{seed}" for seed in JITTER_SEEDS]
# What --tools takes, and the runs that each stands for.
TOOLS = {"aligner": ["aligner"], "landmarks": LANDMARK_RUNS, "ants": ["ants"],
         "greedy": list(GREEDY_SETTINGS), "prototype": ["prototype"]}
OWN = {"aligner", *LANDMARK_RUNS}


class Failed(Exception):
    """A program did not do its work; the text says which, and where its log is."""


def measured(command, log, cwd=None):
    """Runs one child. CPU and peak memory are those of the child and its children."""
    environment = dict(os.environ, ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=str(THREADS), ANTS_RANDOM_SEED="1",
                       OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    result = Path(f"{log}.usage").resolve()
    load = os.getloadavg()[0]
    with open(log, "wb") as output:
        ended = subprocess.run([sys.executable, "-I", "-S", HERE / "launch.py", result, *map(str, command)],
                               stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=cwd)
    if ended.returncode != 0:
        raise Failed(f"{Path(command[0]).name} ended with {ended.returncode}, see {log}")
    return json.loads(result.read_text()) | {"load": round(load, 1)}


class Programs:
    """The programs of this machine: where they are, their versions and what starting them costs."""

    def __init__(self, aligner, work):
        self.aligner, self.work = aligner, Path(work)
        self.empty = self.started([aligner, "--version"])
        self.imports = {}
        log = (self.work / "start.log").read_text().split()
        self.versions = {"aligner": f"{log[-1]} ({commit()})"}
        for name, package in (("ants", "antspyx"), ("greedy", "picsl-greedy")):
            self.versions[name] = f"{package} {importlib.metadata.version(package)}"
        self.versions["prototype"] = f"numba {importlib.metadata.version('numba')}"

    def started(self, command):
        """Median of three starts that do nothing."""
        runs = [measured(command, self.work / "start.log") for _ in range(3)]
        return sorted(runs, key=lambda run: run["cpu_s"])[1]

    def import_cost(self, tool):
        if tool not in self.imports:
            code = {"ants": "from ants import lib", "greedy": "import picsl_greedy"}[tool]
            self.imports[tool] = self.started([sys.executable, "-c", code])
        return self.imports[tool]["cpu_s"]

    def run(self, name, case, out):
        """Runs `name` on a case; leaves warp, inverse_warp and resampled in `out` and returns the
        measurements."""
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        if name == "aligner":
            return self.run_aligner(case, out)
        if name in LANDMARK_RUNS:
            return self.run_landmarks(name, case, out)
        if name == "ants":
            return self.run_ants(case, out)
        if name in GREEDY_SETTINGS:
            return self.run_greedy(name, case, out)
        return self.run_prototype(case, out)

    def run_aligner(self, case, out):
        command = [self.aligner, "--quiet", "register", "--threads", THREADS,
                   "--fixed", case.path("patch_depth.nii.gz"), "--moving", case.path("template_depth.nii.gz"),
                   "--placement", case.path("params.json"), "--space", "scaledVoxel", "--output", out]
        # At 128^3 the figures are a second: the median of three is steadier than one.
        runs = [measured(command, out / "log") for _ in range(3)]
        measure = sorted(runs, key=lambda run: run["cpu_s"])[1]
        measure["cpu_of_runs_s"] = [run["cpu_s"] for run in runs]
        self.resample(case, out)
        return measure

    def resample(self, case, out):
        measured([self.aligner, "--quiet", "apply", "--input", case.path("patch_image.nii.gz"),
                  "--transform", out / "inverse_warp.nii.gz", "--output", out / "resampled.nii.gz"], out / "apply.log")

    def run_landmarks(self, name, case, out):
        """A whole request: only a request can state how uncertain landmarks are."""
        jitter = 0.0 if name == "landmarks-exact" else 1.0
        seed = 0 if jitter == 0 else int(name.rsplit("-", 1)[1])
        request, uncertainty = landmark_request(case, jitter, seed)
        (out / "request.json").write_text(json.dumps(request, indent=1))
        measure = measured([self.aligner, "--quiet", "run", "--threads", THREADS, out / "request.json",
                            "--claim", f"case={case.folder}", "--claim", f"out={out}",
                            "--template", f"template={case.path('template_depth.nii.gz')}"], out / "log")
        self.resample(case, out)
        return measure | {"uncertainty_mm": uncertainty, "jitter_voxel": jitter}

    def run_ants(self, case, out):
        """The command of cortical-voluba, argument for argument."""
        folder = case.folder.resolve()
        measure = measured(
            [sys.executable, "-c", ANTS, "antsRegistration", "--verbose", "1", "--float", "1",
             "--dimensionality", "3",
             "--initial-moving-transform", f"[{folder}/template_to_incoming_affine.txt,1]",
             "--metric", f"MeanSquares[{folder}/patch_depth.nii.gz,{folder}/template_depth.nii.gz]",
             "--transform", "SyN[0.1,3,0]", "--convergence", "[500x500x500,1e-6,10]",
             "--shrink-factors", "4x2x1", "--smoothing-sigmas", "2x1x0vox", "--output", "cortical"],
            out / "log", out)
        measured([sys.executable, "-c", ANTS, "antsApplyTransforms", "--dimensionality", "3", "--float", "1",
                  "--input", f"{folder}/patch_image.nii.gz", "--reference-image", f"{folder}/patch_image.nii.gz",
                  "--interpolation", "Linear", "--default-value", "0", "--output", "resampled.nii.gz",
                  "--transform", "cortical1InverseWarp.nii.gz"], out / "apply.log", out)
        if not (out / "cortical1Warp.nii.gz").exists():  # the wheel returns 0 whatever happened
            raise Failed(f"antsRegistration wrote no warp, see {out / 'log'}")
        (out / "cortical1Warp.nii.gz").rename(out / "warp.nii.gz")
        (out / "cortical1InverseWarp.nii.gz").rename(out / "inverse_warp.nii.gz")
        return self.without_import("ants", measure)

    def run_greedy(self, name, case, out):
        """-wp 0: by default greedy rounds the vectors that it writes."""
        folder, here = case.folder.resolve(), out.resolve()
        measure = measured(
            [sys.executable, "-c", GREEDY,
             f"-d 3 -float -threads {THREADS} -i {folder}/patch_depth.nii.gz {folder}/template_depth.nii.gz "
             f"-it {folder}/fixed_to_moving_ras.mat -m SSD -n 100x100x50 {GREEDY_SETTINGS[name]} "
             f"-wp 0 -o {here}/warp.nii.gz -oinv {here}/inverse_warp.nii.gz"], out / "log")
        measured([sys.executable, "-c", GREEDY,
                  f"-d 3 -float -threads {THREADS} -rf {folder}/patch_image.nii.gz "
                  f"-rm {folder}/patch_image.nii.gz {here}/resampled.nii.gz -r {here}/inverse_warp.nii.gz"],
                 out / "apply.log")
        return self.without_import("greedy", measure)

    def without_import(self, tool, measure):
        cost = self.import_cost(tool)
        return measure | {"cpu_s": round(measure["cpu_s"] - cost, 3), "import_cpu_s": cost}

    def run_prototype(self, case, out):
        measure = measured([sys.executable, HERE / "prototype.py", case.folder, out], out / "log")
        own = json.loads((out / "own.json").read_text())
        return measure | {"cpu_s": own["cpu_s"], "process_cpu_s": measure["cpu_s"]}


def commit():
    """Commit of the checkout, with a plus if it was changed since."""
    ended = subprocess.run(["git", "-C", HERE, "describe", "--always", "--abbrev=10", "--dirty=+", "--exclude=*"],
                           capture_output=True, text=True)
    return ended.stdout.strip() or "no checkout"


def landmark_request(case, jitter, seed):
    """A request with the pairs of the case, patch points moved by `jitter` voxels (sd along each
    axis), and the stated uncertainty: what a user would say who knows the jitter, at least 0.05 mm.
    """
    patch, template = case.landmarks()
    rng = np.random.default_rng([seed, case.spec.seed])
    patch = patch + rng.normal(0, 1, patch.shape) * jitter * case.voxel_mm[:, None]
    uncertainty = round(max(0.05, 1.2 * jitter * float(case.voxel_mm.mean())), 4)
    volume = lambda name: {"volume": {"claimName": "case", "path": name}}
    spec = {"template": "template",
            "patch": {"images": [{"name": "patch", "source": volume("patch_image.nii.gz")}],
                      "depth": {"map": {"source": volume("patch_depth.nii.gz")}}},
            "placement": {"space": "scaledVoxel", "matrix": case.matrix.tolist()},
            "landmarks": [{"name": f"L{k}", "template": t.tolist(), "patch": p.tolist()}
                          for k, (p, t) in enumerate(zip(patch.T, template.T))],
            "registration": {"landmarkUncertaintyMm": uncertainty},
            "output": {"destination": {"volume": {"claimName": "out"}}, "grids": ["patch"],
                       "artifacts": ["warp", "inverseWarp", "report"]}}
    return {"apiVersion": "voluba.ebrains.eu/v1alpha1", "kind": "AlignmentRequest",
            "metadata": {"name": "bench"}, "spec": spec}, uncertainty
