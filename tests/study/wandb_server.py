"""A stand-in for the W&B server on loopback: takes runs and their rows as the server's clients send them."""

import base64
import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

KEY = "k" * 40


class Server(ThreadingHTTPServer):
    """Holds each run's rows in the order of their lines, the key it knows, and whether it answers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.runs: dict[str, dict[str, Any]] = {}
        self.answers = Event()
        self.answers.set()

    def handle_error(self, *_: object) -> None:
        """A client that has not waited for its answer."""

    def steps(self, run_id: str) -> list[int]:
        """The steps of a run's rows as they stand."""
        return [row["_step"] for row in self.rows(run_id)]

    def rows(self, run_id: str) -> list[dict[str, Any]]:
        lines = self.runs[run_id]["lines"]
        return [json.loads(lines[number]) for number in sorted(lines)]


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield server
    finally:
        server.answers.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.server.answers.wait()
        self._reply({}, 404)

    def do_PUT(self) -> None:
        self._body()
        self._reply({})

    def do_POST(self) -> None:
        body = self._body()
        self.server.answers.wait()
        if self.path == "/graphql" and self._key() != KEY:
            self._reply({"errors": [{"message": "user is not logged in"}]}, 401)
        elif self.path == "/graphql":
            query = json.loads(body)
            self._reply({"data": self._answer(query["operationName"], query.get("variables", {}))})
        elif self.path.endswith("/file_stream"):
            self._take(self.path.split("/")[-2], json.loads(body))
            self._reply({})
        else:  # measurements of W&B's own
            self._reply({})

    def _answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        entity = {"id": "entity", "name": "me"}
        if operation == "UpsertBucket":
            run = self.server.runs.setdefault(variables["name"], {"lines": {}, "summary": "{}", "config": "{}"})
            run.update({key: variables[key] for key in ("config", "groupName") if variables.get(key)})
            bucket = self._bucket(variables["name"]) | {"project": {"id": "project", "name": "p", "entity": entity}}
            return {"upsertBucket": {"bucket": bucket, "inserted": not run["lines"]}}
        if operation == "RunResumeStatus":
            bucket = self._bucket(variables["name"]) if variables["name"] in self.server.runs else None
            return {"model": {"id": "project", "name": "p", "internalId": "1", "entity": entity, "bucket": bucket}}
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.server.url}/{name}"} for name in variables["files"]]
            return {"createRunFiles": {"runID": "id", "uploadHeaders": [], "files": files}}
        if operation == "Viewer":
            return {"viewer": {"id": "user", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}
        return {}

    def _bucket(self, name: str) -> dict[str, Any]:
        run, rows = self.server.runs[name], self.server.rows(name)
        return {
            "id": name,
            "name": name,
            "displayName": name,
            "config": run["config"],
            "summaryMetrics": run["summary"],
            "historyLineCount": len(rows),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": json.dumps([json.dumps(rows[-1])] if rows else []),
            "eventsTail": "[]",
            "tags": [],
            "wandbConfig": json.dumps({"t": 1}),
        }

    def _take(self, name: str, body: dict[str, Any]) -> None:
        run = self.server.runs[name]
        for file, chunk in (body.get("files") or {}).items():
            if file == "wandb-history.jsonl":
                run["lines"].update(enumerate(chunk["content"], chunk["offset"]))
            elif file == "wandb-summary.json":
                run["summary"] = chunk["content"][-1]

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _key(self) -> str:
        scheme, _, encoded = self.headers.get("Authorization", "").partition(" ")
        return base64.b64decode(encoded).decode().partition(":")[2] if scheme == "Basic" else ""

    def _reply(self, answer: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
