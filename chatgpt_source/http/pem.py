"""Reads certificates in PEM."""

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.internet.ssl import Certificate

_BEGIN = b"-----BEGIN CERTIFICATE-----"


def read_certificates(pem: bytes) -> list[Certificate]:
    """The certificates in a PEM text, which may hold other things between them.

    Raises:
        ValueError: If there is none, or one that can't be read. Its text completes "... must be".
    """
    try:
        found = x509.load_pem_x509_certificates(pem)
        certificates = [Certificate.load(each.public_bytes(Encoding.DER)) for each in found]
    except (ValueError, SSL.Error):
        certificates = []
    if not certificates or len(certificates) < pem.count(_BEGIN):  # a truncated one does not match
        raise ValueError(f"one or more certificates in PEM ({_BEGIN.decode('ascii')} ...)")
    return certificates
