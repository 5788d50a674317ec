//! Why a message cannot be read, and why nothing can be sent to a room now.

use ruma::{OwnedRoomId, OwnedUserId};

use crate::{
    epochs::UnknownEpoch,
    failure::{EndsTurn, Failure, through_variants},
    history::{LeavesError, Malformed, OpenError, SealError, archive::ArchiveError},
    identity::OTHER_KEYS,
    protocol::{ContentError, CredentialError, JsonError, PayloadError},
    rejection::Rejection,
    room::Outside,
    store::StoreError,
};

/// Why a message cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MessageError {
    /// Reading failed, whatever the message.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// The app passed an event of another type.
    #[error(
        "event: its type is not m.room.encrypted: pass in encrypted events only, and show others as they are"
    )]
    NotEncrypted,
    /// The app passed an event of another algorithm.
    #[error(
        "event: it is not encrypted with MLS: pass it to the engine of its algorithm, such as the Olm machine for Megolm"
    )]
    NotMls,
    /// It is a commit, which changes the group and says nothing to people.
    #[error("event: it is a commit, and no message")]
    Commit,
    /// The event was redacted: its content is gone.
    #[error("event: it was redacted")]
    Redacted,
    /// The event is malformed, or says of its sender what the message does not.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// It is another kind of MLS message.
    #[error("{0}")]
    OtherKind(&'static str),
    /// The message does not open with the keys of its epoch.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The epoch that the event names is not known.
    #[error(transparent)]
    UnknownEpoch(#[from] UnknownEpoch),
    /// Messages of its epoch are read once, and this one cannot be read so (now, or any more).
    #[error("{0}")]
    ReadOnce(String),
    /// The keys of its epoch were deleted.
    #[error("the keys of the message's epoch are kept no longer")]
    HistoryDeleted,
    /// Another event has shown it before.
    #[error("another event has shown this message before")]
    Replayed,
    /// A member sealed it again, under a number that its sender has not given it.
    #[error("somebody else has sealed this message again")]
    SealedAgain,
    /// It came when its epoch had long ended, and the room's settings refuse that.
    #[error("the message came when its epoch had long ended")]
    Late,
    /// The plaintext is no event.
    #[error("the plaintext is not an event")]
    BadPlaintext,
    /// It was written in another room.
    #[error("the message was written in another room")]
    OtherRoom,
    /// The member who shared its epoch lied about its sender.
    #[error(
        "the member who shared this epoch gave another key for the sender than the sender publishes"
    )]
    ForgedHistory,
}

impl EndsTurn for MessageError {
    fn ends_turn(&self) -> bool {
        matches!(self, Self::Failure(failure) if failure.ends_turn())
    }
}

/// Why nothing can be sent to a room now, or a call for it makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    /// Sending failed, whatever was to be sent.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// This device has no group for the room.
    #[error(transparent)]
    NotInGroup(#[from] Outside),
    /// Another room replaces this one.
    #[error("{room} was replaced by {by}: join that room, and send there")]
    Replaced { room: OwnedRoomId, by: OwnedRoomId },
    /// The homeserver has other keys under this device's id.
    #[error("{}", OTHER_KEYS)]
    OtherKeys,
    /// The keys of the epoch are not for this device's own leaf.
    #[error("the epoch's keys are not for this device's leaf; the device joins the group anew")]
    NotOwnLeaf,
    /// The room has to be made ready first.
    #[error("{0}")]
    NotReady(&'static str),
    /// This device cannot join the group anew for now.
    #[error("{0}")]
    CannotRejoin(&'static str),
    /// The homeserver does not say who is in the room.
    #[error("the homeserver does not say who is in the room; it is asked again later")]
    MembersUnknown,
    /// These users were verified with another identity than they have now.
    #[error(
        "these users were verified, and have another identity now; verify them anew, accept it, or \
         withdraw their verification: {}",
        list(.0)
    )]
    IdentityChanged(Vec<OwnedUserId>),
    /// The app sends to verified devices only, and these users have others in the group.
    #[error(
        "these users have devices in the group that are not verified; verify them, or allow sending \
         to others as well: {}",
        list(.0)
    )]
    NotVerified(Vec<OwnedUserId>),
    /// No event could hold it.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The homeserver would refuse the state event that says the room is encrypted.
    #[error(
        "room: your user may not set its encryption: have an admin enable it, or create a new room \
         whose first events say that it is encrypted"
    )]
    NoPower,
    /// The room has a group of this device already.
    #[error("room: this device already has an MLS group for it: go on, and prepare the room")]
    AlreadyEnabled,
    /// Another device has made the room's group.
    #[error(
        "room: another device has made its MLS group: prepare the room (prepareToSend, prepare_to_send in Rust), and this device joins that"
    )]
    GroupExists,
    /// The room is encrypted with something else.
    #[error(
        "room: it is already encrypted with {0}, which cannot change: create a new room for MLS"
    )]
    OtherAlgorithm(String),
}

/// How many users a sentence names.
const MOST_NAMED: usize = 5;

fn list(users: &[OwnedUserId]) -> String {
    let mut names: Vec<_> = users.iter().take(MOST_NAMED).map(|user| user.as_str()).collect();
    if users.len() > MOST_NAMED {
        names.push("…");
    }
    names.join(", ")
}

impl EndsTurn for SendError {
    fn ends_turn(&self) -> bool {
        matches!(self, Self::Failure(failure) if failure.ends_turn())
    }
}

impl From<SealError> for SendError {
    fn from(error: SealError) -> Self {
        Self::Failure(Failure::defect("seal", error))
    }
}

impl From<ArchiveError> for MessageError {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Open(error) => Self::Open(error),
            ArchiveError::Leaves(error) => error.into(),
            ArchiveError::Store(error) => error.into(),
        }
    }
}

/// The leaves of a restored epoch are somebody's word, so a bad one is rejected.
impl From<LeavesError> for MessageError {
    fn from(error: LeavesError) -> Self {
        match error {
            LeavesError::Credential => Self::Rejected(Rejection::Credential(CredentialError)),
            LeavesError::OtherChunk | LeavesError::Encoding => Self::Failure(error.into()),
        }
    }
}

through_variants! { MessageError:
    StoreError => Failure,
    JsonError => Rejected,
    PayloadError => Rejected,
    CredentialError => Rejected,
    Malformed => Rejected,
}

through_variants! { SendError:
    StoreError => Failure,
}
