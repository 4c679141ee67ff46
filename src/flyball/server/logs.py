"""How the processes of ``flyball up`` write their logs: lines for people, or JSON objects for machines."""

import logging
from datetime import UTC, datetime

import msgspec

_TEXT = "%(asctime)s %(levelname)s %(message)s"
_encode = msgspec.json.Encoder(enc_hook=str).encode


def set_up_logging(form: str) -> None:
    """Let this process log to its standard error.

    Args:
        form: ``text`` or ``json``, as the setting ``log_format`` says.
    """
    logging.basicConfig(level=logging.INFO, format=_TEXT)
    if form == "json":
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonFormatter())


class JsonFormatter(logging.Formatter):
    """Writes each record as one JSON object: when, how bad, who, what; then the record's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = getattr(record, "fields", None)
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
            **(fields if isinstance(fields, dict) else {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _encode(line).decode()
