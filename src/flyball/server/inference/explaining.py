"""Whether a request asks for explanations: ``?explain=true`` in its address."""

from urllib.parse import parse_qsl

from flyball.core.errors import InvalidInputError

_ANSWERS = {"true": True, "1": True, "false": False, "0": False}


def asks_to_explain(query: bytes) -> bool:
    """Tell whether an address's query asks for explanations.

    Raises:
        InvalidInputError: It says neither yes nor no.
    """
    if not query:
        return False
    asked = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)).get("explain", "false")
    if asked not in _ANSWERS:
        raise InvalidInputError(f"explain must be true or false, but {asked[:100]!r} was given")
    return _ANSWERS[asked]
