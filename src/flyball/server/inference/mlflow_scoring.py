"""MLflow's scoring protocol: ``POST /invocations``, as ``mlflow models serve`` and SageMaker's containers answer it."""

import csv
import io
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

from flyball.core.errors import FlyballError, InvalidInputError
from flyball.domain.serving.loaded import LoadedVersion
from flyball.server.inference.asking import MAX_ROWS, Answered, Asker, TooManyRowsError
from flyball.server.inference.exchange import Exchange
from flyball.server.inference.messages import JSON, Reply, Request
from flyball.server.inference.paths import is_unread, require_method, unknown_path
from flyball.server.inference.rows import from_columns, origin_headers, pick_endpoint, read_object, read_rows, read_text
from flyball.server.inference.together import RowCalls
from flyball.server.mlflow.errors import refuse
from flyball.server.problems import BodyTooLargeError, BodyUnreadableError, MediaTypeError
from flyball.version import __version__

if TYPE_CHECKING:
    import polars as pl

_PARQUET = "application/vnd.apache.parquet"
_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_ADDRESSES = "POST /invocations and /endpoints/NAME/invocations, GET /ping, /version and /api/2.0/endpoints"
_LIST = "/api/2.0/endpoints"
_MOST_BYTES = 64_000_000
_MOST_UNKNOWN = 20
_encode = msgspec.json.Encoder(enc_hook=str).encode


class MlflowScoring:
    """Answers what clients of MLflow's scoring server and of its deployments send.

    Args:
        asker: Asks the data plane.
    """

    name = "mlflow"

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._calls = {media_type: RowCalls(asker, read, _write) for media_type, read in _READERS.items()}

    def knows(self, path: str) -> bool:
        """Tell whether an address belongs to this protocol."""
        if path in ("/invocations", "/ping", "/version", _LIST) or path.startswith(f"{_LIST}/"):
            return True
        return path.endswith("/invocations") and path.startswith(("/endpoints/", "/gateway/"))

    def answer(self, request: Request, exchange: Exchange) -> Reply:
        """Answer a request; raises `FlyballError` for what is refused."""
        if (found := self.find_rows(request)) is not None:
            endpoint, calls = found
            return calls.answer(endpoint, request.body, exchange)
        match request.path.removesuffix("/").split("/")[1:]:
            case ["ping"]:
                require_method(request, "GET")
                return Reply(200 if self._asker.is_ready() else 503, b"\n")
            case ["version"]:
                require_method(request, "GET")
                return Reply(200, __version__.encode(), "text/plain")
            case ["api", "2.0", "endpoints"]:
                require_method(request, "GET")
                return Reply(200, _encode({"endpoints": [self._describe(name) for name in sorted(self._asker.lines)]}))
            case ["api", "2.0", "endpoints", endpoint]:
                require_method(request, "GET")
                return Reply(200, _encode(self._describe(endpoint)))
        raise unknown_path(request, _ADDRESSES)

    def find_rows(self, request: Request) -> tuple[str, RowCalls] | None:
        """Return whom a request for predictions asks, and what reads and answers it.

        Raises:
            MethodNotAllowedError: It is no POST.
            EndpointNotNamedError: There are several endpoints, or none, and none is named.
            MediaTypeError: The body's kind is none of those that can be read.
        """
        match request.path.removesuffix("/").split("/")[1:]:
            case ["invocations"]:
                require_method(request, "POST")
                endpoint = pick_endpoint(request, self._asker.lines)
            case ["endpoints" | "gateway", endpoint, "invocations"]:
                require_method(request, "POST")
            case _:
                return None
        calls = self._calls.get(request.media_type or JSON)
        if calls is None:
            raise MediaTypeError("Content-Type", request.media_type[:100], f"one of {', '.join(_READERS)}")
        return endpoint, calls

    def refuse(self, error: FlyballError) -> Reply:
        """Return ``{"error_code", "message"}``."""
        status, content = refuse(error)
        if isinstance(error, MediaTypeError):
            status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
        return Reply(status.value, _encode(content), is_last=is_unread(error))

    def _describe(self, endpoint: str) -> dict[str, Any]:
        line = self._asker.line(endpoint)
        return {
            "name": endpoint,
            "endpoint_type": "predictions",
            "model": {"name": line.served.model, "provider": "flyball"},
            "endpoint_url": f"/endpoints/{endpoint}/invocations",
            "limit": None,
        }


def _write(answered: Answered, _state: None) -> Reply:
    return Reply(200, _encode({"predictions": answered.predictions}), headers=origin_headers(answered))


