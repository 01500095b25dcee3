"""Trusts the certificates of the platform's authorities, and of those that a user adds."""

from collections.abc import Sequence

from OpenSSL import SSL
from OpenSSL.crypto import X509StoreFlags
from twisted.internet.ssl import platformTrust, trustRootFromCertificates

from chatgpt_source.http.client.twisted_private import TrustRoots
from chatgpt_source.http.pem import read_certificates


class PlatformAndThese(TrustRoots):
    """Trusts the platform's authorities, and the given ones.

    One of these may be intermediate, without its root, as with curl.

    Args:
        authorities: PEM texts.

    Raises:
        ValueError: As `read_certificates`.
    """

    def __init__(self, authorities: Sequence[bytes]) -> None:
        added = [each for pem in authorities for each in read_certificates(pem)]
        super().__init__(platformTrust(), trustRootFromCertificates(added))

    def prepare(self, context: SSL.Context) -> None:
        """Take an intermediate authority for a root."""
        store = context.get_cert_store()
        if store is not None:
            store.set_flags(X509StoreFlags.PARTIAL_CHAIN)
