"""Trusts the certificates of the platform's authorities, and of those that a user adds."""

from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from OpenSSL.crypto import X509StoreFlags
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.ssl import Certificate, platformTrust, trustRootFromCertificates
from zope.interface import implementer

_BEGIN = b"-----BEGIN CERTIFICATE-----"


def read_authorities(pem: bytes) -> list[Certificate]:
    """The certificates in a PEM text, which may hold other things between them.

    Raises:
        ValueError: If there is none, or one that can't be read. Its text completes "... must be".
    """
    try:
        found = x509.load_pem_x509_certificates(pem)
        certificates = [Certificate.load(each.public_bytes(Encoding.DER)) for each in found]
    except (ValueError, SSL.Error):
        certificates = []
    if not certificates or len(certificates) < pem.count(_BEGIN):  # a truncated one is not found
        raise ValueError(f"one or more certificates in PEM ({_BEGIN.decode('ascii')} ...)")
    return certificates


@implementer(IOpenSSLTrustRoot)
class PlatformAndThese:
    """Trusts the platform's authorities, and the given ones.

    One of these may be intermediate, without its root, as with curl.

    Args:
        authorities: PEM texts.

    Raises:
        ValueError: As `read_authorities`.
    """

    def __init__(self, authorities: Sequence[bytes]) -> None:
        added = [each for pem in authorities for each in read_authorities(pem)]
        self._roots = (platformTrust(), trustRootFromCertificates(added))

    def _addCACertsToContext(self, context: SSL.Context) -> None:
        for root in self._roots:
            root._addCACertsToContext(context)
        store = context.get_cert_store()
        if store is not None:
            store.set_flags(X509StoreFlags.PARTIAL_CHAIN)
