"""A hub on this machine: an HTTP server that speaks the hub's protocol as huggingface_hub uses it, and can misbehave.

    with LoopbackHub(models={"org/tiny": folder}, datasets={"org/rows": folder}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        hub.break_after("model.safetensors", 100_000)        # the connection breaks once, after so many bytes
        ...
        hub.gets("model.safetensors")                         # what was asked for, with ranges

It serves folders: `/api/models/{repo}[/revision/{rev}]` with files, sizes and hashes, `/tree`, `/refs`, a search, and
`/{repo}/resolve/{rev}/{file}`. Big-file suffixes are answered the way the hub answers LFS: a redirect to a second
address (another port, as a CDN is another host), which takes ranges and must never see a token. Xet is not offered.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LFS_SUFFIXES = (".safetensors", ".bin", ".parquet", ".gguf", ".h5", ".arrow", ".gz")
CHUNK_BYTES = 16 * 1024
POINTER_BYTES = 134


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    method: str
    path: str
    range: str | None
    token: str | None
    cdn: bool


@dataclass
class Fault:
    """Something that goes wrong for the next `times` matching requests (every one if `times` is None)."""

    kind: str  # break, status, corrupt
    match: str
    times: int | None = 1
    bytes_sent: int = 0
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)


class File:
    """A file of a repository with what the hub says about it."""

    def __init__(self, path: str, source: Path) -> None:
        self.path, self.source = path, source
        self.content = source.read_bytes()
        self.size = len(self.content)
        self.lfs = path.endswith(LFS_SUFFIXES)
        self.sha256 = hashlib.sha256(self.content).hexdigest()
        self.git = _git_oid(_pointer(self.sha256, self.size) if self.lfs else self.content)

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git

    def sibling(self) -> dict[str, Any]:
        """Return the entry of `siblings` that `?blobs=true` asks for."""
        entry: dict[str, Any] = {"rfilename": self.path, "size": self.size, "blobId": self.git}
        if self.lfs:
            entry["lfs"] = {"sha256": self.sha256, "size": self.size, "pointerSize": POINTER_BYTES}
        return entry

    def tree_entry(self) -> dict[str, Any]:
        """Return the entry of the `/tree` listing."""
        entry: dict[str, Any] = {"type": "file", "oid": self.git, "size": self.size, "path": self.path}
        if self.lfs:
            entry["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": POINTER_BYTES}
        return entry


class Repo:
    """A repository: one folder per revision. A commit's name is a hash of what it holds."""

    def __init__(self, folder: Path, others: Mapping[str, Path]) -> None:
        self.commits: dict[str, dict[str, File]] = {}
        self.names: dict[str, str] = {}
        self.private = False
        self.gated = False
        for name, place in {"main": folder, **others}.items():
            self.set(name, place)

    def set(self, name: str, folder: Path) -> str:
        """Let a revision name stand for what the folder holds now; return the commit."""
        files = {str(p.relative_to(folder)): File(str(p.relative_to(folder)), p)
                 for p in sorted(folder.rglob("*")) if p.is_file()}
        commit = hashlib.sha1(json.dumps([[f.path, f.etag] for f in files.values()]).encode()).hexdigest()
        self.commits[commit], self.names[name] = files, commit
        return commit

    def commit(self, revision: str) -> str | None:
        found = self.names.get(revision, revision)
        return found if found in self.commits else None


