"""ClickHouse's engine behind a loopback port, as far as its own client asks it: `python server.py` prints the port.

The engine is `chdb`, in this process alone: it takes one data path and one process, and much memory.
"""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qsl, urlsplit

from chdb.session import Session

OURS = ("query", "database", "default_format", "query_id", "session_id", "client_protocol_version", "compress")


class Handler(BaseHTTPRequestHandler):
    """One statement a request: in the body or in the address, with parameters and settings in the address."""

    protocol_version = "HTTP/1.1"
    session = Session()

    def do_GET(self):
        self._answer(200, b"Ok.\n")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        asked = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        sql = "\n".join(filter(None, (asked.get("query"), body)))
        try:
            for name, value in asked.items():
                if name.startswith("param_"):
                    self.session.query("SET {} = '{}'".format(name, value.replace("\\", "\\\\").replace("'", "\\'")))
                elif name not in OURS and not name.startswith(("http_", "wait_", "send_", "cancel_")):
                    self.session.query(f"SET {name} = '{value}'")
            self.session.query(f"USE {asked.get('database') or 'default'}")
            self._answer(200, self.session.query(sql, "TabSeparated").bytes())
        except Exception as error:
            self._answer(400, f"{error}".encode())

    def _answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-ClickHouse-Timezone", "UTC")
        if status != 200:
            self.send_header("X-ClickHouse-Exception-Code", "36")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


if __name__ == "__main__":
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        print(server.server_port, flush=True)
        server.serve_forever()
