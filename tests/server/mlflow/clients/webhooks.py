"""The unmodified client's webhooks: ``webhooks.py URL``, with a receiver of its own. It only asserts."""

import base64
import hashlib
import hmac
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

client = MlflowClient(sys.argv[1])
told = []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        signed = f"{self.headers['X-MLflow-Delivery-Id']}.{self.headers['X-MLflow-Timestamp']}.".encode() + body
        expected = base64.b64encode(hmac.new(b"hush", signed, hashlib.sha256).digest()).decode()
        assert self.headers["X-MLflow-Signature"] == f"v1,{expected}"
        told.append(json.loads(body))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/hook"
events = ["model_version.created", "model_version_alias.created"]
made = client.create_webhook("hook", url, events, description="d", secret="hush")
assert (made.name, made.url, made.description, made.secret) == ("hook", url, "d", None)
assert [str(event) for event in made.events] == events
assert client.get_webhook(made.webhook_id).status == "ACTIVE"
assert [hook.webhook_id for hook in client.list_webhooks()] == [made.webhook_id]
result = client.test_webhook(made.webhook_id)
assert (result.success, result.response_status, result.response_body) == (True, 200, "ok")
told.clear()
client.create_registered_model("hooked")
client.create_model_version("hooked", "s3://bucket/model")
client.set_registered_model_alias("hooked", "best", 1)
for _ in range(200):
    if len(told) >= 2:
        break
    time.sleep(0.1)
assert [f"{body['entity']}.{body['action']}" for body in told] == events, told
assert told[1]["data"] == {"name": "hooked", "alias": "best", "version": "1"}
assert client.update_webhook(made.webhook_id, status="DISABLED").status == "DISABLED"
client.delete_webhook(made.webhook_id)
try:
    client.get_webhook(made.webhook_id)
    raise AssertionError("a deleted webhook was found")
except MlflowException as error:
    assert error.error_code == "RESOURCE_DOES_NOT_EXIST"
