#!/usr/bin/env python3
"""The documentation holds: links lead somewhere, YAML is valid, commands work.

    test-docs.py PROGRAMS            everything but the commands that need pods
    test-docs.py PROGRAMS --cluster  those, on the cluster of KUBECONFIG

PROGRAMS is the folder with `aligner`, or with `node_modules` for the clients. dev/docs/blocks.py says what is done with which block.
Every block is run, validated, written for another, shown output, or not run for a reason that stands
beside it; the counts are printed. Closing line: `docs: N passed, M failed`.
"""
import collections
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "dev" / "docs"))
import blocks  # noqa: E402
import checks  # noqa: E402
import links  # noqa: E402
from session import Session  # noqa: E402

PAGES_OF_CLUSTER = ("install.md", "align.md", "clients.md", "integrate.md", "operate.md", "backup.md")
outcomes = []
counts = collections.Counter()
reasons = []


def check(name, mistake):
    outcomes.append(mistake is None)
    print(f"ok     {name}" if mistake is None else f"FAILED {name}: {mistake}", flush=True)


def name_of(block, what):
    first = block.text.strip().splitlines()[0][:60] if block.text.strip() else ""
    return f"{block.place}: {what}: {first}"


VALIDATED = {
    "request": ("the request is valid", lambda block, aligner: checks.request(block.text, aligner)),
    "manifest": ("the API server takes it", lambda block, aligner: checks.api_server_takes(block.text)),
    "values": ("the chart takes it", lambda block, aligner: checks.values(block.text)),
    "sources": ("each is a source", lambda block, aligner: checks.sources(block.text, aligner)),
    "rules": ("they name our metrics", lambda block, aligner: checks.rules(block.text)),
    "same as": ("equal to the file", lambda block, aligner: checks.same_as(block.text, block.argument)),
    "old body": ("an old body becomes a request", lambda block, aligner: checks.old_body(block.text, aligner)),
    "targets": ("the targets exist", lambda block, aligner: checks.targets(block.text)),
}


def write_file(block, session, page):
    """For a later command; YAML is validated on the way, as values if its name says so."""
    session.write(block.argument, block.text)
    if block.language == "yaml":
        valid = checks.values if "values" in block.argument else checks.api_server_takes
        check(name_of(block, "valid"), valid(block.text))
    used = any(other.line > block.line and block.argument in other.text for other in page if other is not block)
    check(name_of(block, "used by a command below"), None if used else f"nothing on the page uses {block.argument}")
    counts["written for a command"] += 1


def run(block, session):
    """Seconds that it took; None if it failed."""
    start = time.monotonic()
    mistake = session.run(block)
    check(name_of(block, "runs"), mistake)
    counts["run"] += 1
    return time.monotonic() - start if mistake is None else None


def forget_installation():
    """So that the next page begins with an empty cluster."""
    for command in (
        ["helm", "uninstall", "voluba-align", "--namespace", "voluba", "--ignore-not-found"],
        ["kubectl", "delete", "namespace", "voluba", "--ignore-not-found"],
    ):
        subprocess.run(command, check=True, capture_output=True, timeout=120)


def example_results(programs, folder):
    """What `make run` leaves, which some commands read."""
    command = [programs / "aligner", "--quiet", "demo", "--examples", ROOT / "examples", "--output", folder]
    subprocess.run(command, check=True)
    return folder


def test_page(page, programs, results):
    found = list(blocks.blocks(page))
    session = None
    if any(block.kind in ("file", "local", "api") for block in found):
        session = Session([programs])
        shutil.copytree(results, session.folder / "dist" / "run")
    for block in found:
        if block.kind in VALIDATED:
            what, mistake = VALIDATED[block.kind]
            check(name_of(block, what), mistake(block, programs / "aligner"))
            counts["validated"] += 1
        elif block.kind == "file":
            write_file(block, session, found)
        elif block.kind in ("local", "api"):
            run(block, session)
        elif block.kind == "not run":
            counts["not run"] += 1
            reasons.append(f"{block.place}: {block.argument}")
        elif block.kind == "cluster":
            counts["left to the cluster"] += 1
        elif block.kind == "shown":
            counts["shown, nothing to run"] += 1
        else:
            check(name_of(block, "has a test"), f"no test for the language '{block.language}' or the words '{block.argument}'")
    if session:
        session.close()
    if any(block.kind == "api" for block in found):
        forget_installation()


def without_pods(programs):
    with tempfile.TemporaryDirectory() as folder:
        results = example_results(programs, pathlib.Path(folder) / "run")
        for page in blocks.pages():
            test_page(page, programs, results)
    check("there are requests, commands and values", None if counts["run"] > 5 and counts["validated"] > 5 else str(counts))
    for page in blocks.pages():
        for line, target, mistake in links.links(page):
            check(f"{page.relative_to(ROOT)} line {line}: {target}", mistake)


def on_cluster(programs):
    """Pages in the order in which somebody would read them. The first block of commands is the way from an
    empty cluster to the first result, and is timed."""
    for name in PAGES_OF_CLUSTER:
        page = ROOT / "docs" / name
        found = list(blocks.blocks(page))
        session = Session([programs])
        (session.folder / "node_modules").symlink_to(programs / "node_modules")
        for block in found:
            if block.kind == "file":
                session.write(block.argument, block.text)
            elif block.kind == "cluster":
                seconds = run(block, session)
                if block.argument == "first request" and seconds is not None:
                    commands = len([line for line in block.text.splitlines() if line[:1].strip()])
                    print(f"figure first-request {seconds:.1f} s bar 180 {'ok' if seconds <= 180 else 'short'}")
                    print(f"figure first-request-commands {commands} commands bar 5 {'ok' if commands <= 5 else 'short'}")
                    check("at most 5 commands to the first result", None if commands <= 5 else str(commands))
        session.close()


def main():
    if len(sys.argv) not in (2, 3) or sys.argv[2:] not in ([], ["--cluster"]):
        sys.exit(__doc__)
    programs = pathlib.Path(sys.argv[1]).resolve()
    (on_cluster if sys.argv[2:] else without_pods)(programs)
    print("blocks: " + ", ".join(f"{count} {what}" for what, count in sorted(counts.items())))
    for reason in reasons:
        print(f"not run: {reason}")
    failed = outcomes.count(False)
    print(f"{'docscluster' if sys.argv[2:] else 'docs'}: {outcomes.count(True)} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
