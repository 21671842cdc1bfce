"""The benchmark's report, in Markdown."""
import datetime
import os
import platform
from pathlib import Path

from figures import geometric_mean, ratios
from peers import GREEDY_SETTINGS, LANDMARK_RUNS, THREADS

RUNS = ["aligner", "ants", *GREEDY_SETTINGS, "prototype"]
LABELS = {"start": "placement only", "aligner": "**aligner**", "ants": "ANTs", "greedy": "greedy default",
          "greedy-3-0": "greedy 3/0", "greedy-sv": "greedy -sv 2/0.5", "prototype": "prototype"}
GROUPS = {
    "realistic": "Realistic cases: depth solved anew in the warped patch, so that the two maps do not agree even at the truth",
    "exact": "Exact cases: the patch's depth is the warped template depth",
    "hard": "Hard cases: large (big1, big2) and rough (x64) deformations"}


def text(results, figures, versions, starts, notes):
    """`starts[case]`: scores of the placement alone. `notes`: lines that must not be overlooked."""
    parts = [heading(versions, notes), figure_table(figures)]
    for group, title in GROUPS.items():
        cases = [case for case, spec in results.specs.items() if spec.group == group and case in results.runs]
        if cases:
            parts.append(f"## {title}\n\n{case_table(results, cases, starts)}")
            if any(results.score(case, "aligner") for case in cases):
                parts.append(ratio_table(results, cases))
    if results.landmark_gains(LANDMARK_RUNS):
        parts.append(landmark_table(results))
    parts.append(case_list(results))
    return "\n\n".join(parts) + "\n"


def heading(versions, notes):
    processor = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                      if line.startswith("model name")), "unknown")
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    listed = ", ".join(f"{LABELS[name].strip('*')}: {version}" for name, version in versions.items())
    lines = [
        "# Registration: figures beside peers", "",
        "Written by `dev/bench-registration.sh`; not edited by hand.", "",
        f"- Date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC",
        f"- Machine: {processor}, {os.cpu_count()} cores, Linux {platform.release()}; load at the end {load}; "
        "the column Load holds the load average when each run began",
        f"- Versions: {listed}; Python {platform.python_version()}",
        f"- {THREADS} threads each, the prototype one. CPU is user + system time of the whole process. "
        "Subtracted, in favour of the peers: the import of the Python wheel (ANTs, greedy); import, compilation "
        "and files (prototype, which times itself). Not counted for anybody: carrying the image through the result.",
        "- Peak is the largest resident memory; for ANTs, greedy and the prototype it contains Python.",
        "- Seeds from 100 on were not used in development.",
        *(f"- **{note}**" for note in notes)]
    return "\n".join(lines)


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def figure_table(figures):
    rows = [(figure.name, f"{figure.value:.4g} {figure.unit}", f"≤ {figure.bar:.4g}",
             "ok" if figure.met else "**short**", figure.note) for figure in figures]
    return "## Figures\n\n" + table(("Figure", "Value", "Bar", "", "Of"), rows)


def case_table(results, cases, starts):
    header = ("Case", "Tool", "Normal forward", "inverse", "All forward", "inverse", "Image", "Depth (floor)",
              "Landmark", "Folds f/i", "Consistency mean/max", "CPU s", "Peak MiB", "Load")
    rows = []
    for case in cases:
        rows.append((f"**{case}**", LABELS["start"], *score_cells(starts[case]), "", "", ""))
        for run in RUNS:
            outcome = results.runs[case].get(run)
            if outcome is None:
                continue
            name = LABELS[run] + (f" (reused, {outcome['date'][:10]})" if outcome.get("reused") else "")
            if "failed" in outcome:
                rows.append(("", name, f"failed: {outcome['failed']}", *[""] * (len(header) - 3)))
                continue
            measure = outcome["measure"]
            rows.append(("", name, *score_cells(outcome["score"]), f"{measure['cpu_s']:.2f}",
                         f"{measure['peak_mib']:.0f}", f"{measure['load']:.1f}"))
    return "Errors in the cortex, mm, mean/95th percentile; image: RMS of intensity.\n\n" + table(header, rows)


