"""Hellos: what a TLS client says first, made by hand."""

import struct


def vector(octets: bytes, size: int = 2) -> bytes:
    return len(octets).to_bytes(size) + octets


def extension(kind: int, data: bytes) -> bytes:
    return struct.pack("!H", kind) + vector(data)


def message(*extensions: bytes) -> bytes:
    """A client's hello, as a handshake message."""
    body = b"\x03\x03" + bytes(32) + vector(b"", 1) + vector(b"\x13\x01\xc0\x2f") + vector(b"\0", 1)
    body += vector(b"".join(extensions))
    return b"\x01" + vector(body, 3)


def name_extension(*names: bytes) -> bytes:
    return extension(0, vector(b"".join(b"\0" + vector(name) for name in names)))


def records(octets: bytes, size: int = 16384, kind: int = 22) -> bytes:
    """Handshake messages in records of a size."""
    pieces = [octets[i : i + size] for i in range(0, len(octets), size)]
    return b"".join(bytes([kind]) + b"\x03\x01" + vector(piece) for piece in pieces)


def hello_with(name: bytes) -> bytes:
    """A hello that OpenSSL takes, if it likes the name."""
    more = (
        extension(10, vector(b"\0\x1d\0\x17")),
        extension(11, vector(b"\0", 1)),
        extension(13, vector(b"\x04\x03\x08\x04\x04\x01")),
        extension(43, vector(b"\x03\x04\x03\x03", 1)),
        extension(51, vector(b"\0\x1d" + vector(bytes([9]) + bytes(31)))),
    )
    return records(message(name_extension(name), *more))
