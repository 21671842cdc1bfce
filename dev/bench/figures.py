"""From scores to figures: ratios between programs, and the bars of the issue that asked for them."""
import dataclasses
import math

from peers import GREEDY_SETTINGS, LANDMARK_RUNS, OWN

# The nine figures of a comparison.
NINE = [(way, part, value) for way in ("forward", "inverse") for part in ("normal", "all") for value in ("mean", "p95")]


def nine(score):
    return [score[way][part][value] for way, part, value in NINE] + [score["image_rms"]]


def ratios(score, other):
    """The nine figures of `score` in units of `other`'s; below 1 is better."""
    return [a / b for a, b in zip(nine(score), nine(other))]


def geometric_mean(numbers):
    return math.exp(sum(math.log(number) for number in numbers) / len(numbers))


@dataclasses.dataclass
class Figure:
    name: str
    value: float
    unit: str
    bar: float
    note: str

    @property
    def met(self):
        return self.value <= self.bar  # false for NaN, too

    def line(self):
        verdict = "ok" if self.met else "short"
        return f"figure {self.name} {self.value:.4g} {self.unit} bar {self.bar:.4g} {verdict}"


class Results:
    """`runs[case][run]` is {"score", "measure"} or {"failed": text}; `specs[case]` the case's data."""

    def __init__(self, specs, runs, empty_mib):
        self.specs, self.runs, self.empty_mib = specs, runs, empty_mib

    def score(self, case, run):
        return self.runs.get(case, {}).get(run, {}).get("score")

    def measure(self, case, run):
        return self.runs.get(case, {}).get(run, {}).get("measure")

    def both(self, run, other, *groups):
        """Cases of the groups that both runs finished."""
        return [case for case, spec in self.specs.items()
                if spec.group in groups and self.score(case, run) and self.score(case, other)]

    def to_peer(self, peer, *groups):
        """{case: nine ratios} of the aligner to a peer."""
        return {case: ratios(self.score(case, "aligner"), self.score(case, peer))
                for case in self.both("aligner", peer, *groups)}

    def greedy_best(self, *groups):
        """The setting of greedy that stands best against the aligner over the groups' cases."""
        means = {}
        for setting in GREEDY_SETTINGS:
            found = self.to_peer(setting, *groups)
            if found:
                means[setting] = geometric_mean([geometric_mean(nine) for nine in found.values()])
        return max(means, key=means.get) if means else "greedy"

    def landmark_gains(self, runs):
        """{(case, run): all-component forward mean with landmarks, relative to without}"""
        return {(case, run): self.score(case, run)["forward"]["all"]["mean"]
                / self.score(case, "aligner")["forward"]["all"]["mean"]
                for run in runs for case in self.both(run, "aligner", "realistic")}


def where(values):
    """Key of the largest value, as text."""
    worst = max(values, key=values.get)
    return worst if isinstance(worst, str) else " ".join(worst)


def all_figures(results):
    """The table of the issue; a figure for which nothing was run is left out."""
    return [*accuracy(results), *landmarks(results), *soundness(results), *cost(results)]


def accuracy(results):
    found = results.to_peer("ants", "realistic")
    if found:
        means = {case: geometric_mean(values) for case, values in found.items()}
        worst = {case: max(values) for case, values in found.items()}
        yield Figure("realistic_to_ants_mean", geometric_mean(means.values()), "ratio", 0.90,
                     f"geometric mean of nine figures over {len(found)} cases")
        yield Figure("realistic_to_ants_worst", max(worst.values()), "ratio", 1.05, f"single figure, {where(worst)}")
    best = results.greedy_best("exact")
    found = results.to_peer(best, "exact")
    if found:
        means = {case: geometric_mean(values) for case, values in found.items()}
        yield Figure("exact_to_greedy_best_mean", geometric_mean(means.values()), "ratio", 0.75,
                     f"{best} {GREEDY_SETTINGS[best]}; geometric mean over {len(found)} cases")
    found = results.to_peer("prototype", "realistic", "exact", "hard")
    if found:
        means = {case: geometric_mean(values) for case, values in found.items()}
        yield Figure("to_prototype_worst_case", max(means.values()), "ratio", 1.02,
                     f"geometric mean of nine, {where(means)} of {len(found)} cases")


def landmarks(results):
    for name, runs, bar in (("landmarks_exact_worst", LANDMARK_RUNS[:1], 0.92),
                            ("landmarks_jittered_worst", LANDMARK_RUNS[1:], 1.00)):
        gains = results.landmark_gains(runs)
        if gains:
            yield Figure(name, max(gains.values()), "ratio", bar,
                         f"'all' forward mean to that without, {where(gains)} of {len(gains)} runs")


def soundness(results):
    own = [(case, run, outcome) for case, runs in results.runs.items() for run, outcome in runs.items() if run in OWN]
    if not own:
        return
    failed = [f"{case} {run}" for case, run, outcome in own if "failed" in outcome]
    yield Figure("failed_runs", len(failed), "runs", 0, ", ".join(failed) or f"of {len(own)}")
    scores = [outcome["score"] for _, _, outcome in own if "score" in outcome]
    if not scores:
        return
    folds = sum(score["forward"]["folds"] + score["inverse"]["folds"] for score in scores)
    yield Figure("folds", folds, "cells", 0, f"8-corner test, forward and inverse, {len(scores)} runs")
    large = {case: results.score(case, "aligner")["consistency"] for case in at_128(results, "aligner")}
    if large:
        for value, bar in (("mean", 0.001), ("max", 0.02)):
            found = {case: consistency[value] for case, consistency in large.items()}
            yield Figure(f"inverse_consistency_{value}_128", max(found.values()), "mm", bar, f"worst case, {where(found)}")


def at_128(results, *runs):
    return [case for case, spec in results.specs.items()
            if spec.size == 128 and all(results.measure(case, run) for run in runs)]


def cost(results):
    for peer, bar in (("ants", 1 / 150), ("greedy", 0.1)):
        found = {case: results.measure(case, "aligner")["cpu_s"] / results.measure(case, peer)["cpu_s"]
                 for case in at_128(results, "aligner", peer)}
        if found:
            yield Figure(f"cpu_to_{peer}_128", max(found.values()), "ratio", bar,
                         f"whole command, worst case, {where(found)} of {len(found)}")
    found = {case: (results.measure(case, "aligner")["peak_mib"] - results.empty_mib) * 2 ** 20
             / results.specs[case].size ** 3 for case in at_128(results, "aligner")}
    if found:
        yield Figure("peak_memory_128", max(found.values()), "byte/voxel", 64,
                     f"above the empty process, worst case, {where(found)}")
