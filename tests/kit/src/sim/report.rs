//! What was measured, over all schedules.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// What one schedule measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Commits from the healing to quiet.
    pub commits: u64,
    /// Rounds of all devices until then.
    pub rounds: u32,
    /// Requests of all devices until then.
    pub requests: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Messages sent.
    pub messages: u64,
    /// Messages that a device could not read and need not be able to.
    pub excused: u64,
    /// The most epochs that a device keeps in full.
    pub full_epochs: u64,
    /// The most that it keeps in all.
    pub epochs: u64,
    /// Lies of members and servers.
    pub lies: u64,
    /// The longest that a device could not send while others lied, in milliseconds.
    pub locked_ms: u64,
    /// The largest store, in bytes.
    pub store_bytes: u64,
    /// The most events that a device tried in one sync, those that had waited included.
    pub tried: u64,
}

/// What many schedules measured.
#[derive(Debug, Clone, Default)]
pub struct Report {
    figures: Vec<Figures>,
    counts: BTreeMap<String, u64>,
}

impl Report {
    /// Adds a schedule.
    pub fn add(&mut self, figures: Figures, counts: &BTreeMap<String, u64>) {
        self.figures.push(figures);
        for (what, times) in counts {
            *self.counts.entry(what.clone()).or_default() += times;
        }
    }

    /// How many schedules there were.
    pub fn schedules(&self) -> usize {
        self.figures.len()
    }
}

type Figure = fn(&Figures) -> u64;

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: [(&str, Figure); 12] = [
            ("commits until quiet", |figures| figures.commits),
            ("rounds until quiet", |figures| figures.rounds.into()),
            ("requests until quiet", |figures| figures.requests),
            ("bytes sent until quiet", |figures| figures.bytes),
            ("epochs kept in full, by one device", |figures| figures.full_epochs),
            ("epochs kept in all, by one device", |figures| figures.epochs),
            ("messages", |figures| figures.messages),
            ("messages a device was excused from", |figures| figures.excused),
            ("lies", |figures| figures.lies),
            ("minutes in which a device could not send", |figures| figures.locked_ms / 60_000),
            ("kB of the largest store", |figures| figures.store_bytes / 1_000),
            ("events tried in one sync", |figures| figures.tried),
        ];
        writeln!(formatter, "| of {} schedules | p50 | p95 | max |", self.schedules())?;
        writeln!(formatter, "|---|--:|--:|--:|")?;
        for (name, figure) in rows {
            let mut values: Vec<u64> = self.figures.iter().map(figure).collect();
            values.sort_unstable();
            // What is measured only where somebody lies.
            if values.last() == Some(&0) && !name.contains("until") {
                continue;
            }
            let at = |percent: usize| values.get(values.len().saturating_sub(1) * percent / 100);
            let [p50, p95, max] = [50, 95, 100].map(|percent| at(percent).copied().unwrap_or(0));
            writeln!(formatter, "| {name} | {p50} | {p95} | {max} |")?;
        }
        writeln!(formatter)?;
        for (what, times) in &self.counts {
            writeln!(formatter, "{times:>8} × {what}")?;
        }
        Ok(())
    }
}
