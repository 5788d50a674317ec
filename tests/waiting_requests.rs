//! Requests that wait: what is told of refusals, what ends a wait, and a refused access token.

use std::time::{Duration, Instant};

use matrix_mls::{
    BackupState, DeviceListChanges, MlsError, OutgoingRequest, RecoveryKey, RequestKind,
    RequestOutcome, RestoreScope, RoomSettings, SendPlan, SyncChanges, Update,
};
use matrix_mls_kit::{
    Client, ClientOptions, Fault, Heard, Homeserver, KitError, OrMissing as _, Refused as _,
    Result, Target, bail, feed,
    together::{all_talk, pair, phone_of, quiet},
};

async fn outgoing(client: &Client) -> Result<Vec<OutgoingRequest>> {
    Ok(client.machine()?.outgoing_requests().await?)
}

async fn answer(client: &Client, id: &str, status: u16, body: &str) -> Result<RequestOutcome> {
    let machine = client.machine()?;
    Ok(machine.mark_request_as_sent(id.to_owned(), status, body.into()).await?)
}

fn fail(homeserver: &Homeserver, path: &str, status: u16) -> Result<Fault> {
    Ok(homeserver.controls().or_missing("controls")?.fail(Target::path(path), u64::MAX, status))
}

/// A device that gives up waiting soon.
async fn impatient(homeserver: &Homeserver, username: &str) -> Result<Client> {
    let options = ClientOptions { patience: Duration::from_secs(20), ..ClientOptions::default() };
    Ok(Client::register_with(homeserver, username, "PHONE", options).await?)
}

#[tokio::test]
async fn a_refused_upload_of_keys_ends_the_loop_and_is_told() -> Result {
    let homeserver = Homeserver::embedded()?;
    let fault = fail(&homeserver, "/keys/upload", 400)?;
    let bob = impatient(&homeserver, "bob").await?;
    let (heard, _subscription) = Heard::of(&bob).await?;
    let driven = bob.drive().await?;
    assert_eq!(driven.refused.len(), 1, "{driven:?}");
    let told = |update: &Update| {
        matches!(update, Update::RequestRefused { kind: RequestKind::UploadKeys, room_id: None, code, .. }
            if code == "M_UNKNOWN")
    };
    heard.wait_for(told).await?;
    for _ in 0..5 {
        bob.settle().await?;
    }
    assert_eq!(fault.hits(), 1, "it is not asked again and again");
    Ok(())
}

#[tokio::test]
async fn refused_queries_end_and_the_rest_goes_on() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let (heard, _subscription) = Heard::of(&alice).await?;
    let fault = fail(&homeserver, "/keys/query", 403)?;
    // Bob's list is out of date from now on.
    let changed = SyncChanges {
        connection: "lists".into(),
        device_lists: Some(DeviceListChanges {
            changed: vec![bob.user_id().to_owned()],
            left: Vec::new(),
        }),
        ..feed()
    };
    alice.machine()?.receive_sync(changed).await?;
    alice.rotate_keys(&room).await?;
    alice.send_text(&room, "all the same").await?;
    assert_eq!(fault.hits(), 1);
    heard
        .wait_for(|update| {
            matches!(update, Update::RequestRefused { kind: RequestKind::QueryKeys, .. })
        })
        .await?;
    fault.stop();
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

#[tokio::test]
async fn a_homeserver_that_says_nothing_of_its_backup_ends_what_waits_for_it() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let (heard, _subscription) = Heard::of(&alice).await?;
    let backup = alice.machine()?.backup();
    let fault = fail(&homeserver, "/room_keys/version", 403)?;
    let restore = backup.restore(Some(RecoveryKey::generate()?), RestoreScope::AllRooms).await?;
    backup.create(RecoveryKey::generate()?, false).await?;
    alice.drive().await?;
    let failed = |update: &Update| matches!(update, Update::BackupFailed { code, .. } if code == "M_FORBIDDEN");
    heard.wait_for(failed).await?;
    let finished = heard.hear(|update| match update {
        Update::RestoreFinished { restore, failures, .. } => Some((*restore, failures.clone())),
        _ => None,
    });
    let (ended, failures) = finished.await?;
    assert_eq!((ended, &*failures[0].code), (restore, "M_FORBIDDEN"));
    assert_eq!(fault.hits(), 1);
    assert_eq!(backup.state().await?, BackupState::Unknown);
    Ok(())
}

