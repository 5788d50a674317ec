//! Codes of what the library deals with by itself: no call fails with them, and the log names them.
//!
//! The sink is the process's, so the tests take turns.

use std::sync::{Arc, Mutex as Lines, MutexGuard as Held, PoisonError};

use matrix_mls::{EventOutcome, LogLevel, LogSink, MlsError, RequestOutcome, Update, set_log_sink};
use matrix_mls_kit::{
    Client, Fields as _, Heard, Homeserver, OrMissing as _, Result,
    other::{Other, group_of_three, join_path, name_of},
    peer::{ALGORITHM, KEY_PACKAGE, Peer, SUITE, identity},
    together::{all_talk, phone_of, quiet},
};
use openmls::prelude::{
    BasicCredential, Ciphersuite, CredentialWithKey, GroupId, MlsGroup, MlsGroupCreateConfig,
};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

static TURN: Mutex<()> = Mutex::const_new(());

/// What the library logs while a test has its turn.
#[derive(Default)]
struct Log(Lines<Vec<String>>);

impl LogSink for Log {
    fn on_log(&self, _level: LogLevel, _target: String, message: String) {
        self.lines().push(message);
    }
}

impl Log {
    async fn listen() -> Result<(Arc<Self>, MutexGuard<'static, ()>)> {
        let turn = TURN.lock().await;
        let log = Arc::new(Self::default());
        set_log_sink(LogLevel::Info, Some(log.clone()))?;
        Ok((log, turn))
    }

    fn lines(&self) -> Held<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks that a line with this code says this of that.
    #[track_caller]
    fn says(&self, code: &str, sentence: &str, about: &str) {
        let code = format!("code={code:?}");
        let lines = self.lines();
        let has = |line: &&String| [&*code, sentence, about].iter().all(|part| line.contains(part));
        assert!(lines.iter().any(|line| has(&line)), "no {code} of {about}: {lines:#?}");
    }
}

/// A commit that seals nothing good to anybody, so OpenMLS refuses it. Its event says what that means for the room, and the log why.
#[tokio::test]
async fn a_commit_that_is_refused() -> Result {
    let (log, _turn) = Log::listen().await?;
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, mut mallory, room, base) = group_of_three(&homeserver).await?;
    let others = [&alice, &bob];
    let keys = others.map(|client| mallory.peer.encryption_key_of(client.user_id(), "PHONE"));
    let commit = mallory.peer.update_closed_to(keys.to_vec());
    let event = mallory.send(&room, mallory.commit(&commit, &name_of(&alice), &base)).await;
    let rooms = alice.sync().await?.summary.rooms;
    let mut events = rooms.into_iter().flat_map(|room| room.events);
    let outcome = events.find(|seen| seen.event_id.as_ref() == Some(&event));
    let outcome = outcome.or_missing("result of the event")?.outcome;
    let is_forked = |error: &MlsError| error.code() == "forked";
    assert!(matches!(&outcome, EventOutcome::Failed { error } if is_forked(error)), "{outcome:?}");
    log.says("bad_commit", "a commit is refused", &event);
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// Mallory's device hands out the key package of another. The app hears that the device cannot be
/// added, and the log says why.
#[tokio::test]
async fn a_key_package_that_is_refused() -> Result {
    let (log, _turn) = Log::listen().await?;
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let mallory = Other::register(&homeserver, "mallory").await;
    let (user, device) = (&mallory.peer.user, &mallory.peer.device);
    // The one that it has published is claimed and thrown away.
    let claim = json!({ "one_time_keys": { user: { device: KEY_PACKAGE } } });
    mallory.http.post("/_matrix/client/v3/keys/claim", claim).await?;
    let (id, package) = Peer::new(user, "ANOTHER").published_key_package();
    let upload = json!({ "one_time_keys": { id: package } });
    mallory.http.post("/_matrix/client/v3/keys/upload", upload).await?;
    let (heard, _listening) = Heard::of(&alice).await?;
    let room = alice.create_room_from(json!({ "invite": [user] })).await?;
    mallory.http.post(&join_path(&room), json!({})).await?;
    alice.settle().await?;
    alice.enable(&room, Default::default()).await?;
    alice.prepare(&room).await?;
    heard.wait_for(|update| matches!(update, Update::DeviceUnreachable { .. })).await?;
    log.says("bad_key_package", "names another device", user);
    Ok(())
}

