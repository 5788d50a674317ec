//! The names of fields and variants that OpenMLS's values have again and again.

/// The names, each at its code. They are part of the file's format under
/// [`VERSION`](super::form::VERSION): a name keeps its place. Codes below 24 take one byte, and
/// stand for what is in each leaf.
pub(super) const NAMES: &[&str] = &[
    "node",
    "payload",
    "encryption_key",
    "key",
    "vec",
    "signature_key",
    "value",
    "credential",
    "credential_type",
    "serialized_credential_content",
    "Basic",
    "capabilities",
    "versions",
    "ciphersuites",
    "extensions",
    "proposals",
    "credentials",
    "leaf_node_source",
    "unique",
    "signature",
    "parent_hash",
    "unmerged_leaves",
    "Commit",
    "KeyPackage",
    // From here on a code takes two bytes.
    "not_before",
    "not_after",
    "list",
    "Update",
    "tree",
    "leaf_nodes",
    "parent_nodes",
    "default_leaf",
    "default_parent",
    "tree_hash",
    "secret",
];

/// The code of a name, if it has one.
pub(super) fn code_of(name: &str) -> Option<u8> {
    NAMES.iter().position(|known| *known == name).and_then(|at| u8::try_from(at).ok())
}

/// The name of a code.
pub(super) fn name_of(code: u64) -> Option<&'static str> {
    NAMES.get(usize::try_from(code).ok()?).copied()
}
