//! What the homeserver answers, and what becomes of it: accepted, refused, put off, lost, repeated.

use std::sync::{Arc, Mutex};

use matrix_mls::{
    MlsError, OutgoingRequest, RequestOutcome, RoomSettings, SendPlan, Subscription, Update,
    UpdateObserver,
};
use matrix_mls_kit::{Client, Homeserver, RateLimit, Target};

/// Remembers updates.
#[derive(Default)]
struct Heard(Mutex<Vec<Update>>);

impl UpdateObserver for Heard {
    fn on_update(&self, update: Update) {
        self.0.lock().unwrap().push(update);
    }

    fn on_end(&self) {}
}

impl Heard {
    /// Waits until an update of this kind has come: they come on a thread of their own.
    async fn wait_for(&self, is_it: impl Fn(&Update) -> bool) -> Update {
        for _ in 0..500 {
            if let Some(update) = self.0.lock().unwrap().iter().find(|update| is_it(update)) {
                return update.clone();
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("not heard; only {:?}", self.0.lock().unwrap());
    }
}

async fn heard(client: &Client) -> (Arc<Heard>, Arc<Subscription>) {
    let heard = Arc::new(Heard::default());
    let subscription = client.machine().unwrap().subscribe(heard.clone()).await.unwrap();
    (heard, subscription)
}

/// Two people with published keys, in a Matrix room without a group.
async fn two_people(homeserver: &Homeserver) -> (Client, Client, String) {
    let alice = Client::register(homeserver, "alice", "PHONE").await.unwrap();
    let bob = Client::register(homeserver, "bob", "PHONE").await.unwrap();
    for client in [&alice, &bob] {
        client.settle().await.unwrap();
    }
    let room = alice.create_room(&[&bob]).await.unwrap();
    bob.join(&room).await.unwrap();
    alice.settle().await.unwrap();
    (alice, bob, room)
}

async fn outgoing(client: &Client) -> Vec<OutgoingRequest> {
    client.machine().unwrap().outgoing_requests().await.unwrap()
}

async fn waiting(client: &Client, room: &str) -> (Vec<OutgoingRequest>, Option<u64>) {
    match client.room(room).await.unwrap().prepare_to_send().await.unwrap() {
        SendPlan::Waiting { requests, retry_after_ms } => (requests, retry_after_ms),
        SendPlan::Ready => panic!("the room is ready already"),
    }
}

async fn answer(client: &Client, id: &str, status: u16, body: &str) -> RequestOutcome {
    let machine = client.machine().unwrap();
    machine.mark_request_as_sent(id.to_owned(), status, body.into()).await.unwrap()
}

async fn talk(from: &Client, to: &Client, room: &str, text: &str) {
    from.send_text(room, text).await.unwrap();
    // A Welcome that failed the first time is still to be sent.
    from.settle().await.unwrap();
    to.settle().await.unwrap();
    let messages = to.sync().await.unwrap().messages;
    assert!(messages.iter().any(|message| message.content.contains(text)), "{messages:?}");
}

#[tokio::test]
async fn an_unanswered_request_is_the_same_after_a_restart() {
    let homeserver = Homeserver::embedded().unwrap();
    let mut alice = Client::register(&homeserver, "alice", "PHONE").await.unwrap();
    let upload = outgoing(&alice).await;
    assert_eq!(upload.len(), 1);
    assert_eq!((&*upload[0].method, &*upload[0].content_type), ("POST", "application/json"));
    alice.restart().await.unwrap();
    assert_eq!(outgoing(&alice).await, upload);
    alice.settle().await.unwrap();

    let bob = Client::register(&homeserver, "bob", "PHONE").await.unwrap();
    bob.settle().await.unwrap();
    let room = alice.create_room(&[&bob]).await.unwrap();
    bob.join(&room).await.unwrap();
    alice.settle().await.unwrap();
    alice.room(&room).await.unwrap().enable(RoomSettings::default()).await.unwrap();
    // The announcement, the query, the claim, the commit, the Welcome, each over a restart.
    let mut kinds = Vec::new();
    loop {
        let plan = alice.room(&room).await.unwrap().prepare_to_send().await.unwrap();
        let SendPlan::Waiting { requests, .. } = plan else { break };
        alice.restart().await.unwrap();
        let again = outgoing(&alice).await;
        for request in &requests {
            assert!(again.contains(request), "{} is another request now", request.path);
            kinds.push(request.path.split('/').rev().nth(1).unwrap().to_owned());
            alice.send_request(request).await.unwrap();
        }
    }
    assert_eq!(kinds.iter().filter(|kind| *kind == "m.room.encrypted").count(), 3, "{kinds:?}");
    assert!(kinds.iter().filter(|kind| *kind == "keys").count() >= 1, "{kinds:?}");
    talk(&alice, &bob, &room, "hello").await;
}

#[tokio::test]
async fn a_request_that_is_put_off_comes_back_when_it_is_due_and_not_before() {
    let homeserver = Homeserver::embedded().unwrap();
    let alice = Client::register(&homeserver, "alice", "PHONE").await.unwrap();
    let id = outgoing(&alice).await.remove(0).id;
    let limited = r#"{"errcode":"M_LIMIT_EXCEEDED","error":"slow","retry_after_ms":60000}"#;
    let later = answer(&alice, &id, 429, limited).await;
    assert_eq!(later, RequestOutcome::RetryLater { after_ms: 60_000 });
    assert_eq!(outgoing(&alice).await, []);

    // What has no delay of its own gets one that grows; no answer tells us to wait for ever.
    let mut last = 0;
    for (status, body) in [(0, ""), (503, "<html>"), (401, "{}"), (200, "no JSON"), (429, "")] {
        let RequestOutcome::RetryLater { after_ms } = answer(&alice, &id, status, body).await
        else {
            panic!("status {status} does not put it off")
        };
        assert!(after_ms > last, "status {status}");
        last = after_ms;
    }
    let absurd = r#"{"retry_after_ms":18446744073709551615}"#;
    let later = answer(&alice, &id, 429, absurd).await;
    assert_eq!(later, RequestOutcome::RetryLater { after_ms: 3_600_000 });
    let soon = r#"{"retry_after_ms":1}"#;
    assert_eq!(answer(&alice, &id, 429, soon).await, RequestOutcome::RetryLater { after_ms: 1 });
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    assert_eq!(outgoing(&alice).await[0].id, id);
}

#[tokio::test]
async fn a_rate_limited_homeserver_is_obeyed() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, room) = two_people(&homeserver).await;
    let interval = std::time::Duration::from_millis(60);
    homeserver.controls().unwrap().set_rate_limit(Some(RateLimit {
        path: "/_matrix/client".to_owned(),
        burst: 3,
        interval,
    }));
    alice.room(&room).await.unwrap().enable(RoomSettings::default()).await.unwrap();
    alice.prepare(&room).await.unwrap();
    homeserver.controls().unwrap().set_rate_limit(None);
    talk(&alice, &bob, &room, "patience").await;
}

