//! Comparing emojis with somebody, with the SDK: its Olm machine has the identity, and what it
//! verifies counts for MLS as well.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt as _;
use matrix_sdk::{
    Client,
    encryption::verification::{
        SasState, SasVerification, Verification, VerificationRequest, VerificationRequestState,
    },
    ruma::{
        OwnedUserId, UserId,
        events::{
            key::verification::request::ToDeviceKeyVerificationRequestEvent,
            room::message::{MessageType, OriginalSyncRoomMessageEvent},
        },
    },
};

use crate::{Chat, Result};

/// The emojis that wait for an answer.
#[derive(Clone, Default)]
pub struct Comparing(Arc<Mutex<Option<SasVerification>>>);

impl Comparing {
    /// Says whether the emojis are the same on both sides.
    pub async fn answer(&self, same: bool) -> Result {
        let sas = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let sas = sas.ok_or("there is nothing to compare")?;
        if same {
            sas.confirm().await?
        } else {
            sas.mismatch().await?
        }
        Ok(())
    }

    fn wait_for_answer(&self, sas: SasVerification) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sas);
    }
}

/// Takes what others ask for: of this user's other devices by to-device events, of others in a
/// room.
pub fn follow(client: &Client) -> Comparing {
    let comparing = Comparing::default();
    let own = comparing.clone();
    client.add_event_handler(move |event: ToDeviceKeyVerificationRequestEvent, client: Client| {
        let comparing = own.clone();
        async move {
            let id = event.content.transaction_id.as_str();
            asked(&client, comparing, &event.sender, id).await;
        }
    });
    let others = comparing.clone();
    client.add_event_handler(move |event: OriginalSyncRoomMessageEvent, client: Client| {
        let comparing = others.clone();
        async move {
            if let MessageType::VerificationRequest(_) = event.content.msgtype {
                asked(&client, comparing, &event.sender, event.event_id.as_str()).await;
            }
        }
    });
    comparing
}

async fn asked(client: &Client, comparing: Comparing, sender: &UserId, id: &str) {
    let request = client.encryption().get_verification_request(sender, id).await;
    // Without one it is this device's own, or over.
    let Some(request) = request.filter(|request| !request.we_started()) else { return };
    println!("{sender} wants to compare emojis");
    if let Err(error) = request.accept().await {
        println!("! {error}");
        return;
    }
    tokio::spawn(go_on(request, comparing));
}

/// Asks somebody.
pub async fn ask(chat: &Chat, user: &str) -> Result {
    let user = OwnedUserId::try_from(user)?;
    let identity = chat.client.encryption().request_user_identity(&user).await?;
    let request = identity.ok_or("this user has no identity")?.request_verification().await?;
    println!("asked {user}");
    tokio::spawn(go_on(request, chat.comparing.clone()));
    Ok(())
}

async fn go_on(request: VerificationRequest, comparing: Comparing) {
    let mut changes = request.changes();
    while let Some(state) = changes.next().await {
        match state {
            // Whoever asked begins.
            VerificationRequestState::Ready { .. } if request.we_started() => {
                if let Err(error) = request.start_sas().await {
                    println!("! {error}");
                }
            }
            VerificationRequestState::Transitioned { verification: Verification::SasV1(sas) } => {
                return compare(sas, comparing).await;
            }
            VerificationRequestState::Cancelled(why) => return println!("! {}", why.reason()),
            _ => {}
        }
    }
}

async fn compare(sas: SasVerification, comparing: Comparing) {
    if !sas.we_started()
        && let Err(error) = sas.accept().await
    {
        return println!("! {error}");
    }
    let mut changes = sas.changes();
    while let Some(state) = changes.next().await {
        match state {
            SasState::KeysExchanged { emojis: Some(emojis), .. } => {
                comparing.wait_for_answer(sas.clone());
                let names: Vec<&str> = emojis.emojis.iter().map(|it| it.description).collect();
                println!("emojis: {}", names.join(", "));
                println!("are they the same on the other side? /yes or /no");
            }
            SasState::Done { .. } => {
                return println!("verified {}", sas.other_user_id());
            }
            SasState::Cancelled(why) => return println!("! {}", why.reason()),
            _ => {}
        }
    }
}
