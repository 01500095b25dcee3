"""Addresses of this machine. Pure."""

from ipaddress import ip_address


def is_loopback(address: str) -> bool:
    """Whether this is an IP address of the loopback, IPv4's within IPv6 included."""
    try:
        read = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return (getattr(read, "ipv4_mapped", None) or read).is_loopback