def _read_json(loaded: LoadedVersion, body: bytes) -> list[Any]:
    content = read_object(body)
    forms = [form for form in _FORMS if form in content]
    if len(forms) != 1:
        found = " and ".join(forms) or ", ".join(list(content)[:5]) or "nothing"
        raise InvalidInputError(f"the body must have exactly one of {', '.join(_FORMS)}, but it has {found}")
    if further := [name for name in content if name not in (*forms, "params")]:
        raise InvalidInputError(f"the body has {further[0][:100]!r} beside {forms[0]}, which is not understood")
    if content.get("params"):
        raise InvalidInputError("params were given, but models here take none", hint="Send params as {}.")
    form, data = forms[0], content[forms[0]]
    if form == "dataframe_split":
        return _read_split(loaded, data)
    if form == "inputs" and isinstance(data, dict):
        return _read_columns(loaded, data)
    if form == "dataframe_records" and isinstance(data, list) and not all(isinstance(row, dict) for row in data):
        raise InvalidInputError("dataframe_records must be a list of objects")
    return read_rows(loaded, data, what=form)


def _read_split(loaded: LoadedVersion, data: Any) -> list[Any]:
    if not isinstance(data, dict) or not isinstance(data.get("data"), list):
        raise InvalidInputError("dataframe_split must be an object with columns and data, both lists")
    if further := [name for name in data if name not in ("columns", "index", "data")]:
        raise InvalidInputError(f"dataframe_split has {further[0][:100]!r}, which is not understood")
    columns = data.get("columns")
    if columns is None:
        return read_rows(loaded, data["data"], what="dataframe_split")
    if not isinstance(columns, list):
        raise InvalidInputError("the columns of dataframe_split must be a list of names")
    if any(isinstance(row, dict) for row in data["data"]):
        raise InvalidInputError("the data of dataframe_split must be lists of values")
    return from_columns(loaded, columns, data["data"], what="dataframe_split")


def _read_columns(loaded: LoadedVersion, columns: dict[str, Any]) -> list[Any]:
    values = [value if isinstance(value, list) else [value] for value in columns.values()]
    heights = {len(value) for value in values}
    if len(heights) != 1:
        raise InvalidInputError("the columns of inputs must be as long as each other")
    # A column may be an array of one value a row.
    values = [[v[0] if isinstance(v, list) and len(v) == 1 else v for v in column] for column in values]
    return from_columns(loaded, list(columns), [list(row) for row in zip(*values, strict=True)], what="inputs")


def _read_csv(loaded: LoadedVersion, body: bytes) -> list[Any]:
    try:
        lines = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        header = next(lines, None)
        fields = {field.name: field for field in loaded.request.schema.fields}
        rows: list[list[Any]] = []
        for line in lines:
            if len(rows) >= MAX_ROWS:
                raise TooManyRowsError(sum(1 for _ in lines) + len(rows) + 1)
            if line:
                rows.append(line)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(f"the body is not CSV in UTF-8: {error}") from error
    if header is None:
        raise InvalidInputError("the body is empty; CSV begins with a line of the fields' names")
    found = from_columns(loaded, header, rows, what="the body")
    return [
        {name: read_text(text, fields[name]) if name in fields else text for name, text in row.items()} for row in found
    ]


def _read_parquet(loaded: LoadedVersion, body: bytes) -> list[Any]:
    import polars as pl

    try:
        # The file's own summary first: a few bytes can stand for a billion rows.
        height = pl.scan_parquet(io.BytesIO(body)).select(pl.len()).collect().item()
        if height > MAX_ROWS:
            raise TooManyRowsError(height)
        _check_columns(loaded, pl.read_parquet_schema(io.BytesIO(body)))
        frame = pl.read_parquet(io.BytesIO(body))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise BodyUnreadableError("it is damaged, or something else", wanted="a Parquet file") from error
    texts = [pl.col(name).str.len_bytes().sum() for name, dtype in frame.schema.items() if dtype == pl.String]
    if texts and frame.select(pl.sum_horizontal(texts)).item() > _MOST_BYTES:
        raise BodyTooLargeError(_MOST_BYTES)
    frame = frame.select(name for name in frame.columns if not name.startswith("__index_level_"))
    return from_columns(loaded, frame.columns, [list(row) for row in frame.iter_rows()], what="the body")


def _check_columns(loaded: LoadedVersion, columns: Mapping[str, "pl.DataType"]) -> None:
    """Refuse columns that no request has: some bytes can stand for endless lists, or for a million columns."""
    most = len(loaded.request.schema.fields) + _MOST_UNKNOWN
    if len(columns) > most:
        raise InvalidInputError(f"the body must have at most {most} columns, but it has {len(columns):,}")
    for name, dtype in columns.items():
        if dtype.is_nested() or str(dtype) in ("Binary", "Object"):
            raise InvalidInputError(f"the column {name[:100]!r} is {str(dtype)[:100]}, and no field is of such values")


_READERS: dict[str, Callable[[LoadedVersion, bytes], tuple[list[Any], None]]] = {
    JSON: lambda loaded, body: (_read_json(loaded, body), None),
    "text/csv": lambda loaded, body: (_read_csv(loaded, body), None),
    _PARQUET: lambda loaded, body: (_read_parquet(loaded, body), None),
}
