//! What it costs to keep epochs, by the size of the room: bytes on disk for the first full state
//! and for each further one, bytes written and time for a commit, time to load a group.
//!
//! The room has grown as rooms do: members were added in batches, some of them have committed, so
//! the tree's parents are mostly filled. Two devices are measured beside each other, both OpenMLS
//! over this library's store, which do with each commit what the library does: process it in a
//! child of its epoch, merge, detach. One shares pieces of large values between epochs, as the
//! library does; in the other's store every epoch keeps its own copy, as before.
//!
//! `cargo bench --bench epochs -- 100 1000` measures those sizes (10, 100 and 1,000 if none is
//! given). Prints a JSON line a figure.

mod device;
mod peers;

use std::time::Duration;

use matrix_mls_kit::Result;
use serde_json::{Value, json};

use self::{
    device::{Cost, Device, used},
    peers::{Kind, Peers},
};

const ROOM: &str = "!giant:example.org";
/// The devices that are measured, and whose they are.
const USER: &str = "@me:example.org";
const MINE: [&str; 2] = ["ME", "ME TOO"];
/// How many commits of each kind are kept, and how many are made while old epochs are let go. As
/// many as are removed as are added: the tree keeps its size.
const ROUNDS: usize = 12;
/// How many rotations follow, for what many commits make of the file.
const LONG_RUN: usize = 50;
/// How many epochs stay full in the second half, as in the library when nothing else is said.
const KEPT: usize = 16;

fn main() -> Result {
    // Flags that cargo adds are none of ours.
    let chosen: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let sizes = if chosen.is_empty() { vec![10, 100, 1_000] } else { chosen };
    for devices in sizes {
        measure(devices)?;
    }
    Ok(())
}

fn measure(devices: usize) -> Result {
    eprintln!("growing a room of {devices} devices …");
    let mut peers = Peers::grow(devices - 1);
    let mut pair = [Device::new(MINE[0], false)?, Device::new(MINE[1], true)?];
    let empty = [used(&pair[0].file)?, used(&pair[1].file)?];
    let welcome = peers.add(&[pair[0].key_package()?, pair[1].key_package()?], true);
    for device in &mut pair {
        device.join(&welcome)?;
    }
    let report = |what: &str, figure: Value| {
        println!("{}", json!({ "what": what, "devices": devices, "figure": figure }));
    };
    let first = [used(&pair[0].file)? - empty[0], used(&pair[1].file)? - empty[1]];
    report("first full epoch", json!({ "bytes": first[0], "whole_bytes": first[1] }));

    // Every epoch is kept.
    for kind in Kind::ALL {
        let mut bytes = [0; 2];
        for round in 0..ROUNDS {
            let costs = follow(&mut pair, &mut peers, kind, round)?;
            for (sum, cost) in bytes.iter_mut().zip(costs) {
                *sum += cost.kept_bytes;
            }
        }
        let each = bytes.map(|sum| sum / ROUNDS as i64);
        let percent = (each[0] as f64 / first[0] as f64 * 1000.0).round() / 10.0;
        let figure =
            json!({ "bytes": each[0], "percent_of_first": percent, "whole_bytes": each[1] });
        report(&format!("one more kept epoch: {}", kind.name()), figure);
    }

    // Only the latest are.
    for device in &mut pair {
        device.prune()?;
    }
    for kind in Kind::ALL {
        let mut costs: [Vec<Cost>; 2] = Default::default();
        for round in 0..ROUNDS {
            let [shared, whole] = follow(&mut pair, &mut peers, kind, round)?;
            costs[0].push(shared);
            costs[1].push(whole);
        }
        let written = costs.each_ref().map(|costs| median(costs.iter().map(|cost| cost.log_bytes)));
        let [time, whole_time] = costs.map(|costs| spread(costs.into_iter().map(|cost| cost.time)));
        let figure = json!({
            "written_bytes": written[0], "whole_written_bytes": written[1],
            "time": time, "whole_time": whole_time,
        });
        report(&format!("a commit: {}", kind.name()), figure);
    }
    let (mut times, mut whole_times) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        times.push(pair[0].load()?);
    }
    for _ in 0..ROUNDS {
        whole_times.push(pair[1].load()?);
    }
    let (time, whole_time) = (spread(times.into_iter()), spread(whole_times.into_iter()));
    report("loading the group", json!({ "time": time, "whole_time": whole_time }));
    for round in 0..LONG_RUN {
        follow(&mut pair, &mut peers, Kind::Rotation, round)?;
    }
    let bytes = [used(&pair[0].file)? - empty[0], used(&pair[1].file)? - empty[1]];
    let figure = json!({
        "bytes": bytes[0], "whole_bytes": bytes[1], "epochs": KEPT,
        "commits": LONG_RUN + 2 * ROUNDS * (Kind::ALL.len() + 1),
    });
    report("all full epochs after many commits", figure);
    Ok(())
}

/// One more commit, for both devices; of their own rotations each makes one.
fn follow(
    pair: &mut [Device; 2],
    peers: &mut Peers,
    kind: Kind,
    round: usize,
) -> Result<[Cost; 2]> {
    if kind == Kind::OwnRotation {
        return Ok([rotate_own(pair, peers, 0)?, rotate_own(pair, peers, 1)?]);
    }
    let commit = peers.commit(kind, round)?;
    // Neither is always the first.
    if round.is_multiple_of(2) {
        Ok([pair[0].process(&commit)?, pair[1].process(&commit)?])
    } else {
        let whole = pair[1].process(&commit)?;
        Ok([pair[0].process(&commit)?, whole])
    }
}

/// One of the two renews its keys, and all others take that in.
fn rotate_own(pair: &mut [Device; 2], peers: &mut Peers, at: usize) -> Result<Cost> {
    let (cost, commit) = pair[at].rotate()?;
    peers.take_in(&commit);
    pair[1 - at].process(&commit)?;
    Ok(cost)
}

fn median(bytes: impl Iterator<Item = u64>) -> u64 {
    let mut bytes: Vec<_> = bytes.collect();
    bytes.sort_unstable();
    bytes[bytes.len() / 2]
}

fn spread(times: impl Iterator<Item = Duration>) -> Value {
    let mut times: Vec<_> = times.collect();
    times.sort();
    let at = |part: usize| (times[times.len() * part / 100].as_secs_f64() * 1e7).round() / 10.0;
    json!({ "median_us": at(50), "p95_us": at(95) })
}
