"""The chunks of a response's body as they arrive, none of them held back until more has come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from llm_guard.errors import ConfigError
from llm_guard.llm.shapes import Raw

_CHUNK: Final = 16 * 1024


def chunks_of(source: Any) -> Iterable[object]:
    """The chunks of a response of requests or httpx; anything else is an iterable of chunks, or one chunk, already."""
    if isinstance(source, Raw):
        return [source]
    chunks: Iterable[object]
    if callable(getattr(type(source), "iter_content", None)):
        raw = source.raw
        if getattr(source, "_content_consumed", False) or getattr(raw, "chunked", False):
            chunks = source.iter_content(None)  # what was read, or each chunk as the server sends it
        else:
            chunks = _arriving(raw) if hasattr(raw, "read1") else source.iter_content(1)
        return chunks
    if callable(getattr(type(source), "iter_bytes", None)):
        chunks = source.iter_bytes()
        return chunks
    if not isinstance(source, Iterable):
        raise ConfigError("source", type(source), "a response of requests or httpx, or an iterable of its chunks, "
                                                  "lines or events, that blocks")
    return source


def _arriving(raw: Any) -> Iterator[bytes]:
    """A body that has no chunks of its own. requests would wait until each of its chunks is full, and with a size of
    None for all of the body; its errors are those that it would raise."""
    from requests import exceptions
    from urllib3.exceptions import DecodeError, ProtocolError, ReadTimeoutError, SSLError

    try:
        while chunk := raw.read1(_CHUNK, decode_content=True):
            yield chunk
    except ProtocolError as error:
        raise exceptions.ChunkedEncodingError(error) from error
    except DecodeError as error:
        raise exceptions.ContentDecodingError(error) from error
    except ReadTimeoutError as error:
        raise exceptions.ConnectionError(error) from error
    except SSLError as error:
        raise exceptions.SSLError(error) from error
