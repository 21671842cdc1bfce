"""Runs a page's commands as somebody would who types them, one block after the other in one folder."""
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

from blocks import ROOT

# Watches go on until they are ended; cargo works in the checkout, whose sources the folder lacks.
PREAMBLE = f"""
watched() {{ timeout 3 "$@" || [ $? = 124 ]; }}
cargo() {{ command cargo "$1" --manifest-path "{ROOT}/Cargo.toml" "${{@:2}}"; }}
"""
WATCH = re.compile(r"^(?=.*\s--watch\b)", re.M)


class Session:
    """A folder with what a checkout has, for one page. `programs` go before everything on the PATH."""

    def __init__(self, programs, environment=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="voluba-docs."))
        for name in ("examples", "crds", "charts", "deploy"):
            shutil.copytree(ROOT / name, self.folder / name)
        (self.folder / "token").write_text("not-a-token\n")
        (self.folder / "authorities.pem").write_text("no certificate\n")
        path = os.pathsep.join([*map(str, programs), os.environ["PATH"]])
        self.environment = {**os.environ, **(environment or {}), "PATH": path}

    def write(self, name, text):
        (self.folder / name).write_text(text, encoding="utf-8")

    def run(self, block, timeout=300):
        """The mistake of a block's commands, or None."""
        commands = WATCH.sub("watched ", block.text)
        try:
            run = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", PREAMBLE + commands], cwd=self.folder, env=self.environment,
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            return f"not done after {timeout} s"
        return None if run.returncode == 0 else f"exit status {run.returncode}: {(run.stdout + run.stderr)[-1500:].strip()}"

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)
