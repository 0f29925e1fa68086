"""How a result is kept: as JSON, where that gives back exactly what it was; else by a codec of the user's."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, Final, Protocol

from llm_guard.errors import ConfigError
from llm_guard.mapping.journal.forms import known_forms


class Codec(Protocol):
    """`dumps` makes text or bytes of a value, `loads` the value of these."""

    def dumps(self, value: Any, /) -> str | bytes: ...

    def loads(self, kept: Any, /) -> Any: ...


class Unfit(Exception):
    """A value that cannot be kept; its text names the type and never the value."""


class Json:
    """JSON, and the forms that are known. Refuses what would not come back as it was: a tuple, a key that is no str."""

    name: Final = "json"

    def dumps(self, value: Any) -> tuple[str | None, str | bytes]:
        """The name of the form, or None, and the text."""
        form = None
        if type(value) not in _PLAIN:
            form = next((name for name, known in known_forms().items() if type(value) is known.type), None)
        if form is not None:
            value = known_forms()[form].plain(value)
        try:
            _check(value)
            text = _encode(value)
        except (RecursionError, ValueError) as error:  # ValueError: an int of too many digits
            raise Unfit(f"a value that JSON cannot hold ({type(error).__name__})") from None
        return form, _storable(text)

    def loads(self, form: str | None, kept: str | bytes) -> Any:
        """What was kept so."""
        value = json.loads(kept if isinstance(kept, str) else kept.decode("utf-8", "surrogatepass"))
        return value if form is None else known_forms()[form].back(value)


class Own:
    """The user's codec."""

    def __init__(self, codec: Codec | tuple[Callable[[Any], str | bytes], Callable[[Any], Any]]) -> None:
        dumps, loads = codec if isinstance(codec, tuple) and len(codec) == 2 else (
            getattr(codec, "dumps", None), getattr(codec, "loads", None))
        if not callable(dumps) or not callable(loads):
            raise ConfigError("codec", type(codec).__name__, "a pair of functions, or an object with `dumps` and "
                                                             "`loads`, to text or bytes and back")
        self._dumps, self._loads = dumps, loads
        self.name = f"{getattr(dumps, '__module__', None)}.{getattr(dumps, '__qualname__', type(dumps).__qualname__)}"

    def dumps(self, value: Any) -> tuple[str | None, str | bytes]:
        """No form, and the text or the bytes."""
        try:
            kept = self._dumps(value)
        except Exception as error:  # its text may show the value
            raise Unfit(f"a value of type {type(value).__name__} for which the codec raised "
                        f"{type(error).__name__}") from None
        if not isinstance(kept, str | bytes):
            raise Unfit(f"of which the codec made a {type(kept).__name__} instead of text or bytes")
        return None, _storable(kept) if isinstance(kept, str) else kept

    def loads(self, form: str | None, kept: str | bytes) -> Any:
        """What was kept so."""
        return self._loads(kept)


def _storable(text: str) -> str | bytes:
    """SQLite takes no half of a surrogate pair as text, which a model's answer may hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_PLAIN: Final = frozenset({str, int, bool, type(None)})


def _check(value: Any) -> None:
    """Refuses what JSON would change. By exact types: an enum's member is an int too, and would come back as one."""
    kind = type(value)
    if kind in _PLAIN:
        return
    if kind is list:
        for part in value:
            _check(part)
    elif kind is dict:
        for name, part in value.items():
            if type(name) is not str:
                raise Unfit(f"a dict with a key of type {type(name).__name__}")
            _check(part)
    elif kind is float:
        if not math.isfinite(value):
            raise Unfit("a float that is no number, or infinite")
    elif not (isinstance(value, str) and any(kind is form.type for form in known_forms().values())):  # whose text it is
        raise Unfit(f"a value of type {kind.__name__}")


def kept_by(codec: object) -> Json | Own:
    """The codec to use: None is JSON."""
    return Json() if codec is None else Own(codec)  # type: ignore[arg-type]  # it is checked there