#[tokio::test]
async fn a_refused_commit_is_undone_told_and_planned_again() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, room) = two_people(&homeserver).await;
    alice.room(&room).await.unwrap().enable(RoomSettings::default()).await.unwrap();
    alice.settle().await.unwrap();
    let (heard, _subscription) = heard(&alice).await;
    let before = alice.room(&room).await.unwrap().epochs().await.unwrap();
    let commit = loop {
        let (requests, _) = waiting(&alice, &room).await;
        match requests.iter().find(|request| request.path.contains("/send/m.room.encrypted")) {
            Some(commit) => break commit.clone(),
            None => {
                for request in &requests {
                    alice.send_request(request).await.unwrap();
                }
            }
        }
    };
    let refusal = r#"{"errcode":"M_FORBIDDEN","error":"not now"}"#;
    let outcome = answer(&alice, &commit.id, 403, refusal).await;
    assert_eq!(
        outcome,
        RequestOutcome::Refused { code: "M_FORBIDDEN".into(), reason: "not now".into() }
    );
    let told = heard.wait_for(|update| matches!(update, Update::RequestRefused { .. })).await;
    assert!(matches!(told, Update::RequestRefused { room_id: Some(id), .. } if id == room));
    assert_eq!(alice.room(&room).await.unwrap().epochs().await.unwrap(), before);

    let (requests, retry_after_ms) = waiting(&alice, &room).await;
    assert_eq!(requests, [], "it is not made again at once");
    assert!(retry_after_ms.is_some());
    talk(&alice, &bob, &room, "second try").await;
}

