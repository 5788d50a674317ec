#!/usr/bin/env python3
"""Checks the vectors with what the specification says, and nothing of the library.

It takes Python's standard library and the package `cryptography`; `wire.py` and `groups.py` beside
it are parts of it. `cargo xtask test` runs it. What takes the secret tree (the messages in
exports.json) is left to MLS libraries.
"""

import hashlib
import hmac
import json
import sys

# Nothing is left beside the vectors.
sys.dont_write_bytecode = True

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from groups import restarts, trees
from wire import (
    Reader, canonical, cbor, counter_mode, group_id, hkdf, is_group_of, is_signed, load, opened,
    refuses, to_base64, unbase64, vector,
)

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


# Identifiers


def identifiers():
    vectors = load("identifiers")
    for case in vectors["identities"]:
        identity = vector(case["user_id"].encode()) + vector(case["device_id"].encode())
        assert identity.hex() == case["identity"], case
    for case in vectors["group_ids"]:
        made = group_id(case["room_id"], int(case["number"]), bytes.fromhex(case["random"]))
        assert made.hex() == case["group_id"], case
        assert is_group_of(case["room_id"], made), case
    for case in vectors["refused_group_ids"]:
        assert not is_group_of(case["room_id"], bytes.fromhex(case["group_id"])), case
    for case in vectors["epoch_ids"]:
        context = bytes.fromhex(case["group_context"])
        assert hashlib.sha256(context).hexdigest() == case["epoch_id"], case
    for case in vectors["key_ids"]:
        # MakeKeyPackageRef, RFC 9420 §5.2.
        package = bytes.fromhex(case["key_package"])
        data = vector(b"MLS 1.0 KeyPackage Reference") + vector(package)
        assert to_base64(hashlib.sha256(data).digest()) == case["key_id"], case
    for case in vectors["media_references"]:
        content = bytes.fromhex(case["content"])
        assert len(content) == case["size"], case
        assert to_base64(hashlib.sha256(content).digest()) == case["sha256"], case


# Bindings


def binding_text(case):
    named = {
        "user_id": case["user_id"],
        "device_id": case["device_id"],
        "mls_key": to_base64(bytes.fromhex(case["mls_key"])),
        "type": "org.matrix.msc2883.v1.dmls.binding",
    }
    return canonical(named)


def bindings():
    for case in load("bindings")["bindings"]:
        text = binding_text(case)
        if case["valid"]:
            assert text == case["text"], case
        key, signature = bytes.fromhex(case["device_key"]), bytes.fromhex(case["signature"])
        assert is_signed(key, signature, text.encode()) == case["valid"], case


# Backups


def key_text(key):
    data = bytes([0x8B, 0x01]) + key
    parity = 0
    for byte in data:
        parity ^= byte
    number, text = int.from_bytes(data + bytes([parity]), "big"), ""
    while number:
        number, rest = divmod(number, 58)
        text = BASE58[rest] + text
    return " ".join(text[at:at + 4] for at in range(0, len(text), 4))


def key_of(text):
    number = 0
    for character in text.replace(" ", ""):
        number = number * 58 + BASE58.index(character)
    data = number.to_bytes(35, "big")
    parity = 0
    for byte in data:
        parity ^= byte
    assert data[:2] == bytes([0x8B, 0x01]) and parity == 0, "no recovery key"
    return data[2:34]


