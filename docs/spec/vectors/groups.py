"""What the specification says of the states of groups: ratchet trees as differences, restarts."""

import hashlib

from wire import (
    Reader, canonical, cbor, is_group_of, is_signed, load, refuses, to_base64, to_cbor, unbase64,
    vector,
)

MOST_NODES, MOST_DIFFERENCE, MOST_TREE = 1 << 20, 4_000_000, 50_000_000


# Ratchet trees


def pass_leaf(reader):
    """A LeafNode, RFC 9420 §7.2."""
    reader.vector(), reader.vector()  # encryption_key, signature_key
    assert reader.number(2) == 1, "a BasicCredential"
    reader.vector()
    for _ in range(5):
        reader.vector()  # Capabilities
    source = reader.number(1)
    assert source in (1, 2, 3), "a LeafNodeSource"
    if source == 1:
        reader.take(16)  # Lifetime
    elif source == 3:
        reader.vector()  # parent_hash
    reader.vector(), reader.vector()  # extensions, signature


def pass_node(reader):
    kind = reader.number(1)
    assert kind in (1, 2), "a NodeType"
    if kind == 1:
        pass_leaf(reader)
    else:
        reader.vector(), reader.vector(), reader.vector()


def tree_nodes(tree):
    """The nodes of the extension `ratchet_tree`, §12.4.3.3: their bytes, None for a blank one."""
    outer = Reader(tree)
    reader = Reader(outer.vector())
    outer.ends()
    nodes = []
    while reader.data:
        there = reader.number(1)
        assert there in (0, 1), "an optional"
        before = reader.data
        if there:
            pass_node(reader)
        nodes.append(before[:len(before) - len(reader.data)] if there else None)
    assert nodes and nodes[-1] is not None, "the last node is not blank"
    return nodes


def written(nodes):
    return vector(b"".join(b"\0" if node is None else b"\1" + node for node in nodes))


def difference(before, after):
    old, new = tree_nodes(before), tree_nodes(after)
    old += [None] * (len(new) - len(old))
    changed = [[place, node] for place, node in enumerate(new) if old[place] != node]
    return to_cbor({"nodes": len(new), "changed": changed})


def applied(tree, leads):
    assert len(leads) <= MOST_DIFFERENCE
    read = cbor(Reader(leads))
    assert list(read) == ["nodes", "changed"]
    count, nodes = read["nodes"], tree_nodes(tree)
    assert count <= MOST_NODES
    nodes = (nodes + [None] * (count - len(nodes)))[:count]
    places = [place for place, _ in read["changed"]]
    assert all(low < high for low, high in zip(places, places[1:])), "in order"
    for place, node in read["changed"]:
        assert place < count, "in the tree"
        if node is not None:
            reader = Reader(node)
            pass_node(reader)
            reader.ends()
        nodes[place] = node
    assert nodes and nodes[-1] is not None, "the last node is not blank"
    made = written(nodes)
    assert len(made) <= MOST_TREE + 4
    return made


