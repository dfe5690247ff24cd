"""A web server that serves a folder as Common Crawl and the hub serve theirs, and fails as it is told to.

    python source_server.py FOLDER      prints its port

Below `datasets/ORG/NAME/COMMIT/` lie the files of a dataset at a commit; `branches.json` beside them names branches.
POST /_faults takes a list of {"match", "kind", "times", ...}: `status` (code, retry_after), `short` (half the bytes, then a
clean end where the client cannot tell but by counting), `drop` (half the bytes, then a reset), `whole` (no ranges).
GET /_log gives the requests: method, path, range, authorization.
"""

import email.utils
import hashlib
import json
import re
import socket
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

FOLDER = Path(sys.argv[1])
faults: list[dict] = []
log: list[dict] = []
lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def fault(self):
        with lock:
            for fault in faults:
                if re.search(fault["match"], f"{self.command} {self.path}") and fault["times"] > 0:
                    fault["times"] -= 1
                    return fault
        return {"kind": ""}

    def reply(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, value):
        self.reply(200, json.dumps(value).encode(), Content_Type="application/json")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/_faults":
            with lock:
                faults[:] = json.loads(body)
                log.clear()
            return self.json({})
        return self.answer(body)

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        if self.path == "/_log":
            with lock:
                return self.json(log)
        return self.answer()

    def answer(self, body=b""):
        with lock:
            log.append({
                "method": self.command, "path": self.path, "range": self.headers.get("Range"),
                "authorization": self.headers.get("Authorization"),
            })  # fmt: skip
        fault = self.fault()
        if fault["kind"] == "status":
            after = {"Retry_After": fault["retry_after"]} if "retry_after" in fault else {}
            return self.reply(fault["code"], **after)
        url = urlsplit(self.path)
        path = url.path.strip("/")
        if path.startswith("api/datasets/"):
            return self.hub([unquote(part) for part in path.split("/")[2:]], parse_qs(url.query), body)
        if found := re.fullmatch(r"datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.*)", path):
            name, revision, rest = map(unquote, found.groups())
            file = FOLDER / "datasets" / name / commit_of(name, revision) / rest
            return self.file(file, fault, X_Repo_Commit=commit_of(name, revision))
        return self.file(FOLDER / path, fault)

    def file(self, file, fault, **headers):
        if not file.is_file():
            return self.reply(404)
        data = file.read_bytes()
        headers |= {
            "ETag": f'"{hashlib.sha256(data).hexdigest()}"', "Accept_Ranges": "bytes",
            "Last_Modified": email.utils.formatdate(int(file.stat().st_mtime), usegmt=True),
        }  # fmt: skip
        status, asked = 200, re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        if asked and fault["kind"] != "whole":
            start, stop = int(asked[1]), min(int(asked[2]) + 1, len(data))
            if start >= len(data):
                return self.reply(416)
            headers["Content_Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
            data, status = data[start:stop], 206
        if self.command == "HEAD" or fault["kind"] not in ("short", "drop"):
            return self.reply(status, data, **headers)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        if fault["kind"] == "drop":
            self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])
        self.wfile.flush()
        self.close_connection = True
        if fault["kind"] == "drop":  # a reset, not an end
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        return None

    def hub(self, parts, query, body):
        name = "/".join(parts[:2])
        if not (FOLDER / "datasets" / name).is_dir():
            return self.reply(401, X_Error_Code="RepoNotFound")
        revision = parts[3] if len(parts) > 3 else "main"
        commit = commit_of(name, revision)
        top = FOLDER / "datasets" / name / commit
        if not commit or not top.is_dir():
            return self.reply(404, X_Error_Code="RevisionNotFound")
        what = parts[2] if len(parts) > 2 else "revision"
        if what == "revision":
            return self.json({
                "id": name, "sha": commit, "lastModified": "2024-03-01T12:00:00.000Z", "private": False, "gated": False,
                "disabled": False, "downloads": 0, "likes": 0, "tags": [], "siblings": [],
            })  # fmt: skip
        if what == "tree":
            folder = top / "/".join(parts[4:])
            if not folder.exists():
                return self.reply(404, X_Error_Code="EntryNotFound")
            below = folder.rglob("*") if query.get("recursive") in (["True"], ["true"]) else folder.iterdir()
            return self.json([entry(top, p) for p in sorted(below)])
        if what == "paths-info":
            asked = parse_qs(body.decode()).get("paths") or json.loads(body or b"{}").get("paths", [])
            return self.json([entry(top, top / p) for p in asked if (top / p).exists()])
        return self.reply(404)


def commit_of(name, revision):
    branches = json.loads((FOLDER / "datasets" / name / "branches.json").read_text())
    return branches.get(revision, revision)


def entry(top, path):
    name = str(path.relative_to(top))
    if path.is_dir():
        return {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}
    data = path.read_bytes()
    found = {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
    if name.endswith(".parquet"):  # as large files are
        found["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return found


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_port, flush=True)
server.serve_forever()
