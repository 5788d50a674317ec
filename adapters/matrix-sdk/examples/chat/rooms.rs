//! Rooms: making them, who is in them, and saying something.

use matrix_mls_sdk::matrix_mls::RoomSettings;
use matrix_sdk::{
    Client, Room, RoomState,
    ruma::{
        OwnedRoomId, OwnedUserId,
        api::client::room::create_room::v3 as create_room,
        events::room::message::{OriginalSyncRoomMessageEvent, RoomMessageEventContent},
    },
};

use crate::{Chat, Result, names};

pub async fn list(chat: &Chat) -> Result {
    let rooms = chat.client.rooms();
    let names = names(&rooms);
    for room in &rooms {
        let id = room.room_id();
        let state = match room.state() {
            RoomState::Invited => "invited",
            RoomState::Joined if chat.mls.uses_mls(id).await? => "mls",
            RoomState::Joined if room.encryption_state().is_encrypted() => "megolm",
            RoomState::Joined => "not encrypted",
            _ => continue,
        };
        println!("{id} {} ({state})", names.get(id).map_or("", |name| name));
    }
    Ok(())
}

/// A private room with MLS from its first message on.
pub async fn create(chat: &mut Chat, invited: &str) -> Result {
    let mut request = create_room::Request::new();
    request.preset = Some(create_room::RoomPreset::PrivateChat);
    request.invite =
        invited.split_whitespace().map(OwnedUserId::try_from).collect::<Result<_, _>>()?;
    let room = chat.client.create_room(request).await?;
    let id = room.room_id().to_owned();
    chat.mls.upgrade(&id, RoomSettings::default()).await?;
    println!("created {id}");
    chat.open = Some(id);
    Ok(())
}

pub async fn join(chat: &mut Chat, id: &str) -> Result {
    let id = OwnedRoomId::try_from(id)?;
    chat.client.join_room_by_id(&id).await?;
    println!("joined {id}");
    chat.open = Some(id);
    Ok(())
}

pub async fn invite(chat: &Chat, user: &str) -> Result {
    room(chat)?.invite_user_by_id(&OwnedUserId::try_from(user)?).await?;
    println!("invited {user}");
    Ok(())
}

pub async fn leave(chat: &mut Chat) -> Result {
    let room = room(chat)?;
    if chat.mls.uses_mls(room.room_id()).await? {
        chat.mls.room(room.room_id())?.leave().await?;
    }
    room.leave().await?;
    chat.open = None;
    Ok(())
}

pub async fn upgrade(chat: &Chat) -> Result {
    let upgraded = chat.mls.upgrade(chat.room()?, RoomSettings::default()).await?;
    println!("{} devices are in the group", upgraded.devices.len());
    for device in &upgraded.left_out {
        println!("without MLS for now: {} of {}", device.device_id, device.user_id);
    }
    Ok(())
}

pub async fn members(chat: &Chat) -> Result {
    for member in chat.mls.room(chat.room()?)?.members().await? {
        println!("{} {} {:?}", member.user_id, member.device_id, member.verdict);
    }
    Ok(())
}

/// Says something: over MLS where the room uses it, through the SDK elsewhere.
pub async fn say(chat: &Chat, text: &str) -> Result {
    let id = chat.room()?;
    if chat.mls.uses_mls(id).await? {
        chat.mls.send_text(id, text).await?;
    } else {
        room(chat)?.send(RoomMessageEventContent::text_plain(text)).await?;
    }
    Ok(())
}

/// Messages that the SDK reads itself, over Megolm or not encrypted.
pub fn show_what_the_sdk_decrypts(client: &Client) {
    client.add_event_handler(async |event: OriginalSyncRoomMessageEvent, _room: Room| {
        println!("[sdk] {}: {}", event.sender, event.content.body());
    });
}

fn room(chat: &Chat) -> Result<Room> {
    Ok(chat.client.get_room(chat.room()?).ok_or("the room is not here yet")?)
}
