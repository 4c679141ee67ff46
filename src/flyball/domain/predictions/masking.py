"""What the log keeps of sensitive fields: a keyed digest, by which equal values are still told to be equal, or nothing.

Masking is done before a line is written, so no file, page or export ever holds the value. The key lies in the home; who
has only the log cannot try values until a digest fits.
"""

import hmac
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from flyball.core.errors import InvalidInputError
from flyball.domain.predictions.labels import key_value
from flyball.domain.predictions.records import NO_FIELDS, PredictionRecord, PredictionStatus, Reason

Masking = Literal["hash", "leave out"]
KEY_FILE = "predictions.key"
_KEY_BYTES = 32
_SIGNS = 32
_PREFIX = "hmac:"
_encode = msgspec.json.Encoder(order="deterministic", enc_hook=str).encode
_decode = msgspec.json.Decoder().decode


class Mask:
    """Masks the fields of one endpoint. Safe to call from several threads.

    Args:
        fields: What becomes of each sensitive field.
        key: The home's secret.
    """

    def __init__(self, fields: Mapping[str, Masking], key: bytes) -> None:
        self._fields = dict(fields)
        self._key = key

    @property
    def names(self) -> list[str]:
        """The sensitive fields."""
        return list(self._fields)

    def record(self, record: PredictionRecord) -> PredictionRecord:
        """Return a prediction as it may be logged.

        Of a refused request no field is kept: what was written under a wrong name may be just as sensitive. Model
        inputs that are no text are left out, since a digest is none of their values.
        """
        is_refused = record.status is PredictionStatus.REFUSED
        return msgspec.structs.replace(
            record,
            entity=self.keys(record.entity),
            key=self.keys(record.key),
            request=NO_FIELDS if is_refused else self._fields_of(record.request, texts_only=False),
            features=self._fields_of(record.features, texts_only=True),
            reasons=[self._reason(reason) for reason in record.reasons],
        )

    def keys(self, keys: Mapping[str, Any]) -> dict[str, Any]:
        """Return key columns with digests: those are never left out, since labels find predictions by them."""
        return {name: self._digest(name, value) if name in self._fields else value for name, value in keys.items()}

    def _fields_of(self, raw: msgspec.Raw, *, texts_only: bool) -> msgspec.Raw:
        fields: dict[str, Any] = _decode(raw)
        if not self._fields.keys() & fields.keys():
            return raw
        masked = {}
        for name, value in fields.items():
            masking = self._fields.get(name)
            if masking is None:
                masked[name] = value
            elif masking == "hash" and (isinstance(value, str) or not texts_only):
                masked[name] = self._digest(name, value)
        return msgspec.Raw(_encode(masked))

    def _reason(self, reason: Reason) -> Reason:
        return msgspec.structs.replace(reason, message=cut_message(reason.message, reason.column, self._fields))

    def _digest(self, name: str, value: Any) -> Any:
        if value is None:
            return None
        text = _encode([name, key_value(value)])
        return _PREFIX + hmac.digest(self._key, text, "sha256").hex()[:_SIGNS]


def cut_message(message: str, column: str, sensitive: Collection[str]) -> str:
    """Return a reason without what was given, where it is about a sensitive field or names one."""
    if column in sensitive or any(name in message for name in sensitive):
        return message.partition(", but ")[0]  # what was demanded stands before it
    return message


def read_maskings(declared: Sequence[str] | Mapping[str, str], what: str) -> dict[str, Masking]:
    """Read what a declaration says of sensitive fields: names, or what becomes of each.

    Raises:
        InvalidInputError: It is neither.
    """
    if isinstance(declared, str) or not isinstance(declared, Sequence | Mapping):
        raise InvalidInputError(
            f"sensitive of {what} is {declared!r}, not a list of names", hint='Write it as sensitive=["income"].'
        )
    pairs = dict(declared) if isinstance(declared, Mapping) else dict.fromkeys(declared, "hash")
    found: dict[str, Masking] = {}
    for name, masking in pairs.items():
        if not isinstance(name, str) or not name:
            raise InvalidInputError(f"sensitive of {what} holds {name!r}, which is no field's name")
        if masking == "hash":
            found[name] = "hash"
        elif masking == "leave out":
            found[name] = "leave out"
        else:
            raise InvalidInputError(f"sensitive of {what} says {masking!r} of {name!r}; it is 'hash' or 'leave out'")
    return found


def open_key(folder: Path) -> bytes:
    """Return the home's secret; made on first use, readable by its owner only."""
    path = folder / KEY_FILE
    try:
        return path.read_bytes()
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f".{KEY_FILE}.{os.getpid()}"
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(file, "wb") as written:
            written.write(os.urandom(_KEY_BYTES))
            written.flush()
            os.fsync(written.fileno())
        try:
            os.link(fresh, path)  # of several processes that make one, the first one's stays
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
        return path.read_bytes()
