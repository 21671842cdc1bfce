#!/usr/bin/env python3
"""Writes charts/voluba-align/README.md from Chart.yaml and the comments of values.yaml.

chart-readme.py           write it
chart-readme.py --check   exit 1 if it is out of date

Every value needs a comment that starts with "# --". Only the plain block style of values.yaml is read:
two-space indentation, lists in flow style.
"""

import pathlib
import re
import sys

CHART = pathlib.Path(__file__).resolve().parent.parent / "charts" / "voluba-align"
KEY = re.compile(r"^( *)([A-Za-z][A-Za-z0-9]*):(?: +(.*))?$")

TEXT = """# voluba-align

{description}.

The chart installs the operator, the custom resource definitions `AlignmentRequest` and
`DepthMapRequest`, a claim for the static data (the templates' depth maps) and the least rights that the
operator needs; with `gateway.enabled` also the HTTP interface of the old service. Kubernetes
{kube_version}, Helm 3 or 4. It also runs on OpenShift, under `restricted-v2`: see `deploy/openshift`.

<!-- test: not run: docs/install.md runs the same -->
```console
helm install voluba-align charts/voluba-align --namespace voluba --create-namespace --values my-values.yaml
helm test voluba-align --namespace voluba      # once the static data is there: it reads every template
```

`helm uninstall` keeps the custom resource definitions, and with them all requests, and the claim with
the static data, unless `crds.keep` and `staticData.keep` are false.

No user or group number can be set: images run under any number, which the namespace chooses
(OpenShift) or the image (elsewhere, 65532 in group 0).

## Values

| Value | Default | Meaning |
|---|---|---|
{rows}

Unknown values are refused (`values.schema.json`). This file is made by `dev/chart-readme.py`.
"""


def values():
    """Yields (path, default, description) for each commented value."""
    path, comment, block = [], [], None
    for number, line in enumerate((CHART / "values.yaml").read_text().splitlines(), 1):
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        if block is not None and stripped and indent > block:
            continue  # the default of a commented value that is itself a block
        block = None
        if stripped.startswith("# -- "):
            comment = [stripped[5:]]
        elif stripped.startswith("# ") and comment:
            comment.append(stripped[2:])
        elif not stripped or stripped.startswith("#"):
            comment = []
        else:
            match = KEY.match(line)
            if not match:
                sys.exit(f"values.yaml:{number}: not understood: {line}")
            depth, default = indent // 2, match.group(3)
            path = [*path[:depth], match.group(2)]
            if comment:
                yield ".".join(path), default, " ".join(comment)
                block = indent if default is None else None
            elif default is not None:
                sys.exit(f"values.yaml:{number}: {'.'.join(path)} has no comment that starts with '# --'")
            comment = []


def chart_field(name):
    match = re.search(rf'^{name}: *"?(.*?)"?$', (CHART / "Chart.yaml").read_text(), re.MULTILINE)
    return match.group(1)


def readme():
    rows = "\n".join(
        f"| `{path}` | {'see `values.yaml`' if default is None else f'`{default}`'} | {text.replace('|', chr(92) + '|')} |"
        for path, default, text in values()
    )
    return TEXT.format(description=chart_field("description"), kube_version=chart_field("kubeVersion"), rows=rows)


if __name__ == "__main__":
    file, text = CHART / "README.md", readme()
    if sys.argv[1:] == ["--check"]:
        if not file.exists() or file.read_text() != text:
            sys.exit(f"{file} is out of date: run dev/chart-readme.py")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        file.write_text(text)
