"""As much of a wandb server as a run needs, able to stop answering."""

from __future__ import annotations

import gzip
import http.server
import json
import threading
from typing import Any


class Server(http.server.ThreadingHTTPServer):
    """Listens on a free port; `received` holds the path and the body of each request."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, resumed_at: int | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[str, str]] = []
        self.silent = threading.Event()
        self.resumed_at = resumed_at
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def history(self) -> list[dict[str, Any]]:
        """The rows of metrics that have arrived."""
        chunks = [json.loads(body)["files"] for path, body in self.received if path.endswith("/file_stream")]
        return [
            json.loads(line)
            for files in chunks
            for name, chunk in (files or {}).items()
            if name == "wandb-history.jsonl"
            for line in chunk["content"]
        ]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        project = {"id": "p", "name": "gptkit", "entity": {"id": "e", "name": "me"}}
        bucket = {
            "id": "b",
            "name": variables.get("name"),
            "displayName": "",
            "description": "",
            "config": "{}",
        }
        bucket |= {"sweepName": None, "project": project, "historyLineCount": 0}
        if operation == "RunResumeStatus":
            return {"model": {**project, "bucket": self._earlier(bucket)}}
        if operation == "UpsertBucket":
            return {"upsertBucket": {"bucket": bucket, "inserted": self.resumed_at is None}}
        if operation == "CreateRunFiles":
            files = [{"name": f, "uploadUrl": f"{self.url}/upload/{f}"} for f in variables["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        return {}

    def _earlier(self, bucket: dict[str, Any]) -> dict[str, Any] | None:
        if self.resumed_at is None:
            return None
        last = json.dumps({"step": self.resumed_at, "_step": self.resumed_at})
        return {
            **bucket,
            "historyLineCount": self.resumed_at,
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": json.dumps([last]),
            "eventsTail": "[]",
            "summaryMetrics": last,
            "wandbConfig": '{"t": 1}',
            "tags": [],
        }


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        if self.server.silent.is_set():
            threading.Event().wait(120)
        text = body.decode("utf-8", "replace")
        self.server.received.append((self.path, text))
        reply: dict[str, Any] = {}
        if self.path == "/graphql":
            query = json.loads(text)
            reply = {"data": self.server.answer(query.get("operationName", ""), query.get("variables") or {})}
        data = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_PATCH = do_POST

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
