#!/usr/bin/env python3
"""Misspells every key at every level of the chart's values: helm must refuse each, and name it.

typos.py CHART HELM-OPTION...

The levels are found by walking values.schema.json. A level that takes any key is an error, unless it
is a map of a user's own keys, or named in OPEN.
"""

import concurrent.futures
import json
import pathlib
import subprocess
import sys
import tempfile

# Levels that take any key, and why.
OPEN = {("global",): "Helm puts values for several charts there"}


def levels(schema, root, path=()):
    """Yields (path, keys) of each object with known keys; a list is the step 0."""
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    if schema.get("type") == "array":
        yield from levels(schema["items"], root, (*path, 0))
    if schema.get("type") != "object" or path in OPEN:
        return
    rest = schema.get("additionalProperties", True)
    if "properties" not in schema and isinstance(rest, dict):
        yield from levels(rest, root, (*path, "own"))
        return
    if rest is not False:
        sys.exit(f"values.schema.json: {path}: takes any key; expected \"additionalProperties\": false")
    yield path, sorted(schema["properties"])
    for key, part in schema["properties"].items():
        yield from levels(part, root, (*path, key))


def misspelt(key):
    return key[:-1] + key[-1] * 2


def document(path, keys):
    # Not null: that would remove the key before the schema is looked at.
    value = {misspelt(key): "" for key in keys}
    for step in reversed(path):
        value = [value] if step == 0 else {step: value}
    return value


def missed(chart, options, path, keys):
    """The misspelt keys that helm does not complain about."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(document(path, keys), file)
        file.flush()
        command = ["helm", "template", "x", chart, *options, "--values", file.name]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return [f"{path}: {misspelt(key)}: accepted" for key in keys]
    return [f"{path}: {misspelt(key)}: not named in: {result.stderr[-300:]}"
            for key in keys if f"'{misspelt(key)}'" not in result.stderr]


def main(chart, *options):
    schema = json.loads((pathlib.Path(chart) / "values.schema.json").read_text())
    found = list(levels(schema, schema))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        work = [pool.submit(missed, chart, options, path, keys) for path, keys in found]
        problems = [line for part in work for line in part.result()]
    print("\n".join(problems))
    print(f"{sum(len(keys) for _, keys in found)} misspelt keys at {len(found)} levels, {len(problems)} not refused")
    sys.exit(bool(problems) or len(found) < 30)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
