//! Verifications between this library and matrix-sdk-crypto, on Synapse: a person's, and that of a
//! device of the same user. What the SDK around it does is done here.

use std::collections::BTreeMap;

use matrix_mls::{Verification, VerificationState};
use matrix_mls_kit::{Client, Fields as _, Homeserver, Http, OrMissing as _, Result, bail};
use matrix_sdk_crypto::{
    DecryptionSettings, EncryptionSyncChanges, OlmMachine, Sas, TrustRequirement,
    VerificationRequest,
    types::requests::{AnyOutgoingRequest, OutgoingVerificationRequest, ToDeviceRequest},
};
// The ruma of matrix-sdk-crypto.
use ruma_olm::{
    DeviceId, OwnedUserId, UserId,
    api::{
        IncomingResponse as _,
        client::{
            keys::{claim_keys, get_keys, upload_keys, upload_signatures},
            sync::sync_events::DeviceLists,
            to_device::send_event_to_device,
        },
    },
    serde::Raw,
};
use serde_json::{Value, json};

/// A device with an Olm machine, whose requests are sent here.
struct Olm {
    machine: OlmMachine,
    http: Http,
    user: OwnedUserId,
    since: Option<String>,
}

const KEYS: &str = "/_matrix/client/v3/keys";

impl Olm {
    /// A device with a new identity of its user's.
    async fn with_identity(user: &str, device: &str, http: Http) -> Result<Self> {
        let user = UserId::parse(user)?;
        let machine = OlmMachine::new(&user, <&DeviceId>::from(device)).await;
        let mut olm = Self { machine, http, user, since: None };
        olm.settle().await?;
        let requests = olm.machine.bootstrap_cross_signing(false).await?;
        let keys = &requests.upload_signing_keys_req;
        let keys = json!({
            "master_key": keys.master_key,
            "self_signing_key": keys.self_signing_key,
            "user_signing_key": keys.user_signing_key,
        });
        olm.http.post(&format!("{KEYS}/device_signing/upload"), keys).await?;
        let signatures = serde_json::to_value(&requests.upload_signatures_req.signed_keys)?;
        olm.http.post(&format!("{KEYS}/signatures/upload"), signatures).await?;
        olm.look_at(&olm.user).await?;
        Ok(olm)
    }

    /// Asks for a user's keys.
    async fn look_at(&self, user: &UserId) -> Result {
        let (id, request) = self.machine.query_keys_for_users([user]);
        let body = json!({ "device_keys": request.device_keys });
        let answer = self.http.post(&format!("{KEYS}/query"), body).await?;
        let answer = get_keys::v3::Response::try_from_http_response(response(&answer)?)?;
        self.machine.mark_request_as_sent(&id, &answer).await?;
        Ok(())
    }

    async fn send_to_devices(&self, request: &ToDeviceRequest) -> Result {
        let path =
            format!("/_matrix/client/v3/sendToDevice/{}/{}", request.event_type, request.txn_id);
        self.http.put(&path, json!({ "messages": request.messages })).await?;
        Ok(())
    }

    async fn send(&self, request: OutgoingVerificationRequest) -> Result {
        match request {
            OutgoingVerificationRequest::ToDevice(request) => self.send_to_devices(&request).await,
            OutgoingVerificationRequest::InRoom(_) => bail!("not in a room"),
        }
    }

    /// Sends what the machine wants, and feeds it a sync.
    async fn settle(&mut self) -> Result {
        for _ in 0..2 {
            self.sync().await?;
            self.drive().await?;
        }
        Ok(())
    }

    async fn sync(&mut self) -> Result {
        let since = self.since.iter().map(|since| format!("&since={since}")).collect::<String>();
        let sync = self.http.get(&format!("/_matrix/client/v3/sync?timeout=0{since}")).await?;
        self.since = Some(sync.text("next_batch")?.to_owned());
        let events = sync["to_device"]["events"].as_array().cloned().unwrap_or_default();
        let events = events.into_iter().map(|event| Raw::from_json_string(event.to_string()));
        let changes = EncryptionSyncChanges {
            to_device_events: events.collect::<Result<_, _>>()?,
            changed_devices: &DeviceLists::new(),
            one_time_keys_counts: &BTreeMap::new(),
            unused_fallback_keys: None,
            next_batch_token: None,
        };
        let settings =
            DecryptionSettings { sender_device_trust_requirement: TrustRequirement::Untrusted };
        self.machine.receive_sync_changes(changes, &settings).await?;
        Ok(())
    }

