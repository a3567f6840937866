"""What can be wrong with an object or a whole body: each damage leads to a rejection, or just not quite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.logs import Writer

# A string that begins so is written without its quotes; a name that ends so is a second member of that name.
RAW = "@raw:"
AGAIN = "~again"

Damage = Callable[["Writer", dict[str, Any], Mapping[str, Any]], Any]


def _set(role: str, *values: Any) -> Damage:
    """Give a member another value; `...` leaves it out."""

    def damage(writer: Writer, made: dict[str, Any], _: Mapping[str, Any]) -> Any:
        value = writer.rng.choice(values)
        for name in _fields(writer, made, role):
            made.pop(name, None)
            if value is not ...:
                made[name] = value
        return made

    return damage


def _fields(writer: Writer, made: dict[str, Any], role: str) -> list[str]:
    """The members that play a role; in a wide object, any metric for the value."""
    named = writer.payload[role]
    if role in ("device", "time"):
        return [name for name in named if name in made]
    if named is not None:
        return [named]
    if role == "quality":
        return []
    roles = {*writer.payload["device"], *writer.payload["time"], writer.payload["quality"], *writer.payload["ignore"]}
    metrics = [name for name in made if name not in roles]
    return [writer.rng.choice(metrics)] if role == "value" and metrics else metrics


def _repeat(writer: Writer, made: dict[str, Any], _: Mapping[str, Any]) -> Any:
    name = writer.rng.choice(list(made))
    # Twice the same, so that it is refused for being repeated and for nothing else.
    made[name + AGAIN] = made[name]
    return made


def _new_metric(writer: Writer, made: dict[str, Any], _: Mapping[str, Any]) -> Any:
    if writer.wide:
        made["stranger"] = 1
    else:
        made[writer.payload["metric"]] = writer.rng.choice(["stranger", "m" * 300])
    return made


def _two_failures(writer: Writer, made: dict[str, Any], metric: Mapping[str, Any]) -> Any:
    for damage in writer.rng.sample(TO_MEMBERS, 2):
        if made:
            made = damage(writer, made, metric)
    return _repeat(writer, made, metric) if made and writer.rng.random() < 0.3 else made


TO_MEMBERS: list[Damage] = [
    _set("device", ..., None, ""),
    _set("device", 5, True, ["pot-1"], {}, 1.5),
    _set("device", "pot-99", "stranger", "d" * 300, "pøt-1"),
    _set("time", ..., None),
    _set("time", "yesterday", "2026-02-30T00:00:00Z", "2026-01-15T12:00:60Z", "2026-01-15T12:00:00", ""),
    _set("time", RAW + "NaN", RAW + "1e999", RAW + "-1e-99999", RAW + "1e99", "1768478400.5", "1768478400."),
    _set("time", True, [], {"a": 1}),
    _set("time", 0, 1768478400, "1768478400", "2026-01-15T12:00:00+24:00", "0000-01-01T00:00:00Z", -62135596800001),
    _set("metric", ..., None, ""),
    _set("metric", 7, [], False),
    _set("value", ..., None),
    _set("value", True, [], {}, False),
    _set("value", "12.5", "", "melting", "broken"),
    _set("value", RAW + "NaN", RAW + "Infinity", RAW + "-Infinity", RAW + "1e999"),
    _set("value", 1e308, -1e308),
    _set("value", -1, 100.0000001, 5, 1e5, 9.5),
    _set("quality", 0, 63, 32768, -5, RAW + "192.5", 1e300, RAW + "NaN"),
    _set("quality", "good", True, [], "192"),
    _set("quality", RAW + "19.20e1", 192.0, 64, None),
    _new_metric,
]
DAMAGES: list[Damage] = [
    *TO_MEMBERS,
    _repeat,
    _two_failures,
    _two_failures,
    lambda *_: {},
    lambda writer, *_: writer.rng.choice([None, 1, "text", True, [], [[1]]]),
]


def _well_formed(writer: Writer) -> bytes:
    return writer.dump([writer.object({}) for _ in range(2)])


def _cut(writer: Writer) -> bytes:
    body = _well_formed(writer)
    return body[: writer.rng.randint(0, len(body))]


def _flip(writer: Writer) -> bytes:
    body = bytearray(_well_formed(writer))
    body[writer.rng.randrange(len(body))] = writer.rng.randrange(256)
    return bytes(body)


def _deep(writer: Writer) -> bytes:
    levels = writer.bounds["depth"] + writer.rng.choice([-1, 0, 1, 500])
    return b"[" * levels + b"]" * levels


def _deep_member(writer: Writer) -> bytes:
    made = _well_formed(writer)
    levels = writer.bounds["depth"] + writer.rng.choice([-3, -2, -1])
    deep = b"[" * levels + b"]" * levels
    return made.replace(b"{", b'{"seq":' + deep + b",", 1)


def _many(writer: Writer) -> bytes:
    extra = writer.rng.choice([0, 1, 30])
    return writer.dump([0] * (writer.bounds["readings_per_envelope"] + extra))


def _large(writer: Writer) -> bytes:
    body = _well_formed(writer)
    return body + b" " * (writer.bounds["body_bytes"] - len(body) + writer.rng.choice([0, 1]))


def _long_envelope(writer: Writer) -> bytes:
    """More bytes than a rejected row keeps."""
    return b'"' + b"x" * min(4200, writer.bounds["body_bytes"] - 2) + writer.rng.choice([b'"', b"", b"\xff"])


def _long_object(writer: Writer) -> bytes:
    return writer.dump([{"note": "x" * 1500}, writer.object({})])


BODIES: list[Callable[[Writer], bytes]] = [
    _cut,
    _flip,
    _deep,
    _deep_member,
    _many,
    _large,
    _long_envelope,
    _long_object,
    lambda writer: writer.rng.choice([b"", b" ", b"\n\t\r ", b"[]", b"{}", b"null", b"1", b'"x"', b"NaN", b"[[]]"]),
    lambda writer: writer.rng.choice(
        [b"\xef\xbb\xbf{}", b'"\\ud800"', b'["\\udc00\\ud800"]', b"\xff", b"\xc0\x80", b"\x00"]
    ),
    lambda writer: writer.rng.choice(
        [b"[1,]", b"{'a':1}", b"[01]", b"[+1]", b"[.5]", b"[1.]", b"[nan]", b"[] []", b"[-NaN]"]
    ),
]
