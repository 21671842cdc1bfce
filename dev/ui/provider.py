"""A provider of OpenID Connect that asks nobody for a password: authorization code with PKCE, and refreshing."""
import base64
import hashlib
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

AUDIENCE, CLIENT, REALM = "voluba-align", "voluba-page", "/realms/x"


def base64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Provider:
    """Answers on a port until the program ends. `subject` is who signs in; `denies` and `lifetime` (seconds) change how
    it behaves. `asked` are the grant types that were asked for, `wrong` what no client should have sent."""

    def __init__(self, port, page):
        self.issuer = f"http://127.0.0.1:{port}{REALM}"
        self.page, self.origin = page, "://".join(urlsplit(page)[:2])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject, self.denies, self.lifetime = "ada", False, 300
        self.codes, self.refresh, self.asked, self.wrong = {}, set(), [], []
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                path, query = urlsplit(self.path).path, urlsplit(self.path).query
                if path == f"{REALM}/.well-known/openid-configuration":
                    self.answer(200, provider.discovery())
                elif path == f"{REALM}/keys":
                    self.answer(200, {"keys": [provider.public()]})
                elif path == f"{REALM}/auth":
                    self.send_response(302)
                    self.send_header("Location", provider.authorize({name: values[0] for name, values in parse_qs(query).items()}))
                    self.end_headers()
                else:
                    self.send_error(404)

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                fields = {name: values[0] for name, values in parse_qs(body).items()}
                self.answer(*provider.exchange(fields))

            def answer(self, status, body):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Access-Control-Allow-Origin", provider.origin)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def discovery(self):
        return {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys", "authorization_endpoint": f"{self.issuer}/auth",
                "token_endpoint": f"{self.issuer}/token"}

    def public(self):
        point = self.key.public_key().public_numbers()
        return {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "one",
                "x": base64url(point.x.to_bytes(32, "big")), "y": base64url(point.y.to_bytes(32, "big"))}

    def authorize(self, fields):
        expected = {"response_type": "code", "client_id": CLIENT, "redirect_uri": self.page, "code_challenge_method": "S256"}
        self.wrong += [f"{name}={fields.get(name)}" for name, value in expected.items() if fields.get(name) != value]
        self.wrong += [] if "openid" in fields.get("scope", "").split() else [f"scope={fields.get('scope')}"]
        answer = {"state": fields["state"], "iss": self.issuer}
        if self.denies:
            return f"{self.page}?{urlencode({'error': 'access_denied', 'error_description': 'Not you.', **answer})}"
        code = secrets.token_urlsafe()
        self.codes[code] = fields["code_challenge"]
        return f"{self.page}?{urlencode({'code': code, **answer})}"

    def exchange(self, fields):
        self.asked.append(fields.get("grant_type"))
        if fields.get("client_id") != CLIENT:
            return 401, {"error": "invalid_client"}
        if fields.get("grant_type") == "refresh_token":
            good = fields["refresh_token"] in self.refresh
            self.refresh.discard(fields["refresh_token"])
        else:
            # A code is good once.
            challenge = self.codes.pop(fields.get("code"), None)
            verifier = base64url(hashlib.sha256(fields.get("code_verifier", "").encode()).digest())
            good = challenge == verifier and fields.get("redirect_uri") == self.page
        if not good:
            return 400, {"error": "invalid_grant", "error_description": "The grant is no good."}
        refresh = secrets.token_urlsafe()
        self.refresh.add(refresh)
        return 200, {"access_token": self.token(), "token_type": "Bearer", "expires_in": self.lifetime, "refresh_token": refresh}

    def token(self):
        now = int(time.time())
        claims = {"iss": self.issuer, "sub": self.subject, "aud": AUDIENCE, "iat": now, "exp": now + self.lifetime}
        parts = [{"alg": "ES256", "kid": "one"}, claims]
        text = ".".join(base64url(json.dumps(part).encode()) for part in parts)
        r, s = utils.decode_dss_signature(self.key.sign(text.encode(), ec.ECDSA(SHA256())))
        return f"{text}.{base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"
