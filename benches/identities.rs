//! What it costs that users have identities: a room in which every device is signed by its owner,
//! beside one of the same size in which nobody has an identity, in turns. The policy is the default
//! of both: a device whose owner has an identity counts only with its owner's signature. Times of
//! commits are the processor's where the system tells them (Linux), so that a busy machine does not
//! show. It counts in steps that are longer than a message takes.
//!
//! `cargo bench --bench identities -- 1000` measures that size. Prints a JSON line a figure.

mod support;

use std::time::{Duration, Instant};

use matrix_mls_kit::{Result, giant::Giant, written_tree::Shape};
use support::{Figure, OURS, processor, sizes};

/// How figures name the room with identities.
const SIGNED: &str = "matrix-mls, all users with identities";
/// How often a message is measured, and how often a commit.
const MESSAGES: usize = 400;
const COMMITS: usize = 15;
const TEXT: &str = r#"{"msgtype":"m.text","body":"forty-two characters are enough for a text"}"#;

fn main() -> Result {
    let runtime = tokio::runtime::Runtime::new()?;
    for devices in sizes(&[10, 1_000, 10_000]) {
        eprintln!("rooms of {devices} devices …");
        runtime.block_on(measure(devices))?;
    }
    Ok(())
}

/// When something began.
struct Start(Instant, Option<Duration>);

impl Start {
    fn now() -> Self {
        Self(Instant::now(), processor())
    }

    fn took(&self) -> Duration {
        match (self.1, processor()) {
            (Some(before), Some(after)) => after.saturating_sub(before),
            _ => self.0.elapsed(),
        }
    }
}

/// A room, and what was measured in it, by operation.
struct Room {
    who: &'static str,
    giant: Giant,
    times: [(&'static str, Vec<Duration>); 4],
}

async fn measure(devices: usize) -> Result {
    let stores = [tempfile::tempdir()?, tempfile::tempdir()?];
    let [plain, signed] = stores.each_ref().map(tempfile::TempDir::path);
    let mut rooms = [
        Room::of(OURS, Giant::new(devices, Shape::Blank, plain).await?),
        Room::of(SIGNED, Giant::with_identities(devices, Shape::Blank, signed).await?),
    ];
    for _ in 0..MESSAGES {
        for room in &mut rooms {
            room.message().await?;
        }
    }
    for _ in 0..COMMITS {
        for room in &mut rooms {
            room.take_in().await?;
        }
    }
    // After these the founder is behind.
    for _ in 0..COMMITS {
        for room in &mut rooms {
            room.commit().await?;
        }
    }
    for room in rooms {
        for (operation, times) in room.times {
            Figure::new("identities", room.who, operation, devices).times(times).print();
        }
    }
    Ok(())
}

impl Room {
    fn of(who: &'static str, giant: Giant) -> Self {
        let operations = ["encrypt", "decrypt", "process update", "update"];
        Self { who, giant, times: operations.map(|operation| (operation, Vec::new())) }
    }

    /// The device seals a message, and opens one of the founder's.
    async fn message(&mut self) -> Result {
        let Self { giant, times: [encrypt, decrypt, ..], .. } = self;
        let start = Instant::now();
        giant.device.room.encrypt("m.room.message".into(), TEXT.into()).await?;
        encrypt.1.push(start.elapsed());
        let event = giant.message_event(TEXT);
        let start = Instant::now();
        giant.device.room.decrypt(event).await?;
        decrypt.1.push(start.elapsed());
        Ok(())
    }

    /// The device takes in a commit of the founder's.
    async fn take_in(&mut self) -> Result {
        let Self { giant, times: [.., process, _], .. } = self;
        let commit = giant.founder.update();
        let event = giant.founders_commit(&commit, false)?;
        let start = Start::now();
        giant.device.sync(Vec::new(), Vec::new(), vec![event]).await?;
        process.1.push(start.took());
        Ok(())
    }

    /// The device makes a commit of its own.
    async fn commit(&mut self) -> Result {
        let Self { giant, times: [.., update], .. } = self;
        giant.device.room.rotate_keys().await?;
        let device = &giant.device;
        let start = Start::now();
        giant.tables.make_ready(&device.machine, &device.room).await?;
        update.1.push(start.took());
        Ok(())
    }
}