def tree_hash(tree):
    """RFC 9420 §7.8."""
    nodes = tree_nodes(tree)
    width = 1
    while width < len(nodes):
        width = 2 * width + 1
    nodes += [None] * (width - len(nodes))

    def hashed(low, high):
        middle = (low + high) // 2
        node = nodes[middle]
        # The node's type is that of TreeHashInput already.
        node = b"\0" if node is None else b"\1" + node[1:]
        if low == high:
            data = b"\1" + (low // 2).to_bytes(4, "big") + node
        else:
            left, right = hashed(low, middle - 1), hashed(middle + 1, high)
            data = b"\2" + node + vector(left) + vector(right)
        return hashlib.sha256(data).digest()

    return hashed(0, width - 1)


class GroupInfo:
    """An MLSMessage with a GroupInfo, RFC 9420 §12.4.3."""

    def __init__(self, message):
        reader = Reader(message)
        assert reader.number(2) == 1 and reader.number(2) == 4, "a GroupInfo"
        signed = reader.data
        assert reader.number(2) == 1 and reader.number(2) == 1, "MLS 1.0 and ciphersuite 1"
        self.group_id, self.number = reader.vector(), reader.number(8)
        self.tree_hash = reader.vector()
        reader.vector(), reader.vector()  # confirmed_transcript_hash, extensions
        reader.vector(), reader.vector(), reader.number(4)  # extensions, confirmation_tag, signer
        self.signed = signed[:len(signed) - len(reader.data)]
        self.signature = reader.vector()
        reader.ends()

    def is_signed_by(self, key):
        """SignWithLabel, §5.1.2."""
        return is_signed(key, self.signature, vector(b"MLS 1.0 GroupInfoTBS") + vector(self.signed))


def trees():
    vectors = load("trees")
    for case in vectors["differences"]:
        before, after = bytes.fromhex(case["from"]), bytes.fromhex(case["to"])
        assert difference(before, after).hex() == case["difference"], case
        assert applied(before, bytes.fromhex(case["difference"])) == after, case
    for case in vectors["refused_differences"]:
        before, leads = bytes.fromhex(case["from"]), bytes.fromhex(case["difference"])
        assert refuses(applied, before, leads), case["why"]
    for case in vectors["published_trees"]:
        named = case["tree_difference"]

        def fetched(reference):
            value = bytes.fromhex(case["media"][reference["url"]])
            assert len(value) == reference["size"], case
            assert to_base64(hashlib.sha256(value).digest()) == reference["sha256"], case
            return value

        tree = fetched(named["whole"])
        if "middle" in named:
            tree = applied(tree, fetched(named["middle"]))
        if "nodes" in named:
            tree = applied(tree, unbase64(named["nodes"]))
        assert tree.hex() == case["ratchet_tree"], case
        state = GroupInfo(bytes.fromhex(case["public_group_state"]))
        assert (tree_hash(tree) == state.tree_hash) == case["fits"], case


# Restarts


def listed_key(case, user, device):
    """The MLS key of a device that is in its user's list; None if it is in none."""
    keys = case["device_keys"].get(user, {}).get(device)
    if keys is None:
        return None
    text = canonical({field: value for field, value in keys.items() if field != "signatures"})
    found = {}
    for name in (f"ed25519:{device}", f"org.matrix.msc2883.v1.dmls.credential.ed25519:{device}"):
        found[name] = unbase64(keys["keys"][name])
        assert is_signed(found[name], unbase64(keys["signatures"][user][name]), text.encode())
    assert (keys["user_id"], keys["device_id"]) == (user, device)
    return found[name]


def state_of(case, event):
    """The GroupInfo of an event's content, if it is of the room and the device of the event."""
    content = event["content"]
    if content["sender"][0] != event["sender"]:
        return None
    state = GroupInfo(unbase64(content["public_group_state"]))
    return state if is_group_of(case["room_id"], state.group_id) else None


def number_of(case, state):
    rest = state.group_id[len(case["room_id"].encode()):]
    return int.from_bytes(rest[1:9], "big")


def is_vouched(case, group):
    """Whether a listed device of a joined user has committed in a group."""
    for commit in case["commits"]:
        state, (user, device) = state_of(case, commit), commit["content"]["sender"]
        key = listed_key(case, user, device)
        if state is not None and key is not None and user in case["joined"]:
            if state.group_id == group and state.number > 0 and state.is_signed_by(key):
                return True
    return False


def is_restart(case, state_event):
    """All of E16 but the number's distance from the last."""
    content = state_event["content"]
    event = case["announcements"].get(content["announcement"])
    if event is None or event["content"]["ciphertext"] != "":
        return False
    state, (user, device) = state_of(case, event), event["content"]["sender"]
    if state is None or state.number != 0 or user != state_event["sender"]:
        return False
    if number_of(case, state) != content["number"]:
        return False
    key = listed_key(case, user, device)
    if key is not None:
        return state.is_signed_by(key)
    is_current = user in case["device_keys"]
    return is_current and (not case["is_in_a_group"] or is_vouched(case, state.group_id))


def restarts():
    for case in load("restarts")["restarts"]:
        last = (case["last"] or {}).get("number", 0)
        counts = None
        for state in case["state"]:
            number = state["content"]["number"]
            is_near = last < number <= last + (1 << 20) or last == number > 0
            if is_near and is_restart(case, state):
                last, counts = number, state["content"]["announcement"]
        assert counts == case["counts"], case["name"]