    async fn drive(&self) -> Result {
        for request in self.machine.outgoing_requests().await? {
            let id = request.request_id();
            match request.request() {
                AnyOutgoingRequest::KeysUpload(keys) => {
                    let mut body = json!({ "one_time_keys": keys.one_time_keys });
                    if let Some(keys) = &keys.device_keys {
                        body["device_keys"] = serde_json::to_value(keys)?;
                    }
                    let answer = self.http.post(&format!("{KEYS}/upload"), body).await?;
                    let answer =
                        upload_keys::v3::Response::try_from_http_response(response(&answer)?)?;
                    self.machine.mark_request_as_sent(id, &answer).await?;
                }
                AnyOutgoingRequest::KeysQuery(query) => {
                    let body = json!({ "device_keys": query.device_keys });
                    let answer = self.http.post(&format!("{KEYS}/query"), body).await?;
                    let answer =
                        get_keys::v3::Response::try_from_http_response(response(&answer)?)?;
                    self.machine.mark_request_as_sent(id, &answer).await?;
                }
                AnyOutgoingRequest::ToDeviceRequest(request) => {
                    self.send_to_devices(request).await?;
                    let answer = send_event_to_device::v3::Response::new();
                    self.machine.mark_request_as_sent(id, &answer).await?;
                }
                AnyOutgoingRequest::SignatureUpload(request) => {
                    let body = serde_json::to_value(&request.signed_keys)?;
                    let path = format!("{KEYS}/signatures/upload");
                    let answer = self.http.post(&path, body).await?;
                    let answer = upload_signatures::v3::Response::try_from_http_response(
                        response(&answer)?,
                    )?;
                    self.machine.mark_request_as_sent(id, &answer).await?;
                }
                AnyOutgoingRequest::KeysClaim(_) => {
                    let answer = claim_keys::v3::Response::new(BTreeMap::new());
                    self.machine.mark_request_as_sent(id, &answer).await?;
                }
                other => bail!("not expected: {other:?}"),
            }
        }
        Ok(())
    }

    /// The request that somebody has made.
    fn request_of(&self, user: &UserId) -> Result<VerificationRequest> {
        let mut requests = self.machine.get_verification_requests(user);
        requests.retain(|request| !request.is_passive() && !request.is_cancelled());
        requests.pop().or_missing("a request")
    }

    /// The exchange under way.
    fn sas_of(&self, request: &VerificationRequest) -> Result<Sas> {
        let flow = request.flow_id().as_str().to_owned();
        let verification = self.machine.get_verification(request.other_user(), &flow);
        Ok(*verification.or_missing("an exchange")?.sas_v1().or_missing("SAS")?)
    }

    /// Confirms, and uploads what that signs.
    async fn confirm(&self, sas: &Sas) -> Result {
        let (requests, signatures) = sas.confirm().await?;
        for request in requests {
            self.send(request).await?;
        }
        if let Some(signatures) = signatures {
            let body = serde_json::to_value(&signatures.signed_keys)?;
            self.http.post(&format!("{KEYS}/signatures/upload"), body).await?;
        }
        Ok(())
    }
}

fn response(answer: &Value) -> Result<hyper::Response<Vec<u8>>> {
    Ok(hyper::Response::builder().status(200).body(answer.to_string().into_bytes())?)
}

async fn state(verification: &Verification) -> Result<VerificationState> {
    Ok(verification.info().await?.state)
}

