//! A report as text, for people: what is out of the ordinary is said, and the rest is counted.

use std::fmt;

use super::{
    Report,
    epochs::Epoch,
    rooms::{RoomReport, Rooms},
};

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "matrix-mls {}, at {} ms since 1970", self.library, self.at_ms)?;
        if let Some(device) = &self.device {
            writeln!(out, "device {device}")?;
        }
        writeln!(out, "own keys on the homeserver: {}; backup: {}", self.own_keys, self.backup)?;
        let store = &self.store;
        writeln!(
            out,
            "store: {} kB, {} kB of it free, and a log of {} kB; {} epochs with their full state",
            store.bytes / 1000,
            store.free_bytes / 1000,
            store.log_bytes / 1000,
            store.full_epochs,
        )?;
        let requests = &self.requests;
        write!(out, "requests: {} due, {} put off", requests.due, requests.put_off)?;
        if let Some(after_ms) = requests.retry_after_ms {
            write!(out, ", the next in {}", Span(after_ms))?;
        }
        if requests.is_unauthorized {
            write!(out, "; the homeserver refuses the access token")?;
        }
        writeln!(out)?;
        for (name, kind) in &requests.kinds {
            let (count, seen, failures) = (kind.count, kind.handed_out, kind.failures);
            writeln!(out, "  {count} {name}, {seen} handed out, failed {failures} times at most")?;
        }
        rooms(out, &self.rooms)?;
        if let Some(calls) = &self.calls {
            writeln!(out, "since the machine was opened:")?;
            for (name, times) in &calls.times {
                writeln!(
                    out,
                    "  {name}: {} calls, {} failed, {} ms in all, {} ms the longest",
                    times.count, times.failed, times.total_ms, times.longest_ms
                )?;
            }
            for (cause, count) in &calls.unreadable {
                writeln!(out, "  not readable, {cause}: {count}")?;
            }
        }
        Ok(())
    }
}

fn rooms(out: &mut fmt::Formatter<'_>, rooms: &Rooms) -> fmt::Result {
    let (known, with_mls) = (rooms.known, rooms.list.len());
    writeln!(out, "rooms: {known} known, {with_mls} of them with MLS")?;
    if rooms.left_out > 0 {
        writeln!(out, "  {} rooms were not looked at", rooms.left_out)?;
    }
    rooms.list.iter().try_for_each(|report| room(out, report))
}

fn room(out: &mut fmt::Formatter<'_>, room: &RoomReport) -> fmt::Result {
    write!(out, "room {}: {}", room.room, room.standing)?;
    if let Some(head) = room.epochs.iter().find(|epoch| epoch.is_head) {
        write!(
            out,
            " in epoch {}, {} devices, for {}",
            head.number,
            head.devices,
            Span(head.age_ms)
        )?;
    }
    let notes: [(bool, String); 9] = [
        (!room.is_settled, "members to be compared".to_owned()),
        (!room.knows_members, "not known who is in the room".to_owned()),
        (room.is_staged, "a commit waits for the homeserver".to_owned()),
        (room.is_catching_up, "catches up".to_owned()),
        (room.forks > 0, format!("{} forks", room.forks)),
        (room.waiting_events > 0, format!("{} events wait", room.waiting_events)),
        (room.missing_commits > 0, format!("{} commits are missing", room.missing_commits)),
        (room.joinable_epochs > 0, format!("{} epochs could be joined", room.joinable_epochs)),
        (room.rejoins_because.is_some(), {
            format!("joins anew: {}", room.rejoins_because.unwrap_or_default())
        }),
    ];
    for (_, note) in notes.iter().filter(|(holds, _)| *holds) {
        write!(out, "; {note}")?;
    }
    if let Some(waits_ms) = room.waiting_for_ms {
        write!(out, ", the oldest for {}", Span(waits_ms))?;
    }
    writeln!(out, "; {} epochs known", room.epochs_known)?;
    // Where all is well, the head says enough.
    if room.forks > 0 || room.standing != "member" {
        room.epochs.iter().try_for_each(|known| epoch(out, known))?;
    }
    Ok(())
}

fn epoch(out: &mut fmt::Formatter<'_>, epoch: &Epoch) -> fmt::Result {
    let (parent, full) = (
        epoch.parent.as_deref().unwrap_or("none"),
        if epoch.is_full { "full" } else { "decrypt-only" },
    );
    let head = if epoch.is_head { ", head" } else { "" };
    writeln!(
        out,
        "  epoch {} {} of {parent}, by {}, {} devices, {full}{head}",
        epoch.number, epoch.id, epoch.by, epoch.devices
    )
}

/// A span of time in its largest unit.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1000;
        match seconds {
            0..120 => write!(out, "{seconds} s"),
            120..7_200 => write!(out, "{} min", seconds / 60),
            7_200..172_800 => write!(out, "{} h", seconds / 3_600),
            _ => write!(out, "{} days", seconds / 86_400),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        let texts = [0, 119_999, 120_000, 7_200_000, 172_800_000].map(|ms| Span(ms).to_string());
        assert_eq!(texts, ["0 s", "119 s", "2 min", "2 h", "2 days"]);
    }
}
