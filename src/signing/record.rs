//! The row of an identity that is being made.

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{
    devices::PrivateKeys,
    exported::AuthChallenge,
    store::{Collection, StoreError, Tx},
};

/// An app's `auth` object as JSON. It may have a password, so it is wiped on drop, and there is no
/// `Debug`.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub(super) struct Auth(pub(super) String);

/// A new identity on its way to the homeserver. There is no `Debug`: it has private keys.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Setup {
    pub(super) keys: PrivateKeys,
    /// Whether it may replace another.
    pub(super) is_reset: bool,
    pub(super) step: Step,
    /// The app's `auth` object for the next upload.
    pub(super) auth: Option<Auth>,
    /// With which code and sentence the homeserver has refused the last upload.
    pub(super) refusal: Option<(String, String)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Step {
    /// The homeserver is asked which identity it has.
    Look,
    /// The keys are being uploaded.
    Upload,
    /// The app has to prove who its user is.
    Auth(AuthChallenge),
}

pub(super) const SETUP: Collection<Setup> = Collection::new("new_own_identity");

/// What a new identity waits for.
pub(super) enum Progress {
    Homeserver,
    Auth(AuthChallenge),
}

/// How far a new identity is; nothing where none is on its way.
pub(super) fn progress(tx: &Tx<'_>) -> Result<Option<Progress>, StoreError> {
    Ok(SETUP.get(tx, b"", b"")?.map(|setup| match setup.step {
        Step::Auth(challenge) => Progress::Auth(challenge),
        Step::Look | Step::Upload => Progress::Homeserver,
    }))
}
