"""What an address's query asks for: ``?explain=true`` for explanations, ``?stream=true`` for answers one by one."""

from urllib.parse import parse_qsl

from flyball.core.errors import InvalidInputError

_KNOWN = ("explain", "stream")
_ANSWERS = {"true": True, "1": True, "false": False, "0": False}


def asks_to_explain(query: bytes) -> bool:
    """Tell whether an address's query asks for explanations.

    Raises:
        InvalidInputError: It says neither yes nor no.
    """
    return _asks_for(query, "explain")


def asks_to_stream(query: bytes) -> bool:
    """Tell whether an address's query asks for each answer as soon as it is known.

    Raises:
        InvalidInputError: It says neither yes nor no, or asks for explanations, too.
    """
    is_streamed = _asks_for(query, "stream")
    if is_streamed and _asks_for(query, "explain"):
        raise InvalidInputError("stream and explain cannot be asked for together", hint="Ask for one of them.")
    return is_streamed


def _asks_for(query: bytes, name: str) -> bool:
    if not query:
        return False
    given = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    if unknown := [other for other in given if other not in _KNOWN]:
        raise InvalidInputError(
            f"the address has {unknown[0][:100]!r} in its query, which is not understood",
            hint="There is explain=true and stream=true; versions are named by /v2/models/ENDPOINT/versions/NUMBER.",
        )
    asked = given.get(name, "false")
    if asked not in _ANSWERS:
        raise InvalidInputError(f"{name} must be true or false, but {asked[:100]!r} was given")
    return _ANSWERS[asked]
