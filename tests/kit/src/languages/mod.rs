//! The scenario between languages: devices in processes of their own, each in the language of its
//! app, in one MLS room. Like the story, every sentence was checked just before it is told.

mod emojis;

use std::collections::BTreeSet;

use tempfile::TempDir;

use crate::{
    Homeserver, KitError,
    process::DeviceProcess,
    story::{Listener, StoryError, expect},
};

/// A language, and the shell command that runs its device.
#[derive(Debug, Clone)]
pub struct Language {
    /// `rust`, `kotlin`, `swift`; also the user's name.
    pub name: String,
    /// The command, without the four arguments.
    pub command: String,
}

/// The first device of everybody.
const PHONE: &str = "PHONE";
/// The device that takes the place of a lost one.
const NEW: &str = "NEWPHONE";

struct Member {
    user_id: String,
    device_id: &'static str,
    device: DeviceProcess,
    directory: TempDir,
    language: Language,
}

impl Member {
    fn name(&self) -> &str {
        self.device.name()
    }

    /// The device, as it is named in what others print.
    fn full_name(&self) -> String {
        format!("{}|{}", self.user_id, self.device_id)
    }
}

struct Room<'a> {
    id: String,
    homeserver: &'a Homeserver,
    members: Vec<Member>,
    /// Every text that was sent, with its sender.
    sent: Vec<String>,
    tag: &'a str,
}

/// Tells it: the first makes the room, each talks, the second rotates, the last two commit at once,
/// the last is removed, the first starts again from disk, the second is lost and restored in the
/// last one's language. Then two people verify each other between the last two languages. Blocking.
pub fn tell(
    homeserver: &Homeserver,
    languages: &[Language],
    tag: &str,
    listener: &mut dyn Listener,
) -> Result<(), StoryError> {
    let mut room = enter(homeserver, languages, tag, listener)?;
    listener.chapter(&format!("{} makes an MLS room, and all talk", room.members[0].name()));
    talk(&mut room, "hello 👋 grüße", listener)?;

    let renews = room.members.len().min(2) - 1;
    listener.chapter(&format!("{} renews its keys", room.members[renews].name()));
    let before = look(&mut room, 0)?.epoch;
    let step = format!("rotate {}", room.id);
    room.members[renews].device.does(&step)?;
    talk(&mut room, "fresh keys", listener)?;
    let after = look(&mut room, 0)?.epoch;
    expect("whether the epoch changed", &true, &(before != after))?;

    fork(&mut room, listener)?;
    if room.members.len() > 2 {
        remove(&mut room, listener)?;
    }
    restart(&mut room, listener)?;
    lose(&mut room, languages, listener)?;
    for member in room.members {
        member.device.quit()?;
    }
    emojis::compare(homeserver, languages, tag, listener)
}

/// Starts a device of this user's, in this language.
fn start(
    homeserver: &Homeserver,
    language: &Language,
    directory: &TempDir,
    user: &str,
    device: &str,
) -> Result<DeviceProcess, StoryError> {
    let path = directory.path().to_string_lossy();
    let arguments = [homeserver.base_url(), &*path, user, device];
    Ok(DeviceProcess::start(&language.name, &language.command, arguments)?)
}

fn enter<'a>(
    homeserver: &'a Homeserver,
    languages: &[Language],
    tag: &'a str,
    listener: &mut dyn Listener,
) -> Result<Room<'a>, StoryError> {
    listener.chapter(&format!("{} devices, each in a process of its own", languages.len()));
    let mut members = Vec::new();
    for language in languages {
        let directory = directory()?;
        let user = format!("{}{tag}", language.name);
        let mut device = start(homeserver, language, &directory, &user, PHONE)?;
        let said = device.does("register")?;
        let user_id = said.iter().find_map(|line| line.strip_prefix("user "));
        let user_id = user_id.ok_or_else(|| not_said(&device, "register", &said))?.to_owned();
        device.does("settle")?;
        listener.line(&format!("{} has published its keys", device.name()));
        let language = language.clone();
        members.push(Member { user_id, device_id: PHONE, device, directory, language });
    }
    let others: Vec<String> = members[1..].iter().map(|member| member.user_id.clone()).collect();
    let said = members[0].device.does(&format!("create-room {}", others.join(" ")))?;
    let id = said.iter().find_map(|line| line.strip_prefix("room "));
    let id = id.ok_or_else(|| not_said(&members[0].device, "create-room", &said))?.to_owned();
    for member in &mut members[1..] {
        member.device.does(&format!("join {id}"))?;
    }
    members[0].device.does("settle")?;
    members[0].device.does(&format!("enable {id}"))?;
    members[0].device.does(&format!("prepare {id}"))?;
    let mut room = Room { id, homeserver, members, sent: Vec::new(), tag };
    let all: BTreeSet<String> = room.members.iter().map(Member::full_name).collect();
    for index in 0..room.members.len() {
        let seen = look(&mut room, index)?;
        expect("the devices in the group", &all, &seen.members)?;
    }
    Ok(room)
}

