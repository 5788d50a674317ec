//! Making this user's identity, or making it anew.
//!
//! The three keys are made once and kept aside until the homeserver has taken them. Before each
//! upload the homeserver is asked which identity it has: one that was not to be replaced is not, an
//! upload whose answer was lost is seen to have come through, and another device's identity that
//! came up in between ends the work. So a device that dies at any point goes on where it was. Only
//! an identity that the homeserver has taken counts, and it is pinned from that moment on.
//!
//! The homeserver may ask for proof of who the user is (user-interactive authentication). The app
//! is told, and the upload waits for the app's `auth` object.

use ruma::CanonicalJsonObject;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::{
    error::SigningError,
    record::{Auth, SETUP, Setup, Step},
    signatures::{follow, look_again, must_be_alone},
    state::{tell_again, tell_state},
    trust::tell_trust_changed,
};
use crate::{
    devices::{self, PrivateKeys},
    exported::{AuthChallenge, AuthFlow, Update},
    failure::Failure,
    identity::{self, OwnKeys},
    requests::{self, DEVICE_SCOPE, PausedWork, Purpose},
    turn::Turn,
};

const UPLOAD: (&str, &str) = ("POST", "/keys/device_signing/upload");
/// The longest challenge that is taken for one, in bytes.
const LONGEST_CHALLENGE: usize = 64 * 1024;
/// The longest `auth` object of an app's, in bytes.
const LONGEST_AUTH: usize = 64 * 1024;

/// Begins to make an identity. `reset`: it replaces the one that there is.
pub(crate) fn begin(turn: &Turn<'_>, is_reset: bool) -> Result<(), SigningError> {
    must_be_alone(turn)?;
    let own = turn.identity.name().user_id;
    if identity::own_keys(turn.tx)? == OwnKeys::Others {
        return Err(SigningError::OtherKeys);
    }
    if let Some(setup) = SETUP.get(turn.tx, b"", b"")? {
        return if setup.is_reset == is_reset { Ok(()) } else { Err(SigningError::Busy) };
    }
    if !is_reset && devices::user_identity(turn.tx, &own)?.is_some() {
        return Err(SigningError::Exists);
    }
    let keys = PrivateKeys::generate(turn.crypto).map_err(|e| Failure::defect("random", e))?;
    look(turn, Setup { keys, is_reset, step: Step::Look, auth: None, refusal: None })
}

/// The app proves who its user is: an `auth` object as JSON.
pub(crate) fn authorize(turn: &Turn<'_>, auth: &str) -> Result<(), SigningError> {
    must_be_alone(turn)?;
    let setup = SETUP.get(turn.tx, b"", b"")?;
    let Some(setup) = setup.filter(|setup| matches!(setup.step, Step::Auth(_))) else {
        return Err(SigningError::NoAuthNeeded);
    };
    if auth.len() > LONGEST_AUTH || !is_object(auth) {
        return Err(SigningError::BadAuth);
    }
    look(turn, Setup { auth: Some(Auth(auth.trim().to_owned())), ..setup })
}

/// Gives a new identity up; tells whether there was one. Not while it may be on its way: the
/// homeserver could take it, and nobody would have its keys.
pub(crate) fn cancel(turn: &Turn<'_>) -> Result<bool, SigningError> {
    must_be_alone(turn)?;
    let Some(setup) = SETUP.get(turn.tx, b"", b"")? else { return Ok(false) };
    if setup.refusal.is_some() || matches!(setup.step, Step::Upload) {
        return Err(SigningError::Busy);
    }
    give_up(turn, "cancelled", "the app has given the new identity up")?;
    Ok(true)
}

/// Asks the homeserver which identity it has.
fn look(turn: &Turn<'_>, mut setup: Setup) -> Result<(), SigningError> {
    let own = turn.identity.name().user_id;
    setup.step = Step::Look;
    SETUP.put(turn.tx, b"", b"", &setup)?;
    follow(turn)?;
    look_again(turn, &own)?;
    Ok(tell_state(turn)?)
}

/// The homeserver has said which identity it has.
pub(crate) fn go_on(turn: &Turn<'_>) -> Result<(), SigningError> {
    let Some(mut setup) = SETUP.get(turn.tx, b"", b"")? else { return Ok(()) };
    let own = turn.identity.name().user_id;
    if !matches!(setup.step, Step::Look) || !devices::is_list_current(turn.tx, &own)? {
        return Ok(());
    }
    let Some(new) = setup.keys.new_identity(&own) else {
        return Err(Failure::damaged("a new identity lacks a key").into());
    };
    let is_new = |master: &[u8]| *master == new.keys[0];
    let published = devices::user_identity(turn.tx, &own)?;
    if published.as_ref().is_some_and(|published| is_new(&published.master)) {
        return taken(turn, &setup);
    }
    if let Some((code, reason)) = &setup.refusal {
        return give_up(turn, code, reason);
    }
    if published.is_some() && !setup.is_reset {
        return give_up(turn, "identity_exists", "this user has an identity already");
    }
    let body = upload_body(&new.objects, setup.auth.take().as_ref())?;
    setup.step = Step::Upload;
    SETUP.put(turn.tx, b"", b"", &setup)?;
    let purpose = Purpose::UploadIdentity;
    requests::enqueue_json(turn.tx, DEVICE_SCOPE, turn.now_ms, purpose, UPLOAD, body)?;
    Ok(())
}