def score_cells(score):
    def pair(values):
        return f"{values['mean']:.4f}/{values['p95']:.4f}"
    forward, inverse = score["forward"], score["inverse"]
    return (pair(forward["normal"]), pair(inverse["normal"]), pair(forward["all"]), pair(inverse["all"]),
            f"{score['image_rms']:.1f}", f"{forward['depth_rms']:.4f} ({forward['depth_floor']:.4f})",
            f"{forward['landmark']:.3f}", f"{forward['folds']}/{inverse['folds']}",
            f"{score['consistency']['mean']:.4f}/{score['consistency']['max']:.4f}")


def ratio_table(results, cases):
    rows = []
    for case in cases:
        own = results.score(case, "aligner")
        if own is None:
            continue
        cells = []
        for run in RUNS[1:]:
            other = results.score(case, run)
            if other is None:
                cells += ["", ""]
                continue
            values = ratios(own, other)
            cost = results.measure(case, run)["cpu_s"] / results.measure(case, "aligner")["cpu_s"]
            cells += [f"{geometric_mean(values):.3f} ({max(values):.2f})", f"{cost:.1f}x"]
        rows.append((case, *cells))
    header = ["Case", *(cell for run in RUNS[1:] for cell in (f"to {LABELS[run]}", "its CPU"))]
    return ("Geometric mean (worst) of the nine ratios of the aligner to each peer, below 1 is better; the peer's "
            "CPU in units of the aligner's:\n\n" + table(header, rows))


def landmark_table(results):
    header = ("Case", "Uncertainty told, mm", "without", "best linear", *(run.removeprefix("landmarks-") for run in LANDMARK_RUNS))
    rows = []
    for case in results.both("aligner", LANDMARK_RUNS[0], "realistic"):
        told = sorted({results.measure(case, run)["uncertainty_mm"] for run in LANDMARK_RUNS
                       if results.measure(case, run)})
        cells = []
        for run in LANDMARK_RUNS:
            score = results.score(case, run)
            if score is None:
                cells.append("failed")
                continue
            ratio = score["forward"]["all"]["mean"] / results.score(case, "aligner")["forward"]["all"]["mean"]
            cells.append(f"{score['forward']['all']['mean']:.4f}, {score['forward']['landmark']:.3f} ({ratio:.3f})")
        own = results.score(case, "aligner")["forward"]
        bound = results.runs[case]["aligner"].get("landmark_bound")
        best = f"({bound:.3f})" if bound else ""
        rows.append((case, " / ".join(f"{value:g}" for value in told),
                     f"{own['all']['mean']:.4f}, {own['landmark']:.3f}", best, *cells))
    return ("## Landmarks: 12 pairs\n\n"
            "'All' forward mean, mean distance of the true pairs (ratio of the former to that without), mm. Jitter: "
            "normal, sd of one voxel along each axis of the patch, three seeds. Told: exact pairs 0.05 mm, jittered "
            "ones 1.2 mean voxels if that is more. Best linear: what the best linear prediction from the exact pairs "
            "would leave that knows the covariance of the true error (`dev/bench/landmark_bound.py`).\n\n" + table(header, rows))


def case_list(results):
    header = ("Case", "Source", "Grid", "Template voxel mm", "Seed", "Truth", "Sigma", "Largest", "Axes", "Depth", "Noise")
    rows = [(case, spec.source, f"{spec.size}³", f"{spec.voxel:g}", str(spec.seed), spec.truth, f"{spec.sigma:g}",
             f"{spec.max_disp:g}", spec.orient, spec.depth, f"{spec.noise:g}")
            for case, spec in results.specs.items() if case in results.runs]
    return ("## Cases\n\nSigma and largest displacement in template voxels. Truths: flow = exp of one smooth stationary "
            "velocity; flows = two such, of different smoothness, composed; bumps = 12 to 20 local pushes, composed. "
            "Made by `dev/bench/make_case.py`.\n\n" + table(header, rows))
