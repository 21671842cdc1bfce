#!/usr/bin/env python3
"""Tests of the benchmark itself: a wrong ruler would make every figure wrong.

Closing line: `bench: N passed, M failed`.
"""
import dataclasses
import json
import math
import sys
import tempfile
from pathlib import Path

import numpy as np

import cases
import figures
import fields
import make_case
import report
import truths
from landmark_bound import best_linear
from peers import JITTER_SEEDS, landmark_request
from score import Scorer

outcomes = []
SMALL = cases.Spec("small", "exact", "rim", 32, 0.8, 3, 4, 1.5, "LAS", "resample", truth="flow", zoom=0.25)


def check(name, passed, detail=""):
    outcomes.append(bool(passed))
    print(f"{'ok    ' if passed else 'FAILED'} {name} {detail}")


def saved(case, folder, u, inverse, image):
    """A result as a program would leave it."""
    for name, field in (("w.nii.gz", u), ("i.nii.gz", inverse)):
        fields.save_warp(folder / name, field, case.affine)
    fields.save_scalar(folder / "r.nii.gz", image, case.affine)
    return folder / "w.nii.gz", folder / "i.nii.gz", folder / "r.nii.gz"


def test_scorer(case, folder):
    scorer = Scorer(case)
    image = fields.sample(fields.values(case.path("patch_image.nii.gz")), scorer.x + scorer.inverse_truth)
    score = scorer.score(*saved(case, folder, scorer.truth, scorer.inverse_truth, image))
    errors = figures.nine(score)
    check("the truth has no error", max(errors[:8]) < 1e-4, f"{max(errors[:8]):.1e} mm")
    check("the truth is fold-free and consistent", score["forward"]["folds"] + score["inverse"]["folds"] == 0
          and score["consistency"]["max"] < 0.1, f"{score['consistency']['max']:.3f} mm")
    check("the truth meets the landmarks", score["forward"]["landmark"] < 0.02, f"{score['forward']['landmark']:.4f} mm")
    check("the depths agree at the truth of an exact case", score["forward"]["depth_rms"] < 1e-4)
    start = scorer.start()
    check("the placement alone does not", start["forward"]["depth_rms"] > 0.02 and start["image_rms"] > 2 * score["image_rms"])

    # A shift of known length, given in mm along the patch's oblique axes.
    shift = np.array([0.3, -0.2, 0.1])[:, None, None, None] / case.voxel_mm[:, None, None, None]
    expected = math.sqrt(0.3 ** 2 + 0.2 ** 2 + 0.1 ** 2)
    shifted = scorer.score(*saved(case, folder, (scorer.truth + shift).astype(np.float32), scorer.inverse_truth, image))
    found = shifted["forward"]["all"]
    check("a shifted field is wrong by the shift", abs(found["mean"] - expected) < 1e-3 and abs(found["p95"] - expected) < 1e-3,
          f"{found['mean']:.4f} of {expected:.4f} mm")
    check("its normal part is smaller, and not nothing", 0.2 * expected < shifted["forward"]["normal"]["mean"] < expected)
    check("the landmarks are off by about as much", abs(shifted["forward"]["landmark"] - expected) < 0.05 * expected)
    check("the inverse is judged on its own", shifted["inverse"]["all"]["mean"] < 1e-4)
    check("and no longer fits", abs(shifted["consistency"]["mean"] - expected) < 0.2 * expected)


def test_folds():
    still = np.zeros((3, 8, 8, 8), np.float32)
    check("no motion has Jacobian 1 and no fold", fields.corner_folds(still) == (1.0, 0))
    crossed = still.copy()
    crossed[0, 4, 4, 4] = 1.5  # passes its neighbour: the four cells beyond it fold
    worst, folds = fields.corner_folds(crossed)
    check("a voxel that passes its neighbour folds four cells", folds == 4 and abs(worst + 0.5) < 1e-6, f"{folds}, {worst:.2f}")
    check("central differences would not have seen it", fields.jacobian(crossed).min() > 0)


def test_truths():
    voxel = 0.8 * np.array([0.70, 0.78, 0.86])
    small = dataclasses.replace(SMALL, size=24, max_disp=1.0)
    for kind in ("flow", "flows", "bumps"):
        spec = dataclasses.replace(small, truth=kind)
        for seed in (1, 2):
            u, inverse = truths.make(spec, voxel, np.random.default_rng(seed))
            folds = fields.corner_folds(u)[1] + fields.corner_folds(inverse)[1]
            largest = truths.length(u, voxel)
            residual = np.abs(fields.compose(inverse, u, 3)).max()
            back = np.abs(fields.compose(u, inverse, 3)[:, 2:-2, 2:-2, 2:-2]).max()
            check(f"{kind} {seed}: fold-free, as large as asked, its inverse is one",
                  folds == 0 and abs(largest / 0.8 - 1) < 0.1 and residual < 0.03 and back < 0.1,
                  f"{folds} folds, {largest:.2f} mm, {residual:.1e} and {back:.1e} voxel")
    # Where the fixed point diverges: a deformation that stretches threefold.
    spec = dataclasses.replace(small, max_disp=3.5, sigma=4)
    u, inverse = truths.make(spec, voxel, np.random.default_rng(4))
    residual = np.abs(fields.compose(inverse, u, 3)).max()
    check("a strong flow is inverted, too", residual < 0.03 and fields.jacobian(u).max() > 2.5,
          f"{residual:.1e} voxel, Jacobian to {fields.jacobian(u).max():.1f}")


