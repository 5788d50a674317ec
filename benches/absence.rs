//! What it costs to catch up after an absence, by the number of devices and of commits that were
//! missed: the time a commit, the longest call, the peak of the memory, the requests and the bytes
//! of their answers; and what the same commits cost OpenMLS in memory, in the same run. Times are
//! of the processor where the system tells them (Linux), so that a busy machine does not show.
//!
//! One member renews its keys and says something, again and again; then the library's device sees
//! the last message alone. The homeserver is a list of events that answers at once. Its commits
//! have no public group state (a few kilobytes more each).
//!
//! `cargo bench --bench absence -- 10x100 1000x5000` measures 100 commits at 10 devices and 5,000
//! at 1,000 (the default is 10, 100 and 1,000 devices with 100, 1,000 and 5,000 commits each).
//! Prints a JSON line each (docs/decisions/016).

use std::{
    collections::BTreeMap,
    fs,
    future::Future,
    time::{Duration, Instant},
};

use matrix_mls::OutgoingRequest;
use matrix_mls_kit::{OrMissing as _, Result, bail, giant::Giant, written_tree::Shape};
use serde_json::{Value, json};

fn main() -> Result {
    // Flags that cargo adds are none of ours.
    let chosen: Vec<(usize, usize)> = std::env::args()
        .filter_map(|arg| {
            let (devices, commits) = arg.split_once('x')?;
            Some((devices.parse().ok()?, commits.parse().ok()?))
        })
        .collect();
    let all = [10, 100, 1_000].into_iter();
    let all = all.flat_map(|devices| [100, 1_000, 5_000].map(|commits| (devices, commits)));
    let runs = if chosen.is_empty() { all.collect() } else { chosen };
    let runtime = tokio::runtime::Runtime::new()?;
    for (devices, commits) in runs {
        println!("{}", runtime.block_on(absence(devices, commits))?);
    }
    Ok(())
}

/// How long calls took.
#[derive(Default)]
struct Calls {
    total: Duration,
    longest: Duration,
}

impl Calls {
    async fn time<T>(&mut self, call: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let before = processor();
        let value = call.await;
        let took = match (before, processor()) {
            (Some(before), Some(after)) => after.saturating_sub(before),
            _ => start.elapsed(),
        };
        self.total += took;
        self.longest = self.longest.max(took);
        value
    }

    fn a_commit_us(&self, commits: usize) -> f64 {
        (self.total.as_secs_f64() * 1e6 / commits as f64).round()
    }
}

/// How long all threads of this process have run.
fn processor() -> Option<Duration> {
    let threads = fs::read_dir("/proc/self/task").ok()?;
    let nanoseconds = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Some(Duration::from_nanos(nanoseconds.sum()))
}

/// What this process has in memory, or had at the most since that was last reset, in kilobytes.
fn memory(field: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().ok()
}

/// An absence of so many commits.
async fn absence(devices: usize, commits: usize) -> Result<Value> {
    let store = tempfile::tempdir()?;
    let mut giant = Giant::new(devices, Shape::Warm, store.path()).await?;
    let mut room = Room { first: giant.commit_event.clone(), ..Room::default() };
    let (mut made, mut messages) = (Vec::new(), Vec::new());
    for number in 0..commits {
        let commit = giant.founder.update();
        room.keep(giant.founders_commit(&commit, false)?)?;
        made.push(commit);
        let message = giant.message_event(&format!("text {number}"));
        messages.push(message.clone());
        room.keep(message)?;
    }
    let mut openmls = Calls::default();
    for commit in &made {
        openmls.time(async { giant.observer.process(commit) }).await;
    }
    drop(made);

    // The peak counts from here on.
    fs::write("/proc/self/clear_refs", "5").ok();
    let before = memory("VmRSS");
    let newest = messages.last().or_missing("message")?.clone();
    giant.device.room.receive_events(vec![newest]).await?;
    let mut calls = Calls::default();
    loop {
        let requests = calls.time(giant.device.machine.outgoing_requests()).await?;
        if requests.is_empty() {
            break;
        }
        for request in requests {
            let answer = match room.answer(&request)? {
                Some(answer) => answer,
                None => giant.tables.answer(&request)?,
            };
            let machine = &giant.device.machine;
            calls.time(machine.mark_request_as_sent(request.id, 200, answer)).await?;
        }
    }
    let peak = memory("VmHWM");
    for message in messages {
        giant.device.room.decrypt(message).await?;
    }
    let epochs = giant.device.room.epochs().await?;
    assert!(epochs.len() > commits && epochs.iter().all(|epoch| !epoch.is_external));
    Ok(json!({
        "devices": devices, "commits": commits,
        "us_a_commit": calls.a_commit_us(commits),
        "openmls_us_a_commit": openmls.a_commit_us(commits),
        "longest_call_ms": calls.longest.as_millis(),
        "memory_before_kb": before, "memory_peak_kb": peak,
        "requests": room.asked, "answers_kilobytes": room.bytes / 1000,
    }))
}

/// The room's history, as a homeserver has it.
#[derive(Default)]
struct Room {
    /// The commit that everybody knows.
    first: String,
    events: Vec<String>,
    by_id: BTreeMap<String, usize>,
    asked: usize,
    bytes: usize,
}

impl Room {
    fn keep(&mut self, event: String) -> Result {
        let parsed: Value = serde_json::from_str(&event)?;
        let id = parsed["event_id"].as_str().or_missing("event id")?.to_owned();
        self.by_id.insert(id, self.events.len());
        self.events.push(event);
        Ok(())
    }

    /// The answer to a request for an event, a place or a page.
    fn answer(&mut self, request: &OutgoingRequest) -> Result<Option<Vec<u8>>> {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let event = path.rsplit('/').next().unwrap_or_default();
        let event = event.replace("%24", "$").replace("%3A", ":");
        let answer = if path.contains("/event/") {
            let at = *self.by_id.get(&event).or_missing("event")?;
            self.events[at].clone()
        } else if path.contains("/context/") {
            if event != self.first {
                bail!("{event} is not where the device left off");
            }
            json!({ "events_before": [], "events_after": [], "end": "0" }).to_string()
        } else if path.ends_with("/messages") {
            let from = query.split('&').find_map(|pair| pair.strip_prefix("from="));
            let from: usize = from.or_missing("token")?.parse()?;
            let page = self.events.iter().skip(from).take(100);
            let page: Vec<&str> = page.map(String::as_str).collect();
            let end = from + page.len();
            format!(r#"{{"chunk":[{}],"end":"{end}"}}"#, page.join(","))
        } else {
            return Ok(None);
        };
        self.asked += 1;
        self.bytes += answer.len();
        Ok(Some(answer.into_bytes()))
    }
}
