"""Encodings and primitives, as the specification and RFC 9420 have them: Python's standard library
and the package `cryptography`, and nothing of the library."""

import base64
import hmac
import json
import pathlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

HERE = pathlib.Path(__file__).parent


def load(name):
    return json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))


def unbase64(text):
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def to_base64(data):
    return base64.b64encode(data).decode().rstrip("=")


def canonical(value):
    """Canonical JSON (Matrix specification), of what the vectors have."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def vector(data):
    """A variable-size vector of RFC 9420 §2.1.2."""
    if len(data) < 0x40:
        return bytes([len(data)]) + data
    if len(data) < 0x4000:
        return (0x4000 | len(data)).to_bytes(2, "big") + data
    return (0x8000_0000 | len(data)).to_bytes(4, "big") + data


class Reader:
    def __init__(self, data):
        self.data = data

    def take(self, length):
        taken, self.data = self.data[:length], self.data[length:]
        assert len(taken) == length, "the bytes end too early"
        return taken

    def number(self, length):
        return int.from_bytes(self.take(length), "big")

    def vector(self):
        assert self.data, "the bytes end too early"
        size = 1 << (self.data[0] >> 6)
        length = self.number(size) & ((1 << (8 * size - 2)) - 1)
        return self.take(length)

    def ends(self):
        assert self.data == b"", "nothing follows"


def cbor(reader):
    """As much of RFC 8949 as a chunk of leaves and a difference of trees have."""
    first = reader.number(1)
    kind, value = first >> 5, first & 31
    if first == 0xF6:
        return None
    if value >= 24:
        assert value < 28, "no definite length"
        size = 1 << (value - 24)
        value = reader.number(size)
        assert value >= (24 if size == 1 else 1 << (4 * size)), "not the shortest form"
    if kind == 0:
        return value
    if kind == 2:
        return reader.take(value)
    if kind == 3:
        return reader.take(value).decode()
    if kind == 4:
        return [cbor(reader) for _ in range(value)]
    assert kind == 5, f"what begins with {first:#x} is not used"
    return {cbor(reader): cbor(reader) for _ in range(value)}


def cbor_head(kind, value):
    if value < 24:
        return bytes([kind << 5 | value])
    for at, size in enumerate((1, 2, 4, 8)):
        if value < 1 << (8 * size):
            return bytes([kind << 5 | 24 + at]) + value.to_bytes(size, "big")
    raise ValueError("no number of CBOR")


def to_cbor(value):
    if value is None:
        return b"\xf6"
    if isinstance(value, int):
        return cbor_head(0, value)
    if isinstance(value, bytes):
        return cbor_head(2, len(value)) + value
    if isinstance(value, str):
        return cbor_head(3, len(value.encode())) + value.encode()
    if isinstance(value, dict):
        parts = [part for pair in value.items() for part in pair]
        return cbor_head(5, len(value)) + b"".join(map(to_cbor, parts))
    return cbor_head(4, len(value)) + b"".join(map(to_cbor, value))


def hkdf(key, salt, info, length):
    extracted = hmac.digest(salt, key, "sha256")
    made, block = b"", b""
    while len(made) < length:
        block = hmac.digest(extracted, block + info + bytes([len(made) // 32 + 1]), "sha256")
        made += block
    return made[:length]


def counter_mode(key, iv, data):
    decryptor = Cipher(algorithms.AES(key), modes.CTR(iv)).decryptor()
    return decryptor.update(data) + decryptor.finalize()


def opened(key, session_id, sealed):
    keys = hkdf(key, bytes(32), session_id.encode(), 64)
    ciphertext = unbase64(sealed["ciphertext"])
    mac = hmac.digest(keys[32:], ciphertext, "sha256")
    assert hmac.compare_digest(mac, unbase64(sealed["mac"])), "the MAC does not fit"
    iv = unbase64(sealed["iv"])
    assert iv[8] & 0x80 == 0, "bit 63 of the IV is set"
    return counter_mode(keys[:32], iv, ciphertext)


def is_signed(key, signature, data):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, data)
    except InvalidSignature:
        return False
    return True


def refuses(function, *arguments):
    try:
        function(*arguments)
    except (AssertionError, ValueError, OverflowError):
        return True
    return False


def group_id(room, number, random):
    if number == 0:
        return room.encode()
    return room.encode() + b"\0" + number.to_bytes(8, "big") + random


def is_group_of(room, found):
    rest = found[len(room.encode()):] if found.startswith(room.encode()) else None
    if rest is None or rest == b"":
        return rest == b""
    return rest[:1] == b"\0" and len(rest) == 25 and rest[1:9] != bytes(8)