def flat_score(value):
    part = {"mean": value, "p95": value}
    way = {"normal": part, "all": part, "folds": 0, "depth_rms": value, "depth_floor": value, "landmark": value}
    return {"forward": way, "inverse": way, "image_rms": value, "consistency": {"mean": value, "max": value}}


def test_figures():
    better = flat_score(0.5)
    better["forward"] = dict(better["forward"], normal={"mean": 4.0, "p95": 0.5})
    found = figures.ratios(better, flat_score(1.0))
    check("nine ratios, in the stated order", found == [4.0] + [0.5] * 8)
    check("their geometric mean", abs(figures.geometric_mean(found) - (4 * 0.5 ** 8) ** (1 / 9)) < 1e-12)

    specs = {"a": dataclasses.replace(SMALL, name="a", group="realistic", size=128)}
    measure = {"cpu_s": 2.0, "peak_mib": 108.0, "load": 1.0, "uncertainty_mm": 0.15}
    of = lambda value, cpu: {"score": flat_score(value), "measure": dict(measure, cpu_s=cpu)}
    runs = {"a": {"aligner": of(0.5, 2.0), "ants": of(1.0, 400.0), "greedy": of(1.0, 10.0),
                  "landmarks-exact": of(0.45, 2.0), "landmarks-jitter-1": {"failed": "why"}}}
    results = figures.Results(specs, runs, 8.0)
    named = {figure.name: figure for figure in figures.all_figures(results)}
    expected = {"realistic_to_ants_mean": 0.5, "realistic_to_ants_worst": 0.5, "cpu_to_ants_128": 0.005,
                "cpu_to_greedy_128": 0.2, "landmarks_exact_worst": 0.9, "peak_memory_128": 50.0,
                "folds": 0, "failed_runs": 1, "inverse_consistency_max_128": 0.5}
    wrong = {name: named[name].value for name, value in expected.items() if abs(named[name].value - value) > 1e-9}
    check("figures follow from scores", not wrong, wrong or "")
    check("a failed run falls short", not named["failed_runs"].met and named["realistic_to_ants_mean"].met)
    check("what was not run gives no figure", not {"exact_to_greedy_best_mean", "landmarks_jittered_worst"} & set(named))
    line = named["cpu_to_greedy_128"].line()
    check("a line for each figure", line == "figure cpu_to_greedy_128 0.2 ratio bar 0.1 short", line)
    check("not a number is short", not figures.Figure("x", math.nan, "mm", 1, "").met)
    text = report.text(results, list(named.values()), {"aligner": "0"}, {"a": flat_score(1.0)}, ["a note"])
    rows = [line for line in text.splitlines() if line.startswith("|")]
    check("the report holds the case and its failure", "| **a** |" in text and "failed" in text and "a note" in text and len(rows) > 20)


def test_landmarks(case):
    exact, told = landmark_request(case, 0.0, 0)
    check("exact pairs are told as 0.05 mm", told == 0.05 and exact["spec"]["registration"]["landmarkUncertaintyMm"] == 0.05)
    moved = []
    for seed in JITTER_SEEDS:
        request, told = landmark_request(case, 1.0, seed)
        moved.append(np.array([pair["patch"] for pair in request["spec"]["landmarks"]]))
    away = (np.array(moved) - np.array([pair["patch"] for pair in exact["spec"]["landmarks"]])) / case.voxel_mm
    check("jitter is one voxel along each axis, another for each seed", 0.7 < away.std() < 1.3
          and np.abs(away[0] - away[1]).max() > 0.1 and abs(told - 1.2 * case.voxel_mm.mean()) < 1e-3, f"sd {away.std():.2f}")
    check("a request is JSON", json.loads(json.dumps(exact))["kind"] == "AlignmentRequest")


def test_landmark_bound():
    random = np.random.default_rng(5)
    at = random.uniform(0, 10, (3, 3000))
    pairs = at[:, :12]
    smooth = np.stack([np.sin(at.sum(0) / 30), np.ones(at.shape[1]), np.cos(at[0] / 20)])
    rough = random.standard_normal(smooth.shape)
    found = [best_linear(error, at, error[:, :12], pairs) for error in (smooth, rough)]
    check("pairs can take nearly all of a smooth error away, and nothing of a rough one",
          found[0] < 0.1 and 0.97 < found[1] < 1.03, str(found))


def test_table():
    names = [spec.name for spec in cases.SPECS]
    check("case names are unique", len(set(names)) == len(names))
    realistic = [spec for spec in cases.SPECS if spec.group == "realistic"]
    exact = [spec for spec in cases.SPECS if spec.group == "exact"]
    check("enough realistic cases of every kind", len({spec.seed for spec in realistic}) >= 8
          and {spec.source for spec in realistic} == {"rim", "mni"} and {spec.truth for spec in realistic} == {"flow", "flows", "bumps"}
          and 2 * sum(spec.noise > 0 for spec in realistic) == len(realistic) and sum(spec.size == 128 for spec in realistic) == 2)
    check("enough exact cases", len(exact) >= 6 and {"ding64", "ding128"} <= {spec.name for spec in exact})
    check("a changed case has another key", cases.key(realistic[0]) != cases.key(dataclasses.replace(realistic[0], seed=1)))


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "case").mkdir()
        make_case.make(SMALL, folder / "case")
        case = cases.Case(folder / "case", SMALL)
        test_scorer(case, folder)
        test_landmarks(case)
    test_folds()
    test_truths()
    test_figures()
    test_landmark_bound()
    test_table()
    passed = sum(outcomes)
    print(f"bench: {passed} passed, {len(outcomes) - passed} failed")
    sys.exit(passed != len(outcomes))


if __name__ == "__main__":
    main()
