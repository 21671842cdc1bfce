#!/usr/bin/env python3
"""Runs checkov over manifests: every failure must be explained in checkov-explained.tsv.

scan.py FILE...    each file is scanned on its own, so that a policy of one explains nothing in another

Prints each failure that is not explained, and each explanation that nothing needs any more; exit
status 1 if there are any, 2 if checkov did not really look.
"""

import logging
import pathlib
import sys

logging.disable(logging.CRITICAL)  # checkov logs that it cannot reach its makers

from checkov.kubernetes.runner import Runner  # noqa: E402
from checkov.runner_filter import RunnerFilter  # noqa: E402

EXPLAINED = pathlib.Path(__file__).with_name("checkov-explained.tsv")


def explanations():
    """{(check, kind): files in which it may not fail}. The reason is for readers, but it must be there."""
    found = {}
    for number, line in enumerate(EXPLAINED.read_text().splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        parts = line.split("\t")
        if len(parts) != 4 or len(parts[3]) < 20:
            sys.exit(f"{EXPLAINED}:{number}: expected CHECK, KIND, EXCEPT IN and REASON, separated by tabs")
        found[parts[0], parts[1]] = parts[2].split(",")
    return found


def failures(file):
    report = Runner().run(None, files=[str(file)], runner_filter=RunnerFilter(framework=["kubernetes"]))
    if report.parsing_errors or len(report.passed_checks) < 20:
        sys.exit(f"{file}: checkov passed {len(report.passed_checks)} checks, {report.parsing_errors=}")
    for record in report.failed_checks:
        kind, _, name = record.resource.partition(".")
        yield record.check_id, kind, name, record.check_name
    print(f"{file}: {len(report.passed_checks)} passed, {len(report.failed_checks)} failed")


def main(files):
    explained, needed, status = explanations(), set(), 0
    for file in map(pathlib.Path, files):
        for check, kind, name, text in failures(file):
            needed.add((check, kind))
            if file.stem in explained.get((check, kind), [file.stem]):
                print(f"{file}: {kind} {name}: {check} {text}: fails, and nothing explains why")
                status = 1
    for check, kind in sorted(explained.keys() - needed):
        print(f"{EXPLAINED.name}: {check} of a {kind}: nothing fails so any more; remove the line")
        status = 1
    return status


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
