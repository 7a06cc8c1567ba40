"""A small Hugging Face hub on this machine: as much of its HTTP interface as uploads and downloads need.

Small files arrive in the commit itself and safetensors by git's large file storage, as on the real hub.
"""

import base64
import hashlib
import json
import re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_owner"


class Hub:
    """What the hub holds.

    Attributes:
        url: Its address.
        repositories: Commits of each repository, the newest last: ``(sha, {path: content})``.
        downloads: Paths of the files that were sent.
        private: Repositories that only the owner's token opens.
    """

    def __init__(self):
        self.url = ""
        self.repositories = {}
        self.stored = {}  # large files by sha256
        self.downloads = []
        self.private = set()

    def files(self, repository, revision="main"):
        commits = self.repositories[repository]
        if revision == "main":
            return commits[-1]
        return next((sha, files) for sha, files in commits if sha == revision)

    def commit(self, repository, lines):
        files = dict(self.repositories[repository][-1][1])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.stored[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        return self.put(repository, files)

    def put(self, repository, files):
        """A commit with these files alone."""
        commits = self.repositories.setdefault(repository, [])
        sha = hashlib.sha1(f"{repository} {len(commits)}".encode()).hexdigest()
        commits.append((sha, files))
        return sha


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        path = self._path()
        body = (
            self.rfile.read(int(self.headers["Content-Length"])) if "Content-Length" in self.headers else b""
        )
        if "Transfer-Encoding" in self.headers:
            body = self._chunks()
        if path == "/api/validate-yaml":
            assert json.loads(body)["content"].startswith("---\n")
            return self._json({"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._json({"error": "Invalid username or password."}, 401)
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            known = name in self.hub.repositories
            if not known:
                self.hub.put(name, {".gitattributes": b"*.safetensors filter=lfs\n"})
            if asked.get("visibility") == "private" or asked.get("private"):
                self.hub.private.add(name)
            return self._json({"url": f"{self.hub.url}/{name}", "name": name}, 409 if known else 200)
        if found := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            return self._json({"files": files})
        if found := re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.hub.url}/store/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            return self._json({"transfer": "basic", "objects": objects})
        if found := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            sha = self.hub.commit(found[1], [json.loads(line) for line in body.splitlines()])
            return self._json({"commitUrl": f"{self.hub.url}/{found[1]}/commit/{sha}", "commitOid": sha})
        return self._json({"error": f"no POST {path}"}, 404)

    def do_PUT(self):
        sha256 = self._path().removeprefix("/store/")
        content = self.rfile.read(int(self.headers["Content-Length"]))
        assert hashlib.sha256(content).hexdigest() == sha256
        self.hub.stored[sha256] = content
        self._answer(b"")

    def do_GET(self):
        path = self._path()
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            return self._of(found[1], found[2], self._info)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            return self._of(found[1], found[2], self._tree)
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._of(found[1], found[2], lambda _, sha, files: self._file(found[3], sha, files))
        return self._json({"error": f"no GET {path}"}, 404)

    def do_HEAD(self):
        self.do_GET()

    def _of(self, repository, revision, answer):
        hidden = repository in self.hub.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"
        if repository not in self.hub.repositories or hidden:
            return self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        try:
            sha, files = self.hub.files(repository, revision or "main")
        except StopIteration:
            return self._json({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
        return answer(repository, sha, files)

    def _info(self, repository, sha, files):
        self._json({"id": repository, "sha": sha, "siblings": [{"rfilename": name} for name in files]})

    def _tree(self, repository, sha, files):
        self._json(
            [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in files.items()
            ]
        )

    def _file(self, name, sha, files):
        if name not in files:
            return self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        if self.command == "GET":
            self.hub.downloads.append(name)
        content = files[name]
        tag = hashlib.sha256(content).hexdigest()
        return self._answer(content, headers={"ETag": f'"{tag}"', "X-Repo-Commit": sha})

    def _path(self):
        return unquote(urlsplit(self.path).path)

    def _chunks(self):
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _json(self, value, status=200, headers=None):
        kind = {"Content-Type": "application/json", **(headers or {})}
        if status >= 400 and "error" in value:
            kind["X-Error-Message"] = value["error"]
        self._answer(json.dumps(value).encode(), status, kind)

    def _answer(self, content, status=200, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextmanager
def running():
    """A hub that answers on a port of this machine."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
