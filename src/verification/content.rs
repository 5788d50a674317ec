//! The events of a verification (Matrix spec, "Key verification framework" and "Short
//! Authentication String (SAS) verification"), as plain types.
//!
//! The other side or a homeserver wrote what is read here, so each field is checked where it is
//! used. Where an event belongs is not part of these types: `transaction_id` or `m.relates_to` is
//! added when an event is sent (`post`), and read by itself.

use std::collections::BTreeMap;

use ruma::{OwnedDeviceId, OwnedEventId};
use serde::{Deserialize, Serialize};

/// The one method of verification, and what it is made of.
pub(super) const METHOD: &str = "m.sas.v1";
pub(super) const KEY_AGREEMENT: &str = "curve25519-hkdf-sha256";
pub(super) const HASH: &str = "sha256";
pub(super) const MAC: &str = "hkdf-hmac-sha256.v2";
pub(super) const DECIMAL: &str = "decimal";
pub(super) const EMOJI: &str = "emoji";

/// The longest transaction id or device id that is read, in bytes.
pub(super) const LONGEST_ID: usize = 255;

/// What an event of a verification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Ready,
    Start,
    Accept,
    Key,
    Mac,
    Done,
    Cancel,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Request,
        Self::Ready,
        Self::Start,
        Self::Accept,
        Self::Key,
        Self::Mac,
        Self::Done,
        Self::Cancel,
    ];

    /// The type of its event. Where a request is a message of a room, this is its `msgtype`.
    pub(super) fn event_type(self) -> &'static str {
        match self {
            Self::Request => "m.key.verification.request",
            Self::Ready => "m.key.verification.ready",
            Self::Start => "m.key.verification.start",
            Self::Accept => "m.key.verification.accept",
            Self::Key => "m.key.verification.key",
            Self::Mac => "m.key.verification.mac",
            Self::Done => "m.key.verification.done",
            Self::Cancel => "m.key.verification.cancel",
        }
    }

    /// The kind of an event of this type.
    pub(super) fn of(event_type: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.event_type() == event_type)
    }
}

/// Which verification an event that is sent to a device belongs to.
#[derive(Debug, Deserialize)]
pub(super) struct TransactionOnly {
    pub(super) transaction_id: String,
}

/// Which verification an event of a room belongs to.
#[derive(Debug, Deserialize)]
pub(super) struct RelationOnly {
    #[serde(rename = "m.relates_to")]
    pub(super) relates_to: Reference,
}

/// `m.relates_to`.
#[derive(Debug, Deserialize)]
pub(super) struct Reference {
    pub(super) rel_type: String,
    pub(super) event_id: OwnedEventId,
}

/// The device that an event says it is from. Requests, answers to them and starts do.
#[derive(Debug, Deserialize)]
pub(super) struct FromDevice {
    pub(super) from_device: OwnedDeviceId,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RequestContent {
    pub(super) from_device: OwnedDeviceId,
    pub(super) methods: Vec<String>,
    /// In milliseconds since 1970; absent in rooms, whose events have a time of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timestamp: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReadyContent {
    pub(super) from_device: OwnedDeviceId,
    pub(super) methods: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StartContent {
    pub(super) from_device: OwnedDeviceId,
    pub(super) method: String,
    #[serde(default)]
    pub(super) key_agreement_protocols: Vec<String>,
    #[serde(default)]
    pub(super) hashes: Vec<String>,
    #[serde(default)]
    pub(super) message_authentication_codes: Vec<String>,
    #[serde(default)]
    pub(super) short_authentication_string: Vec<String>,
}

impl StartContent {
    /// That of this device.
    pub(super) fn new(from_device: OwnedDeviceId) -> Self {
        let one = |name: &str| vec![name.to_owned()];
        Self {
            from_device,
            method: METHOD.to_owned(),
            key_agreement_protocols: one(KEY_AGREEMENT),
            hashes: one(HASH),
            message_authentication_codes: one(MAC),
            short_authentication_string: vec![DECIMAL.to_owned(), EMOJI.to_owned()],
        }
    }

    /// Whether this device can do all that it asks for.
    pub(super) fn is_supported(&self) -> bool {
        let has = |names: &[String], name: &str| names.iter().any(|other| other == name);
        self.method == METHOD
            && has(&self.key_agreement_protocols, KEY_AGREEMENT)
            && has(&self.hashes, HASH)
            && has(&self.message_authentication_codes, MAC)
            && has(&self.short_authentication_string, DECIMAL)
    }

    /// Whether it offers emojis.
    pub(super) fn has_emojis(&self) -> bool {
        self.short_authentication_string.iter().any(|name| name == EMOJI)
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AcceptContent {
    pub(super) method: Option<String>,
    pub(super) key_agreement_protocol: String,
    pub(super) hash: String,
    pub(super) message_authentication_code: String,
    pub(super) short_authentication_string: Vec<String>,
    pub(super) commitment: String,
}

impl AcceptContent {
    pub(super) fn new(commitment: String, emojis: bool) -> Self {
        let mut strings = vec![DECIMAL.to_owned()];
        if emojis {
            strings.push(EMOJI.to_owned());
        }
        Self {
            method: Some(METHOD.to_owned()),
            key_agreement_protocol: KEY_AGREEMENT.to_owned(),
            hash: HASH.to_owned(),
            message_authentication_code: MAC.to_owned(),
            short_authentication_string: strings,
            commitment,
        }
    }

    /// Whether it chooses among what this device has offered.
    pub(super) fn is_supported(&self) -> bool {
        let known = |name: &String| name == DECIMAL || name == EMOJI;
        self.key_agreement_protocol == KEY_AGREEMENT
            && self.hash == HASH
            && self.message_authentication_code == MAC
            && !self.short_authentication_string.is_empty()
            && self.short_authentication_string.iter().all(known)
    }

    pub(super) fn has_emojis(&self) -> bool {
        self.short_authentication_string.iter().any(|name| name == EMOJI)
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct KeyContent {
    pub(super) key: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct MacContent {
    /// By the id of the key that is vouched for.
    pub(super) mac: BTreeMap<String, String>,
    /// The MAC of all these ids.
    pub(super) keys: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CancelContent {
    pub(super) code: String,
    #[serde(default)]
    pub(super) reason: String,
}
