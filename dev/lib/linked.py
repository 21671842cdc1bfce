"""What cargo links into a program of the workspace."""
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# As OCI names architectures.
TARGETS = {"amd64": "x86_64-unknown-linux-gnu", "arm64": "aarch64-unknown-linux-gnu"}


def linked(program, architecture):
    """(name, version) of each package in the program, itself included; what runs only while it is compiled is not."""
    command = ["cargo", "tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none", "--package", program,
               "--target", TARGETS[architecture]]
    lines = subprocess.run([*command, "--format", "{p}"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return {tuple(re.match(r"(\S+) v(\S+)", line).groups()) for line in lines.splitlines()}
