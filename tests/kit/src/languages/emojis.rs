//! The chapter in which two people compare emojis: one's device is written in one language, the
//! other's in another.

use tempfile::TempDir;

use super::{Language, PHONE, directory, not_said, start};
use crate::{
    Homeserver,
    process::DeviceProcess,
    story::{Listener, StoryError, expect},
};

/// How often both look for news, until each has answered what the other sent.
const ROUNDS: usize = 4;
/// What is known of somebody whose device is signed, and who is a stranger.
const STRANGER: &str = "ownernotverified";
const VERIFIED: &str = "verified";

/// The device whose Olm machine makes identities and verifies people, so that it has no such steps.
const BESIDE_OLM: &str = "sdk";

/// A person with an identity, and one device.
struct Friend {
    user_id: String,
    device: DeviceProcess,
    _directory: TempDir,
}

impl Friend {
    fn enter(homeserver: &Homeserver, language: &Language, tag: &str) -> Result<Self, StoryError> {
        let directory = directory()?;
        let user = format!("{}-friend{tag}", language.name);
        let mut device = start(homeserver, language, &directory, &user, PHONE)?;
        let user_id = said(&mut device, "register", "user ")?;
        device.does("make-identity")?;
        Ok(Self { user_id, device, _directory: directory })
    }
}

/// Two people verify each other, with devices in the last two languages that can.
pub(super) fn compare(
    homeserver: &Homeserver,
    languages: &[Language],
    tag: &str,
    listener: &mut dyn Listener,
) -> Result<(), StoryError> {
    let able: Vec<&Language> =
        languages.iter().filter(|language| language.name != BESIDE_OLM).collect();
    let Some([one, other]) = able.last_chunk::<2>() else { return Ok(()) };
    listener.chapter(&format!("{} and {} compare emojis", one.name, other.name));
    let mut friends =
        [Friend::enter(homeserver, one, tag)?, Friend::enter(homeserver, other, tag)?];
    let invited = friends[1].user_id.clone();
    let room = said(&mut friends[0].device, &format!("create-room {invited}"), "room ")?;
    friends[1].device.does(&format!("join {room}"))?;
    settle(&mut friends)?;
    friends[0].device.does(&format!("enable {room}"))?;
    talk(&mut friends, &room, "here I am", STRANGER)?;
    listener.line("each has an identity, and they talk: neither knows who the other is");

    friends[0].device.does(&format!("ask {invited}"))?;
    settle(&mut friends)?;
    friends[1].device.does("answer")?;
    settle(&mut friends)?;
    friends[0].device.does("begin")?;
    settle(&mut friends)?;
    let emojis = said(&mut friends[0].device, "emojis", "emojis ")?;
    expect("how many emojis there are", &7, &emojis.split(' ').count())?;
    let seen = said(&mut friends[1].device, "emojis", "emojis ")?;
    expect("what the other one shows", &emojis, &seen)?;
    listener.line(&format!("both print {emojis}"));

    for friend in &mut friends {
        friend.device.does("confirm")?;
    }
    settle(&mut friends)?;
    for friend in &mut friends {
        let signed = said(&mut friend.device, "verified", "signed ")?;
        expect("whether the other's identity is signed", &"true".to_owned(), &signed)?;
    }
    talk(&mut friends, &room, "it is you", VERIFIED)?;
    listener.line("each shows the other as verified, and what they say from now on");
    for friend in friends {
        friend.device.quit()?;
    }
    Ok(())
}

/// Each says this, and has this verdict of the other and of what the other said.
fn talk(
    friends: &mut [Friend; 2],
    room: &str,
    words: &str,
    verdict: &str,
) -> Result<(), StoryError> {
    for friend in friends.iter_mut() {
        friend.device.does("settle")?;
        friend.device.does(&format!("send {room} {words}"))?;
        friend.device.does("settle")?;
    }
    settle(friends)?;
    for (judge, judged) in [(0, 1), (1, 0)] {
        let user = friends[judged].user_id.clone();
        let device = &mut friends[judge].device;
        let seen = said(device, &format!("verdict {user} {PHONE}"), "verdict ")?;
        let step = format!("what {} knows of {user}", device.name());
        expect(&step, &verdict.to_owned(), &seen)?;
        let lines = device.does(&format!("shields {room}"))?;
        let expected = format!("shield {user}|{PHONE} {verdict} {words}");
        let step = format!("whether {} shows “{expected}” of {lines:?}", device.name());
        expect(&step, &true, &lines.contains(&expected))?;
    }
    Ok(())
}

fn settle(friends: &mut [Friend; 2]) -> Result<(), StoryError> {
    for _ in 0..ROUNDS {
        for friend in friends.iter_mut() {
            friend.device.does("settle")?;
        }
    }
    Ok(())
}

/// The rest of the line that a step prints with this start.
fn said(device: &mut DeviceProcess, step: &str, start: &str) -> Result<String, StoryError> {
    let lines = device.does(step)?;
    let line = lines.iter().find_map(|line| line.strip_prefix(start)).map(str::to_owned);
    line.ok_or_else(|| not_said(device, step, &lines))
}
