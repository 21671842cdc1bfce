"""What cargo links into a program of the workspace on this platform."""
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def linked(program):
    """(name, version) of each package in the program, itself included; what runs only while it is compiled is not."""
    command = ["cargo", "tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none", "--package", program]
    lines = subprocess.run([*command, "--format", "{p}"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return {tuple(re.match(r"(\S+) v(\S+)", line).groups()) for line in lines.splitlines()}