#[tokio::test]
async fn refused_uploads_into_the_backup_pause() -> Result {
    let homeserver = Homeserver::embedded()?;
    for (username, status) in [("alice", 403), ("carol", 413), ("dora", 404)] {
        let alice = phone_of(&homeserver, username).await?;
        alice.machine()?.backup().create(RecoveryKey::generate()?, false).await?;
        alice.drive().await?;
        let controls = homeserver.controls().or_missing("controls")?;
        let target = Target::path("/room_keys/keys").user(alice.user_id());
        let fault = controls.fail(target, u64::MAX, status);
        let room = alice.create_room(&[]).await?;
        alice.settle().await?;
        alice.enable(&room, RoomSettings::default()).await?;
        for _ in 0..3 {
            alice.send_text(&room, "hello").await?;
            alice.settle().await?;
        }
        let sent = fault.hits();
        // Uploads shrink to a thirty-second part, and versions are looked for some times.
        assert!((1..=8).contains(&sent), "{status}: {sent} uploads");
        alice.settle().await?;
        assert_eq!(fault.hits(), sent, "{status}: it pauses");
        fault.stop();
    }
    Ok(())
}

/// Answers of every kind to every request that there is: the loop ends, whatever is refused.
#[tokio::test]
async fn whatever_is_refused_the_loop_ends() -> Result {
    let homeserver = Homeserver::embedded()?;
    for (number, status) in [400, 403, 404, 405, 410, 413, 415].into_iter().enumerate() {
        let (alice, bob) = (
            impatient(&homeserver, &format!("alice{number}")).await?,
            impatient(&homeserver, &format!("bob{number}")).await?,
        );
        quiet(&[&alice, &bob]).await;
        let room = alice.create_group(&[&bob], RoomSettings::default()).await?;
        alice.send_text(&room, "first").await?;
        let (heard, _subscription) = Heard::of(&alice).await?;
        alice.machine()?.backup().create(RecoveryKey::generate()?, false).await?;
        alice.rotate_keys(&room).await?;
        let controls = homeserver.controls().or_missing("controls")?;
        let fault = controls.fail(Target::everything().user(alice.user_id()), u64::MAX, status);
        let began = Instant::now();
        let driven = alice.drive().await?;
        // That there is no backup is an answer.
        let answers = usize::from(status == 404);
        assert!(driven.accepted <= answers && !driven.refused.is_empty(), "{status}: {driven:?}");
        assert!(fault.hits() < 30, "{status}: {} requests", fault.hits());
        assert!(began.elapsed() < Duration::from_secs(15), "{status}");
        if status != 404 {
            heard.wait_for(|update| matches!(update, Update::BackupFailed { .. })).await?;
        }
        fault.stop();
    }
    Ok(())
}

#[tokio::test]
async fn an_empty_map_of_key_counts_costs_no_upload_per_sync() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let controls = homeserver.controls().or_missing("controls")?;
    controls.clear_requests();
    for number in 0..3 {
        let changes = SyncChanges {
            one_time_key_counts: Some(Default::default()),
            next_batch: number.to_string(),
            ..SyncChanges::default()
        };
        alice.machine()?.receive_sync(changes).await?;
        alice.drive().await?;
    }
    let requests = controls.requests();
    let uploads = requests.iter().filter(|request| request.path.contains("/keys/upload"));
    assert_eq!(uploads.count(), 0);
    Ok(())
}

/// Has every request of a device fail without an answer, and tries to send its first ones so often
/// that they wait for long.
async fn offline_at_first(client: &Client) -> Result {
    for _ in 0..6 {
        for request in outgoing(client).await? {
            answer(client, &request.id, 0, "").await?;
        }
        client.machine()?.network_available().await?;
    }
    let id = outgoing(client).await?.first().or_missing("request")?.id.clone();
    for _ in 0..6 {
        answer(client, &id, 0, "").await?;
    }
    let pending = client.machine()?.pending_requests().await?;
    assert_eq!((pending.due, pending.put_off), (0, 1), "{pending:?}");
    assert!(pending.retry_after_ms.is_some_and(|after_ms| after_ms > 30_000), "{pending:?}");
    Ok(())
}

#[tokio::test]
async fn the_network_is_back_and_the_app_says_so() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = Client::register(&homeserver, "alice", "PHONE").await?;
    offline_at_first(&alice).await?;
    let began = Instant::now();
    let machine = alice.machine()?.clone();
    let telling = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        machine.network_available().await
    };
    let (driven, told) = tokio::join!(alice.drive(), telling);
    told?;
    assert_eq!(driven?.accepted, 2, "the question and the upload");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_sync_says_that_the_network_is_back() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = Client::register(&homeserver, "alice", "PHONE").await?;
    offline_at_first(&alice).await?;
    alice.sync().await?;
    let began = Instant::now();
    assert_eq!(alice.drive().await?.accepted, 2);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    Ok(())
}

