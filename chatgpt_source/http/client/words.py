"""Describes the failure of a call, without anything of the call's content."""

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet import error as net
from twisted.internet.defer import TimeoutError

from chatgpt_source.http.client.response import NotHTTP, TooLongBody, TooLongHead, TooManyChunks
from chatgpt_source.http.client.tunnel import ProxyFailed
from chatgpt_source.http.client.unpack import BadlyPacked

_WORDS: dict[type[BaseException], str] = {
    TimeoutError: "no answer in time",
    net.TimeoutError: "no connection in time",
    net.TCPTimedOutError: "no connection in time",
    net.ConnectionRefusedError: "connection refused",
    net.DNSLookupError: "its name can't be resolved",
    net.NoRouteError: "no route to it",
    net.ConnectionDone: "the connection was closed",
    net.ConnectionLost: "the connection was lost",
    NotHTTP: "its answer is not valid HTTP",
    BadlyPacked: "it is not valid gzip",
    TooLongHead: "its answer's head is too long",
    TooLongBody: "it has too many bytes on the wire",
    TooManyChunks: "it comes in too many chunks",
}


def describe(error: BaseException | None) -> str:
    """An exception in words, by its cause."""
    causes = _causes(error)
    for number, cause in enumerate(causes):
        if isinstance(cause, ProxyFailed):
            why = causes[number + 1 :]
            return f"{cause} ({_describe(why)})" if why else str(cause)
    return _describe(causes)


def _causes(error: BaseException | None) -> list[BaseException]:
    """An exception, then the causes in Twisted's wrappers."""
    if error is None:
        return []
    reasons = getattr(error, "reasons", None) or []
    return [error, *(cause for reason in reasons for cause in _causes(reason.value))]


def _describe(causes: list[BaseException]) -> str:
    if any(isinstance(cause, VerificationError) for cause in causes):
        return "its TLS certificate is for another name"
    if any(isinstance(cause, SSL.Error) for cause in causes):
        untrusted = any("certificate verify failed" in repr(cause) for cause in causes)
        return "its TLS certificate is not trusted" if untrusted else "the TLS handshake failed"
    for cause in reversed(causes):
        for kind in type(cause).__mro__:
            if kind in _WORDS:
                return _WORDS[kind]
    return type(causes[-1]).__name__ if causes else "unknown"