def backups():
    vectors = load("backups")
    for case in vectors["recovery_keys"]:
        key = bytes.fromhex(case["key"])
        assert key_text(key) == case["text"], case
        assert key_of(case["text"]) == key, case
    for case in vectors["wrong_recovery_keys"]:
        assert refuses(key_of, case["text"]), case
    for case in vectors["passphrases"]:
        passphrase, salt = case["passphrase"].encode(), case["salt"].encode()
        key = hashlib.pbkdf2_hmac("sha512", passphrase, salt, case["rounds"], 32)
        assert key.hex() == case["key"], case
    for case in vectors["beside_megolm"]:
        info = b"org.matrix.msc4038.v0.aes-hmac-sha2"
        key = hkdf(bytes.fromhex(case["recovery_key"]), bytes(32), info, 32)
        assert key.hex() == case["key"], case
    for case in vectors["session_ids"]:
        if "leaf_chunk" in case:
            chunk = bytes.fromhex(case["leaf_chunk"])
            made = "leaves|" + to_base64(hashlib.sha256(chunk).digest())
        else:
            number, creator = case["epoch"]
            made = f"{number}|" + to_base64("|".join(creator).encode())
            if case["epoch_id"] is not None:
                made += "|" + case["epoch_id"][:16]
        assert made == case["session_id"], case
    for case in vectors["sealed"]:
        key = bytes.fromhex(case["key"])
        assert opened(key, case["session_id"], case["session_data"]).hex() == case["plaintext"]
        assert refuses(opened, key, "another", case["session_data"]), case
    for case in vectors["proofs"]:
        iv = unbase64(case["auth_data"]["iv"])
        keys = hkdf(bytes.fromhex(case["key"]), bytes(32), b"", 64)
        mac = hmac.digest(keys[32:], counter_mode(keys[:32], iv, bytes(32)), "sha256")
        assert (to_base64(mac) == case["auth_data"]["mac"]) == case["proves"], case
    for case in vectors["files"]:
        lines = case["file"].split("\n")
        assert lines[0] == "-----BEGIN MLS EPOCH EXPORT-----", case
        end = lines.index("-----END MLS EPOCH EXPORT-----")
        assert all(len(line) == 96 for line in lines[1:end - 1]), case
        data = unbase64("".join(lines[1:end]))
        signed, mac = data[:-32], data[-32:]
        rounds = int.from_bytes(data[33:37], "big")
        keys = hashlib.pbkdf2_hmac("sha512", case["passphrase"].encode(), data[1:17], rounds, 64)
        assert data[0] == 1 and hmac.digest(keys[32:], signed, "sha256") == mac, case
        assert counter_mode(keys[:32], data[17:33], signed[37:]).decode() == case["contents"], case


# Exports


def exports():
    for case in load("exports")["epochs"]:
        reader = Reader(bytes.fromhex(case["group_export"]))
        assert reader.number(2) == 1, "the version"
        context = Reader(reader.vector())
        assert context.number(2) == 1 and context.number(2) == 1, "MLS 1.0 and ciphersuite 1"
        assert len(reader.vector()) == 32 and len(reader.vector()) == 32, "two secrets"
        tree_size = reader.number(4)
        assert tree_size & (tree_size - 1) == 0, "a tree's leaves are a power of two"
        names = reader.vector()
        assert reader.data == b"", "nothing follows"
        chunks = [bytes.fromhex(chunk) for chunk in case["chunks"]]
        assert names == b"".join(hashlib.sha256(chunk).digest() for chunk in chunks)
        leaves = []
        for chunk in chunks:
            reader = Reader(chunk)
            read = cbor(reader)
            assert reader.data == b"" and list(read) == ["leaves"], case
            assert read["leaves"][-1] is not None and len(read["leaves"]) <= 64, case
            leaves += read["leaves"]
        assert 0 < len(leaves) <= tree_size
        for leaf in leaves:
            assert leaf is None or list(leaf) == ["credential", "signature_key"], leaf
        for message in case["messages"]:
            assert leaves[message["leaf"]] is not None
            reader = Reader(bytes.fromhex(message["message"]))
            assert reader.number(2) == 1 and reader.number(2) == 2, "a PrivateMessage"


# Shared history


def expand_with_label(secret, label, context):
    """RFC 9420 §8, of 32 bytes."""
    info = (32).to_bytes(2, "big") + vector(b"MLS 1.0 " + label) + vector(context)
    return hmac.digest(secret, info + b"\x01", "sha256")


def exported(exporter_secret, label, context):
    """MLS-Exporter, RFC 9420 §8.5, of 32 bytes."""
    derived = expand_with_label(exporter_secret, label, b"")
    return expand_with_label(derived, b"exported", hashlib.sha256(context).digest())


def histories():
    vectors = load("histories")
    for case in vectors["bundles"]:
        bundle, bundle_id = case["bundle"].encode(), case["bundle_id"]
        assert len(bundle) == case["size"], case
        assert to_base64(hashlib.sha256(bundle).digest()) == case["sha256"], case
        secret = bytes.fromhex(case["exporter_secret"])
        key = exported(secret, b"org.matrix.msc2883.v1.dmls.history", bundle_id.encode())
        assert key.hex() == case["key"], case
        sessions = json.loads(opened(key, bundle_id, json.loads(bundle)))
        assert sessions == case["sessions"], case
        chunks = [session["leaf_chunk"] for session in sessions if "leaf_chunk" in session]
        chunks = [unbase64(chunk) for chunk in chunks]
        names = {hashlib.sha256(chunk).digest() for chunk in chunks}
        for session in (session for session in sessions if "group_export" in session):
            reader = Reader(unbase64(session["group_export"]))
            reader.take(2)
            context = Reader(reader.vector())
            context.take(4)
            assert is_group_of(session["room_id"], context.vector()), session
            assert str(context.number(8)) == session["epoch"][0], session
            reader.vector(), reader.vector(), reader.take(4)
            of = reader.vector()
            assert {of[at:at + 32] for at in range(0, len(of), 32)} <= names, session
    for case in vectors["requests"]:
        def rank(member):
            identity = b"".join(vector(part.encode()) for part in member)
            return hashlib.sha256(case["commit_event"].encode() + identity).digest()

        assert sorted(case["members"], key=rank) == case["order"], case