#[tokio::test]
async fn an_answer_to_a_commit_without_an_event_id_does_not_count() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, room) = two_people(&homeserver).await;
    alice.room(&room).await.unwrap().enable(RoomSettings::default()).await.unwrap();
    let (requests, _) = waiting(&alice, &room).await;
    let announcement =
        requests.iter().find(|request| request.path.contains("m.room.encrypted")).unwrap();
    for body in ["", "{}", "[]", r#"{"event_id":3}"#, r#"{"event_id":"no event id"}"#] {
        let outcome = answer(&alice, &announcement.id, 200, body).await;
        assert!(matches!(outcome, RequestOutcome::RetryLater { .. }), "{body}: {outcome:?}");
    }
    assert_eq!(alice.room(&room).await.unwrap().epochs().await.unwrap(), []);
    alice.send_request(announcement).await.unwrap();
    assert_eq!(alice.room(&room).await.unwrap().epochs().await.unwrap().len(), 1);
    // Once more is once too often, and does nothing.
    alice.send_request(announcement).await.unwrap();
    assert_eq!(alice.room(&room).await.unwrap().epochs().await.unwrap().len(), 1);
    talk(&alice, &bob, &room, "hello").await;
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_counts_when_sync_brings_it() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, room) = two_people(&homeserver).await;
    alice.room(&room).await.unwrap().enable(RoomSettings::default()).await.unwrap();
    alice.forget_answers("/send/m.room.encrypted", 10);
    let (requests, _) = waiting(&alice, &room).await;
    for request in &requests {
        alice.send_request(request).await.unwrap();
    }
    assert_eq!(alice.room(&room).await.unwrap().epochs().await.unwrap(), [], "not answered");
    alice.sync().await.unwrap();
    assert_eq!(alice.room(&room).await.unwrap().epochs().await.unwrap().len(), 1, "but seen");
    // The requests are gone; their answers, should they come after all, change nothing.
    for request in &requests {
        let outcome = answer(&alice, &request.id, 200, r#"{"event_id":"$late"}"#).await;
        assert_eq!(outcome, RequestOutcome::Accepted);
    }
    assert_eq!(alice.room(&room).await.unwrap().epochs().await.unwrap().len(), 1);
    alice.prepare(&room).await.unwrap();
    talk(&alice, &bob, &room, "hello").await;
}

#[tokio::test]
async fn a_network_that_loses_requests_and_answers_costs_time_only() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, room) = two_people(&homeserver).await;
    let controls = homeserver.controls().unwrap();
    controls.drop_requests(Target::path("/keys/"), 1);
    controls.drop_answers(Target::path("/send"), 2);
    controls.fail(Target::path("/sendToDevice"), 1, 502);
    alice.room(&room).await.unwrap().enable(RoomSettings::default()).await.unwrap();
    alice.prepare(&room).await.unwrap();
    talk(&alice, &bob, &room, "through it all").await;
    talk(&bob, &alice, &room, "and back").await;
}

#[tokio::test]
async fn ids_that_name_no_request_are_told_apart() {
    let homeserver = Homeserver::embedded().unwrap();
    let alice = Client::register(&homeserver, "alice", "PHONE").await.unwrap();
    assert_eq!(answer(&alice, "123456", 200, "{}").await, RequestOutcome::Accepted);
    let machine = alice.machine().unwrap();
    for id in ["", "one", "1.5", "99999999999999999999"] {
        let error = machine.mark_request_as_sent(id.into(), 200, Vec::new()).await.unwrap_err();
        assert!(matches!(error, MlsError::InvalidInput { .. }), "{id}: {error}");
    }
}

#[tokio::test]
async fn a_room_is_rotated_after_as_many_messages_as_its_settings_say() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, room) = two_people(&homeserver).await;
    let settings = RoomSettings { rotate_after_messages: 3, ..RoomSettings::default() };
    alice.room(&room).await.unwrap().enable(settings).await.unwrap();
    let mut epochs = Vec::new();
    for number in 0..8 {
        let text = format!("message {number}");
        alice.send_text(&room, &text).await.unwrap();
        bob.settle().await.unwrap();
        let messages = bob.sync().await.unwrap().messages;
        epochs.extend(messages.iter().map(|message| message.epoch));
    }
    assert_eq!(epochs.len(), 8);
    assert!(epochs.is_sorted());
    epochs.dedup();
    assert!(epochs.len() >= 3, "{epochs:?}");
}
