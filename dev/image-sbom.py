#!/usr/bin/env python3
"""Says in CycloneDX what is linked into the program of an image.

    image-sbom.py ARCHIVE SBOM      reads the OCI archive, writes SBOM (JSON, CycloneDX 1.6)

The program itself is asked: cargo-auditable has put a list of its packages into it (section .dep-v0,
zlib, JSON). It names more than was linked: macros, and features that only another program of the workspace
asks for; such packages are marked as excluded. Licences are those of `cargo metadata`, checksums those of Cargo.lock. The same image gives
the same bytes. The document is checked against the schema before it is written.
"""
import json
import pathlib
import subprocess
import sys
import tomllib
import uuid

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "lib"))
from linked import linked  # noqa: E402
from oci_archive import Archive, linked_packages  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent


def licences():
    """(name, version) -> SPDX expression of the crate's author."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1"]
    packages = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)["packages"]
    # "/" is how crates said "or" before there were expressions.
    return {(package["name"], package["version"]): (package["license"] or "").replace("/", " OR ") for package in packages}


def checksums():
    """(name, version) -> SHA-256 of the crate file, hexadecimal."""
    packages = tomllib.loads((ROOT / "Cargo.lock").read_text(encoding="utf-8"))["package"]
    return {(package["name"], package["version"]): package.get("checksum") for package in packages}


def component(package, in_program, licence, checksum):
    name, version = package["name"], package["version"]
    url = PackageURL(type="cargo", name=name, version=version)
    return Component(
        type=ComponentType.LIBRARY if not package.get("root") else ComponentType.APPLICATION,
        name=name,
        version=version,
        purl=url,
        bom_ref=url.to_string(),
        scope=ComponentScope.REQUIRED if in_program else ComponentScope.EXCLUDED,
        licenses=[LicenseFactory().make_from_string(licence)] if licence else None,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=checksum)] if checksum else None,
    )


def document(archive):
    """The CycloneDX document of an archive's program, as text."""
    program = archive.executables()[0]
    packages = linked_packages(program.content)
    licence, checksum, present = licences(), checksums(), linked(program.path, archive.architecture)
    keys = [(package["name"], package["version"]) for package in packages]
    components = [component(package, key in present, licence.get(key), checksum.get(key)) for package, key in zip(packages, keys)]
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_OID, archive.digest))
    for package, item in zip(packages, components):
        if package.get("root"):
            bom.metadata.component = item
        else:
            bom.components.add(item)
    for package, item in zip(packages, components):
        bom.register_dependency(item, [components[index] for index in package.get("dependencies", [])])
    fields = json.loads(JsonV1Dot6(bom).output_as_string())
    # The time of writing would differ each time.
    fields["metadata"].pop("timestamp", None)
    return json.dumps(fields, indent=1, sort_keys=True) + "\n"


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    text = document(Archive(pathlib.Path(sys.argv[1])))
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.exit(f"{sys.argv[2]}: not valid CycloneDX: {error}")
    pathlib.Path(sys.argv[2]).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
