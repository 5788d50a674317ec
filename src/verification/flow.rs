//! One verification: its record, where it stands, and what it sends.
//!
//! The steps of its two sides are in `steps`. What is to be sent is put into the record's outbox,
//! in order; `post` takes it from there, one at a time.
//!
//! | stage | reached by |
//! |---|---|
//! | asking | this side wants it, and does not know the other's keys yet |
//! | requested | either side's request |
//! | ready | the answer to the request |
//! | started | this side's start |
//! | accepted | the other side's start, and this side's answer |
//! | key sent | the answer to this side's start, and this side's key |
//! | comparing | both keys are known |
//! | confirmed | this side's user has confirmed |
//! | done | both have, and what the other has vouched for is right |
//! | cancelled | anything else |

use ruma::{CanonicalJsonValue, OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use serde_json::{Value, json};
use sha2_010::{Digest as _, Sha256};

use super::{
    content::{CancelContent, Kind, MacContent},
    emoji::emojis,
};
use crate::{exported::VerificationState, failure::Failure, protocol::encode_base64};

/// How many different events of one verification are remembered, so that a repeated one changes
/// nothing.
const MOST_SEEN: usize = 16;
/// The longest code and reason that are kept of somebody else's cancellation, in characters.
const LONGEST_CODE: usize = 64;
const LONGEST_REASON: usize = 256;

/// Codes of the specification that this device sends.
pub(super) mod code {
    pub(in crate::verification) const USER: &str = "m.user";
    pub(in crate::verification) const TIMEOUT: &str = "m.timeout";
    pub(in crate::verification) const UNKNOWN_TRANSACTION: &str = "m.unknown_transaction";
    pub(in crate::verification) const UNKNOWN_METHOD: &str = "m.unknown_method";
    pub(in crate::verification) const UNEXPECTED: &str = "m.unexpected_message";
    pub(in crate::verification) const KEY_MISMATCH: &str = "m.key_mismatch";
    pub(in crate::verification) const INVALID: &str = "m.invalid_message";
    pub(in crate::verification) const ACCEPTED: &str = "m.accepted";
    pub(in crate::verification) const COMMITMENT: &str = "m.mismatched_commitment";
    pub(in crate::verification) const SAS: &str = "m.mismatched_sas";
}

/// Where the events of a verification go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    /// To devices. The transaction's id is the asking side's choice.
    Devices { transaction: String },
    /// Into a room. The transaction's id is the request's event.
    Room { room_id: OwnedRoomId, request: Option<OwnedEventId> },
}

/// Whom an event is for, where it goes to devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum To {
    /// These devices of the other user.
    Devices(Vec<OwnedDeviceId>),
    /// All devices of the other user.
    All,
}

/// An event on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parcel {
    pub(crate) event_type: String,
    /// The whole content, as JSON.
    pub(crate) content: String,
    pub(super) to: To,
}

/// Where a verification stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Stage {
    Asking,
    Requested,
    Ready,
    /// With the canonical JSON of this device's start.
    Started {
        start: String,
    },
    Accepted {
        emojis: bool,
    },
    KeySent {
        start: String,
        commitment: String,
        emojis: bool,
    },
    Comparing {
        numbers: Option<[u8; 7]>,
        decimals: (u16, u16, u16),
        their_mac: Option<MacContent>,
    },
    Confirmed {
        their_mac: Option<MacContent>,
    },
    Done {
        master_key: Option<ByteBuf>,
        is_signed: bool,
    },
    Cancelled {
        code: String,
        reason: String,
        by_this_device: bool,
    },
}

/// One verification.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Flow {
    /// The app's name for it, which only this device knows.
    pub(crate) id: String,
    /// The other user, or this one where another own device is verified.
    pub(crate) user_id: OwnedUserId,
    /// The other device, once one has asked or answered.
    pub(crate) device_id: Option<OwnedDeviceId>,
    pub(crate) place: Place,
    /// Whether the other side has asked.
    pub(crate) is_incoming: bool,
    /// When it began, by this device's clock, in milliseconds since 1970.
    pub(super) began_ms: u64,
    /// When this device heard of it.
    pub(super) heard_ms: u64,
    /// The one device that this user wants to verify, if they have named one.
    pub(super) wanted: Option<OwnedDeviceId>,
    /// The devices that were asked.
    pub(super) asked: Vec<OwnedDeviceId>,
    /// The other user's devices with their Ed25519 keys, once the homeserver has told them.
    pub(super) keys: Option<Vec<(OwnedDeviceId, ByteBuf)>>,
    pub(super) stage: Stage,
    pub(super) outbox: Vec<Parcel>,
    /// Whether the first of the outbox is a request in the queue.
    pub(super) is_sending: bool,
    /// Hashes of the events that have come.
    seen: Vec<ByteBuf>,
}

impl Flow {
    pub(super) fn new(
        id: String,
        user_id: OwnedUserId,
        place: Place,
        is_incoming: bool,
        now_ms: u64,
    ) -> Self {
        Self {
            id,
            user_id,
            device_id: None,
            place,
            is_incoming,
            began_ms: now_ms,
            heard_ms: now_ms,
            wanted: None,
            asked: Vec::new(),
            keys: None,
            stage: if is_incoming { Stage::Requested } else { Stage::Asking },
            outbox: Vec::new(),
            is_sending: false,
            seen: Vec::new(),
        }
    }

