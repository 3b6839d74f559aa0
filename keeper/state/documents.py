"""Files that people write, as text, JSON or TOML, read strictly: what is ambiguous in them is refused in one line.

Text is UTF-8, with or without a byte order mark, with any line ends. In a document no key stands twice, nothing nests
deeper than 32, and every text can be encoded. Numbers are int or Decimal, exact; one that is none (NaN) or is out of
bounds is `exact.Unreadable`, for the reader of the field to refuse by its path.
"""

from __future__ import annotations

import codecs
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .exact import Unreadable, joined, parsed_decimal, parsed_integer, shown

_DEPTH = 32
_OTHERS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


class DocumentError(ValueError):
    """A file that cannot be read; the message is one line and says what is wrong and where, but not the file's name."""


def read_text(path: Path) -> str:
    """The text of a file. Raises DocumentError: no such file, or not UTF-8."""
    return text_of(read_bytes(path))


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DocumentError(error.strerror or str(error)) from None
    except ValueError:
        raise DocumentError("no name of a file") from None


def text_of(raw: bytes) -> str:
    """Bytes as text. Raises DocumentError: another encoding than UTF-8, or bytes that are no text."""
    for mark, name in _OTHERS:
        if raw.startswith(mark):
            raise DocumentError(f"the file is {name}, wanted UTF-8: save it with that encoding")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DocumentError(
            f"line {line}: byte 0x{raw[error.start]:02x} is not UTF-8: save the file with that encoding"
        ) from None
    if "\0" in text:
        raise DocumentError(f"line {text.count(chr(10), 0, text.index(chr(0))) + 1}: a zero byte, wanted text as UTF-8")
    return text


def read_json(path: Path) -> Any:
    """The value of a JSON file. Raises DocumentError."""
    return _checked(_json, read_text(path), "JSON")


def read_toml(path: Path) -> dict[str, Any]:
    """The table of a TOML file. Raises DocumentError."""
    table: dict[str, Any] = _checked(_toml, read_text(path), "TOML")
    return table


def _json(text: str) -> Any:
    return json.loads(
        text,
        parse_float=parsed_decimal,
        parse_int=parsed_integer,
        parse_constant=Unreadable,
        object_pairs_hook=_object,
    )


def _toml(text: str) -> dict[str, Any]:
    # TOML parts digits by underscores, at places that its parser has checked.
    return tomllib.loads(text, parse_float=lambda number: parsed_decimal(number.replace("_", "")))


class _Repeats(dict[str, Any]):
    """An object in which a key stands twice."""

    key: str
    values_given: tuple[Any, Any]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            repeats = _Repeats(members)
            repeats.key, repeats.values_given = key, (members[key], value)
            return repeats
        members[key] = value
    return members


def _checked(parse: Callable[[str], Any], text: str, form: str) -> Any:
    try:
        value = parse(text)
    except RecursionError:
        raise DocumentError(f"nested deeper than {_DEPTH}") from None
    except ValueError as error:
        # Also what no parser's own error says: an integer of more digits than Python reads.
        raise DocumentError(f"no {form}: {_line(str(error))}") from None
    _check_values(value)
    return value


def _check_values(root: Any) -> None:
    """Refuse, by path, what parsers let pass."""
    waiting: list[tuple[str, Any, int]] = [("", root, 1)]
    while waiting:
        path, value, depth = waiting.pop()
        if depth > _DEPTH:
            raise DocumentError(f"nested deeper than {_DEPTH}")
        if isinstance(value, _Repeats):
            first, second = value.values_given
            where = joined(path, value.key)
            raise DocumentError(f"{where} is given twice: {shown(first)} and {shown(second)}, wanted once")
        if isinstance(value, dict):
            for key in value:
                _check_text(joined(path, key), key)
            waiting += [(joined(path, key), each, depth + 1) for key, each in value.items()]
        elif isinstance(value, list):
            waiting += [(f"{path}[{i}]", each, depth + 1) for i, each in enumerate(value)]
        elif isinstance(value, str):
            _check_text(path, value)


def _check_text(path: str, text: str) -> None:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise DocumentError(f"{path}: {shown(text)}, half of a surrogate pair is no text")


def _line(text: str) -> str:
    return " ".join(text.split())[:200]
