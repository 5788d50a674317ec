//! Reading a tree for joining its group. OpenMLS verifies the signatures of all leaves one after
//! the other. Here they are verified on all cores before that, and the crypto provider remembers
//! which are good. A leaf that cannot be read or is not well signed is left to OpenMLS, which
//! refuses it.

use openmls::prelude::{
    GroupId, RatchetTreeIn,
    tls_codec::{Deserialize as _, Error, Serialize as _, VLByteSlice},
};
use openmls_traits::crypto::OpenMlsCrypto as _;

use super::nodes::{Leaf, Nodes, leaf_of};
use crate::{
    identity::{Crypto, MOST_REMEMBERED, SUITE},
    parallel,
    rejection::Rejection,
};

/// The label of a leaf's signature (RFC 9420 §5.1.2, §7.2).
const LABEL: &[u8] = b"MLS 1.0 LeafNodeTBS";

/// Parses a ratchet tree that stood outside of its GroupInfo, for joining this group.
pub(crate) fn parse_tree(
    crypto: &Crypto,
    group: &GroupId,
    bytes: &[u8],
) -> Result<RatchetTreeIn, Rejection> {
    let nodes = Nodes::read(bytes)?;
    verify_leaves(crypto, group, &nodes);
    RatchetTreeIn::tls_deserialize_exact(bytes).map_err(|_| Rejection::BadTree)
}

/// Has the provider verify the signatures of as many leaves as it remembers.
fn verify_leaves(crypto: &Crypto, group: &GroupId, nodes: &Nodes<'_>) {
    #[cfg(feature = "test-hooks")]
    if crate::store::hooks::verifies_each_time() {
        return;
    }
    let leaves = nodes.0.iter().step_by(2).enumerate();
    let leaves: Vec<(usize, Leaf<'_>)> = leaves
        .filter_map(|(index, node)| Some((index, leaf_of((*node)?)?)))
        .take(MOST_REMEMBERED)
        .collect();
    parallel::map(&leaves, &|| false, &|(index, leaf)| {
        // OpenMLS meets whatever is wrong again.
        if let Ok(text) = signed_text(group, *index, leaf) {
            let scheme = SUITE.signature_algorithm();
            let _ = crypto.verify_signature(scheme, &text, leaf.key, leaf.signature);
        }
    });
}

/// What the signature of a leaf at this place is over: `SignContent` of the `LeafNodeTBS`.
fn signed_text(group: &GroupId, index: usize, leaf: &Leaf<'_>) -> Result<Vec<u8>, Error> {
    let mut content = leaf.signed.to_vec();
    if leaf.is_of_a_tree {
        VLByteSlice(group.as_slice()).tls_serialize(&mut content)?;
        u32::try_from(index).map_err(|_| Error::InvalidInput)?.tls_serialize(&mut content)?;
    }
    let mut text = Vec::with_capacity(content.len() + LABEL.len() + 8);
    VLByteSlice(LABEL).tls_serialize(&mut text)?;
    VLByteSlice(&content).tls_serialize(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::error::Error as StdError;

    use openmls::prelude::{
        BasicCredential, CredentialWithKey, KeyPackage, LeafNodeParameters, MlsGroup,
        MlsGroupCreateConfig,
    };
    use openmls_basic_credential::SignatureKeyPair;
    use openmls_rust_crypto::{OpenMlsRustCrypto, RustCrypto};

    use super::*;

    type Outcome<T = ()> = Result<T, Box<dyn StdError>>;

    fn credential(signer: &SignatureKeyPair) -> CredentialWithKey {
        CredentialWithKey {
            credential: BasicCredential::new(b"device".to_vec()).into(),
            signature_key: signer.public().into(),
        }
    }

    /// The tree of a group whose first leaf came with a commit and whose others are of key
    /// packages.
    fn tree(group: &[u8]) -> Outcome<Vec<u8>> {
        let provider = OpenMlsRustCrypto::default();
        let scheme = SUITE.signature_algorithm();
        let founder = SignatureKeyPair::new(scheme)?;
        let mut group = MlsGroup::new_with_group_id(
            &provider,
            &founder,
            &MlsGroupCreateConfig::builder().ciphersuite(SUITE).build(),
            GroupId::from_slice(group),
            credential(&founder),
        )?;
        let mut packages = Vec::new();
        for _ in 0..3 {
            let signer = SignatureKeyPair::new(scheme)?;
            let package = KeyPackage::builder();
            let package = package.build(SUITE, &provider, &signer, credential(&signer))?;
            packages.push(package.key_package().clone());
        }
        group.add_members(&provider, &founder, &packages)?;
        group.merge_pending_commit(&provider)?;
        group.self_update(&provider, &founder, LeafNodeParameters::default())?;
        group.merge_pending_commit(&provider)?;
        Ok(group.export_ratchet_tree().tls_serialize_detached()?)
    }

    #[test]
    fn the_texts_are_those_that_the_leaves_have_signed() -> Outcome {
        let (group, other) = (GroupId::from_slice(b"group"), GroupId::from_slice(b"other"));
        let tree = tree(b"group")?;
        let nodes = Nodes::read(&tree)?;
        let crypto = RustCrypto::default();
        let mut of_a_tree = 0;
        for (index, node) in nodes.0.iter().step_by(2).enumerate() {
            let leaf = node.and_then(leaf_of).ok_or("leaf")?;
            let fits = |group: &GroupId, index: usize| -> Outcome<bool> {
                let text = signed_text(group, index, &leaf)?;
                let scheme = SUITE.signature_algorithm();
                Ok(crypto.verify_signature(scheme, &text, leaf.key, leaf.signature).is_ok())
            };
            assert!(fits(&group, index)?, "leaf {index}");
            assert_eq!(fits(&group, index + 1)?, !leaf.is_of_a_tree);
            assert_eq!(fits(&other, index)?, !leaf.is_of_a_tree);
            of_a_tree += usize::from(leaf.is_of_a_tree);
        }
        assert_eq!((nodes.0.len(), of_a_tree), (7, 1));
        Ok(())
    }

    #[test]
    fn a_tree_that_is_badly_signed_is_left_to_openmls() -> Outcome {
        let mut tree = tree(b"group")?;
        let last = tree.len() - 1;
        tree[last] ^= 1;
        let parsed = parse_tree(&Crypto::default(), &GroupId::from_slice(b"group"), &tree)?;
        assert_eq!(parsed.tls_serialize_detached()?, tree);
        Ok(())
    }
}