/// Whether a text is a JSON object. Nothing of it is copied: it may have a password.
fn is_object(text: &str) -> bool {
    text.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// The body of the upload: the three keys, and the app's `auth` object as it is. It is written into
/// one allocation, so that no copy of a password stays behind. Whoever gets it wipes it.
fn upload_body(keys: &CanonicalJsonObject, auth: Option<&Auth>) -> Result<Vec<u8>, SigningError> {
    let mut keys = serde_json::to_vec(keys).map_err(|e| Failure::defect("identity", e))?;
    let Some(Auth(auth)) = auth else { return Ok(keys) };
    if keys.pop() != Some(b'}') || !is_object(auth) {
        return Err(SigningError::BadAuth);
    }
    const MEMBER: &[u8] = b",\"auth\":";
    let mut body = Vec::with_capacity(keys.len() + MEMBER.len() + auth.len() + 1);
    for part in [&keys, MEMBER, auth.as_bytes(), b"}"] {
        body.extend_from_slice(part);
    }
    Ok(body)
}

/// The homeserver has taken the upload.
pub(crate) fn identity_uploaded(turn: &Turn<'_>) -> Result<(), SigningError> {
    match SETUP.get(turn.tx, b"", b"")? {
        Some(setup) => taken(turn, &setup),
        None => Ok(()),
    }
}

/// The new identity is the user's from now on.
fn taken(turn: &Turn<'_>, setup: &Setup) -> Result<(), SigningError> {
    let own = turn.identity.name().user_id;
    let Some(new) = setup.keys.new_identity(&own) else {
        return Err(Failure::damaged("a new identity lacks a key").into());
    };
    let keys = new.keys.each_ref().map(<[u8; 32]>::as_slice);
    let others = devices::adopt_own_identity(turn.tx, &own, keys, turn.now_ms)?;
    tell_trust_changed(turn, others)?;
    devices::note_unsigned(turn.tx, &turn.identity.name())?;
    devices::keep_private_keys(turn.tx, &setup.keys)?;
    SETUP.delete(turn.tx, b"", b"")?;
    requests::end_pause(turn.tx, PausedWork::SignDevice)?;
    look_again(turn, &own)?;
    Ok(tell_state(turn)?)
}

/// The homeserver wants to know who the user is. Tells whether this answer says that.
pub(crate) fn challenged(turn: &Turn<'_>, body: &[u8]) -> Result<bool, SigningError> {
    let Some(challenge) = challenge(body) else { return Ok(false) };
    if let Some(mut setup) = SETUP.get(turn.tx, b"", b"")? {
        setup.step = Step::Auth(challenge);
        SETUP.put(turn.tx, b"", b"", &setup)?;
        // A second challenge may be the same as the first, and is news all the same.
        tell_again(turn)?;
    }
    Ok(true)
}

/// The challenge that a body is, if it is one.
fn challenge(body: &[u8]) -> Option<AuthChallenge> {
    let json = std::str::from_utf8(body).ok().filter(|text| text.len() <= LONGEST_CHALLENGE)?;
    let answer: Value = serde_json::from_str(json).ok()?;
    let text = |name: &str| answer[name].as_str().map(str::to_owned);
    let texts = |value: &Value| -> Vec<String> {
        let values = value.as_array().into_iter().flatten();
        values.filter_map(|value| value.as_str().map(str::to_owned)).collect()
    };
    let flows = answer["flows"].as_array()?;
    Some(AuthChallenge {
        session: text("session"),
        flows: flows.iter().map(|flow| AuthFlow { stages: texts(&flow["stages"]) }).collect(),
        completed: texts(&answer["completed"]),
        code: text("errcode"),
        reason: text("error"),
        json: json.to_owned(),
    })
}

/// The homeserver has refused the upload. An earlier answer may have been lost, so it is asked once
/// more what it has.
pub(crate) fn identity_refused(
    turn: &Turn<'_>,
    code: &str,
    reason: &str,
) -> Result<(), SigningError> {
    let Some(mut setup) = SETUP.get(turn.tx, b"", b"")? else { return Ok(()) };
    setup.refusal = Some((code.to_owned(), reason.to_owned()));
    look(turn, setup)
}

fn give_up(turn: &Turn<'_>, code: &str, reason: &str) -> Result<(), SigningError> {
    SETUP.delete(turn.tx, b"", b"")?;
    turn.tell(Update::IdentityFailed { code: code.to_owned(), reason: reason.to_owned() });
    Ok(tell_state(turn)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use zeroize::{Zeroize as _, ZeroizeOnDrop};

    use super::*;

    #[test]
    fn an_auth_object_goes_into_the_upload_as_it_is() -> Result<(), Box<dyn std::error::Error>> {
        let keys: CanonicalJsonObject = serde_json::from_value(json!({ "master_key": {} }))?;
        assert_eq!(upload_body(&keys, None)?, br#"{"master_key":{}}"#);
        let auth = r#"{ "type": "m.login.password", "password": "\"} ü", "at": 1.5 }"#;
        let body = upload_body(&keys, Some(&Auth(auth.to_owned())))?;
        assert_eq!(
            String::from_utf8(body.clone())?,
            format!(r#"{{"master_key":{{}},"auth":{auth}}}"#)
        );
        assert_eq!(body.capacity(), body.len(), "it was written into one allocation");
        let read: Value = serde_json::from_slice(&body)?;
        assert_eq!(read["auth"]["password"], "\"} ü");
        for wrong in ["", "[]", "7", "{}}", "{} {}", r#"{"a":1},"b":{"#] {
            assert!(!is_object(wrong), "{wrong}");
            assert!(upload_body(&keys, Some(&Auth(wrong.to_owned()))).is_err(), "{wrong}");
        }
        Ok(())
    }

    #[test]
    fn a_password_is_wiped() {
        fn is_wiped_on_drop(_: &impl ZeroizeOnDrop) {}
        let mut auth = Auth("a password".to_owned());
        is_wiped_on_drop(&auth);
        auth.zeroize();
        assert_eq!(auth.0, "");
    }
}
