#!/usr/bin/env python3
"""Writes a one-layer OCI image as a tar archive, without any container tool.

oci_image.py OUT.tar NAME:TAG SOURCE=DESTINATION...   the first file is the entry point

The same files give the same digest: no clock and no user enters.
"""

import hashlib
import io
import json
import platform
import sys
import tarfile

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
EPOCH = "1970-01-01T00:00:00Z"


def archive(files):
    """A tar of (name, bytes or None for a folder, mode)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data, mode in files:
            info = tarfile.TarInfo(name)
            info.mode = mode
            if data is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            else:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def descriptor(kind, blob, **more):
    digest = "sha256:" + hashlib.sha256(blob).hexdigest()
    return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest, "size": len(blob), **more}


def document(value):
    return json.dumps(value, sort_keys=True).encode()


def main(out, reference, *files):
    pairs = [file.split("=", 1) for file in files]
    contents = []
    for source, destination in pairs:
        with open(source, "rb") as stream:
            contents.append((destination.lstrip("/"), stream.read(), 0o755))
    layer = archive(contents)
    layer_entry = descriptor("layer.v1.tar", layer)
    config = document({
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "created": EPOCH,
        "config": {"Entrypoint": [pairs[0][1]], "User": "65532:0", "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [layer_entry["digest"]]},
    })
    manifest = document({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", config),
        "layers": [layer_entry],
    })
    index = document({"schemaVersion": 2, "manifests": [descriptor(
        "manifest.v1+json", manifest, annotations={
            "io.containerd.image.name": reference,
            "org.opencontainers.image.ref.name": reference.rsplit(":", 1)[1],
        })]})
    blobs = [("blobs/sha256/" + hashlib.sha256(blob).hexdigest(), blob, 0o644) for blob in (config, manifest, layer)]
    with open(out, "wb") as stream:
        stream.write(archive([("oci-layout", b'{"imageLayoutVersion":"1.0.0"}', 0o644), ("index.json", index, 0o644), *blobs]))


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
