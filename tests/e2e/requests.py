"""Requests of all kinds for the fuzzer, and a strict reader of what is answered."""

import json
import re

from hypothesis import strategies as st

METHODS = st.sampled_from([b"POST"] * 6 + [b"GET", b"HEAD", b"OPTIONS", b"PUT", b"X", b"", b"P ST"])
TARGETS = st.sampled_from(
    [b"/"] * 5
    + [b"/healthz", b"/readyz", b"/prompts/x", b"/prompts/%00", b"*", b"x", b"/?a=b&&=", b""]
    + [b"http://x/", b"http://x/healthz", b"//", b"/\xff", b"/%ff%zz", b"/" + b"a" * 2000]
)
VERSIONS = st.sampled_from([b"HTTP/1.1"] * 8 + [b"HTTP/1.0", b"HTTP/2.0", b"http/1.1", b"", b"x"])
ODD_FIELDS = st.sampled_from(
    [
        b"Connection: close",
        b"Connection: keep-alive, Upgrade",
        b"Content-Length: 0",
        b"Content-Length: 5",
        b"Content-Length: 4294967296",
        b"Content-Length: 99999999999999999999",
        b"Content-Length: -1",
        b"Content-Length : 5",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding : chunked",
        b"Expect: 100-continue",
        b"Expect: x",
        b"Upgrade: websocket",
        b"Content-Type: text/plain; charset=utf-16",
        b"Content-Type: multipart/form-data; boundary=x",
        b"Content-Type: application/x-www-form-urlencoded",
        b"Content-Type: \xff;;=",
        b"Content-Encoding: gzip",
        b"Cookie: a=b; ; =; c",
        b"Authorization: Basic !",
        b"Idempotency-Key: \xff",
        b'Idempotency-Key: "a b"',
        b"vanus-source: \xff",
        b"vanus-type: x\x01",
        b"Host: y",
        b" folded: x",
        b"\tfolded",
        b"no colon",
        b": no name",
        b"a\0: b",
        b"a: b\0c",
        b"a: b\nc",
        b"a: b\rc",
        b"",
        b"a: " + b"b" * 3000,
        b"If-None-Match: *",
        b"Range: bytes=0-1",
    ]
)
CHUNKS = st.lists(
    st.sampled_from(
        [b"3\r\nabc\r\n"] * 4
        + [b"3;x=y\r\nabc\r\n", b"3\r\nabcd\r\n", b"z\r\n", b"\r\n", b"-1\r\n", b"3\nabc\n"]
        + [b"0003\r\nabc\r\n", b"ffffffffff\r\nabc", b"3;" + b"x" * 1500 + b"\r\nabc\r\n"]
    ),
    max_size=4,
).map(b"".join)
ENDS = st.sampled_from(
    [b"0\r\n\r\n"] * 4 + [b"0\r\nA: b\r\n\r\n", b"0\r\n", b"", b"0\n\n", b"00\r\n\r\n"]
)


@st.composite
def _requests(draw: st.DrawFn) -> bytes:
    lines = [b" ".join((draw(METHODS), draw(TARGETS), draw(VERSIONS)))]
    lines += [b"Host: x"] * draw(st.sampled_from([1, 1, 1, 1, 0, 2]))
    framing = draw(st.sampled_from(["length"] * 4 + ["chunked"] * 2 + ["none", "wrong"]))
    body = draw(st.binary(max_size=30) | st.sampled_from([b"what is vanus", b"x" * 600]))
    if framing == "length":
        lines.append(b"Content-Length: %d" % len(body))
    elif framing == "wrong":
        lines.append(b"Content-Length: %d" % draw(st.integers(0, 2000)))
    elif framing == "chunked":
        lines.append(b"Transfer-Encoding: chunked")
        body = draw(CHUNKS) + draw(ENDS)
    odd = draw(st.lists(ODD_FIELDS, max_size=2)) if draw(st.integers(0, 2)) == 0 else []
    return b"\r\n".join([*lines, *odd, b"", b""]) + body


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    raw = bytearray(draw(_requests()))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(raw) - 1)))
        raw[at : at + draw(st.integers(0, 3))] = draw(
            st.binary(max_size=2) | st.sampled_from([b"\r\n", b"\n", b"\r", b"\0", b" ", b":"])
        )
    return bytes(raw)


@st.composite
def pipelines(draw: st.DrawFn) -> list[bytes]:
    """Some requests, one after the other, in pieces of any size."""
    raw = b"".join(
        draw(
            st.lists(
                st.one_of(_requests(), _requests(), _mutated(), st.binary(max_size=40)),
                min_size=1,
                max_size=4,
            )
        )
    )
    cuts = sorted(draw(st.lists(st.integers(0, len(raw)), max_size=5)))
    edges = zip([0, *cuts], [*cuts, len(raw)], strict=True)
    return [raw[start:end] for start, end in edges if start < end]


_HEAD = re.compile(
    rb"HTTP/1\.[01] (\d{3}) [ -~]*\r\n((?:[!#-'*+.^-`|~0-9A-Za-z-]+: [ -~\x80-\xff]*\r\n)*)\r\n"
)


def read_responses(raw: bytes) -> tuple[list[int], set[str]]:
    """The statuses of the responses in a stream, and the ids of the prompts accepted.

    Raises:
        AssertionError: If there is anything else in it.
    """
    statuses: list[int] = []
    ids: set[str] = set()
    closes = False
    while raw:
        assert not closes, raw
        head = _HEAD.match(raw)
        assert head, raw
        raw = raw[head.end() :]
        status = int(head[1])
        if status == 100:
            continue
        fields = dict(line.lower().split(b": ", 1) for line in head[2].splitlines())
        assert fields[b"content-type"] in {b"application/json", b"application/problem+json"}
        length = int(fields[b"content-length"])
        if raw.startswith(b"{"):  # else it answers a HEAD
            assert len(raw) >= length, raw
            document = json.loads(raw[:length])
            assert status < 400 or document["status"] in {status, "not ready"}, document
            raw = raw[length:]
            ids |= {document["id"]} if status == 202 else set()
        closes = fields.get(b"connection") == b"close" or head[0].startswith(b"HTTP/1.0")
        statuses.append(status)
    return statuses, ids
