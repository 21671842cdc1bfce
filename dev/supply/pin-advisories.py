#!/usr/bin/env python3
"""Takes from a clone of the RustSec database what is known of the crates in Cargo.lock, for machines that
cannot reach it: identifiers, dates and version ranges.

    dev/supply/pin-advisories.py pin CLONE       prints dev/supply/advisories.toml
    dev/supply/pin-advisories.py unpin FOLDER    writes a database into FOLDER that cargo-deny reads, and prints
                                          one line for each crate in Cargo.lock that was not looked up
"""

import json
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PINNED = Path(__file__).with_name("advisories.toml")


def crates():
    """Names of the crates that Cargo.lock takes from a registry."""
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    return sorted({package["name"] for package in lock["package"] if "source" in package})


def front_matter(text):
    """The TOML block that an advisory begins with."""
    return tomllib.loads(text.split("```toml\n", 1)[1].split("\n```", 1)[0])


def section(name, values):
    """A section of TOML. Strings and lists of strings are written as in JSON."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join([f"[{name}]", *lines, ""])


def facts(advisory):
    """What decides whether an advisory holds, and for whom."""
    about, affected = advisory["advisory"], advisory.get("affected", {})
    kept = ("id", "package", "date", "informational", "withdrawn", "yanked")
    return {
        "advisory": {key: about[key] for key in kept if key in about},
        "affected": {key: affected[key] for key in ("arch", "os") if key in affected},
        "versions": {key: advisory["versions"][key] for key in ("patched", "unaffected") if key in advisory["versions"]},
    }


def pin(clone):
    """Prints the facts of all advisories on our crates."""
    if not (clone / "crates").is_dir():
        sys.exit(f"{clone}: no clone of the RustSec database, it has no folder crates")
    files = (path for name in crates() for path in (clone / "crates" / name).glob("RUSTSEC-*.md"))
    found = sorted((facts(front_matter(path.read_text())) for path in files), key=lambda one: one["advisory"]["id"])
    newest = max((one["advisory"]["date"] for one in found), default="")
    print("# What the RustSec database (https://rustsec.org, CC0) says of the crates in Cargo.lock.")
    print("# Written by dev/supply/pin-advisories.py.")
    print(f"newest = {json.dumps(newest)}")
    print(f"looked_up = {json.dumps(crates(), indent=2)}")
    for one in found:
        print("\n[[advisories]]")
        for name, values in one.items():
            if values:
                print(section(f"advisories.{name}", values), end="")


def unpin(folder):
    """Writes the database, and prints what it does not know."""
    pinned = tomllib.loads(PINNED.read_text())
    for one in pinned["advisories"]:
        about = one["advisory"]
        path = folder / "crates" / about["package"] / f"{about['id']}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "\n".join(section(name, values) for name, values in one.items())
        path.write_text(f"```toml\n{text}```\n\n# See https://rustsec.org/advisories/{about['id']}\n")
    for name in sorted(set(crates()) - set(pinned["looked_up"])):
        print(name)


def main():
    match sys.argv[1:]:
        case ["pin", clone]:
            pin(Path(clone))
        case ["unpin", folder]:
            unpin(Path(folder))
        case _:
            sys.exit(__doc__)


main()
