//! A device that is killed at each commit of its store, in every step of a room's life, goes on
//! where it was: the room works both ways, nothing that could be read is lost, and no generation is
//! used twice.
//!
//! The device under test is a process of its own (`bin/device.rs`) that dies by SIGKILL before or
//! after the nth commit of one step; n grows until the step survives, so every commit point is met.
//! Bob, in this process, is the witness.

#![cfg(unix)]

use std::{
    collections::BTreeSet,
    os::unix::process::ExitStatusExt,
    process::{Command, Output},
};

use matrix_mls::{RoomSettings, test_hooks::opened_messages};
use matrix_mls_kit::{
    Client, Homeserver, OrMissing as _, Result, crowd,
    together::{head, phone_of},
};
use serde_json::{Value, json};
use tempfile::TempDir;

const SIGKILL: i32 = 9;

/// Alice, in a process of her own, and Bob, in this one.
struct Scene<'a> {
    homeserver: &'a Homeserver,
    directory: TempDir,
    alice: String,
    bob: Client,
}

impl<'a> Scene<'a> {
    async fn new(homeserver: &'a Homeserver, tag: &str) -> Result<Self> {
        let bob = phone_of(homeserver, &format!("bob-{tag}")).await?;
        let scene = Self {
            homeserver,
            directory: tempfile::tempdir()?,
            alice: format!("alice-{tag}"),
            bob,
        };
        scene.does(&["register"]).await?;
        Ok(scene)
    }

    async fn run(&self, kill: Option<&str>, step: &[&str]) -> Result<Output> {
        self.run_on("PHONE", kill, step).await
    }

    /// Runs a step of one of Alice's devices, each of which has a store of its own.
    async fn run_on(&self, device: &str, kill: Option<&str>, step: &[&str]) -> Result<Output> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_device"));
        command.arg(self.homeserver.base_url()).arg(self.directory.path().join(device));
        command.args([&self.alice, device]).args(step).env_remove("MATRIX_MLS_KILL");
        if let Some(kill) = kill {
            command.env("MATRIX_MLS_KILL", kill);
        }
        // The homeserver runs in this process: waiting must not stop its threads.
        Ok(tokio::task::spawn_blocking(move || command.output()).await??)
    }

    /// Alice does a step and survives it; the lines she prints.
    async fn does(&self, step: &[&str]) -> Result<Vec<String>> {
        self.does_on("PHONE", step).await
    }

    async fn does_on(&self, device: &str, step: &[&str]) -> Result<Vec<String>> {
        let output = self.run_on(device, None, step).await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{} {step:?}: {said}", self.alice);
        Ok(String::from_utf8(output.stdout)?.lines().map(ToOwned::to_owned).collect())
    }

    fn alice_id(&self) -> Result<String> {
        let (_, server) = self.bob.user_id().split_once(':').or_missing("server in the user id")?;
        Ok(format!("@{}:{server}", self.alice))
    }

    /// A room that Alice has made and Bob has joined, without a group yet.
    async fn room(&self) -> Result<String> {
        let said = self.does(&["create-room", self.bob.user_id()]).await?.remove(0);
        let room = said.strip_prefix("room ").or_missing("room in what Alice says")?.to_owned();
        self.bob.join(&room).await?;
        self.bob.settle().await?;
        self.does(&["settle"]).await?;
        Ok(room)
    }

    /// A room with both of them in its group, and a message from each.
    async fn group(&self) -> Result<String> {
        let room = self.room().await?;
        self.does(&["enable", &room]).await?;
        self.does(&["send", &room, "first of alice"]).await?;
        self.bob.settle().await?;
        self.bob.send_text(&room, "first of bob").await?;
        self.bob.settle().await?;
        self.does(&["settle"]).await?;
        Ok(room)
    }

    /// The room works both ways, and both see the same, a group of so many devices.
    async fn works(&self, room: &str, what: &str, devices: usize) -> Result {
        self.does(&["settle"]).await?;
        self.does(&["send", room, "alice goes on"]).await?;
        self.bob.settle().await?;
        self.bob.send_text(room, "bob goes on").await?;
        self.bob.settle().await?;
        let seen = self.does(&["look", room]).await?;
        let lines = |start: &str| {
            let of = |line: &String| line.strip_prefix(start).map(ToOwned::to_owned);
            seen.iter().filter_map(of).collect::<Vec<_>>()
        };
        assert_eq!(lines("unread "), [] as [String; 0], "{what}");
        let mut texts = Vec::new();
        for line in lines("text ") {
            texts.push(line.split_once(' ').or_missing("text after the sender")?.1.to_owned());
        }
        assert_eq!(texts, self.bob.read_texts(room).await?, "{what}");
        for text in ["alice goes on", "bob goes on"] {
            assert_eq!(texts.iter().filter(|seen| *seen == text).count(), 1, "{what}: {texts:?}");
        }
        let members = self.bob.members(room).await?;
        let members: BTreeSet<_> =
            members.iter().map(|m| format!("{}|{}", m.user_id, m.device_id)).collect();
        assert_eq!(lines("member ").into_iter().collect::<BTreeSet<_>>(), members, "{what}");
        assert_eq!(members.len(), devices, "{what}");
        let head = self.bob.head(room).await?;
        let epoch = format!("{} {}", head.epoch, head.id);
        assert_eq!(lines("epoch "), [epoch], "{what}: both are in one epoch");
        Ok(())
    }
}

