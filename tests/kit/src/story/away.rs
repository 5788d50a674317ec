//! The chapter of a phone that was off for long: it follows all that it has missed, and reads it.

use super::{Cast, Listener, StoryError, agree, expect, reads, settle, short, talk};

/// How many epochs the others make meanwhile: more than are asked for one by one.
const EPOCHS: u32 = 30;

/// Bob's phone is off while Alice and Carol go on, and then comes back.
pub(super) async fn for_long(
    cast: &mut Cast,
    room: &str,
    listener: &mut dyn Listener,
) -> Result<(), StoryError> {
    listener.chapter("Bob's phone is off for long");
    let joins = own_joins(cast, room).await?;
    cast.bob_phone.close().await?;
    let mut said = Vec::new();
    for number in 0..EPOCHS {
        let speaker = if number % 2 == 0 { &cast.alice_phone } else { &cast.carol_phone };
        speaker.settle().await?;
        speaker.rotate_keys(room).await?;
        let text = format!("news {number}");
        speaker.send_text(room, &text).await?;
        speaker.settle().await?;
        said.push(text);
    }
    listener
        .line(&format!("the others renew their keys {EPOCHS} times, and say something each time"));
    cast.bob_phone.restart().await?;
    settle(&cast.inside()).await?;
    expect("how often Bob's phone joined by itself", &joins, &own_joins(cast, room).await?)?;
    let said: Vec<&str> = said.iter().map(String::as_str).collect();
    reads(&cast.bob_phone, room, &said).await?;
    listener.line(&format!(
        "{} follows every commit in its order, joins nothing anew, and reads all of it",
        short(&cast.bob_phone)
    ));
    agree(&cast.inside(), room).await?;
    talk(room, &cast.inside(), "welcome back", listener).await?;
    Ok(())
}

/// How often Bob's phone has joined by itself.
async fn own_joins(cast: &Cast, room: &str) -> Result<usize, StoryError> {
    let phone = &cast.bob_phone;
    let epochs = phone.epochs(room).await?;
    let own = epochs.iter().filter(|epoch| {
        epoch.is_external
            && (epoch.creator_user_id.as_str(), epoch.creator_device_id.as_str())
                == (phone.user_id(), phone.device_id())
    });
    Ok(own.count())
}
