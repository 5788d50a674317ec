//! The cross-signing identity of each user: the master key that was seen first, and the one that
//! the homeserver hands out now.
//!
//! A homeserver can hand out any master key, and the user may have made a new one. A device cannot
//! tell the two apart. So the first master key is pinned and stays pinned until the app accepts
//! another; the change is told once for each new key, and can be read. Devices are judged by the
//! keys that are handed out now, as every other member judges them: what one member alone knows
//! must not decide who is in a group (docs/decisions/022).
//!
//! What was seen once is not unseen. A user who has an identity keeps it when an answer names none.
//! A self-signing key that its own master key has replaced does not come back: whoever hands it out
//! replays an old answer. An earlier master key may come back, as the later one may have been the
//! homeserver's lie; that is a change like any other.

use ruma::{OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use serde_json::value::RawValue;

use super::cross_signing::{PublishedKey, Usage};
use crate::store::{Collection, StoreError, Tx};

/// How many replaced self-signing keys of a user are remembered. Only the user can make them.
const MOST_REPLACED: usize = 64;

/// What is known of a user's identity. All keys are Ed25519 public keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserIdentity {
    pub(crate) user_id: OwnedUserId,
    /// The first master key, or the one that the app has accepted since.
    pub(crate) pinned: ByteBuf,
    /// When it was pinned, in milliseconds since 1970.
    pub(crate) pinned_ms: u64,
    /// The master key that the homeserver hands out.
    pub(crate) master: ByteBuf,
    /// When it was first handed out, in milliseconds since 1970.
    pub(crate) master_ms: u64,
    /// The self-signing key that this master key has signed.
    pub(crate) self_signing: Option<ByteBuf>,
    /// The user-signing key that this master key has signed. A homeserver shows it to its owner
    /// only.
    pub(crate) user_signing: Option<ByteBuf>,
    /// The changed master key that the app was told of last.
    told: Option<ByteBuf>,
    /// Self-signing keys whose own master key has signed others since.
    replaced_self_signing: Vec<ByteBuf>,
}

const IDENTITIES: Collection<UserIdentity> = Collection::new("user_identity");

/// What an answer says of a user's cross-signing keys, not read yet.
#[derive(Default)]
pub(super) struct Published<'a> {
    pub(super) master: Option<&'a RawValue>,
    pub(super) self_signing: Option<&'a RawValue>,
    pub(super) user_signing: Option<&'a RawValue>,
}

impl UserIdentity {
    fn new(user: &UserId, master: ByteBuf, now_ms: u64) -> Self {
        Self {
            user_id: user.to_owned(),
            pinned: master.clone(),
            pinned_ms: now_ms,
            master,
            master_ms: now_ms,
            self_signing: None,
            user_signing: None,
            told: None,
            replaced_self_signing: Vec::new(),
        }
    }

    /// Whether the homeserver hands out another master key than the pinned one.
    pub(crate) fn has_changed(&self) -> bool {
        self.master != self.pinned
    }

    /// Takes in the master key of an answer.
    fn hand_over(&mut self, master: ByteBuf, now_ms: u64) {
        if self.master == master {
            return;
        }
        self.master = master;
        self.master_ms = now_ms;
        self.self_signing = None;
        self.user_signing = None;
    }

    /// Takes in the keys that the master key has signed.
    fn take_in_signed(&mut self, published: &Published<'_>) {
        let signed = |usage, text: Option<&RawValue>| {
            let key = PublishedKey::read(&self.user_id, usage, text?)?;
            key.is_signed_by(&self.user_id, &self.master).then(|| ByteBuf::from(key.key))
        };
        let self_signing = signed(Usage::SelfSigning, published.self_signing);
        let user_signing = signed(Usage::UserSigning, published.user_signing);
        if user_signing.is_some() {
            self.user_signing = user_signing;
        }
        let Some(key) = self_signing else { return };
        if self.self_signing.as_ref() == Some(&key) || self.replaced_self_signing.contains(&key) {
            return;
        }
        if let Some(replaced) = self.self_signing.replace(key) {
            if self.replaced_self_signing.len() >= MOST_REPLACED {
                self.replaced_self_signing.remove(0);
            }
            self.replaced_self_signing.push(replaced);
        }
    }

    /// Whether the app is to be told that the master key is another. It is told once for each.
    fn is_news(&mut self) -> bool {
        if !self.has_changed() || self.told.as_ref() == Some(&self.master) {
            return false;
        }
        self.told = Some(self.master.clone());
        true
    }
}

/// The identity of a user, if one was ever handed out.
pub(crate) fn user_identity(
    tx: &Tx<'_>,
    user: &UserId,
) -> Result<Option<UserIdentity>, StoreError> {
    IDENTITIES.get(tx, b"", user.as_bytes())
}

/// Takes in what an answer says of a user's keys. Gives the identity as it is now, and whether the
/// app is to be told of another master key.
pub(super) fn take_in(
    tx: &Tx<'_>,
    user: &UserId,
    published: &Published<'_>,
    now_ms: u64,
) -> Result<(Option<UserIdentity>, bool), StoreError> {
    let before = user_identity(tx, user)?;
    let master = published
        .master
        .and_then(|text| PublishedKey::read(user, Usage::Master, text))
        .map(|key| ByteBuf::from(key.key));
    let mut identity = match (before.clone(), master) {
        (None, None) => return Ok((None, false)),
        (None, Some(master)) => UserIdentity::new(user, master, now_ms),
        (Some(identity), None) => identity,
        (Some(mut identity), Some(master)) => {
            identity.hand_over(master, now_ms);
            identity
        }
    };
    identity.take_in_signed(published);
    let is_news = identity.is_news();
    if before.as_ref() != Some(&identity) {
        IDENTITIES.put(tx, b"", user.as_bytes(), &identity)?;
    }
    Ok((Some(identity), is_news))
}

/// The app accepts a user's changed master key: it is the pinned one from now on. Tells whether
/// this is the key that the homeserver hands out.
pub(crate) fn accept_identity(
    tx: &Tx<'_>,
    user: &UserId,
    master: &[u8],
    now_ms: u64,
) -> Result<bool, StoreError> {
    let Some(mut identity) = user_identity(tx, user)? else { return Ok(false) };
    if *identity.master != *master {
        return Ok(false);
    }
    if identity.has_changed() {
        identity.pinned = identity.master.clone();
        identity.pinned_ms = now_ms;
        identity.told = None;
        IDENTITIES.put(tx, b"", user.as_bytes(), &identity)?;
    }
    Ok(true)
}
