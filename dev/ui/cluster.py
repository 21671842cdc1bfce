"""The operator's part, played by kubectl: status and pictures of requests."""
import base64
import json
import struct
import subprocess
import zlib

PLURALS = {"AlignmentRequest": "alignmentrequests.voluba.ebrains.eu", "DepthMapRequest": "depthmaprequests.voluba.ebrains.eu"}
TIME = "2026-01-01T10:00:00Z"


class Cluster:
    def __init__(self, kubectl):
        self.kubectl = kubectl

    def run(self, *arguments, text=None):
        done = subprocess.run([self.kubectl, "--namespace", "default", *arguments], input=text, text=True,
                              check=False, capture_output=True, timeout=60)
        if done.returncode != 0:
            raise RuntimeError(f"kubectl {arguments}: {done.stderr}")
        return done.stdout

    def status(self, name, kind="AlignmentRequest", **fields):
        self.run("patch", PLURALS[kind], name, "--subresource=status", "--type=merge", "--patch", json.dumps({"status": fields}))

    def progress(self, name, kind="AlignmentRequest", **progress):
        self.status(name, kind, phase="Running", startTime=TIME, progress=progress,
                    conditions=[condition("Progressing", "True", "Running", "The pod computes.")])

    def get(self, name, kind="AlignmentRequest"):
        return json.loads(self.run("get", PLURALS[kind], name, "--output=json"))

    def there(self, name, kind="AlignmentRequest"):
        return self.run("get", PLURALS[kind], name, "--ignore-not-found", "--output=name").strip() != ""

    def pictures(self, name, files, kind="AlignmentRequest"):
        """As the operator leaves them: a ConfigMap that the request owns."""
        request = self.get(name, kind)
        owner = {"apiVersion": request["apiVersion"], "kind": kind, "name": name, "uid": request["metadata"]["uid"]}
        data = {file: base64.b64encode(content).decode() for file, content in files.items()}
        document = {"apiVersion": "v1", "kind": "ConfigMap", "binaryData": data,
                    "metadata": {"name": f"voluba-pictures-{name}", "ownerReferences": [owner]}}
        self.run("apply", "--filename=-", text=json.dumps(document))


def condition(type_, status, reason, message):
    return {"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": TIME}


def drawing(shift):
    """A PNG of 240 x 180 with lines as the aligner draws them: the patch's orange, the template's cyan, `shift` pixels apart."""
    rows = bytearray()
    for y in range(180):
        rows.append(0)
        for x in range(240):
            line = 60 + (x * (240 - x)) // 400
            on = [c for at, c in ((line, (255, 176, 0)), (line + shift, (0, 200, 255))) if abs(y - at) < 3]
            rows.extend(on[0] if on else (60, 60, 60))
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    header = struct.pack(">IIBBBBB", 240, 180, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(rows))) + chunk(b"IEND", b"")
