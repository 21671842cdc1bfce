#!/usr/bin/env python3
"""Looks into the two image archives of dist/. Closing line: `images: N passed, M failed`.

    test-images.py [--architecture arm64]      those that were made for another architecture
"""
import argparse
import json
import pathlib
import platform
import re
import stat
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "dev" / "lib"))
from linked import linked  # noqa: E402
from oci_image import ARCHITECTURES  # noqa: E402
from oci_archive import Archive, linked_packages, section  # noqa: E402

# Megabytes, compressed.
LARGEST = {"operator": 15, "aligner": 10}
# As OCI names them: their numbers in an ELF program (EM_X86_64, EM_AARCH64).
MACHINES = {"amd64": 62, "arm64": 183}
OWN = ARCHITECTURES[platform.machine()]
TITLE = "org.opencontainers.image."
LABELS = {TITLE + name for name in ("title", "description", "licenses", "version", "revision")}
outcomes = []


def check(name, passed, detail=""):
    outcomes.append(bool(passed))
    print(f"{'ok    ' if passed else 'FAILED'} {name}{'' if passed else f': {detail}'}")


def look(name, other):
    place = ROOT / "dist" / f"voluba-align-{name}{f'-{other}' if other else ''}"
    archive = Archive(place.with_suffix(".tar"))
    architecture = other or OWN
    files, settings = archive.files(), archive.config["config"]
    megabytes = archive.compressed_bytes / 1e6
    print(f"figure image-{name} {megabytes:.2f} MB bar {LARGEST[name]} {'ok' if megabytes <= LARGEST[name] else 'short'}")
    check(f"{name}: at most {LARGEST[name]} MB compressed", megabytes <= LARGEST[name], f"{megabytes:.2f}")
    check(f"{name}: one file, the program; no shell", [file.path for file in files] == [name], [file.path for file in files])
    program = archive.executables()[0]
    check(f"{name}: one executable", len(archive.executables()) == 1)
    check(f"{name}: for {architecture}, and so is its program", archive.architecture == architecture
          and machine(program.content) == MACHINES[architecture], (archive.architecture, machine(program.content)))
    check(f"{name}: any user may run it, none may change it", stat.S_IMODE(program.mode) == 0o755, oct(program.mode))
    check(f"{name}: static, it asks for no loader", section(program.content, ".interp") is None)
    check(f"{name}: stripped", section(program.content, ".symtab") is None)
    check(f"{name}: no path of the build machine", not re.search(rb"/(usr/local/cargo|root|home)/[a-z.]", program.content))
    check(f"{name}: user 65532 in group 0, by number", settings["User"] == "65532:0", settings["User"])
    check(f"{name}: starts its program", settings["Entrypoint"] == [f"/{name}"] and not settings.get("Cmd"), settings)
    labels = settings.get("Labels", {})
    check(f"{name}: labels", LABELS == set(labels) and all(labels.values()), labels)

    packages = linked_packages(program.content)
    embedded = {(package["name"], package["version"]) for package in packages}
    expected = linked(name, architecture)
    check(f"{name}: the program lists all that cargo linked into it", expected <= embedded, expected - embedded)
    text = place.with_suffix(".cdx.json").read_text(encoding="utf-8")
    check(f"{name}: its CycloneDX document is valid", not JsonStrictValidator(SchemaVersion.V1_6).validate_str(text))
    document = json.loads(text)
    entries = [*document["components"], document["metadata"]["component"]]
    listed = {(entry["name"], entry["version"]) for entry in entries}
    check(f"{name}: and lists the same", listed == embedded, listed ^ embedded)
    required = {(entry["name"], entry["version"]) for entry in entries if entry["scope"] == "required"}
    check(f"{name}: and marks what is linked", required == expected, required ^ expected)
    unlicensed = [entry["name"] for entry in entries if not entry.get("licenses")]
    check(f"{name}: each with its licence", not unlicensed, unlicensed)


def machine(program):
    """The machine in the head of an ELF program."""
    return int.from_bytes(program[18:20], "little")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--architecture", choices=MACHINES)
    other = parser.parse_args().architecture
    for name in LARGEST:
        look(name, other)
    failed = outcomes.count(False)
    print(f"images: {outcomes.count(True)} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