/// What leads up to the step in which Alice is killed.
#[derive(Clone, Copy)]
enum Before {
    /// A Matrix room, no group.
    Room,
    /// A Matrix room of many devices, without a group.
    Crowd,
    /// Alice's group, and Bob not yet in it.
    Enabled,
    /// Both in a group.
    Group,
    /// Both in a group, and a commit and a message of Bob's on the way.
    BobRotated,
    /// Bob's group, and Alice's Welcome on the way.
    BobAdded,
}

/// The devices of a crowd.
const CROWD: usize = 20;

impl Before {
    /// How many devices are in the group in the end.
    fn devices(self) -> usize {
        if matches!(self, Self::Crowd) { 2 + CROWD } else { 2 }
    }

    async fn arrange(self, scene: &Scene<'_>) -> Result<String> {
        let room = match self {
            Self::Room => scene.room().await?,
            Self::Crowd => {
                let room = scene.room().await?;
                let name = format!("crowd-{}", scene.alice);
                let crowd = crowd::register(scene.homeserver, &name, CROWD).await?;
                // Packages that were claimed are lost where Alice is killed before she keeps them.
                for device in &crowd {
                    device.publish_key_package().await?;
                }
                crowd::enter_room(&scene.bob, &room, &crowd).await?;
                scene.bob.settle().await?;
                scene.does(&["settle"]).await?;
                room
            }
            Self::Enabled => {
                let room = scene.room().await?;
                scene.does(&["enable", &room]).await?;
                room
            }
            Self::Group => scene.group().await?,
            Self::BobRotated => {
                let room = scene.group().await?;
                scene.bob.rotate_keys(&room).await?;
                scene.bob.send_text(&room, "in the new epoch").await?;
                room
            }
            Self::BobAdded => {
                let request = json!({ "preset": "private_chat", "invite": [scene.alice_id()?] });
                let room = scene.bob.create_room_from(request).await?;
                scene.does(&["join", &room]).await?;
                scene.bob.settle().await?;
                scene.bob.enable(&room, RoomSettings::default()).await?;
                scene.bob.settle().await?;
                scene.bob.send_text(&room, "welcome").await?;
                scene.bob.settle().await?;
                room
            }
        };
        Ok(room)
    }
}

