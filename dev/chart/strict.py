#!/usr/bin/env python3
"""Validates manifests against the strict schemas of Kubernetes: unknown fields are errors.

strict.py --version 1.33 --version 1.36 --crds FOLDER... -- FILE...

Schemas of custom resources are taken from the definitions in the folders, closed in the same way.
Prints what is wrong, and the number of objects validated; exit status 1 if anything is wrong or
an object has no schema.
"""

import argparse
import functools
import pathlib
import re
import sys

import jsonschema
import kubernetes_validate
import yaml
from kubernetes_validate import utils

# The package reads the same megabytes for every object.
utils.schema_contents = functools.lru_cache(maxsize=None)(utils.schema_contents)


class Loader(yaml.CSafeLoader):
    """As the API server reads: 1e-09 is a number without a point, and `=` is text."""


Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789"))
Loader.add_constructor("tag:yaml.org,2002:value", Loader.construct_yaml_str)


def documents(file):
    return [part for part in yaml.load_all(file.read_text(), Loader=Loader) if part]


def closed(schema):
    """The schema with unknown fields forbidden where it lists the known ones."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(part) for key, part in schema.items()}
    if isinstance(schema.get("properties"), dict):
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            result.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        result.pop("type", None)
    return result


def custom_schemas(folders):
    """{(apiVersion, kind): schema} of all definitions below the folders."""
    found = {}
    for file in (file for folder in folders for file in sorted(pathlib.Path(folder).glob("*.yaml"))):
        for definition in documents(file):
            if definition["kind"] != "CustomResourceDefinition":
                continue
            spec = definition["spec"]
            for version in spec["versions"]:
                schema = closed(version["schema"]["openAPIV3Schema"])
                for field, kind in {"apiVersion": "string", "kind": "string", "metadata": "object"}.items():
                    schema["properties"][field] = {"type": kind}
                found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return found


def faults(item, versions, custom):
    """What is wrong with an object; yields nothing for a good one."""
    schema = custom.get((item["apiVersion"], item["kind"]))
    if schema:
        for error in jsonschema.Draft202012Validator(schema).iter_errors(item):
            yield f"{'.'.join(map(str, error.path))}: {error.message[:300]}"
        return
    for version in versions:
        try:
            kubernetes_validate.validate(item, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message[:300]}"
        except kubernetes_validate.SchemaNotFoundError as error:
            yield error.message


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--version", action="append", required=True)
    parser.add_argument("--crds", nargs="*", default=[])
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    options = parser.parse_args()
    custom, count, wrong = custom_schemas(options.crds), 0, 0
    for file in options.files:
        for item in documents(file):
            count += 1
            for fault in faults(item, options.version, custom):
                wrong += 1
                print(f"{file.name}: {item['kind']} {item['metadata']['name']}: {fault}")
    print(f"{count} objects validated against Kubernetes {', '.join(options.version)}, {wrong} faults")
    sys.exit(wrong > 0 or count == 0)


if __name__ == "__main__":
    main()
