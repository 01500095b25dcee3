"""Recognises loopback addresses. Pure."""

from ipaddress import ip_address


def is_loopback(address: str) -> bool:
    """Whether this is a loopback IP address, also an IPv4 address within IPv6."""
    try:
        read = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return (getattr(read, "ipv4_mapped", None) or read).is_loopback