/// Something between the phone and its homeserver answers 200 with what is no answer.
#[tokio::test]
async fn an_answer_that_cannot_be_read() -> Result {
    let (log, _turn) = Log::listen().await?;
    let homeserver = Homeserver::embedded()?;
    let alice = Client::register(&homeserver, "alice", "PHONE").await?;
    let machine = alice.machine()?;
    for path in ["/keys/query", "/keys/upload"] {
        let requests = machine.outgoing_requests().await?;
        let request = requests.iter().find(|request| request.path.contains(path));
        let request = request.or_missing(path)?;
        log.lines().clear();
        let portal = b"<html>Welcome to our WLAN</html>".to_vec();
        let outcome = machine.mark_request_as_sent(request.id.clone(), 200, portal).await?;
        assert!(matches!(outcome, RequestOutcome::RetryLater { .. }), "{path}: {outcome:?}");
        log.says("malformed_answer", "cannot be read", "keys");
        machine.network_available().await?;
        alice.send_request(request).await?;
    }
    alice.settle().await?;
    assert_eq!(machine.pending_requests().await?.put_off, 0);
    Ok(())
}

/// Carol comes into a room of Mallory's, in which all that she could join by is this announcement.
/// Her app hears that there is nothing to join by, and the log says why it is not this.
async fn finds(announce: impl FnOnce(&mut Other, &str) -> Result<Value>) -> Result {
    let homeserver = Homeserver::embedded()?;
    let carol = phone_of(&homeserver, "carol").await?;
    let mut mallory = Other::register(&homeserver, "mallory").await;
    let request = json!({
        "preset": "private_chat", "invite": [carol.user_id()],
        "creation_content": { "encryption": { "algorithm": ALGORITHM } },
    });
    let created = mallory.http.post("/_matrix/client/v3/createRoom", request).await?;
    let room = created.text("room_id")?.to_owned();
    mallory.peer.create(&room, true);
    let content = announce(&mut mallory, &room)?;
    mallory.send(&room, content).await;
    carol.join(&room).await?;
    quiet(&[&carol]).await;
    let refused = carol.prepare(&room).await.err().or_missing("why she cannot join")?;
    let code = refused.of_engine().map(|error| error.code());
    assert_eq!(code, Some("cannot_heal"), "{refused}");
    assert!(carol.epochs(&room).await?.is_empty(), "{} has joined", carol.name());
    Ok(())
}

/// The state that Mallory announces is in the name of a device that is not in the group.
#[tokio::test]
async fn a_group_state_of_a_stranger() -> Result {
    let (log, _turn) = Log::listen().await?;
    finds(|mallory, _| {
        let state = mallory.peer.group_info();
        let mut content = mallory.announcement(&state);
        content["sender"] = json!([mallory.peer.user, "GHOST"]);
        Ok(content)
    })
    .await?;
    log.says("stranger_state", "comes from a device that is not in the group", "be joined by");
    Ok(())
}

/// Nothing says what the group's ratchet tree is.
#[tokio::test]
async fn a_group_state_that_is_refused() -> Result {
    let (log, _turn) = Log::listen().await?;
    finds(|mallory, _| {
        let (state, _) = mallory.peer.public_state();
        Ok(mallory.announcement(&state))
    })
    .await?;
    log.says("bad_group_state", "No ratchet tree", "be joined by");
    Ok(())
}

/// Mallory has made a group of another ciphersuite.
#[tokio::test]
async fn a_group_of_another_ciphersuite() -> Result {
    let (log, _turn) = Log::listen().await?;
    finds(|mallory, room| {
        let suite = Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519;
        assert_ne!(suite, SUITE);
        mallory.peer.provider = Default::default();
        let Peer { user, device, provider, signer, group, .. } = &mut mallory.peer;
        let named = CredentialWithKey {
            credential: BasicCredential::new(identity(user, device)).into(),
            signature_key: signer.public().into(),
        };
        let config = MlsGroupCreateConfig::builder()
            .ciphersuite(suite)
            .use_ratchet_tree_extension(true)
            .build();
        let id = GroupId::from_slice(room.as_bytes());
        *group = Some(MlsGroup::new_with_group_id(provider, signer, &config, id, named)?);
        let state = mallory.peer.group_info();
        Ok(mallory.announcement(&state))
    })
    .await?;
    log.says("ciphersuite", "the group uses another ciphersuite", "be joined by");
    Ok(())
}
