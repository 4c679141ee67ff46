"""What a program logs to its run, one record after the other, as it is spooled and sent."""

import msgspec

from flyball.domain.tracking.runs import RunFacts, RunStatus


class Started(msgspec.Struct, frozen=True, array_like=True, tag="run"):
    """The run began.

    Attributes:
        name: What a person calls it; may be empty.
        experiment: What it belongs to.
        process: What makes it, as `processes.this_process` tells.
    """

    name: str
    experiment: str
    actor: str
    process: str
    at_us: int


class Described(msgspec.Struct, frozen=True, array_like=True, tag="facts"):
    """Where and with what it is made; the blobs it names have been sent before."""

    facts: RunFacts


class Point(msgspec.Struct, frozen=True, array_like=True, tag="metric"):
    """One measured value."""

    name: str
    value: float
    step: int
    at_us: int


class Params(msgspec.Struct, frozen=True, array_like=True, tag="params"):
    """Parameters; each value is JSON text."""

    values: dict[str, str]


class Tags(msgspec.Struct, frozen=True, array_like=True, tag="tags"):
    """Tags."""

    values: dict[str, str]


class Kept(msgspec.Struct, frozen=True, array_like=True, tag="artifact"):
    """A named file; its bytes have been sent before."""

    name: str
    digest: str
    size_bytes: int


class Finished(msgspec.Struct, frozen=True, array_like=True, tag="end"):
    """The run ended."""

    status: RunStatus
    error: str
    at_us: int


Record = Started | Described | Point | Params | Tags | Kept | Finished


class Batch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Consecutive records of one run.

    Attributes:
        run_id: The run; it is also the spool's name.
        first: The number of the first record; a run's first record has the number 0.
        records: At least none: an empty batch asks how far the receiver is.
    """

    run_id: str
    first: int
    records: list[Record]


encode_record = msgspec.msgpack.Encoder().encode
decode_record = msgspec.msgpack.Decoder(Record).decode
encode_batch = msgspec.msgpack.Encoder().encode
decode_batch = msgspec.msgpack.Decoder(Batch).decode
