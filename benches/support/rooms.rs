//! This library making and changing rooms through its public API, measured: the time is of all its
//! calls from the first to "ready to send" but those that take in `/keys/query`, and the bytes are
//! those of its requests.

use std::time::{Duration, Instant};

use matrix_mls::{DeviceListChanges, RoomSettings, SyncChanges};
use matrix_mls_kit::{
    Result, feed,
    giant::{Device, Giant},
    peer::Peer,
    tables::{Sent, Tables, join},
    written_tree::Shape,
};
use serde_json::json;

use super::{Figure, OURS, rounds};

/// How many devices one user has.
pub const DEVICES_OF_A_USER: usize = 20;
/// How often a change is measured.
const CHANGES: usize = 5;
const FOUNDER: &str = "@founder:example.org";

/// Bytes without trees, and those of trees, of so many operations.
fn wire(sent: &Sent, operations: usize) -> (usize, usize) {
    ((sent.bytes - sent.tree_bytes) / operations, sent.tree_bytes / operations)
}

/// Makes a room of devices whose keys are known and whose key packages are published.
pub async fn create(part: &str, devices: usize) -> Result {
    create_among(part, "create", devices, DEVICES_OF_A_USER).await
}

/// The same where all devices but one are one user's: with two users a room begins with a group of
/// one, and commits add the others (docs/decisions/032).
pub async fn create_by_commits(part: &str, devices: usize) -> Result {
    create_among(part, "create by commits", devices, devices).await
}

async fn create_among(part: &str, what: &str, devices: usize, of_a_user: usize) -> Result {
    let mut tables = Tables::default();
    for number in 1..devices {
        let user = format!("@user{}:example.org", number / of_a_user);
        tables.publish_peer(Peer::new(&user, &format!("D{number}")));
    }
    let mut times = Vec::new();
    let mut bytes = (0, 0);
    // From a few thousand devices on one takes many seconds.
    let runs = if devices >= 5_000 { 1 } else { rounds(devices, 3) };
    for _ in 0..runs {
        let store = tempfile::tempdir()?;
        // Each run is a new device, of whose name the homeserver knows no keys.
        tables.unpublish("@me:example.org", "ME");
        let device = Device::open("@me:example.org", "ME", store.path()).await?;
        device.upload(&mut tables).await?;
        let create = json!({
            "type": "m.room.create", "state_key": "", "event_id": "$create:example.org",
            "sender": "@me:example.org", "content": {},
        });
        let state = [create].into_iter().chain(tables.users().map(join));
        device.sync(Vec::new(), state.map(|event| event.to_string()).collect(), Vec::new()).await?;
        tables.settle(&device.machine).await?;
        tables.take_sent();
        let start = Instant::now();
        device.room.enable(RoomSettings::default()).await?;
        let enabling = start.elapsed();
        let took = tables.make_ready(&device.machine, &device.room).await?;
        times.push(enabling + took.calls);
        assert_eq!(device.room.members().await?.len(), devices);
        bytes = wire(&tables.take_sent(), 1);
    }
    Figure::new(part, OURS, what, devices).times(times).bytes(bytes).print();
    Ok(())
}

/// Adds a device, several times.
pub async fn add(part: &str, devices: usize, shape: Shape, giant: &mut Giant) -> Result {
    change(part, "add", devices, shape, giant, async |giant, number| {
        giant.tables.publish_peer(Peer::new(FOUNDER, &late(number)));
        tell_of_devices(giant).await
    })
    .await
}

/// Removes what [`add`] has added.
pub async fn remove(part: &str, devices: usize, shape: Shape, giant: &mut Giant) -> Result {
    change(part, "remove", devices, shape, giant, async |giant, number| {
        giant.tables.unpublish(FOUNDER, &late(number));
        tell_of_devices(giant).await
    })
    .await
}

/// Renews the device's keys, several times.
pub async fn update(part: &str, devices: usize, shape: Shape, giant: &mut Giant) -> Result {
    change(part, "update", devices, shape, giant, async |giant, _| {
        Ok(giant.device.room.rotate_keys().await?)
    })
    .await
}

fn late(number: usize) -> String {
    format!("LATE{number}")
}

/// Says that a user's devices have changed, and lets the library ask for them.
pub async fn tell_of_devices(giant: &mut Giant) -> Result {
    let lists = DeviceListChanges { changed: vec![FOUNDER.to_owned()], left: Vec::new() };
    let changes = SyncChanges { device_lists: Some(lists), ..feed() };
    giant.device.machine.receive_sync(changes).await?;
    giant.tables.settle(&giant.device.machine).await?;
    Ok(())
}

async fn change(
    part: &str,
    operation: &str,
    devices: usize,
    shape: Shape,
    giant: &mut Giant,
    mut cause: impl AsyncFnMut(&mut Giant, usize) -> Result,
) -> Result {
    let runs = rounds(devices, CHANGES);
    let mut times: Vec<Duration> = Vec::new();
    giant.tables.take_sent();
    for number in 0..runs {
        cause(giant, number).await?;
        let device = &giant.device;
        times.push(giant.tables.make_ready(&device.machine, &device.room).await?.calls);
    }
    let sent = giant.tables.take_sent();
    assert!(sent.commit.is_some(), "{operation}: nothing was committed");
    let figure = Figure::new(part, OURS, operation, devices).tree(shape);
    figure.times(times).bytes(wire(&sent, runs)).print();
    Ok(())
}