#[tokio::test]
async fn drive_waits_for_what_another_call_has_put_off() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = Client::register(&homeserver, "alice", "PHONE").await?;
    let id = outgoing(&alice).await?.remove(0).id;
    answer(&alice, &id, 0, "").await?;
    answer(&alice, &id, 0, "").await?;
    assert!(outgoing(&alice).await?.is_empty());
    assert_eq!(alice.drive().await?.accepted, 2);
    Ok(())
}

#[tokio::test]
async fn what_the_homeserver_imposes_is_kept_whatever_the_app_says() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = Client::register(&homeserver, "alice", "PHONE").await?;
    let id = outgoing(&alice).await?.remove(0).id;
    answer(&alice, &id, 429, r#"{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":60000}"#).await?;
    alice.machine()?.network_available().await?;
    alice.machine()?.access_token_renewed().await?;
    alice.sync().await?;
    assert!(outgoing(&alice).await?.is_empty());
    Ok(())
}

fn is_unauthorized(error: &KitError) -> bool {
    matches!(error.of_engine(), Some(MlsError::Unauthorized { .. }))
}

/// The access token expires while Alice writes. She is told, every call ends, and after she has
/// another token nothing is lost.
async fn an_expired_token(homeserver: &Homeserver, prefix: &str) -> Result {
    let mut alice = phone_of(homeserver, &format!("{prefix}alice")).await?;
    let bob = phone_of(homeserver, &format!("{prefix}bob")).await?;
    let room = alice.create_group(&[&bob], RoomSettings::default()).await?;
    alice.send_text(&room, "first").await?;
    quiet(&[&alice, &bob]).await;
    let (heard, _subscription) = Heard::of(&alice).await?;
    let token = alice.another_token(homeserver).await?;
    alice.use_token(homeserver, "expired")?;
    alice.rotate_keys(&room).await?;
    for _ in 0..2 {
        let error = alice.prepare(&room).await.refused()?;
        assert!(is_unauthorized(&error), "{error}");
        let error = alice.drive().await.refused()?;
        assert!(is_unauthorized(&error), "{error}");
        // Whoever asks again and again is given the request once a second.
        let plan = alice.room(&room).await?.prepare_to_send().await?;
        let SendPlan::Waiting { requests, retry_after_ms } = plan else { bail!("{plan:?}") };
        assert_eq!(requests, []);
        assert!(retry_after_ms.is_some_and(|after_ms| after_ms <= 1_000), "{retry_after_ms:?}");
        tokio::time::sleep(Duration::from_millis(1_100)).await;
    }
    let told = |update: &Update| matches!(update, Update::Unauthorized { code, .. } if code == "M_UNKNOWN_TOKEN");
    heard.wait_for(told).await?;
    // Each loop tries anew, and is told anew.
    assert!(heard.all().iter().filter(|update| told(update)).count() <= 3);
    assert!(alice.machine()?.pending_requests().await?.unauthorized);
    alice.use_token(homeserver, &token)?;
    alice.send_text(&room, "with another token").await?;
    assert!(!alice.machine()?.pending_requests().await?.unauthorized);
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

#[tokio::test]
async fn an_expired_token_ends_what_waits_and_loses_nothing() -> Result {
    an_expired_token(&Homeserver::embedded()?, "").await
}

#[tokio::test]
async fn an_expired_token_on_synapse() -> Result {
    let name = format!("expired-{:x}-", std::process::id());
    an_expired_token(&*Homeserver::shared_synapse().await?, &name).await
}

#[tokio::test]
async fn a_refused_token_puts_off_and_does_not_spin() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = Client::register(&homeserver, "alice", "PHONE").await?;
    let id = outgoing(&alice).await?.remove(0).id;
    let refusal = r#"{"errcode":"M_UNKNOWN_TOKEN","error":"expired","soft_logout":true}"#;
    let mut last = 0;
    for _ in 0..5 {
        let outcome = answer(&alice, &id, 401, refusal).await?;
        let RequestOutcome::Unauthorized { code, soft_logout: true, after_ms } = outcome else {
            bail!("{outcome:?}")
        };
        assert_eq!(code, "M_UNKNOWN_TOKEN");
        assert!(after_ms > last, "{after_ms}");
        last = after_ms;
    }
    assert!(outgoing(&alice).await?.is_empty());
    alice.machine()?.network_available().await?;
    assert!(outgoing(&alice).await?.is_empty(), "the network is not what is missing");
    alice.machine()?.access_token_renewed().await?;
    assert_eq!(outgoing(&alice).await?[0].id, id);
    Ok(())
}
