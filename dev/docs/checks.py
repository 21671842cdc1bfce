"""Blocks that are not commands: each function returns the mistake, or None."""
import json
import pathlib
import re
import subprocess
import tempfile

import yaml
from blocks import ROOT


def mistake_of(command, text, name="block.yaml"):
    """Runs a command on a file with this text; its output if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / name
        file.write_text(text, encoding="utf-8")
        run = subprocess.run([*command, file], capture_output=True, text=True)
    return None if run.returncode == 0 else (run.stdout + run.stderr).strip()[-1500:]


def api_server_takes(text):
    """An object that the API server would take, with no unknown field and no warning."""
    command = ["kubectl", "create", "--namespace", "default", "--dry-run=server", "--validate=strict", "--warnings-as-errors", "-f"]
    return mistake_of(command, text)


def request(text, aligner):
    return mistake_of([aligner, "validate"], text) or api_server_takes(text)


def values(text):
    """Values that the chart's schema and its templates take."""
    return mistake_of(["helm", "template", "voluba-align", ROOT / "charts" / "voluba-align", "--values"], text)


def sources(text, aligner):
    """Each line as the source of the image of an otherwise complete request."""
    request_ = yaml.safe_load((ROOT / "examples" / "image-service.yaml").read_text(encoding="utf-8"))
    for line in text.splitlines():
        request_["spec"]["patch"]["images"][0] = {"name": "image", **yaml.safe_load(line)}
        if mistake := mistake_of([aligner, "validate"], yaml.safe_dump(request_)):
            return f"{line}: {mistake}"
    return None


def rules(text):
    """Rules for Prometheus whose expressions name metrics that there are."""
    known = set(re.findall(r"^\| `(voluba_align_\w+)`", (ROOT / "docs/reference/metrics.md").read_text(), re.M))
    for group in yaml.safe_load(text)["groups"]:
        for rule in group["rules"]:
            named = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"voluba_align_\w+", rule["expr"])}
            if not named or named - known:
                return f"{rule['alert']}: no such metric: {named - known or 'none named'}"
    return None


def same_as(text, path):
    return None if (ROOT / path).read_text(encoding="utf-8") == text else f"differs from {path}"


def old_body(text, aligner):
    """`to_request`, fed with the body of a request to the old HTTP API, makes a valid request."""
    body = {
        "transformation_matrix": [[1, 0, 0, 5], [0, 1, 0, 6], [0, 0, 1, 7]],
        "landmark_pairs": [{"source_point": [1, 2, 3], "target_point": [4, 5, 6], "name": "a", "colour": "#fff", "active": False}],
    }
    space = {}
    exec(text, space)  # noqa: S102  it is our own
    made = space["to_request"](body, "from-v0", {"nmda": "nmda.nii.gz"}, "segmentation.nii.gz", "patches", "results")
    pair = made["spec"]["landmarks"][0]
    if pair["template"] != [1, 2, 3] or pair["patch"] != [4, 5, 6] or pair["active"]:
        return f"landmarks mixed up: {pair}"
    return mistake_of([aligner, "validate"], json.dumps(made), "request.json")


def targets(text):
    """Targets that the Makefile has."""
    for line in text.splitlines():
        command = line.partition("#")[0].split()
        run = subprocess.run([command[0], "--dry-run", *command[1:]], cwd=ROOT, capture_output=True, text=True)
        if run.returncode:
            return run.stderr.strip()
    return None