# Secrets for another device


def handover_key(case, sender, receiver):
    parts = [
        case["user_id"], case[sender]["device_id"], case[sender]["ed25519"],
        case[receiver]["device_id"], case[receiver]["ed25519"], case["transaction_id"],
    ]
    info = "MATRIX_MLS_HANDOVER" + "".join(f"|{len(part.encode())}:{part}" for part in parts)
    private = X25519PrivateKey.from_private_bytes(bytes.fromhex(case["private_key"]))
    public = X25519PublicKey.from_public_bytes(bytes.fromhex(case["public_key"]))
    return info, hkdf(private.exchange(public), bytes(32), info.encode(), 32)


def handovers():
    for case in load("handovers")["handovers"]:
        info, key = handover_key(case, "from", "to")
        assert (info, key.hex()) == (case["info"], case["key"]), case
        content = case["content"]
        assert content["sender"] == [case["user_id"], case["from"]["device_id"]], case
        assert content["transaction_id"] == case["transaction_id"], case
        sealed = content["sealed"]
        assert json.loads(opened(key, content["algorithm"], sealed)) == case["plaintext"], case
        _, other = handover_key(case, "to", "from")
        assert refuses(opened, other, content["algorithm"], sealed), case


# The head rule

HIGHEST, AHEAD = 1 << 48, 1 << 20


def way_back(epochs, start):
    way = []
    while start is not None and start in epochs:
        way.append(start)
        start = epochs[start]["parent"]
    return way


def led_by_outsiders(epochs, outsiders):
    def is_out(epoch):
        return epochs[epoch]["creator"] in outsiders

    gone_on_with = {
        before for epoch in epochs if not is_out(epoch) for before in way_back(epochs, epoch)
    }
    led = set()
    for removal in gone_on_with:
        for removed in epochs[removal]["removes"]:
            for epoch in epochs if removed in outsiders else []:
                if epochs[epoch]["creator"] == removed:
                    before = epoch in way_back(epochs, removal)
                    after = removal in way_back(epochs, epoch)
                    if not before and not after:
                        led.add(epoch)
    found = set()
    for epoch in epochs:
        for before in way_back(epochs, epoch):
            if not is_out(before):
                break
            if before in led:
                found.add(epoch)
                break
    return found


def out_of_reach(epochs):
    tips = {}
    for epoch in epochs.values():
        tree = (json.dumps(epoch["group"]), epoch["root"])
        tips[tree] = max(tips.get(tree, 0), int(epoch["number"]))
    found = set()
    for group in {group for group, _ in tips}:
        reached = None
        for tip, root in sorted((tip, root) for (of, root), tip in tips.items() if of == group):
            if reached is not None and tip > min(reached + AHEAD, HIGHEST):
                found.add((group, root))
            else:
                reached = tip
    return found


def heads():
    for case in load("heads")["graphs"]:
        epochs = {epoch["id"]: epoch for epoch in case["epochs"]}
        led = led_by_outsiders(epochs, case["outsiders"])
        far = out_of_reach(epochs)

        def place(epoch):
            group = {"unnamed": 1, "first": 0}.get(epoch["group"])
            group = -epoch["group"] if group is None else group
            votes = case["votes"].get(epoch["root"], 0)
            votes = float("inf") if votes == "lasting" else votes
            return (
                group,
                epoch["left"],
                -votes,
                (json.dumps(epoch["group"]), epoch["root"]) in far,
                epoch["id"] in led,
                -int(epoch["number"]),
                epoch["id"],
            )

        order = [epoch["id"] for epoch in sorted(case["epochs"], key=place)]
        assert order == case["order"], case["name"]


def main():
    checks = (
        identifiers, bindings, backups, exports, histories, handovers, trees, restarts, heads,
    )
    for check in checks:
        check()
        print(f"vectors: {check.__name__} hold")
    return 0


if __name__ == "__main__":
    sys.exit(main())