    /// Whether it goes on.
    pub(crate) fn is_open(&self) -> bool {
        !matches!(self.stage, Stage::Done { .. } | Stage::Cancelled { .. })
    }

    /// Whether a request waits for its answer.
    pub(super) fn is_unanswered(&self) -> bool {
        matches!(self.stage, Stage::Requested)
    }

    /// Whether it cannot go on without its keys in memory.
    pub(super) fn needs_secret(&self) -> bool {
        matches!(
            self.stage,
            Stage::Accepted { .. }
                | Stage::KeySent { .. }
                | Stage::Comparing { .. }
                | Stage::Confirmed { .. }
        )
    }

    /// The transaction's id, as both sides know it.
    pub(super) fn transaction(&self) -> &str {
        match &self.place {
            Place::Devices { transaction } => transaction,
            Place::Room { request, .. } => request.as_deref().map_or("", |id| id.as_str()),
        }
    }

    /// The other side's Ed25519 key, as the homeserver has told it.
    pub(super) fn their_key(&self) -> Option<&ByteBuf> {
        let device = self.device_id.as_ref()?;
        self.keys.as_ref()?.iter().find(|(id, _)| id == device).map(|(_, key)| key)
    }

    /// The content of an event, with what says where it belongs.
    pub(super) fn addressed(&self, content: &impl Serialize) -> Result<Value, Failure> {
        let mut content = serde_json::to_value(content)
            .map_err(|error| Failure::defect("verification", error))?;
        match &self.place {
            Place::Devices { transaction } => content["transaction_id"] = json!(transaction),
            Place::Room { request, .. } => {
                content["m.relates_to"] = json!({ "rel_type": "m.reference", "event_id": request });
            }
        }
        Ok(content)
    }

    /// Puts an event for these devices into the outbox.
    pub(super) fn post_to(
        &mut self,
        kind: Kind,
        content: &impl Serialize,
        to: To,
    ) -> Result<(), Failure> {
        let content = self.addressed(content)?.to_string();
        self.outbox.push(Parcel { event_type: kind.event_type().to_owned(), content, to });
        Ok(())
    }

    /// Puts an event for the other side into the outbox.
    pub(super) fn post(&mut self, kind: Kind, content: &impl Serialize) -> Result<(), Failure> {
        let to = match &self.device_id {
            Some(device) => To::Devices(vec![device.clone()]),
            None => To::Devices(self.asked.clone()),
        };
        self.post_to(kind, content, to)
    }

    /// Ends it, and tells the other side.
    pub(super) fn cancel(&mut self, code: &str, reason: &str) -> Result<(), Failure> {
        let is_heard_of = match &self.place {
            Place::Devices { .. } => self.device_id.is_some() || !self.asked.is_empty(),
            Place::Room { request, .. } => request.is_some(),
        };
        if self.is_open() && is_heard_of {
            let content = CancelContent { code: code.to_owned(), reason: reason.to_owned() };
            self.post(Kind::Cancel, &content)?;
        }
        self.end(code, reason, true);
        Ok(())
    }

    /// Ends it.
    pub(super) fn end(&mut self, code: &str, reason: &str, by_this_device: bool) {
        if self.is_open() {
            let code = code.chars().take(LONGEST_CODE).collect();
            let reason = reason.chars().take(LONGEST_REASON).collect();
            self.stage = Stage::Cancelled { code, reason, by_this_device };
        }
    }

    /// Notes an event; tells whether it is one that has come before.
    pub(super) fn is_repeated(&mut self, kind: Kind, content: &str) -> bool {
        let hash = Sha256::new().chain_update(kind.event_type()).chain_update(content).finalize();
        let hash = ByteBuf::from(hash.to_vec());
        if self.seen.contains(&hash) {
            return true;
        }
        if self.seen.len() < MOST_SEEN {
            self.seen.push(hash);
        }
        false
    }

    /// What an app sees of where it stands.
    pub(crate) fn state(&self) -> VerificationState {
        match &self.stage {
            Stage::Asking | Stage::Requested => VerificationState::Requested,
            Stage::Ready => VerificationState::Ready,
            Stage::Started { .. } | Stage::Accepted { .. } | Stage::KeySent { .. } => {
                VerificationState::Started
            }
            Stage::Comparing { numbers, decimals: (first, second, third), .. } => {
                VerificationState::Comparing {
                    emojis: numbers.map(emojis).unwrap_or_default(),
                    decimals: vec![*first, *second, *third],
                }
            }
            Stage::Confirmed { .. } => VerificationState::Confirmed,
            Stage::Done { master_key, is_signed } => VerificationState::Done {
                master_key: master_key.as_ref().map(|key| encode_base64(key)),
                is_signed: *is_signed,
            },
            Stage::Cancelled { code, reason, by_this_device } => VerificationState::Cancelled {
                code: code.clone(),
                reason: reason.clone(),
                by_this_device: *by_this_device,
            },
        }
    }
}

/// The canonical form of a content; nothing where it has none.
pub(super) fn canonical(content: &str) -> Option<String> {
    let value: Value = serde_json::from_str(content).ok()?;
    Some(CanonicalJsonValue::try_from(value).ok()?.to_string())
}

/// By what the side that answers a start binds itself to its key.
pub(super) fn commitment(public_key: &str, start: &str) -> String {
    encode_base64(&Sha256::new().chain_update(public_key).chain_update(start).finalize())
}
