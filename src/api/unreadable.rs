//! Why an event cannot be read, as an app needs it: a few causes, each with what to say and to do.

/// Why an event cannot be read.
///
/// Each cause has its name for a rageshake in `name`. The error's code says more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, uniffi::Enum)]
pub enum UnreadableCause {
    /// It was sent before this device was in the room's group. Say: "You don't have access to
    /// messages sent before you joined." A key backup, or a member who shares history, may bring
    /// it.
    BeforeJoining,
    /// What it needs has not arrived. The library asks for it. Say: "Waiting for this message." The
    /// message comes with a later sync's summary.
    NotYetHere,
    /// What it needs cannot be had from the homeserver. Say: "This message could not be decrypted."
    /// A key backup may bring it.
    Lost,
    /// It is damaged or malformed: nobody can read it. Say: "This message is damaged."
    Damaged,
    /// It is not from whom it says it is, another event has shown it before, or it comes too late to
    /// be believed. Leave it out, or say:
    /// "This message was not sent by this person."
    Forged,
    /// This device has deleted the keys, as the room's settings say. Say: "This message is no longer
    /// kept."
    Deleted,
    /// It is a commit: it changes the group and says nothing to people. Leave it out.
    Commit,
    /// It was redacted. Show it as deleted.
    Redacted,
    /// It is not encrypted with MLS. Pass it to the engine for its algorithm.
    OtherEncryption,
}

/// The name of a cause, for counters and reports. It stays the same across releases.
#[uniffi::export]
pub fn unreadable_cause_name(cause: UnreadableCause) -> String {
    match cause {
        UnreadableCause::BeforeJoining => "before_joining",
        UnreadableCause::NotYetHere => "not_yet_here",
        UnreadableCause::Lost => "lost",
        UnreadableCause::Damaged => "damaged",
        UnreadableCause::Forged => "forged",
        UnreadableCause::Deleted => "deleted",
        UnreadableCause::Commit => "commit",
        UnreadableCause::Redacted => "redacted",
        UnreadableCause::OtherEncryption => "other_encryption",
    }
    .to_owned()
}

impl UnreadableCause {
    /// The cause behind the code of an error; nothing where the error is about something else, such
    /// as the store.
    pub(super) fn of(code: &str) -> Option<Self> {
        Some(match code {
            "before_joining" | "left_group" => Self::BeforeJoining,
            "unknown_epoch" | "value_in_media" | "no_group_yet" | "no_room_yet" | "stranger"
            | "not_joined_yet" | "follow_too_far" | "follow_too_large" | "follow_no_answer" => {
                Self::NotYetHere
            }
            "lost_epoch" | "bad_media" | "forked" => Self::Lost,
            "malformed_event" | "not_base64" | "malformed_mls" | "bad_message"
            | "bad_plaintext" | "bad_commit" | "no_event_id" | "not_a_commit" => Self::Damaged,
            "replayed"
            | "sealed_again"
            | "late"
            | "other_room"
            | "forged_history"
            | "sender_mismatch"
            | "not_a_member"
            | "other_group"
            | "conflicting_credential"
            | "bad_signature"
            | "bad_credential"
            | "credential_change"
            | "removes_another"
            | "unexpected_proposal" => Self::Forged,
            "history_deleted" | "read_once" => Self::Deleted,
            "commit" => Self::Commit,
            "redacted" => Self::Redacted,
            "not_mls" | "not_encrypted" | "ciphersuite" => Self::OtherEncryption,
            _ => return None,
        })
    }
}
