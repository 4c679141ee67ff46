"""The page at ``/``: where the links lead that MLflow's clients print, until there are pages of runs."""

import html

from flyball.server.asgi import Receive, Scope, Send
from flyball.version import __version__

# The links name the run behind a #, which a browser keeps to itself: so the page's own script looks it up.
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,"><title>Flyball</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:70ch;margin:2rem auto;padding:0 1rem}
td{padding:2px 2rem 2px 0;vertical-align:top;overflow-wrap:anywhere}h2{font-size:1rem;margin:1.5rem 0 .25rem}</style></head>
<body><h1>Flyball</h1>
<p>Version VERSION. Here are runs, models and traces of <code>MLFLOW_TRACKING_URI</code> and of <code>fb.run()</code>.
<code>flyball runs list</code> lists the runs, <code>flyball status</code> tells what is live.</p>
<div id="run"></div>
<script>
const place = document.getElementById("run");
function add(kind, text, to = place) { const made = document.createElement(kind); made.textContent = text; to.append(made); return made; }
function table(title, rows) {
  if (!rows.length) return;
  add("h2", title);
  const made = add("table", "");
  for (const [name, value] of rows) { const row = add("tr", "", made); add("td", name, row); add("td", String(value), row); }
}
async function show() {
  place.replaceChildren();
  const found = location.hash.match(/runs\\/([0-9A-Za-z]+)/);
  if (!found) return;
  const answer = await fetch("/api/2.0/mlflow/runs/get?run_id=" + found[1]);
  const body = await answer.json();
  if (!answer.ok) { add("p", body.message); return; }
  const { info, data } = body.run;
  add("h1", info.run_name || info.run_id);
  add("p", info.status.toLowerCase() + ", began " + new Date(Number(info.start_time)).toLocaleString() + ", flyball runs show " + info.run_id);
  table("Parameters", (data.params || []).map((one) => [one.key, one.value]));
  table("Metrics, their last values", (data.metrics || []).map((one) => [one.key, one.value]));
  table("Tags", (data.tags || []).filter((one) => !one.key.startsWith("mlflow.")).map((one) => [one.key, one.value]));
}
addEventListener("hashchange", show);
show();
</script></body></html>
"""  # noqa: E501 - the page's own lines
_BODY = _PAGE.replace("VERSION", html.escape(__version__)).encode()
_HEADERS = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-length", str(len(_BODY)).encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
]


async def welcome(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the page, which needs nothing but the protocol that is served beside it."""
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else _BODY})
