"""A proxy that shows a server below a prefix, and lets answers through piece by piece."""
import http.client
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

PASSED_ON = ["Content-Type", "Location", "ETag", "Cache-Control", "Content-Security-Policy"]


class Proxy:
    """Runs until the program ends; `address` is that of the server, as seen below the prefix."""

    def __init__(self, target, prefix):
        host, self.open, self.broken = urlsplit(target).netloc, set(), False
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                if proxy.broken:
                    self.close_connection = True
                elif self.path.startswith(f"{prefix}/"):
                    proxy.open.add(self.connection)
                    pass_on(self, host, prefix)
                    proxy.open.discard(self.connection)
                else:
                    self.send_error(404)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{server.server_port}{prefix}"

    def cut(self):
        """Breaks off what goes on, and answers nothing any more."""
        self.broken = True
        for connection in list(self.open):
            connection.shutdown(socket.SHUT_RDWR)

    def mend(self):
        self.broken = False


def pass_on(handler, host, prefix):
    connection = http.client.HTTPConnection(host)
    connection.request("GET", handler.path.removeprefix(prefix), headers={"X-Forwarded-Prefix": prefix})
    answer = connection.getresponse()
    handler.send_response(answer.status)
    for name in PASSED_ON:
        if answer.getheader(name):
            handler.send_header(name, answer.getheader(name))
    handler.end_headers()
    try:
        while piece := answer.read1():
            handler.wfile.write(piece)
            handler.wfile.flush()
    except OSError:
        # The browser has gone elsewhere.
        pass
    connection.close()
