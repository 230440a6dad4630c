"""Bundles on the Hub, against a stand-in of its API on this machine."""

import hashlib
import json
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from optimize.bundle.folder import BundleError, read_manifest
from optimize.bundle.manifest import FileEntry
from optimize.bundle.remote import folder_of
from optimize.judge.kit import read_kit
from optimize.judge.stored import write_json

COMMIT = "0123456789abcdef0123456789abcdef01234567"
READ = """
import sys
from optimize import Classifier
print(Classifier("owner/name", revision=sys.argv[1], threads=1).predict(["refund"])[0].label)
"""


class Hub(ThreadingHTTPServer):
    """The parts of the Hub's API that reading and uploading a repository ask for."""

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Answers)
        self.folder, self.uploaded, self.asked, self.deleted = folder, {}, [], []
        self.created, self.private = [], False
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/owner/name/tree/"):
            names = [{"type": "file", "path": file.name, "size": 1, "oid": COMMIT}
                     for file in sorted(self.server.folder.iterdir())]  # fmt: skip
            self.say(json.dumps(names).encode())
        elif path.startswith("/api/models/owner/name"):
            names = [{"rfilename": file.name} for file in sorted(self.server.folder.iterdir())]
            told = {"id": "owner/name", "sha": COMMIT, "siblings": names}
            told["private"] = self.server.private
            self.say(json.dumps(told).encode())
        elif path.startswith("/owner/name/resolve/"):
            self.file(Path(path).name, body=True)
        else:
            self.say(b"{}", 404)

    def do_HEAD(self):
        self.file(Path(self.path).name, body=False)

    def do_POST(self):
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(self.path)
        if self.path.endswith("/repos/create"):
            self.server.created.append(json.loads(content))
            self.say(json.dumps({"url": f"{self.server.address}/owner/name"}).encode())
        elif "/preupload/" in self.path:
            files = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                for each in json.loads(content)["files"]
            ]
            self.say(json.dumps({"files": files}).encode())
        elif "/commit/" in self.path:
            for line in content.splitlines():
                entry = json.loads(line)
                if entry["key"] == "deletedFile":
                    self.server.deleted.append(entry["value"]["path"])
                if entry["key"] == "file":
                    self.server.uploaded[entry["value"]["path"]] = entry["value"]["content"]
            url = f"{self.server.address}/owner/name/commit/{COMMIT}"
            self.say(json.dumps({"commitUrl": url, "commitOid": COMMIT}).encode())
        else:
            self.say(b"{}")

    def file(self, name, *, body):
        path = self.server.folder / name
        if not path.is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = path.read_bytes()
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def say(self, content, code=200):
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hub(tiny_kit, tmp_path):
    server = Hub(shutil.copytree(tiny_kit / "student-int8", tmp_path / "repository"))
    yield server
    server.shutdown()


def run(hub, tmp_path, *command, offline=False):
    import os

    environment = {
        **os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "1" if offline else "0", "HF_TOKEN": "hf_of_the_test",
        "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, check=False
    )


def test_it_is_read_back_also_without_a_network(hub, tmp_path):
    for revision, offline in ((COMMIT, False), ("main", False), (COMMIT, True)):
        done = run(hub, tmp_path, "-c", READ, revision, offline=offline)
        assert done.stdout.strip() in {"cancel", "refund", "track"}, done.stderr


def test_a_file_that_is_not_the_manifests_is_refused(hub, tmp_path):
    path = hub.folder / "model.onnx"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    path.write_bytes(content)
    done = run(hub, tmp_path, "-c", READ, COMMIT)
    assert "was changed or cut short" in done.stderr


def test_a_repository_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BundleError, match="could be had from the Hub"):
        folder_of("owner/absent-of-the-test", "main")
    with pytest.raises(BundleError, match="a revision is for a repository"):
        folder_of(tmp_path, "main")
    # Without a revision nothing is fetched: a folder that is not there stays one.
    assert folder_of("owner/absent-of-the-test", None) == Path("owner/absent-of-the-test")
    assert folder_of(tmp_path / "a" / "b" / "c", None) == tmp_path / "a" / "b" / "c"


@pytest.mark.torch
def test_a_push_shows_first_and_uploads_when_told(hub, tiny_kit, tmp_path):
    push = ("-m", "optimize", "push", str(tiny_kit / "student-int8"), "owner/name")
    done = run(hub, tmp_path, *push)
    assert "nothing was uploaded" in done.stdout, done.stderr
    assert not hub.uploaded
    done = run(hub, tmp_path, *push, "--yes")
    assert f'revision="{COMMIT}"' in done.stdout, done.stderr
    assert {"model.onnx", "manifest.json", "tokenizer.json", "README.md"} <= hub.uploaded.keys()
    assert not hub.deleted
    # Who asks for nothing gets what the owner of the name has as a default.
    assert [each.get("private") for each in hub.created] == [None]


@pytest.mark.torch
@pytest.mark.parametrize("private", [True, False])
def test_what_is_to_be_private_is_not_uploaded_in_public(hub, tiny_kit, tmp_path, private):
    """A repository that is there already keeps its visibility, whatever is asked for."""
    hub.private = private
    push = ("-m", "optimize", "push", str(tiny_kit / "student-int8"), "owner/name")
    done = run(hub, tmp_path, *push, "--private", "--yes")
    assert hub.created[0]["private"] is True
    assert bool(hub.uploaded) is private, done.stderr
    assert private or "is there already and public" in done.stderr


@pytest.mark.torch
def test_a_push_without_a_report_removes_the_page_of_an_earlier_one(hub, tiny_kit, tmp_path):
    for name in ("report.html", "mine.txt"):
        (hub.folder / name).write_text("older")
    push = ("-m", "optimize", "push", str(tiny_kit / "student-int8"), "owner/name")
    done = run(hub, tmp_path, *push)
    assert "removed there, if an earlier push left it: report.html" in done.stdout, done.stderr
    run(hub, tmp_path, *push, "--yes")
    assert hub.deleted == ["report.html"]


@pytest.mark.torch
def test_a_report_of_another_bundle_is_refused(tiny_kit, tmp_path, canned_report, hub):
    from optimize.judge.stored import write_json

    write_json(canned_report("pass"), tmp_path / "report.json")
    push = ("-m", "optimize", "push", str(tiny_kit / "student-int8"), "owner/name")
    done = run(hub, tmp_path, *push, "--report", str(tmp_path / "report.json"))
    assert "did not judge this bundle" in done.stderr


def test_a_report_of_the_same_model_with_another_bias_is_refused(tiny_kit, tmp_path, canned_report):
    """Its labels are others, and so are its figures."""
    from optimize.cli.publishing import _report_of

    bundle, path = tiny_kit / "student-int8", tmp_path / "report.json"
    manifest = read_manifest(bundle)
    whole = FileEntry.of(bundle / "manifest.json").sha256
    report = canned_report("pass")
    facts = read_kit(tiny_kit).variants["student-int8"].facts

    def written(**change):
        changed = {"student-int8": facts.model_copy(update=change)}
        write_json(report.model_copy(update={"variants": report.variants | changed}), path)

    written()
    assert _report_of(path, manifest, whole)[1] == "student-int8"
    with pytest.raises(ValueError, match="with this manifest"):
        _report_of(path, manifest, "0" * 64)
    written(manifest_sha256=None)  # as older reports
    assert _report_of(path, manifest, "0" * 64)[1] == "student-int8"
