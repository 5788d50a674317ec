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
//! A self-signing or user-signing key that its own master key has replaced does not come back:
//! whoever hands it out replays an old answer. An earlier master key may come back, as the later
//! one may have been the homeserver's lie; that is a change like any other. The pinned one comes
//! back with what it had signed.
//!
//! Whether this device's user has verified an identity is decided by `verification`.

use ruma::{OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use serde_json::value::RawValue;

use super::cross_signing::{PublishedKey, Usage};
use crate::store::{Collection, StoreError, Tx};

/// How many replaced self-signing keys of a user are remembered, how many user-signing keys, and
/// how many master keys of which a verification counts no more. Only the users can make them.
const MOST_REPLACED: usize = 64;

/// What this device's user has found out about a user's identity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Standing {
    /// Nobody has verified it.
    #[default]
    #[serde(rename = "n")]
    NotVerified,
    /// The master key that is handed out has been verified.
    #[serde(rename = "v")]
    Verified,
    /// Another master key has been verified than the one that is handed out.
    #[serde(rename = "c")]
    Changed,
}

impl Standing {
    pub(super) fn is_not_verified(&self) -> bool {
        *self == Self::NotVerified
    }
}

/// A master key that was seen to be verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Verified {
    pub(super) master: ByteBuf,
    /// The own master key whose user-signing key has signed it.
    pub(super) by: ByteBuf,
}

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
    /// The same of user-signing keys.
    #[serde(default)]
    replaced_user_signing: Vec<ByteBuf>,
    /// What the pinned master key has signed, while another one is handed out: the self-signing and
    /// the user-signing key.
    #[serde(default)]
    signed_by_pinned: Option<(Option<ByteBuf>, Option<ByteBuf>)>,
    /// The keys under this device's own user id that have signed the master key.
    #[serde(default)]
    pub(super) signers: Vec<ByteBuf>,
    /// The last master key that was seen to be verified.
    #[serde(default)]
    pub(super) verified: Option<Verified>,
    /// A master key whose verification an earlier version has withdrawn: one of `given_up`.
    #[serde(default)]
    withdrawn: Option<ByteBuf>,
    /// Master keys that were verified and are so no more: this device's user has withdrawn that, or
    /// has accepted or verified another. Their old signatures say nothing.
    #[serde(default)]
    given_up: Vec<ByteBuf>,
    /// Master keys of this device's own user that this device itself has replaced.
    #[serde(default)]
    replaced_here: Vec<ByteBuf>,
    /// What follows from all this (`verification`).
    #[serde(default)]
    pub(crate) standing: Standing,
}

pub(super) const IDENTITIES: Collection<UserIdentity> = Collection::new("user_identity");

/// What an answer says of a user's cross-signing keys, not read yet.
#[derive(Default)]
pub(super) struct Published<'a> {
    pub(super) master: Option<&'a RawValue>,
    pub(super) self_signing: Option<&'a RawValue>,
    pub(super) user_signing: Option<&'a RawValue>,
}

