//! What is being done with secret storage, and how it stands.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::format::{DEFAULT_KEY, KeyDescription, default_key_id, key_type};
use crate::{
    exported::{RecoveryState, Update},
    sessions::{BackupKey, PassphraseInfo},
    store::{Collection, StoreError, Tx},
    turn::Turn,
};

/// What a segment of a path may have as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What is to be done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Task {
    /// See what there is.
    Look,
    /// Open what there is with this key; then bring the history back, if it is asked for.
    Recover {
        key: BackupKey,
        #[serde(default)]
        with_history: bool,
    },
    /// Store this device's secrets under this key.
    Store { key: BackupKey, passphrase: PassphraseInfo, replace: bool },
}

/// What is being done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Work {
    pub(super) task: Task,
    /// What the homeserver has, by the type of the event, as JSON; nothing where it has none.
    pub(super) found: BTreeMap<String, Option<String>>,
    /// What has to be written, next first: types and contents. The last one written makes the rest
    /// count.
    pub(super) to_write: Vec<(String, String)>,
}

/// The default key, as the homeserver has told it last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    /// Its id and its event, as JSON; nothing where there is none.
    key: Option<(String, Option<String>)>,
}

pub(super) const WORK: Collection<Work> = Collection::new("secret_storage_work");
const KNOWN: Collection<Known> = Collection::new("secret_storage");
/// The state that the app was told last.
const TOLD: Collection<RecoveryState> = Collection::new("told_secret_storage");

impl Work {
    /// An event that was read; null where the homeserver has none, or none that can be read.
    pub(super) fn content(&self, kind: &str) -> Value {
        let json = self.found.get(kind).and_then(Option::as_deref);
        json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
    }

    /// The default key's id, if there is a default key.
    pub(super) fn default_key_id(&self) -> Option<String> {
        default_key_id(&self.content(DEFAULT_KEY)).map(str::to_owned)
    }

    /// What the default key's event says.
    pub(super) fn description(&self, id: &str) -> Option<KeyDescription> {
        KeyDescription::read(&self.content(&key_type(id)))
    }
}

/// Remembers what was read of the default key.
pub(super) fn note_key(turn: &Turn<'_>, work: &Work) -> Result<(), StoreError> {
    let key = work.default_key_id().map(|id| {
        let event = work.found.get(&key_type(&id)).cloned().flatten();
        (id, event)
    });
    KNOWN.put(turn.tx, b"", b"", &Known { key })
}

/// How secret storage stands.
pub(crate) fn state(tx: &Tx<'_>) -> Result<RecoveryState, StoreError> {
    if WORK.has(tx, b"", b"")? {
        return Ok(RecoveryState::Working);
    }
    let Some(Known { key }) = KNOWN.get(tx, b"", b"")? else { return Ok(RecoveryState::Unknown) };
    let Some((key_id, event)) = key else { return Ok(RecoveryState::Absent) };
    let event: Value = event.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default();
    let description = KeyDescription::read(&event);
    Ok(match description.filter(KeyDescription::is_supported) {
        Some(description) => {
            RecoveryState::Present { key_id, passphrase: description.passphrase_parameters() }
        }
        None => RecoveryState::Unsupported { key_id },
    })
}

/// Tells the state, if it is another than the app was told last.
pub(super) fn tell_state(turn: &Turn<'_>) -> Result<(), StoreError> {
    let state = state(turn.tx)?;
    if TOLD.get(turn.tx, b"", b"")?.unwrap_or(RecoveryState::Unknown) != state {
        TOLD.put(turn.tx, b"", b"", &state)?;
        turn.tell(Update::RecoveryChanged { state });
    }
    Ok(())
}

/// What was being done is over, without success.
pub(super) fn fail(turn: &Turn<'_>, code: &str, reason: &str) -> Result<(), StoreError> {
    WORK.delete(turn.tx, b"", b"")?;
    turn.tell(Update::RecoveryFailed { code: code.to_owned(), reason: reason.to_owned() });
    tell_state(turn)
}

/// The path of an event of the account data.
pub(super) fn path(turn: &Turn<'_>, kind: &str) -> String {
    let own = turn.identity.name().user_id;
    let encoded = |text| utf8_percent_encode(text, SEGMENT);
    format!("/user/{}/account_data/{}", encoded(own.as_str()), encoded(kind))
}