fn directory() -> Result<TempDir, KitError> {
    tempfile::tempdir().map_err(KitError::io("making a directory"))
}

fn not_said(device: &DeviceProcess, step: &str, said: &[String]) -> StoryError {
    StoryError::NotAsTold {
        step: format!("{}: {step}", device.name()),
        expected: "what it made".to_owned(),
        seen: format!("{said:?}"),
    }
}

/// What a device sees of a room; of its history alone where it has only read that.
struct Seen {
    epoch: String,
    members: BTreeSet<String>,
    texts: Vec<String>,
    unread: usize,
}

fn look(room: &mut Room<'_>, index: usize) -> Result<Seen, StoryError> {
    see(&mut room.members[index].device, "look", &room.id)
}

fn see(device: &mut DeviceProcess, how: &str, room: &str) -> Result<Seen, StoryError> {
    let lines = device.does(&format!("{how} {room}"))?;
    let of = |start: &str| {
        let line = |line: &String| line.strip_prefix(start).map(ToOwned::to_owned);
        lines.iter().filter_map(line).collect::<Vec<String>>()
    };
    Ok(Seen {
        epoch: of("epoch ").concat(),
        members: of("member ").into_iter().collect(),
        texts: of("text "),
        unread: of("unread ").len(),
    })
}

/// Each sends; each reads all that was ever sent; all are in one epoch.
fn talk(room: &mut Room<'_>, words: &str, listener: &mut dyn Listener) -> Result<(), StoryError> {
    for index in 0..room.members.len() {
        let member = &mut room.members[index];
        member.device.does("settle")?;
        let text = format!("{words} from {}", member.name());
        member.device.does(&format!("send {} {text}", room.id))?;
        member.device.does("settle")?;
        room.sent.push(format!("{} {text}", member.full_name()));
    }
    let epoch = agree(room)?;
    listener.line(&format!(
        "each says “{words}”, and each reads all {} messages, in epoch {}",
        room.sent.len(),
        number(&epoch)
    ));
    Ok(())
}

/// All read everything and are in the same epoch: this one.
fn agree(room: &mut Room<'_>) -> Result<String, StoryError> {
    let mut epochs = BTreeSet::new();
    for index in 0..room.members.len() {
        let seen = look(room, index)?;
        let step = format!("what {} reads", room.members[index].name());
        expect(&step, &room.sent, &seen.texts)?;
        expect(&step, &0, &seen.unread)?;
        epochs.insert(seen.epoch);
    }
    expect("in how many epochs they are", &1, &epochs.len())?;
    Ok(epochs.into_iter().collect())
}

/// The number of an epoch, which is told with its id.
fn number(epoch: &str) -> &str {
    epoch.split(' ').next().unwrap_or_default()
}

/// The last two commit on one epoch: one adds a device that the other has not heard of, which
/// renews its keys. Each says something on its branch.
fn fork(room: &mut Room<'_>, listener: &mut dyn Listener) -> Result<(), StoryError> {
    let (adds, renews) = (room.members.len() - 2, room.members.len() - 1);
    let names = [adds, renews].map(|index| room.members[index].name().to_owned());
    listener.chapter(&format!("{} and {} commit at once", names[0], names[1]));
    for member in &mut room.members {
        member.device.does("settle")?;
    }
    let directory = directory()?;
    let language = room.members[0].language.clone();
    let user = format!("{}{}", language.name, room.tag);
    let mut laptop = start(room.homeserver, &language, &directory, &user, "LAPTOP")?;
    laptop.does("log-in")?;
    laptop.does("settle")?;

    let (id, mut heads) = (room.id.clone(), Vec::new());
    // Only who adds it hears of the new device.
    room.members[adds].device.does("settle")?;
    for (index, step) in [(adds, format!("prepare {id}")), (renews, format!("rotate {id}"))] {
        let member = &mut room.members[index];
        member.device.does(&step)?;
        let text = format!("on the branch of {}", member.name());
        member.device.does(&format!("send {id} {text}"))?;
        room.sent.push(format!("{} {text}", member.full_name()));
        heads.push(member.device.does(&format!("head {id}"))?.concat());
    }
    expect("two epochs of one number", &number(&heads[0]), &number(&heads[1]))?;
    expect("whether they are the same", &false, &(heads[0] == heads[1]))?;
    listener.line(&format!(
        "{} adds {}'s laptop and {} renews its keys: {} is there twice",
        names[0],
        language.name,
        names[1],
        heads[0].rsplit_once(' ').map_or("it", |(epoch, _)| epoch)
    ));

    for _ in 0..2 {
        for member in &mut room.members {
            member.device.does("settle")?;
        }
    }
    let head = agree(room)?;
    expect("whether one of the two won", &true, &heads.contains(&format!("epoch {head}")))?;
    listener.line("all go on with the same one, and read what was said on both");

    talk(room, "heard you", listener)?;
    laptop.does("settle")?;
    let seen = look(room, 0)?;
    expect("how many devices are in the group", &(room.members.len() + 1), &seen.members.len())?;
    let read = laptop.does(&format!("look {id}"))?;
    let last = read.iter().rev().find_map(|line| line.strip_prefix("text "));
    expect("what the laptop reads last", &room.sent.last().map(|text| &**text), &last)?;
    listener.line("the two are merged: the laptop is in, and the keys are new");
    laptop.does("log-out")?;
    laptop.quit()?;
    for member in &mut room.members {
        member.device.does("settle")?;
    }
    talk(room, "without the laptop", listener)?;
    let left = look(room, 0)?.members.len();
    expect("how many devices are left in the group", &room.members.len(), &left)
}