/// Kills Alice at each commit of a step; at least so many of them must have been met.
async fn killed_at_each_commit(tag: &str, before: Before, step: &[&str], least: u32) -> Result {
    let homeserver = Homeserver::embedded()?;
    for point in ["before-commit", "after-commit"] {
        let mut nth = 1;
        loop {
            let scene = Scene::new(&homeserver, &format!("{tag}-{point}-{nth}")).await?;
            let room = before.arrange(&scene).await?;
            let step: Vec<&str> = step
                .iter()
                .map(|part| if *part == "ROOM" { room.as_str() } else { part })
                .collect();
            let kill = format!("{point}:{nth}");
            let output = scene.run(Some(&kill), &step).await?;
            if let Before::Room | Before::Crowd = before {
                // An app that was killed while it made a group asks for it again.
                scene.does(&["enable", &room]).await?;
            }
            let what = format!("{tag}, killed at {kill}");
            if output.status.success() {
                scene.works(&room, &format!("{tag}, not killed"), before.devices()).await?;
                break;
            }
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.signal(), Some(SIGKILL), "{what}: {said}");
            scene.works(&room, &what, before.devices()).await?;
            nth += 1;
        }
        assert!(nth > least, "{tag}: only {} commits were met at {point}", nth - 1);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn creating_a_group() -> Result {
    killed_at_each_commit("create", Before::Room, &["enable", "ROOM"], 4).await
}

/// The group is made with all at once: what was gathered, or made, or sent is made or sent again.
#[tokio::test(flavor = "multi_thread")]
async fn founding_a_group_of_many() -> Result {
    killed_at_each_commit("found", Before::Crowd, &["enable", "ROOM"], 6).await
}

#[tokio::test(flavor = "multi_thread")]
async fn adding_a_member() -> Result {
    killed_at_each_commit("add", Before::Enabled, &["prepare", "ROOM"], 5).await
}

#[tokio::test(flavor = "multi_thread")]
async fn processing_a_commit_and_a_message() -> Result {
    killed_at_each_commit("process", Before::BobRotated, &["settle"], 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn joining_by_welcome() -> Result {
    killed_at_each_commit("join", Before::BobAdded, &["settle"], 2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rotating() -> Result {
    killed_at_each_commit("rotate", Before::Group, &["rotate", "ROOM"], 3).await
}

#[tokio::test(flavor = "multi_thread")]
async fn sending() -> Result {
    killed_at_each_commit("send", Before::Group, &["send", "ROOM", "one", "two", "three"], 2).await
}

/// Alice backs up, loses her phone and restores on a new one, which reads what the phone read. One
/// of the two is killed at each commit of its step, and does it again as an app that is started
/// again.
async fn lost_phone_killed_at_each_commit(tag: &str, new_phone: bool, least: u32) -> Result {
    let homeserver = Homeserver::embedded()?;
    for point in ["before-commit", "after-commit"] {
        let mut nth = 1;
        loop {
            let kill = format!("{point}:{nth}");
            let what = format!("{tag}, killed at {kill}");
            let scene = Scene::new(&homeserver, &format!("{tag}-{point}-{nth}")).await?;
            let room = scene.group().await?;
            let mut survived = true;
            let mut killed = async |device: &str, step: &[&str]| -> Result {
                let output = scene.run_on(device, Some(&kill), step).await?;
                if !output.status.success() {
                    let said = String::from_utf8_lossy(&output.stderr);
                    assert_eq!(output.status.signal(), Some(SIGKILL), "{what}: {said}");
                    survived = false;
                }
                Ok(())
            };
            if !new_phone {
                killed("PHONE", &["back-up"]).await?;
            }
            let key = scene.does(&["back-up"]).await?.remove(0);
            let key = key.strip_prefix("key ").or_missing("key in what Alice says")?;
            let read = scene.does(&["read", &room]).await?;
            assert!(read.iter().any(|line| line.ends_with("first of bob")), "{read:?}");
            scene.does_on("NEW", &["settle"]).await?;
            if new_phone {
                killed("NEW", &["restore", key]).await?;
            }
            scene.does_on("NEW", &["restore", key]).await?;
            assert_eq!(scene.does_on("NEW", &["read", &room]).await?, read, "{what}");
            if survived {
                break;
            }
            nth += 1;
        }
        assert!(nth > least, "{tag}: only {} commits were met at {point}", nth - 1);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn backing_up() -> Result {
    lost_phone_killed_at_each_commit("back-up", false, 5).await
}

#[tokio::test(flavor = "multi_thread")]
async fn restoring() -> Result {
    lost_phone_killed_at_each_commit("restore", true, 5).await
}

/// What left a process that was killed, and what left it after: Bob opens all of it, and no two
/// have the same epoch, leaf and generation.
#[tokio::test(flavor = "multi_thread")]
async fn no_generation_is_used_twice() -> Result {
    let homeserver = Homeserver::embedded()?;
    for (point, nth) in [("before-commit", 1), ("before-commit", 2), ("before-commit", 3)]
        .into_iter()
        .chain([("after-commit", 1), ("after-commit", 2), ("after-commit", 3)])
    {
        let scene = Scene::new(&homeserver, &format!("generation-{point}-{nth}")).await?;
        let room = scene.group().await?;
        let step = ["encrypt", &room, "a", "b", "c", "d", "e", "f", "g", "h"];
        let output = scene.run(Some(&format!("{point}:{nth}")), &step).await?;
        assert_eq!(output.status.signal(), Some(SIGKILL), "{point}:{nth}");
        let killed = String::from_utf8(output.stdout)?;
        let mut sealed: Vec<String> = killed.lines().map(ToOwned::to_owned).collect();
        for _ in 0..2 {
            sealed.extend(scene.does(&step).await?);
        }
        assert!(sealed.len() >= 16);

        let handle = scene.bob.room(&room).await?;
        let head = head(&scene.bob, &room).await;
        for (number, content) in sealed.iter().enumerate() {
            let content: Value = serde_json::from_str(content)?;
            let event = json!({
                "type": "m.room.encrypted", "event_id": format!("$sealed{number}"),
                "sender": scene.alice_id()?, "content": content,
            });
            handle.decrypt(event.to_string()).await?;
        }
        // Alice's first message was opened before, once by sync: it is another generation.
        let opened: Vec<_> =
            opened_messages().into_iter().filter(|(epoch, ..)| *epoch == head).collect();
        let different: BTreeSet<_> = opened.iter().collect();
        assert!(opened.len() > sealed.len(), "{point}:{nth}: {opened:?}");
        assert_eq!(different.len(), opened.len(), "{point}:{nth}: {opened:?}");
    }
    Ok(())
}
