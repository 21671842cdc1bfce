#!/usr/bin/env python3
"""align_http.py GATEWAY REQUEST.json: makes a request over HTTP, follows it, prints the result; exit code 1 if there is none.

Needs nothing but Python. Tokens are taken from the environment: VOLUBA_TOKEN says who calls, IMAGE_SERVICE_TOKEN is for
the image service, if that is another one.
"""
import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid


def call(method, url, body=None, headers=()):
    """The open answer to a call; a problem ends the program with its words."""
    request = urllib.request.Request(url, body, dict(headers), method=method)
    try:
        return urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        try:
            problem = json.load(error)
        except ValueError:
            sys.exit(f"{url}: answers {error.code}, and not as a gateway does; is this its address?")
        if "detail" not in problem:
            sys.exit(f"{url}: answers {error.code}: {problem}")
        errors = (f"\n  {one['field']}: {one['detail']}" for one in problem.get("errors", []))
        sys.exit(f"{problem['title']}: {problem['detail']}" + "".join(errors))


def create(gateway, document):
    """Makes the request. Because of the key it is made once, however often it has to be sent."""
    headers = {
        "Authorization": f"Bearer {os.environ['VOLUBA_TOKEN']}",
        "Content-Type": "application/json",
        "Idempotency-Key": str(uuid.uuid4()),
    }
    if "IMAGE_SERVICE_TOKEN" in os.environ:
        headers["Image-Service-Token"] = os.environ["IMAGE_SERVICE_TOKEN"]
    for pause in (1, 2, 4, None):
        try:
            with call("POST", f"{gateway}/v1/requests", document, headers.items()) as answer:
                return json.load(answer)
        except OSError as error:
            if pause is None:
                sys.exit(f"no answer: {error}")
            time.sleep(pause)


def events(url):
    """The request, each time that it has changed. A connection that breaks is made again."""
    while True:
        try:
            with call("GET", url, headers={"Accept": "text/event-stream"}.items()) as answer:
                kind = ""
                for line in answer:
                    name, _, value = line.decode().rstrip("\n").partition(": ")
                    if name == "event":
                        kind = value
                    elif name == "data" and kind == "deleted":
                        sys.exit("the request was deleted")
                    elif name == "data":
                        yield json.loads(value)
        except OSError:
            time.sleep(1)


def main(gateway, path):
    try:
        with open(path, "rb") as file:
            document = file.read()
    except OSError as error:
        sys.exit(str(error))
    made = create(gateway, document)
    print(f"{gateway}{made['links']['page']}", flush=True)
    for request in events(f"{gateway}/v1/requests/{made['id']}/events"):
        progress = request["progress"] or {}
        print(request["phase"], progress.get("stage", ""), progress.get("percent", ""), flush=True)
        if request["phase"] in ("Succeeded", "Failed", "Cancelled"):
            break
    if request["failure"]:
        failure = request["failure"]
        sys.exit(f"{failure['reason']}: {failure['message']}\n{failure['help']}")
    if not request["result"]:
        sys.exit(request["phase"])
    for artifact in request["result"].get("artifacts", []):
        print(artifact["kind"], artifact["name"], artifact["sha256"])
    print(json.dumps(request["result"].get("quality"), indent=1))


if __name__ == "__main__":
    if len(sys.argv) != 3 or "VOLUBA_TOKEN" not in os.environ:
        sys.exit(__doc__)
    main(sys.argv[1].rstrip("/"), sys.argv[2])