fn remove(room: &mut Room<'_>, listener: &mut dyn Listener) -> Result<(), StoryError> {
    let Some(mut gone) = room.members.pop() else { return Ok(()) };
    listener.chapter(&format!("{} is removed", gone.name()));
    let kick = format!("kick {} {}", room.id, gone.user_id);
    room.members[0].device.does(&kick)?;
    let before = room.sent.len();
    for member in &mut room.members {
        member.device.does("settle")?;
    }
    talk(room, "among us", listener)?;
    let members = look(room, 1)?.members;
    expect("how many devices are left in the group", &room.members.len(), &members.len())?;
    // It goes on reading what it could read, and learns that it is out.
    gone.device.does("settle")?;
    let out = gone.device.does(&format!("look {}", room.id));
    let new = match out {
        Ok(lines) => lines.iter().filter(|line| line.starts_with("text ")).count(),
        Err(_) => before,
    };
    expect("how many messages it reads", &before, &new)?;
    let send = gone.device.does(&format!("send {} still here", room.id));
    expect("whether it can still send", &true, &send.is_err())?;
    listener.line(&format!("{} reads nothing new and cannot send", gone.name()));
    Ok(gone.device.quit()?)
}

fn restart(room: &mut Room<'_>, listener: &mut dyn Listener) -> Result<(), StoryError> {
    let first = room.members.remove(0);
    listener.chapter(&format!("{} is started again from disk", first.name()));
    first.device.quit()?;
    let user = format!("{}{}", first.language.name, room.tag);
    let mut device = start(room.homeserver, &first.language, &first.directory, &user, PHONE)?;
    device.does("log-in")?;
    room.members.insert(0, Member { device, ..first });
    talk(room, "still here", listener)
}

/// The second is lost with all it had, but for its recovery key. Its user goes on in another
/// language: the last.
fn lose(
    room: &mut Room<'_>,
    languages: &[Language],
    listener: &mut dyn Listener,
) -> Result<(), StoryError> {
    // Where there are two, the other is the first.
    let others = languages.get(2..).and_then(<[Language]>::last).unwrap_or(&languages[0]);
    let name = room.members[1].name().to_owned();
    listener.chapter(&format!("{name}'s phone is lost, and restored by {}", others.name));
    let said = room.members[1].device.does("back-up")?;
    let key = said.iter().find_map(|line| line.strip_prefix("key "));
    let key = key.ok_or_else(|| not_said(&room.members[1].device, "back-up", &said))?.to_owned();
    talk(room, "while it was there", listener)?;
    let characters = key.replace(' ', "").len();
    expect("how many characters its recovery key has", &48, &characters)?;
    listener.line(&format!("{name} has backed up, and its key is on paper"));

    let lost = room.members.remove(1);
    let user = format!("{}{}", lost.language.name, room.tag);
    // Killed, its store deleted.
    drop((lost.device, lost.directory));
    let (directory, language) = (directory()?, others.clone());
    let mut device = start(room.homeserver, &language, &directory, &user, NEW)?;
    device.does("log-in")?;
    device.does(&format!("sign-out {}", lost.device_id))?;
    device.does("settle")?;
    let before = see(&mut device, "read", &room.id)?;
    expect(
        "how many it reads, and how many not",
        &(0, room.sent.len()),
        &(before.texts.len(), before.unread),
    )?;
    let slip = device.does(&format!("restore {}", key.to_lowercase()));
    expect("whether a mistyped key is refused", &true, &slip.is_err())?;
    device.does(&format!("restore {key}"))?;
    let seen = see(&mut device, "read", &room.id)?;
    expect("what it reads", &room.sent, &seen.texts)?;
    expect("how many it cannot read", &0, &seen.unread)?;
    listener.line(&format!(
        "{} logs in as {user}, is given the key, and reads all {} messages from the server's history",
        language.name,
        seen.texts.len()
    ));

    let (user_id, device_id) = (lost.user_id, NEW);
    room.members.insert(1, Member { user_id, device_id, device, directory, language });
    // The first hears of the new device, and of the one that is gone.
    for member in &mut room.members {
        member.device.does("settle")?;
    }
    talk(room, "on the new phone", listener)?;
    let devices: BTreeSet<String> = room.members.iter().map(Member::full_name).collect();
    expect("the devices in the group", &devices, &look(room, 0)?.members)?;
    listener.line("it goes on talking, and the lost phone is out of the group");
    Ok(())
}
