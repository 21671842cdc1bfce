"""Reads an OCI archive of one image, as dev/build-images.sh writes it, and the program in it."""
import dataclasses
import gzip
import io
import json
import struct
import tarfile
import zlib


@dataclasses.dataclass(frozen=True)
class File:
    """A regular file of the image: path from its root, permission bits, bytes."""

    path: str
    mode: int
    content: bytes


class Archive:
    """One image: `digest` of its manifest, `config`, `architecture`, `compressed_bytes` of all layers, and its files."""

    def __init__(self, path):
        self._tar = tarfile.open(path)
        descriptor = json.loads(self._member("index.json"))["manifests"][0]
        self.digest = descriptor["digest"]
        self.manifest = json.loads(self._blob(self.digest))
        self.config = json.loads(self._blob(self.manifest["config"]["digest"]))
        self.architecture = self.config["architecture"]
        self.compressed_bytes = sum(layer["size"] for layer in self.manifest["layers"])

    def _member(self, name):
        return self._tar.extractfile(name).read()

    def _blob(self, digest):
        return self._member("blobs/" + digest.replace(":", "/"))

    def files(self):
        """Regular files of all layers. Links and devices are an error: our images have none."""
        found = []
        for layer in self.manifest["layers"]:
            data = self._blob(layer["digest"])
            data = gzip.decompress(data) if layer["mediaType"].endswith("gzip") else data
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                for member in tar:
                    if member.isfile():
                        found.append(File(member.name.lstrip("./"), member.mode, tar.extractfile(member).read()))
                    elif not member.isdir():
                        raise ValueError(f"{member.name}: neither a file nor a folder")
        return found

    def executables(self):
        return [file for file in self.files() if file.mode & 0o111 or file.content[:4] == b"\x7fELF"]


def section(program, name):
    """Bytes of a section of a little-endian 64-bit ELF program; None if there is none of that name."""
    if program[:6] != b"\x7fELF\x02\x01":
        raise ValueError("not a little-endian 64-bit ELF program")
    (table,) = struct.unpack_from("<Q", program, 0x28)
    size, count, names = struct.unpack_from("<HHH", program, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", program, table + size * index) for index in range(count)]
    text = headers[names][4]
    for start, _type, _flags, _address, offset, length in headers:
        if program[text + start : program.index(b"\0", text + start)] == name.encode():
            return program[offset : offset + length]
    return None


def linked_packages(program):
    """The packages that cargo-auditable listed in a program: name, version, source, kind, dependencies
    (indices into the list), root."""
    data = section(program, ".dep-v0")
    if data is None:
        raise ValueError("the program has no section .dep-v0: it was not built by cargo-auditable")
    return json.loads(zlib.decompress(data))["packages"]