impl UserIdentity {
    pub(super) fn new(user: &UserId, master: ByteBuf, now_ms: u64) -> Self {
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
            replaced_user_signing: Vec::new(),
            signed_by_pinned: None,
            signers: Vec::new(),
            verified: None,
            withdrawn: None,
            given_up: Vec::new(),
            replaced_here: Vec::new(),
            standing: Standing::NotVerified,
        }
    }

    /// Whether the homeserver hands out another master key than the pinned one.
    pub(crate) fn has_changed(&self) -> bool {
        self.master != self.pinned
    }

    /// The identity that is handed out becomes the pinned one.
    pub(super) fn pin(&mut self, now_ms: u64) {
        if self.has_changed() {
            self.pinned = self.master.clone();
            self.pinned_ms = now_ms;
            self.signed_by_pinned = None;
            self.told = None;
        }
    }

    /// Takes in the master key of an answer.
    pub(super) fn hand_over(&mut self, master: ByteBuf, now_ms: u64) {
        if self.master == master {
            return;
        }
        let signed = (self.self_signing.take(), self.user_signing.take());
        if !self.has_changed() {
            self.signed_by_pinned = Some(signed);
        }
        self.signers = Vec::new();
        self.master = master;
        self.master_ms = now_ms;
        if !self.has_changed() {
            (self.self_signing, self.user_signing) =
                self.signed_by_pinned.take().unwrap_or_default();
        }
    }

    /// Takes in the keys that the master key has signed.
    fn take_in_signed(&mut self, published: &Published<'_>) {
        let signed = |usage, text: Option<&RawValue>| {
            let key = PublishedKey::read(&self.user_id, usage, text?)?;
            key.is_signed_by(&self.user_id, &self.master).then(|| ByteBuf::from(key.key))
        };
        let self_signing = signed(Usage::SelfSigning, published.self_signing);
        let user_signing = signed(Usage::UserSigning, published.user_signing);
        replace(&mut self.self_signing, &mut self.replaced_self_signing, self_signing);
        replace(&mut self.user_signing, &mut self.replaced_user_signing, user_signing);
    }

    /// Notes that a master key is verified. One that was verified before is so no more.
    pub(super) fn note_verified(&mut self, verified: Verified) {
        self.adopt_withdrawn();
        self.given_up.retain(|master| *master != verified.master);
        let master = verified.master.clone();
        if let Some(before) = self.verified.replace(verified).filter(|old| old.master != master) {
            remember(&mut self.given_up, before.master);
        }
    }

    /// Notes that a master key is verified no more, whatever signature there is.
    pub(super) fn give_up(&mut self, master: ByteBuf) {
        self.adopt_withdrawn();
        if self.verified.as_ref().is_some_and(|verified| verified.master == master) {
            self.verified = None;
        }
        if !self.given_up.contains(&master) {
            remember(&mut self.given_up, master);
        }
    }

    /// Whether the verification of a master key was given up.
    pub(super) fn is_given_up(&self, master: &ByteBuf) -> bool {
        self.withdrawn.as_ref() == Some(master) || self.given_up.contains(master)
    }

    /// Forgets what was given up.
    pub(super) fn give_up_nothing(&mut self) {
        self.withdrawn = None;
        self.given_up = Vec::new();
    }

    /// Notes that this device replaces the keys that were the own user's.
    pub(super) fn replace_here(&mut self) {
        for master in [self.pinned.clone(), self.master.clone()] {
            if !self.replaced_here.contains(&master) {
                remember(&mut self.replaced_here, master);
            }
        }
    }

    /// Whether this device has replaced a master key of its own user.
    pub(crate) fn is_replaced_here(&self, master: &[u8]) -> bool {
        self.replaced_here.iter().any(|replaced| **replaced == *master)
    }

    fn adopt_withdrawn(&mut self) {
        self.given_up.extend(self.withdrawn.take());
    }

    /// Whether the app is to be told that the master key is another. It is told once of each, and
    /// also of the pinned one when that is back: the one in between may have been the user's, made
    /// because the pinned one was stolen.
    fn is_news(&mut self) -> bool {
        let told = self.has_changed().then(|| self.master.clone());
        let before = std::mem::replace(&mut self.told, told);
        self.told != before
    }
}

/// Puts a key in the place of the one that was there, unless it was replaced before.
fn replace(now: &mut Option<ByteBuf>, replaced: &mut Vec<ByteBuf>, key: Option<ByteBuf>) {
    let Some(key) = key.filter(|key| now.as_ref() != Some(key) && !replaced.contains(key)) else {
        return;
    };
    if let Some(before) = now.replace(key) {
        remember(replaced, before);
    }
}

fn remember(keys: &mut Vec<ByteBuf>, key: ByteBuf) {
    if keys.len() >= MOST_REPLACED {
        keys.remove(0);
    }
    keys.push(key);
}

/// The identity of a user, if one was ever handed out.
pub(crate) fn user_identity(
    tx: &Tx<'_>,
    user: &UserId,
) -> Result<Option<UserIdentity>, StoreError> {
    IDENTITIES.get(tx, b"", user.as_bytes())
}

/// Whether a user has another identity than the pinned one, and the app has not accepted it.
pub(crate) fn is_to_be_accepted(tx: &Tx<'_>, user: &UserId) -> Result<bool, StoreError> {
    Ok(user_identity(tx, user)?.is_some_and(|identity| identity.has_changed()))
}

/// Takes in what an answer says of a user's keys. Gives the identity as it was and as it is now,
/// and whether the app is to be told of another master key. Nothing is written yet.
pub(super) fn take_in(
    tx: &Tx<'_>,
    user: &UserId,
    published: &Published<'_>,
    own_user: Option<&UserId>,
    now_ms: u64,
) -> Result<Option<TakenIn>, StoreError> {
    let before = user_identity(tx, user)?;
    let master = published.master.and_then(|text| PublishedKey::read(user, Usage::Master, text));
    let mut now = match (before.clone(), &master) {
        (None, None) => return Ok(None),
        (None, Some(master)) => UserIdentity::new(user, ByteBuf::from(&*master.key), now_ms),
        (Some(identity), None) => identity,
        (Some(mut identity), Some(master)) => {
            identity.hand_over(ByteBuf::from(&*master.key), now_ms);
            identity
        }
    };
    now.take_in_signed(published);
    if let (Some(master), Some(own_user)) = (master, own_user) {
        let signers = master.signers(own_user);
        // A homeserver that leaves a signature out has not taken it back.
        if !signers.is_empty() {
            now.signers = signers.into_iter().map(ByteBuf::from).collect();
        }
    }
    let is_news = now.is_news();
    Ok(Some(TakenIn { before, now, is_news }))
}

/// What an answer has made of an identity.
pub(super) struct TakenIn {
    pub(super) before: Option<UserIdentity>,
    pub(super) now: UserIdentity,
    /// Whether the app is to be told that the master key is another.
    pub(super) is_news: bool,
}
