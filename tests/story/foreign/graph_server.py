"""
A Graph API server that shares no code with the gateway: the standard library alone.

``python -I -S graph_server.py PHONE_NUMBER_ID TOKEN_FILE RECORDING``: prints its port, keeps
one recording under media id 900100200300400, and prints each request it gets as one JSON line.
"""

import base64
import hashlib
import json
import sys
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MEDIA = "900100200300400"
JSON = "application/json"
OGG = "audio/ogg; codecs=opus"


class Graph(BaseHTTPRequestHandler):
    """One request to the server; `sent` counts the messages."""

    protocol_version = "HTTP/1.1"
    number, token, recording = "", "", b""
    sent = 0

    def do_GET(self) -> None:
        """Describe or serve the recording."""
        if not self.authorised():
            return self.answer(401, {"error": {"code": 190, "message": "token"}})
        path = self.path.partition("?")[0]
        if path.endswith(f"/files/{MEDIA}"):
            return self.answer(200, self.recording, OGG)
        if path.endswith(f"/{MEDIA}"):
            return self.answer(
                200,
                {
                    "messaging_product": "whatsapp",
                    "url": f"http://{self.headers['Host']}/files/{MEDIA}",
                    "mime_type": OGG,
                    "sha256": hashlib.sha256(self.recording).hexdigest(),
                    "file_size": len(self.recording),
                    "id": MEDIA,
                },
            )
        return self.answer(404, {"error": {"code": 100, "message": "no such object"}})

    def do_DELETE(self) -> None:
        """Say that it is deleted."""
        self.authorised()
        self.answer(200, {"success": True})

    def do_POST(self) -> None:
        """Take an upload, a message or a typing sign."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.authorised(body):
            return self.answer(401, {"error": {"code": 190, "message": "token"}})
        if self.path.endswith(f"/{self.number}/media"):
            return self.answer(200, {"id": "700"})
        if self.path.endswith(f"/{self.number}/messages"):
            message = json.loads(body)
            if message.get("status") == "read":
                return self.answer(200, {"success": True})
            Graph.sent += 1
            return self.answer(
                200,
                {
                    "messaging_product": "whatsapp",
                    "contacts": [{"input": message["to"], "wa_id": message["to"]}],
                    "messages": [{"id": f"wamid.FOREIGN{Graph.sent}"}],
                },
            )
        return self.answer(404, {"error": {"code": 100, "message": "no such object"}})

    def authorised(self, body: bytes = b"") -> bool:
        """Print the request as one line; return whether it bears the token."""
        good = self.headers.get("Authorization") == f"Bearer {self.token}"
        kind = self.headers.get("Content-Type", "")
        record = {"method": self.command, "path": self.path, "authorised": good, "type": kind}
        if kind.startswith("application/json"):
            record["json"] = json.loads(body)
        if kind.startswith("multipart/form-data"):
            record["parts"] = parts(kind, body)
        print(json.dumps(record), flush=True)  # noqa: T201 - a program's own output
        return good

    def answer(self, status: int, content: dict | bytes, kind: str = JSON) -> None:
        """Send one answer."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing beside the requests."""


def parts(kind: str, body: bytes) -> dict[str, dict[str, str]]:
    """Return the type and the content of each part of a form (RFC 7578)."""
    form = BytesParser().parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
    return {
        part.get_param("name", header="content-disposition"): {
            "type": part.get_content_type(),
            "base64": base64.b64encode(part.get_payload(decode=True)).decode(),
        }
        for part in form.get_payload()
    }


if __name__ == "__main__":
    Graph.number = sys.argv[1]
    Graph.token = Path(sys.argv[2]).read_text()
    Graph.recording = Path(sys.argv[3]).read_bytes()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Graph)
    print(server.server_port, flush=True)  # noqa: T201 - same
    server.serve_forever()
