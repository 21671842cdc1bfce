#!/usr/bin/env python3
"""Registers cases with a known answer, by the aligner and by its peers, and compares.

Prints one line for each figure, `figure <name> <value> <unit> bar <bar> ok|short`, and at the end
`N figures, M short`. Figures for which nothing was run are left out. A report with every number goes
to --report. Cases and results are kept in the work folder.
"""
import argparse
import datetime
import fnmatch
import json
import os
import sys
from pathlib import Path

import cases
import figures
import report
from peers import LANDMARK_RUNS, OWN, TOOLS, Failed, Programs
from score import Scorer


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aligner", type=Path, help="the program to measure")
    parser.add_argument("--report", type=Path, help="Markdown file to write")
    parser.add_argument("--work", type=Path, default=Path("dist/bench"), help="folder for cases and results")
    parser.add_argument("--only", default="*", metavar="PATTERN",
                        help="cases whose name or group matches; several with commas: 'exact,r10*'")
    parser.add_argument("--tools", default=",".join(TOOLS), help=f"some of {','.join(TOOLS)}")
    parser.add_argument("--reuse", action="store_true",
                        help="keep results of peers from earlier runs on the same cases; the report marks them")
    parser.add_argument("--list", action="store_true", help="list the cases and end")
    options = parser.parse_args()
    options.tools = options.tools.split(",")
    unknown = [tool for tool in options.tools if tool not in TOOLS]
    if unknown:
        parser.error(f"no such tool: {', '.join(unknown)}")
    options.specs = {spec.name: spec for spec in cases.SPECS if matches(spec, options.only)}
    if not options.specs:
        parser.error(f"no case matches {options.only}")
    if not options.list and options.aligner is None:
        parser.error("--aligner is missing")
    return options


def matches(spec, patterns):
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns.split(",") for name in (spec.name, spec.group))


def runs_of(spec, tools):
    """Landmarks are tried on the realistic cases; ANTs on all but the exact ones, where greedy is far
    closer to the truth and ANTs would take half of the whole benchmark's time."""
    wanted = [run for tool in tools for run in TOOLS[tool]]
    left_out = {"realistic": [], "exact": [*LANDMARK_RUNS, "ants"], "hard": LANDMARK_RUNS}[spec.group]
    return [run for run in wanted if run not in left_out]


def outcome(run, case, scorer, programs, folder, reuse):
    """Runs and scores, or takes an earlier run of a peer whose files are still there."""
    record, key = folder / "run.json", cases.key(case.spec)
    kept = None
    if reuse and run not in OWN and record.exists():
        kept = json.loads(record.read_text())
        kept = kept | {"reused": True} if kept["case"] == key else None
    if kept is None:
        try:
            measure = programs.run(run, case, folder)
        except Failed as failure:
            print(f"{case.spec.name} {run}: {failure}", file=sys.stderr)
            return {"failed": str(failure).replace(str(folder), run)}
        kept = {"case": key, "date": datetime.datetime.now().isoformat(timespec="seconds"), "measure": measure}
        record.write_text(json.dumps(kept, indent=1))
    files = [folder / name for name in ("warp.nii.gz", "inverse_warp.nii.gz", "resampled.nii.gz")]
    kept["score"] = scorer.score(*files)
    if run == "aligner" and case.spec.group == "realistic":
        kept["landmark_bound"] = scorer.landmark_bound(files[0])
    if run in OWN:  # cheap to make again
        for file in files:
            file.unlink()
    return kept


def summary(run, result):
    if "failed" in result:
        return f"  {run}: failed"
    normal, everything = result["score"]["forward"]["normal"], result["score"]["forward"]["all"]
    folds = result["score"]["forward"]["folds"], result["score"]["inverse"]["folds"]
    return (f"  {run}: normal {normal['mean']:.4f}, all {everything['mean']:.4f} mm, folds {folds[0]}/{folds[1]}, "
            f"CPU {result['measure']['cpu_s']:.2f} s{' (reused)' if result.get('reused') else ''}")


def main():
    options = arguments()
    if options.list:
        for spec in options.specs.values():
            print(f"{spec.name:8} {spec.group:10} {spec.source} {spec.size:4} {spec.truth:6} {spec.depth:9} "
                  f"noise {spec.noise:g} seed {spec.seed}")
        return
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    programs = Programs(options.aligner.resolve(), work)
    runs, starts = {}, {}
    for name, spec in options.specs.items():
        print(f"{name} (load {os.getloadavg()[0]:.1f})", file=sys.stderr)
        case = cases.made(spec, work / "cases" / name)
        scorer = Scorer(case)
        starts[name], runs[name] = scorer.start(), {}
        for run in runs_of(spec, options.tools):
            runs[name][run] = outcome(run, case, scorer, programs, work / "results" / name / run, options.reuse)
            print(summary(run, runs[name][run]), file=sys.stderr, flush=True)
        (work / "results.json").write_text(json.dumps(runs, indent=1))
    results = figures.Results(options.specs, runs, programs.empty["peak_mib"])
    found = figures.all_figures(results)
    if options.report:
        options.report.write_text(report.text(results, found, programs.versions, starts, notes(options, runs)))
    for figure in found:
        print(figure.line())
    print(f"{len(found)} figures, {sum(not figure.met for figure in found)} short")


def notes(options, runs):
    """What makes this run less than the whole benchmark in one go."""
    lines = []
    if len(options.specs) < len(cases.SPECS) or set(options.tools) != set(TOOLS):
        lines.append(f"Not the whole benchmark: {len(options.specs)} of {len(cases.SPECS)} cases, "
                     f"tools {', '.join(options.tools)}")
    failed = [f"{name} {run}" for name, case in runs.items() for run, result in case.items() if "failed" in result]
    if failed:
        lines.append(f"Failed, and missing from every mean: {', '.join(failed)}")
    dates = sorted(result["date"][:10] for case in runs.values() for result in case.values() if result.get("reused"))
    if dates:
        lines.append(f"{len(dates)} results of peers are reused, from {dates[0]} to {dates[-1]}: marked in the tables; "
                     "their CPU was not measured beside the aligner's")
    return lines


if __name__ == "__main__":
    main()