class LoopbackHub:
    """Serve repositories on 127.0.0.1 until the `with` block ends.

    `revisions` gives more branches or tags than `main`: {"org/tiny": {"v1": folder}}. `token` is the one token that is
    accepted; without it any token, or none, opens every repository that is neither gated nor private.
    """

    def __init__(self, models: Mapping[str, Path] | None = None, datasets: Mapping[str, Path] | None = None, *,
                 revisions: Mapping[str, Mapping[str, Path]] | None = None, token: str | None = None) -> None:
        more = revisions or {}
        self.repos = {("models", n): Repo(f, more.get(n, {})) for n, f in (models or {}).items()}
        self.repos |= {("datasets", n): Repo(f, more.get(n, {})) for n, f in (datasets or {}).items()}
        self.token = token
        self.ranges = True  # False: the server ignores Range and answers 200 with everything
        self.bytes_per_s: float | None = None
        self.requests: list[Request] = []
        self.sent_bytes: dict[str, int] = {}
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._servers = [self._server(cdn=False), self._server(cdn=True)]
        self.endpoint, self.cdn = (f"http://127.0.0.1:{s.server_address[1]}" for s in self._servers)

    def __enter__(self) -> LoopbackHub:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    # What a test may ask for.

    def break_after(self, match: str, bytes_sent: int, *, times: int | None = 1) -> None:
        """Break the connection after so many bytes of a body, for the next `times` downloads of a matching file."""
        self._faults.append(Fault("break", match, times, bytes_sent=bytes_sent))

    def answer(self, status: int, match: str = "/", *, times: int | None = 1, **headers: str) -> None:
        """Answer matching requests with a status (429, 500 …); header names are written with `_` for `-`."""
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        self._faults.append(Fault("status", match, times, status=status, headers=named))

    def corrupt(self, match: str, *, times: int | None = 1) -> None:
        """Send wrong bytes of the right length."""
        self._faults.append(Fault("corrupt", match, times))

    def gate(self, repo: str, kind: str = "models") -> None:
        """Ask for a token before any file of the repository is given out."""
        self.repos[(kind, repo)].gated = True

    def hide(self, repo: str, kind: str = "models") -> None:
        """Make a repository private: without the token it does not exist."""
        self.repos[(kind, repo)].private = True

    def commit(self, repo: str, kind: str = "models", revision: str = "main") -> str:
        """Return the commit a revision stands for."""
        return self.repos[(kind, repo)].names[revision]

    def update(self, repo: str, folder: Path, kind: str = "models") -> str:
        """Move `main` to what a folder holds now."""
        return self.repos[(kind, repo)].set("main", folder)

    def gets(self, match: str = "/") -> list[Request]:
        """Return the body requests (no redirects) of files whose path or name matches."""
        return [r for r in self.requests if r.method == "GET" and match in r.path and "/api/" not in r.path
                and (r.cdn or not r.path.endswith(LFS_SUFFIXES))]

    # The server.

    def _server(self, *, cdn: bool) -> ThreadingHTTPServer:
        handler = type("Handler", (_Handler,), {"hub": self, "cdn": cdn})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        return server

    def take_fault(self, path: str, kinds: tuple[str, ...]) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.kind in kinds and fault.match in path and fault.times != 0:
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None

    def log(self, request: Request) -> None:
        with self._lock:
            self.requests.append(request)

    def count(self, path: str, sent: int) -> None:
        with self._lock:
            self.sent_bytes[path] = self.sent_bytes.get(path, 0) + sent


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    cdn: bool
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        return

    def do_HEAD(self) -> None:
        self._handle()

    def do_GET(self) -> None:
        self._handle()

    def _handle(self) -> None:
        url = urlsplit(self.path)
        path, query = unquote(url.path), parse_qs(url.query)
        given = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        self.hub.log(Request(self.command, path, self.headers.get("Range"), given, self.cdn))
        if fault := self.hub.take_fault(path, ("status",)):
            return self._status(fault.status, **fault.headers)
        if self.cdn:
            return self._blob(path) if given is None else self._status(400, X_Error_Message="a token reached the CDN")
        if given and self.hub.token and given != self.hub.token:
            return self._status(401, X_Error_Message="Invalid credentials in Authorization header")
        parts = [p for p in path.split("/") if p]
        if parts[:1] == ["api"]:
            return self._api(parts[1], parts[2:], query, given)
        kind = "datasets" if parts[:1] == ["datasets"] else "models"
        if kind == "datasets":
            parts = parts[1:]
        if "resolve" not in parts:
            return self._status(404)
        at = parts.index("resolve")
        return self._resolve(kind, "/".join(parts[:at]), parts[at + 1], "/".join(parts[at + 2:]), given)

    def _api(self, kind: str, parts: list[str], query: dict[str, list[str]], given: str | None) -> None:
        if kind not in ("models", "datasets"):
            return self._status(404)
        if not parts:
            word, owner = query.get("search", [""])[0].lower(), query.get("author", [""])[0]
            return self._json([{"id": n} for k, n in self.hub.repos
                               if k == kind and word in n.lower() and n.startswith(owner)])
        for cut in (2, 1):  # `org/name` first, then a name alone
            name, rest = "/".join(parts[:cut]), parts[cut:]
            if (kind, name) in self.hub.repos:
                return self._repo_api(kind, name, rest, query, given)
        return self._not_found(given)

    def _repo_api(self, kind: str, name: str, rest: list[str], query: dict[str, list[str]], given: str | None) -> None:
        repo = self.hub.repos[(kind, name)]
        if repo.private and not self._accepted(given):
            return self._not_found(given)
        if rest[:1] == ["refs"]:
            return self._json({"branches": [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": c}
                                            for n, c in repo.names.items()], "tags": [], "converts": []})
        revision = "/".join(rest[1:]) or "main"
        commit = repo.commit(revision)
        if commit is None:
            return self._status(404, X_Error_Code="RevisionNotFound", X_Error_Message=f"Invalid rev id: {revision}")
        files = repo.commits[commit].values()
        if rest[:1] == ["tree"]:
            return self._json([f.tree_entry() for f in files])
        siblings = [f.sibling() if "blobs" in query else {"rfilename": f.path} for f in files]
        return self._json({"_id": "0", "id": name, "sha": commit, "private": repo.private, "siblings": siblings,
                           "gated": "manual" if repo.gated else False, "tags": [], "downloads": 0, "likes": 0})

    def _resolve(self, kind: str, name: str, revision: str, file_path: str, given: str | None) -> None:
        repo = self.hub.repos.get((kind, name))
        if repo is None or (repo.private and not self._accepted(given)):
            return self._not_found(given)
        commit = repo.commit(revision)
        if commit is None:
            return self._status(404, X_Error_Code="RevisionNotFound")
        if repo.gated and not self._accepted(given):
            return self._status(403 if given else 401, X_Error_Code="GatedRepo",
                                X_Error_Message=f"Access to {name} is restricted.", X_Repo_Commit=commit)
        file = repo.commits[commit].get(file_path)
        if file is None:
            return self._status(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        facts = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if not file.lfs:
            return self._body(file, file_path, {**facts, "ETag": f'"{file.git}"'})
        self.send_response(302)
        for key, value in {**facts, "Location": f"{self.hub.cdn}/{file.sha256}/{file_path}", "Content-Length": "0",
                           "X-Linked-Size": str(file.size), "X-Linked-Etag": f'"{file.sha256}"',
                           "ETag": f'"{file.git}"'}.items():
            self.send_header(key, value)
        self.end_headers()
        return None

    def _blob(self, path: str) -> None:
        sha256, _, file_path = path.lstrip("/").partition("/")
        for repo in self.hub.repos.values():
            for files in repo.commits.values():
                for file in files.values():
                    if file.lfs and file.sha256 == sha256 and file.path == file_path:
                        return self._body(file, file_path, {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"})
        return self._status(404)

    def _body(self, file: File, path: str, headers: Mapping[str, str]) -> None:
        start = self._range_start() if self.hub.ranges else None
        if start is not None and start >= file.size > 0:
            return self._status(416, Content_Range=f"bytes */{file.size}")
        self.send_response(200 if start is None else 206)
        content = file.content[start or 0:]
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{file.size - 1}/{file.size}")
        self.end_headers()
        if self.command == "HEAD":
            return None
        if self.hub.take_fault(path, ("corrupt",)):
            content = bytes(b ^ 0x55 for b in content)
        fault = self.hub.take_fault(path, ("break",))
        return self._send(content, path, fault.bytes_sent if fault else None)

    def _send(self, content: bytes, path: str, limit: int | None) -> None:
        """Send a body piece by piece; with a limit, close the connection once that much has gone out."""
        content = content if limit is None else content[:limit]
        for at in range(0, len(content), CHUNK_BYTES):
            piece = content[at:at + CHUNK_BYTES]
            try:
                self.wfile.write(piece)
                self.wfile.flush()
            except OSError:  # the client has gone
                break
            self.hub.count(path, len(piece))
            if self.hub.bytes_per_s:
                time.sleep(len(piece) / self.hub.bytes_per_s)
        if limit is not None:
            self.close_connection = True

    def _range_start(self) -> int | None:
        value = self.headers.get("Range") or ""
        first = value.removeprefix("bytes=").partition("-")[0]
        return int(first) if value.startswith("bytes=") and first.isdigit() else None

    def _accepted(self, given: str | None) -> bool:
        return given is not None and given == self.hub.token

    def _not_found(self, given: str | None) -> None:
        # The hub does not tell a stranger what exists: 401 without a token, 404 with one.
        self._status(404 if given else 401, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")

    def _status(self, status: int, **headers: str) -> None:
        body = b"" if self.command == "HEAD" else json.dumps({"error": headers.get("X_Error_Message", "")}).encode()
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _json(self, data: Any) -> None:
        body = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _pointer(sha256: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
