"""A small server that speaks the protocol of the Hugging Face Hub.

It has what `huggingface_hub` asks for to make a repository, upload a folder by commits
with large files, and download files and snapshots.
"""

import base64
import hashlib
import http.server
import json
import re
import threading
import urllib.parse

TOKEN = "hf_test"


class Hub:
    """Repositories in memory, and their server.

    Attributes:
        base: str, the URL.
        commits: dict of repositories by name, each a list of ``(commit, files)``, the
            newest last; files are bytes by path.
        requests: list of str, such as "GET /api/models/me/a".
    """

    def __init__(self):
        self.commits, self.large, self.requests = {}, {}, []
        self.status = None
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.hub = self
        self.base = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )
        self._thread.start()

    def stop(self):
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def commit(self, repository, changes):
        """Commit changed files to a repository, and return the commit."""
        commits = self.commits.setdefault(repository, [])
        files = {**(commits[-1][1] if commits else {}), **changes}
        commit = hashlib.sha1(f"{repository} {len(commits)}".encode()).hexdigest()
        commits.append((commit, files))
        return commit

    def at(self, repository, revision):
        """The commit and files of a revision, or None."""
        for commit, files in reversed(self.commits[repository]):
            if revision in ("main", commit):
                return commit, files
        return None


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path, _ = self._begin()
        if self.server.hub.status:
            return self._send(self.server.hub.status, {"error": "not now"})
        model = re.fullmatch(
            r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?(?:/.*)?", path
        )
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        match = model or file
        if match is None or not self.server.hub.commits.get(match[1]):
            return self._missing("RepoNotFound")
        revision = file[2] if file else model[3] or "main"
        found = self.server.hub.at(match[1], revision)
        if found is None:
            return self._missing("RevisionNotFound")
        commit, files = found
        if file:
            if file[3] not in files:
                return self._missing("EntryNotFound", commit)
            return self._file(commit, files[file[3]])
        if model[2] == "tree":
            return self._send(200, [_tree_item(*item) for item in files.items()])
        names = [{"rfilename": name} for name in files]
        return self._send(200, {"id": match[1], "sha": commit, "siblings": names})

    do_HEAD = do_GET

    def do_PUT(self):
        path, body = self._begin()
        oid = path.rpartition("/")[2]
        if hashlib.sha256(body).hexdigest() != oid:
            return self._send(400, {"error": "another content"})
        self.server.hub.large[oid] = body
        return self._send(200, {})

    def do_POST(self):
        path, body = self._begin()
        hub = self.server.hub
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            return self._send(401, {"error": "Invalid username or password."})
        if path == "/api/validate-yaml":
            return self._send(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            about = json.loads(body)
            repository = f"{about['organization']}/{about['name']}"
            status = 409 if repository in hub.commits else 200
            hub.commits.setdefault(repository, [])
            return self._send(status, {"url": f"{hub.base}/{repository}"})
        if match := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if _is_large(file["path"]) else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for file in json.loads(body)["files"]
            ]
            return self._send(200, {"files": files})
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**item, "actions": {"upload": {"href": f"{hub.base}/{item['oid']}"}}}
                for item in json.loads(body)["objects"]
            ]
            return self._send(200, {"transfer": "basic", "objects": objects})
        if match := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            changes = {}
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    changes[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    changes[value["path"]] = hub.large[value["oid"]]
            commit = hub.commit(match[1], changes)
            url = f"{hub.base}/{match[1]}/commit/{commit}"
            return self._send(200, {"commitOid": commit, "commitUrl": url})
        return self._send(404, {})

    def _begin(self):
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.server.hub.requests.append(f"{self.command} {path}")
        if self.headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
        return path, body

    def _file(self, commit, content):
        digest = hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": commit, "ETag": f'"{digest}"'}
        self._send(200, content, {**headers, "Accept-Ranges": "bytes"})

    def _missing(self, code, commit=None):
        headers = {"X-Error-Code": code, "X-Error-Message": code}
        self._send(
            404,
            {"error": code},
            headers | ({"X-Repo-Commit": commit} if commit else {}),
        )

    def _send(self, status, content, headers=()):
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {**dict(headers), "Content-Length": len(content)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


def _is_large(path):
    return path.endswith((".h5", ".npz"))


def _tree_item(path, content):
    digest = hashlib.sha256(content).hexdigest()
    item = {"type": "file", "path": path, "size": len(content), "oid": digest[:40]}
    if _is_large(path):
        item["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
    return item
