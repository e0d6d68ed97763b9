"""As much of IPv4 and TCP as the router needs: addresses, and resets of connections.

Source: RFC 791 (header), RFC 9293 sections 3.1 and 3.5.2 (reset generation), RFC 1071
(checksum).
"""

from __future__ import annotations

import struct
from typing import Final

__all__ = ["destination_of", "is_tcp", "resets_for"]

_TCP: Final = 6
_FIN_SYN_RST: Final = 0x07
_SYN: Final = 0x02
_RST: Final = 0x04
_ACK: Final = 0x10


def destination_of(packet: bytes) -> int:
    """Return the last byte of an IPv4 packet's destination; -1 if it is none."""
    is_ipv4 = len(packet) >= 20 and packet[0] >> 4 == 4
    return packet[19] if is_ipv4 else -1


def is_tcp(packet: bytes) -> bool:
    """Tell whether a packet is the first or only piece of a TCP segment."""
    header = (packet[0] & 15) * 4
    return packet[9] == _TCP and len(packet) >= header + 20


def resets_for(packet: bytes) -> tuple[bytes, bytes]:
    """Return what ends a segment's connection: for its sender, for its receiver.

    Either is empty where nothing would be accepted as a reset, or none is due.
    """
    header = (packet[0] & 15) * 4
    ports, seq, ack, flags = _segment(packet, header)
    if flags & _RST:
        return b"", b""
    source, target = packet[12:16], packet[16:20]
    size = len(packet) - header - (packet[header + 12] >> 4) * 4
    after = (seq + size + bool(flags & (_FIN_SYN_RST - _RST))) & 0xFFFFFFFF
    back = _reset(
        target, source, ports[::-1], seq=ack if flags & _ACK else 0, ack=after
    )
    on = b"" if flags & _SYN else _reset(source, target, ports, seq=seq, ack=ack)
    return back, on


def _segment(packet: bytes, header: int) -> tuple[tuple[int, int], int, int, int]:
    one, two, seq, ack, _, flags = struct.unpack_from("!HHIIBB", packet, header)
    return (one, two), seq, ack, flags


def _reset(
    source: bytes, target: bytes, ports: tuple[int, int], *, seq: int, ack: int
) -> bytes:
    segment = struct.pack("!HHIIBBHHH", *ports, seq, ack, 5 << 4, _RST | _ACK, 0, 0, 0)
    pseudo = source + target + struct.pack("!BBH", 0, _TCP, len(segment))
    segment = _summed(segment, 16, pseudo)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0, 64, _TCP, 0)
    return _summed(head + source + target, 10) + segment


def _summed(data: bytes, at: int, pseudo: bytes = b"") -> bytes:
    """Put the checksum where it belongs; the field is zero so far."""
    words = struct.unpack(f"!{(len(pseudo) + len(data)) // 2}H", pseudo + data)
    total = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return data[:at] + struct.pack("!H", ~total & 0xFFFF) + data[at + 2 :]
