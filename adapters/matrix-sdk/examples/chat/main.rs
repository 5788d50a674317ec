//! A chat in the terminal, on matrix-sdk with this library beside it: what a newcomer reads first.
//!
//!     cargo run --manifest-path adapters/matrix-sdk/Cargo.toml --example chat -- \
//!         --homeserver http://localhost:8008 --user alice --password secret --register
//!
//! What is typed goes to the open room, and a line that begins with a slash is a command: `/help`
//! names them. Rooms that use MLS go through `Mls`, all others through the SDK.

mod account;
mod rooms;
mod verification;

use std::{collections::HashMap, time::Duration};

use futures_util::StreamExt as _;
use matrix_mls_sdk::{
    Mls, OlmStore, TimelineItem,
    matrix_mls::{Shield, Update, UpdateObserver},
};
use matrix_sdk::{
    Client, SlidingSyncList, SlidingSyncMode,
    ruma::{OwnedRoomId, events::StateEventType},
    sliding_sync::Version,
};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// Any error: it is shown, and the chat goes on.
pub type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const HELP: &str = "\
/rooms            the rooms, with invitations
/create USER …    a new MLS room with these people
/join ROOM        joins a room; /open ROOM opens it
/invite USER      invites somebody to the open room
/leave            leaves the open room
/plan, /upgrade   what taking the open room over to MLS will do; does it
/members          the devices in the open room's group
/verify USER      compares emojis with somebody; then /yes or /no
/backup           turns the key backup on, and shows the recovery key
/recover KEY      brings back keys and trust, with the recovery key
/quit";

/// What the chat has at hand.
pub struct Chat {
    pub client: Client,
    pub mls: Mls,
    pub olm: OlmStore,
    pub open: Option<OwnedRoomId>,
    pub comparing: verification::Comparing,
}

#[tokio::main]
async fn main() -> Result {
    let options = account::Options::parse(std::env::args().skip(1))?;
    let account = account::enter(&options).await?;
    let (client, mls) = (account.client.clone(), account.mls.clone());

    // A Welcome that an earlier run was killed with comes first. Then the SDK may sync.
    mls.before_sync().await?;
    mls.bind(&account.olm).await?;
    let comparing = verification::follow(&client);
    rooms::show_what_the_sdk_decrypts(&client);
    let _updates = mls.machine().subscribe(std::sync::Arc::new(Tell)).await?;
    let mut timeline = mls.timeline();
    let syncs = tokio::spawn(sync(client.clone()));
    let runs = mls.clone();
    let runs = tokio::spawn(async move { runs.run().await });

    let mut chat = Chat { client, mls, olm: account.olm, open: None, comparing };
    println!("logged in as {}; /help names the commands", chat.mls.machine().user_id());
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                None => break,
                Some(line) if line.trim() == "/quit" => break,
                Some(line) => {
                    if let Err(error) = act(&mut chat, line.trim()).await {
                        println!("! {error}");
                    }
                }
            },
            item = timeline.next() => match item {
                None => break,
                Some(item) => show(&item),
            },
        }
    }
    // The SDK's sync ends before the machine is closed.
    syncs.abort();
    let _ = syncs.await;
    chat.mls.close().await?;
    runs.await??;
    Ok(())
}

