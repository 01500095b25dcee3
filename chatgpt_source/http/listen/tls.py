"""TLS for listening: `ssl:` endpoints, with `clientCA` for callers' certificates."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from OpenSSL import SSL, crypto
from twisted.internet.endpoints import SSL4ServerEndpoint
from twisted.internet.error import VerifyError
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    DiffieHellmanParameters,
    PrivateCertificate,
    trustRootFromCertificates,
)
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.filepath import FilePath
from zope.interface import implementer

from chatgpt_source.files import read_file
from chatgpt_source.http.listen import shared
from chatgpt_source.http.listen.string import FILES, REUSE_PORT, Parsed, PortUnavailable
from chatgpt_source.http.pem import read_certificates

_OTHERS = ("port", "interface", "backlog", REUSE_PORT)
_UNFIT = (SSL.Error, crypto.Error, VerifyError, ValueError, TypeError)
"""Errors of keys and certificates that are invalid or do not belong together."""


@implementer(IOpenSSLServerConnectionCreator)
class Certificates:
    """An endpoint's key and certificates, which can be read anew while it listens.

    Args:
        given: The arguments that name their files.

    Raises:
        PortUnavailable: If they can't be used; the text continues after the key's name.
    """

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = given
        self.options = _options(given)

    def renew(self) -> None:
        """Read them anew, for new connections.

        Raises:
            PortUnavailable: If they can't be used; the old ones stay in use.
        """
        self.options = _options(self._given)

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """The TLS connection object for a new connection (Twisted's interface)."""
        return self.options.serverConnectionForTLS(protocol)


class Endpoint(SSL4ServerEndpoint):
    """An endpoint with its `certificates`."""

    def __init__(
        self, reactor: Any, port: int, certificates: Certificates, backlog: int, interface: str
    ) -> None:
        super().__init__(reactor, port, certificates, backlog, interface)
        self.certificates = certificates


def endpoint(reactor: Any, parsed: Parsed, backlog: int) -> Endpoint | shared.Endpoint:
    """The endpoint of an `ssl:` string: TLS 1.2 or later.

    Args:
        reactor: Listens.
        parsed: The string.
        backlog: The default of its `backlog`.

    Raises:
        PortUnavailable: If they can't be used; the text continues after the key's name.
    """
    named = parsed.named
    if len(parsed.positional) + ("port" in named) != 1 or set(named) - {*FILES, *_OTHERS}:
        raise PortUnavailable(
            "must be like ssl:<port>:privateKey=<file>:certKey=<file>, and may have"
            " extraCertChain=<file>, dhParameters=<file>, clientCA=<file>, interface=<address>,"
            " backlog=<number> and reusePort=yes besides"
        )
    try:
        depth = int(named.get("backlog", backlog))
    except ValueError:
        raise PortUnavailable("must have a whole number as `backlog`") from None
    port, certificates = int(parsed.port), Certificates(named)
    if parsed.is_shared:
        return shared.Endpoint(reactor, port, depth, parsed.interface, certificates)
    return Endpoint(reactor, port, certificates, depth, parsed.interface)


def _options(given: Mapping[str, str]) -> CertificateOptions:
    if "privateKey" not in given:
        raise PortUnavailable("must have a privateKey=<file>")
    key = _content("privateKey", given["privateKey"])
    if b"ENCRYPTED" in key:
        raise PortUnavailable("must have a privateKey without a passphrase")
    own, *chain = _certificates("certKey", given.get("certKey", given["privateKey"]))
    if "extraCertChain" in given:
        chain += _certificates("extraCertChain", given["extraCertChain"])
    trusted = _certificates("clientCA", given["clientCA"]) if "clientCA" in given else None
    try:
        pair = PrivateCertificate.loadPEM(own.dumpPEM() + b"\n" + key)
        options = CertificateOptions(
            privateKey=pair.privateKey.original,
            certificate=own.original,
            extraCertChain=[each.original for each in chain],
            trustRoot=trustRootFromCertificates(trusted) if trusted else None,
            dhParameters=_dh_parameters(given),
        )
        options.getContext()
    except _UNFIT:
        raise PortUnavailable(
            "must have a privateKey and a certKey in PEM that belong together"
        ) from None
    return options


def _dh_parameters(given: Mapping[str, str]) -> DiffieHellmanParameters | None:
    if "dhParameters" not in given:
        return None
    if b"-----BEGIN DH PARAMETERS-----" not in _content("dhParameters", given["dhParameters"]):
        raise PortUnavailable("must have DH parameters in PEM in the file of its dhParameters")
    read: DiffieHellmanParameters = DiffieHellmanParameters.fromFile(
        FilePath(given["dhParameters"])
    )
    return read


def _certificates(name: str, path: str) -> list[Certificate]:
    """The certificates in a file: the server's own, then those that signed it."""
    content = _content(name, path)
    try:
        return read_certificates(content)
    except ValueError:
        raise PortUnavailable(f"must have certificates in PEM in the file of its {name}") from None


def _content(name: str, path: str) -> bytes:
    try:
        return read_file(Path(path))
    except OSError as error:
        raise PortUnavailable(
            f"must have a file that can be read as its {name} ({error.strerror})"
        ) from None
