//! How groups are configured, loaded and read.

use openmls::{
    framing::{MlsMessageBodyIn, MlsMessageIn},
    group::{
        MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY, MlsGroup, MlsGroupCreateConfig, MlsGroupJoinConfig,
    },
    prelude::{GroupId, SenderRatchetConfiguration, tls_codec::Deserialize as _},
};
use openmls_traits::OpenMlsProvider;
use ruma::RoomId;

use crate::{
    failure::Failure,
    identity::{Identity, LeafParts, Provider},
    protocol::GroupName,
    rejection::Rejection,
    store::Namespace,
    turn::Turn,
};

/// How many earlier messages of one sender can still come.
const OUT_OF_ORDER: u32 = 128;
/// How many messages of one sender can be missing.
const FAR_AHEAD: u32 = 1_000;

/// The MLS group id of one of a room's groups.
pub(crate) fn group_id(room: &RoomId, group: GroupName) -> GroupId {
    GroupId::from_slice(&group.group_id(room))
}

/// How groups of this device's own making are configured. Old epochs are kept as exports, so
/// OpenMLS keeps none. Commits are sent as PrivateMessage; PublicMessage is read too, as external
/// commits are always public (RFC 9420 §12.4.3.2).
pub(crate) fn create_config(
    identity: &Identity,
    leaf: LeafParts,
) -> Result<MlsGroupCreateConfig, Failure> {
    let config = MlsGroupCreateConfig::builder()
        .ciphersuite(identity.ciphersuite())
        .wire_format_policy(MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY)
        .use_ratchet_tree_extension(true)
        .sender_ratchet_configuration(ratchet_config())
        .max_past_epochs(0)
        .capabilities(leaf.capabilities)
        .with_leaf_node_extensions(leaf.extensions)
        .map_err(|error| Failure::defect("leaf", error))?
        .build();
    Ok(config)
}

/// How groups are configured that this device joins.
pub(crate) fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY)
        .use_ratchet_tree_extension(true)
        .sender_ratchet_configuration(ratchet_config())
        .max_past_epochs(0)
        .build()
}

/// How far messages that are read once can come out of order: a timeline is filled in from its end.
fn ratchet_config() -> SenderRatchetConfiguration {
    SenderRatchetConfiguration::new(OUT_OF_ORDER, FAR_AHEAD)
}

/// Loads the group that lives in a provider's namespace.
pub(crate) fn load_group(
    provider: &Provider<'_>,
    room: &RoomId,
    group: GroupName,
) -> Result<MlsGroup, Failure> {
    MlsGroup::load(provider.storage(), &group_id(room, group))?
        .ok_or_else(|| Failure::damaged("the state of an epoch is missing"))
}

/// The group whose state is in the namespace of an epoch: the one that is in memory, or else the
/// one that a provider reads. It is taken out of memory, and whoever takes it changes it.
pub(crate) fn take_group(
    turn: &Turn<'_>,
    namespace: Namespace,
    provider: &Provider<'_>,
    room: &RoomId,
    group: GroupName,
) -> Result<MlsGroup, Failure> {
    match turn.groups.take(turn.tx, namespace)? {
        Some(kept) if *kept.group_id() == group_id(room, group) => Ok(kept),
        _ => {
            #[cfg(feature = "test-hooks")]
            crate::store::hooks::note_group_read();
            load_group(provider, room, group)
        }
    }
}

/// Parses one MLSMessage and nothing behind it. (`DeserializeBytes` would do the same, but asserts
/// in debug builds that input does not end early.)
pub(crate) fn parse_message(bytes: &[u8]) -> Result<MlsMessageBodyIn, Rejection> {
    MlsMessageIn::tls_deserialize_exact(bytes)
        .map(MlsMessageIn::extract)
        .map_err(|error| Rejection::MalformedMls(error.to_string()))
}