/// The SDK's own sync: an app with matrix-sdk-ui has its `SyncService` here.
async fn sync(client: Client) -> Result {
    let state = [
        (StateEventType::RoomName, ""),
        (StateEventType::RoomEncryption, ""),
        (StateEventType::RoomMember, "$LAZY"),
        (StateEventType::RoomMember, "$ME"),
        (StateEventType::RoomPowerLevels, ""),
        (StateEventType::RoomCreate, ""),
    ];
    let list = SlidingSyncList::builder("all")
        .sync_mode(SlidingSyncMode::new_growing(100))
        .timeline_limit(10)
        .required_state(state.map(|(kind, key)| (kind, key.to_owned())).into());
    let sync = client.sliding_sync("chat")?.version(Version::Native).add_list(list);
    let sync = sync.with_all_extensions().build().await?;
    loop {
        let mut stream = std::pin::pin!(sync.sync());
        while let Some(Ok(_)) = stream.next().await {}
        // Without a network, and after an error.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Does what a line says.
async fn act(chat: &mut Chat, line: &str) -> Result {
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    match command {
        "" => {}
        "/help" => println!("{HELP}"),
        "/rooms" => rooms::list(chat).await?,
        "/create" => rooms::create(chat, rest).await?,
        "/join" => rooms::join(chat, rest).await?,
        "/open" => chat.open = Some(OwnedRoomId::try_from(rest)?),
        "/invite" => rooms::invite(chat, rest).await?,
        "/leave" => rooms::leave(chat).await?,
        "/plan" => print!("{}", chat.mls.upgrade_plan(chat.room()?).await?),
        "/upgrade" => rooms::upgrade(chat).await?,
        "/members" => rooms::members(chat).await?,
        "/verify" => verification::ask(chat, rest).await?,
        "/yes" => chat.comparing.answer(true).await?,
        "/no" => chat.comparing.answer(false).await?,
        "/backup" => back_up(chat).await?,
        "/recover" => recover(chat, rest).await?,
        unknown if unknown.starts_with('/') => println!("! there is no {unknown}: see /help"),
        _ => rooms::say(chat, line).await?,
    }
    Ok(())
}

impl Chat {
    /// The open room.
    pub fn room(&self) -> Result<&OwnedRoomId> {
        Ok(self.open.as_ref().ok_or("no room is open: /open ROOM")?)
    }
}

/// Shows an event of an MLS room. An app puts it in the place of what its timeline cannot decrypt.
fn show(item: &TimelineItem) {
    match item {
        TimelineItem::Decrypted(event) => {
            let mark = match event.shield(false) {
                Shield::None => "",
                Shield::Grey { .. } => " (?)",
                Shield::Red { .. } => " (!)",
            };
            if let Some(body) = event.body() {
                println!("[mls] {}{mark}: {body}", event.sender);
            }
        }
        TimelineItem::Commit { .. } => {}
        TimelineItem::Unreadable { event_id, cause, .. } => {
            println!("[mls] {event_id} cannot be read: {cause:?}");
        }
        TimelineItem::Missed(count) => println!("[mls] {count} messages were not shown"),
    }
}

/// Turns the backup on: the Olm machine's, and the MLS keys in the same one.
async fn back_up(chat: &Chat) -> Result {
    let recovery = chat.client.encryption().recovery();
    let key = recovery.enable().wait_for_backups_to_upload().await?;
    chat.mls.share_backup(&chat.olm).await?;
    println!("recovery key: {key}");
    Ok(())
}

/// Brings back what the recovery key opens: the identity, Megolm's keys, and those of MLS.
async fn recover(chat: &Chat, key: &str) -> Result {
    chat.client.encryption().recovery().recover(key).await?;
    chat.mls.share_backup(&chat.olm).await?;
    chat.mls.restore().await?;
    println!("recovered; old messages come back");
    Ok(())
}

/// Says what the machine tells that people should know.
struct Tell;

impl UpdateObserver for Tell {
    fn on_update(&self, update: Update) {
        match update {
            Update::RestoreFinished { epochs, .. } => println!("{epochs} epochs can be read again"),
            Update::TrustChanged { user_ids } => println!("shields of {user_ids:?} may be others"),
            Update::NewDeviceNeeded { .. } => println!("! log out, and log in as a new device"),
            other => tracing::debug!(?other, "an update"),
        }
    }

    fn on_end(&self) {}
}

/// Rooms by what people call them: their names, or their ids.
pub fn names(rooms: &[matrix_sdk::Room]) -> HashMap<OwnedRoomId, String> {
    rooms
        .iter()
        .map(|room| {
            let id = room.room_id().to_owned();
            let name = room.name().unwrap_or_else(|| id.to_string());
            (id, name)
        })
        .collect()
}