/// Both show the same emojis, by the same names.
async fn compare(ours: &Verification, theirs: &Sas) -> Result {
    let VerificationState::Comparing { emojis, decimals } = state(ours).await? else {
        bail!("not comparing: {:?}", state(ours).await?);
    };
    let shown: Vec<_> =
        emojis.iter().map(|emoji| (emoji.symbol.as_str(), emoji.description.as_str())).collect();
    let other = theirs.emoji().or_missing("emojis")?;
    let other: Vec<_> = other.iter().map(|emoji| (emoji.symbol, emoji.description)).collect();
    assert_eq!(shown, other);
    let (first, second, third) = theirs.decimals().or_missing("decimals")?;
    assert_eq!(decimals, [first, second, third]);
    Ok(())
}

async fn settle(ours: &Client, theirs: &mut Olm) -> Result {
    for _ in 0..3 {
        ours.settle().await?;
        theirs.settle().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_person_with_olm_and_one_with_mls_verify_each_other() -> Result {
    let homeserver = Homeserver::shared_synapse().await?;
    let name = format!("sas-{:x}", std::process::id());
    let alice = Client::register(&homeserver, &name, "PHONE").await?;
    alice.settle().await?;
    let (bob, http) = Http::register(homeserver.base_url(), &format!("{name}-bob"), "OLM").await?;
    let mut olm = Olm::with_identity(&bob, "OLM", http).await?;
    let alices_id = UserId::parse(alice.user_id())?;
    olm.machine.update_tracked_users([&*alices_id]).await?;
    olm.look_at(&alices_id).await?;

    // Alice asks, and Bob begins.
    let ours = alice.machine()?.request_verification(bob.clone(), None).await?;
    settle(&alice, &mut olm).await?;
    let request = olm.request_of(&alices_id)?;
    olm.send(request.accept().or_missing("an answer")?).await?;
    settle(&alice, &mut olm).await?;
    assert_eq!(state(&ours).await?, VerificationState::Ready);
    let (sas, start) = request.start_sas().await?.or_missing("a start")?;
    olm.send(start).await?;
    settle(&alice, &mut olm).await?;
    compare(&ours, &sas).await?;
    ours.confirm().await?;
    settle(&alice, &mut olm).await?;
    assert_eq!(state(&ours).await?, VerificationState::Confirmed);
    olm.confirm(&sas).await?;
    settle(&alice, &mut olm).await?;
    assert!(sas.is_done());
    let master = alice.machine()?.user_identity(bob.clone()).await?.or_missing("identity")?;
    let master_key = Some(master.master_key);
    assert_eq!(state(&ours).await?, VerificationState::Done { master_key, is_signed: false });

    // Alice asks again, begins, and says that the emojis differ.
    let ours = alice.machine()?.request_verification(bob.clone(), None).await?;
    settle(&alice, &mut olm).await?;
    let request = olm.request_of(&alices_id)?;
    olm.send(request.accept().or_missing("an answer")?).await?;
    settle(&alice, &mut olm).await?;
    ours.start_sas().await?;
    settle(&alice, &mut olm).await?;
    let sas = olm.sas_of(&request)?;
    olm.send(sas.accept().or_missing("an accept")?).await?;
    settle(&alice, &mut olm).await?;
    compare(&ours, &sas).await?;
    ours.mismatch().await?;
    settle(&alice, &mut olm).await?;
    let cancelled = sas.cancel_info().or_missing("a cancellation")?;
    assert_eq!(cancelled.cancel_code().as_str(), "m.mismatched_sas");
    Ok(())
}

/// Both begin before they hear of each other: the start of the user whose id is smaller counts, on
/// both sides, whichever side that is.
#[tokio::test]
async fn both_begin_at_once() -> Result {
    let homeserver = Homeserver::shared_synapse().await?;
    for (ours_first, alices_name, bobs_name) in [(true, "a", "b"), (false, "b", "a")] {
        let name = format!("sas-glare-{:x}", std::process::id());
        let alices_name = format!("{name}-{alices_name}-mls");
        let alice = Client::register(&homeserver, &alices_name, "PHONE").await?;
        alice.settle().await?;
        let bobs_name = format!("{name}-{bobs_name}-olm");
        let (bob, http) = Http::register(homeserver.base_url(), &bobs_name, "OLM").await?;
        assert_eq!(alice.user_id() < bob.as_str(), ours_first);
        let mut olm = Olm::with_identity(&bob, "OLM", http).await?;
        let alices_id = UserId::parse(alice.user_id())?;
        olm.machine.update_tracked_users([&*alices_id]).await?;
        olm.look_at(&alices_id).await?;

        let ours = alice.machine()?.request_verification(bob.clone(), None).await?;
        settle(&alice, &mut olm).await?;
        let request = olm.request_of(&alices_id)?;
        olm.send(request.accept().or_missing("an answer")?).await?;
        settle(&alice, &mut olm).await?;
        ours.start_sas().await?;
        let (_, start) = request.start_sas().await?.or_missing("a start")?;
        // Neither syncs before both are on their way.
        alice.drive().await?;
        olm.send(start).await?;
        settle(&alice, &mut olm).await?;
        let sas = olm.sas_of(&request)?;
        // Whoever answers a start has given its own up.
        let answer = sas.accept();
        assert_eq!(answer.is_some(), ours_first);
        if let Some(answer) = answer {
            olm.send(answer).await?;
            settle(&alice, &mut olm).await?;
        }
        compare(&ours, &sas).await?;
        ours.confirm().await?;
        settle(&alice, &mut olm).await?;
        olm.confirm(&sas).await?;
        settle(&alice, &mut olm).await?;
        assert!(sas.is_done());
        let state = state(&ours).await?;
        assert!(matches!(state, VerificationState::Done { .. }), "{state:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_device_with_olm_signs_this_one_of_the_same_user() -> Result {
    let homeserver = Homeserver::shared_synapse().await?;
    let name = format!("sas-own-{:x}", std::process::id());
    let phone = Client::register(&homeserver, &name, "PHONE").await?;
    phone.settle().await?;
    let user = phone.user_id().to_owned();
    let http = Http::new(homeserver.base_url(), "OLM")?;
    let login = json!({
        "type": "m.login.password", "password": phone.password(), "device_id": "OLM",
        "identifier": { "type": "m.id.user", "user": &user },
    });
    let login = http.post("/_matrix/client/v3/login", login).await?;
    let http = http.with_token(login.text("access_token")?);
    let mut olm = Olm::with_identity(&user, "OLM", http).await?;
    let own = UserId::parse(&user)?;
    olm.look_at(&own).await?;

    let device = olm.machine.get_device(&own, <&DeviceId>::from("PHONE"), None).await?;
    let (request, asked) = device.or_missing("the phone")?.request_verification();
    olm.send(asked).await?;
    settle(&phone, &mut olm).await?;
    let mut all = phone.machine()?.verifications().await?;
    let ours = phone.machine()?.verification(all.pop().or_missing("a request")?.id);
    ours.accept().await?;
    settle(&phone, &mut olm).await?;
    ours.start_sas().await?;
    settle(&phone, &mut olm).await?;
    let sas = olm.sas_of(&request)?;
    olm.send(sas.accept().or_missing("an accept")?).await?;
    settle(&phone, &mut olm).await?;
    compare(&ours, &sas).await?;
    olm.confirm(&sas).await?;
    ours.confirm().await?;
    settle(&phone, &mut olm).await?;
    settle(&phone, &mut olm).await?;
    assert!(sas.is_done());
    let identity = phone.machine()?.user_identity(user.clone()).await?.or_missing("identity")?;
    // The phone has no private key, but the other device has vouched for the identity.
    let master_key = Some(identity.master_key);
    assert_eq!(state(&ours).await?, VerificationState::Done { master_key, is_signed: false });
    let query = json!({ "device_keys": { &user: ["PHONE"] } });
    let answer = phone.http().post(&format!("{KEYS}/query"), query).await?;
    let signatures = answer["device_keys"][&user]["PHONE"]["signatures"].object(&user)?.clone();
    let by = format!("ed25519:{}", identity.self_signing_key.or_missing("a key")?);
    assert!(signatures.contains_key(&by), "{signatures:?}");
    Ok(())
}
