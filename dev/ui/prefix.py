"""A proxy that shows a server below a prefix, and lets answers through piece by piece."""
import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

PASSED_ON = ["Content-Type", "Location", "ETag", "Cache-Control", "Content-Security-Policy"]


def serve(target, prefix):
    """Address of the proxy, which runs until the program ends."""
    host = urlsplit(target).netloc

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            if not self.path.startswith(f"{prefix}/"):
                self.send_error(404)
                return
            connection = http.client.HTTPConnection(host)
            connection.request("GET", self.path.removeprefix(prefix), headers={"X-Forwarded-Prefix": prefix})
            answer = connection.getresponse()
            self.send_response(answer.status)
            for name in PASSED_ON:
                if answer.getheader(name):
                    self.send_header(name, answer.getheader(name))
            self.end_headers()
            try:
                while piece := answer.read1():
                    self.wfile.write(piece)
                    self.wfile.flush()
            except OSError:
                # The browser has gone elsewhere.
                pass
            connection.close()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}{prefix}"
