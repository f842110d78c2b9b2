"""A hub on this machine, with the real one's paths, answers and redirects, that can be told to misbehave.

Two servers: the hub itself, and the host that files are redirected to. `requests` keeps what reached which of them.
Answers about files go through `tricks`, functions of the request that are used up one by one; without any the file is
sent as it should be.
"""

import hashlib
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "5f0b02c75b57c5855da9ae460ce51323ea669d8a"
TOKEN = "hf_secretSECRETsecret"

Trick = Callable[["Handler", bytes], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: "FakeHub"
    role: str

    def do_GET(self) -> None:
        self.hub.requests.append(
            SimpleNamespace(role=self.role, path=self.path, headers=dict(self.headers), range=self.headers.get("Range"))
        )
        try:
            self.hub.answer(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def send(self, status: int, data: bytes = b"", length: int | None = None, **headers: str) -> None:
        """An answer; `length` is what Content-Length says of it, -1 leaves it out."""
        self.send_response(status)
        if length != -1:
            self.send_header("Content-Length", str(len(data) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


class FakeHub:
    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.requests: list[SimpleNamespace] = []
        self.tricks: list[Trick] = []
        self.api_tricks: list[Trick] = []
        self.private: set[str] = set()
        self.without_lfs: set[str] = set()
        self._servers = {role: self._serve(role) for role in ("hub", "cdn")}
        self.url, self.cdn_url = (f"http://127.0.0.1:{server.server_port}" for server in self._servers.values())
        self.location = self.cdn_url + "/{repository}/{path}?signature=CDNSECRET"

    def _serve(self, role: str) -> ThreadingHTTPServer:
        handler = type("Bound", (Handler,), {"hub": self, "role": role})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server

    def close(self) -> None:
        for server in self._servers.values():
            server.shutdown()
            server.server_close()

    def add(self, repository: str, **files: bytes) -> None:
        self.files.setdefault(repository, {}).update(files)

    def roles(self, with_token: bool) -> set[str]:
        """The servers that some request reached with, or without, an Authorization header."""
        return {r.role for r in self.requests if ("Authorization" in r.headers) == with_token}

    def sent_ranges(self) -> list[str | None]:
        return [request.range for request in self.requests if request.role == "cdn"]

    def answer(self, handler: Handler) -> None:
        path = unquote(urlsplit(handler.path).path)
        if handler.role == "cdn":
            return self._send_file(handler, *re.fullmatch(r"/([^/]+/[^/]+)/(.+)", path).groups())
        described = re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path)
        if described:
            return self._describe(handler, *described.groups())
        repository, commit, name = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path).groups()
        if commit != COMMIT or name not in self.files.get(repository, {}):
            return handler.send(404)
        # Like the hub: the digest of the file goes with the redirect.
        digest = hashlib.sha256(self.files[repository][name]).hexdigest()
        location = self.location.format(repository=repository, path=name)
        handler.send(302, Location=location, X_Repo_Commit=COMMIT, X_Linked_Etag=f'"{digest}"')

    def _describe(self, handler: Handler, repository: str, revision: str) -> None:
        if self.api_tricks:
            return self.api_tricks.pop(0)(handler, self.description(repository))
        if repository in self.private and handler.headers.get("Authorization") != f"Bearer {TOKEN}":
            return handler.send(401)
        if repository not in self.files or revision not in ("main", COMMIT):
            return handler.send(404)
        assert parse_qs(urlsplit(handler.path).query) == {"blobs": ["true"]}
        handler.send(200, self.description(repository))

    def description(self, repository: str, **changes: object) -> bytes:
        siblings = []
        for name, data in self.files[repository].items():
            git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            sibling = {"rfilename": name, "size": len(data), "blobId": git}
            if name not in self.without_lfs:
                sibling["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            siblings.append(sibling)
        return json.dumps({"id": repository, "sha": COMMIT, "gated": False, "siblings": siblings} | changes).encode()

    def _send_file(self, handler: Handler, repository: str, name: str) -> None:
        data = self.files[repository][name]
        is_header = handler.headers.get("Range", "").startswith("bytes=0-") and not handler.headers["Range"].endswith(
            "-"
        )
        trick = self.tricks.pop(0) if self.tricks and not is_header else send_right
        trick(handler, data)


def etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


def asked(handler: Handler, data: bytes) -> tuple[int, int]:
    """The range that the request wants, as [start, end)."""
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", ""))
    if match is None or handler.headers.get("If-Range", etag(data)) != etag(data):
        return 0, len(data)
    return int(match[1]), min(int(match[2] or len(data)) + bool(match[2]), len(data))


def send_right(handler: Handler, data: bytes, body: bytes | None = None, **changes: object) -> None:
    """The file, or the part that was asked for; `body` and headers may be replaced."""
    start, end = asked(handler, data)
    headers = {"ETag": etag(data), "Accept_Ranges": "bytes"}
    if (start, end) != (0, len(data)) or "Range" in handler.headers:
        headers["Content_Range"] = f"bytes {start}-{end - 1}/{len(data)}"
    status = 206 if "Content_Range" in headers and asked(handler, data) == (start, end) else 200
    if "If-Range" in handler.headers and handler.headers["If-Range"] != etag(data):
        status = 200
        del headers["Content_Range"]
    part = data[start:end] if body is None else body
    handler.send(status, part, **{"length": end - start} | headers | changes)


def drop_after(n_bytes: int) -> Trick:
    """Promise all, send so many bytes, close."""

    def trick(handler: Handler, data: bytes) -> None:
        start, end = asked(handler, data)
        send_right(handler, data, data[start : min(start + n_bytes, end)])

    return trick


def ignore_range(handler: Handler, data: bytes) -> None:
    handler.send(200, data, ETag=etag(data))


def corrupt(handler: Handler, data: bytes) -> None:
    start, end = asked(handler, data)
    part = bytearray(data[start:end])
    part[len(part) // 2] ^= 1
    send_right(handler, data, bytes(part))


def answer_status(status: int, **headers: str) -> Trick:
    return lambda handler, data: handler.send(status, **headers)
