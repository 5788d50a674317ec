//! Bringing the world to quiet.
//!
//! All links are mended and everything on its way arrives. Then the devices take turns until
//! nothing moves: each syncs, sends what it has to, and does one `prepare_to_send`. Where they
//! race, all of them do so before any hears of the others. When nothing moved the clock jumps, so
//! that what waits for a time comes up (a search that is made again and again is no move), and only
//! when nothing moves after several jumps is it quiet.

use super::{
    run::{Run, Stop},
    violation::{Invariant, Violation},
};

/// The most rounds.
const MOST_ROUNDS: u32 = 60;
/// The most commits a device, from the healing on.
const MOST_COMMITS: u64 = 8;
/// How many rounds without a move are quiet.
const QUIET_ROUNDS: u32 = 3;
/// Longer than the library leaves anything alone for, in milliseconds.
const JUMP_MS: u64 = 11 * 60_000;

impl Run {
    /// Heals the world and lets it come to rest.
    pub(super) async fn settle(&mut self, racing: bool) -> Result<(), Violation> {
        self.note("-- healing");
        self.fault = None;
        self.world.heal();
        self.wake_all();
        self.world.pass(1_000, &mut self.dice);
        let before = self.world.traffic;
        let result = self.rounds(racing, before.commits).await;
        let after = self.world.traffic;
        self.figures.commits += after.commits - before.commits;
        self.figures.requests += after.requests - before.requests;
        self.figures.bytes += after.bytes - before.bytes;
        result
    }

    async fn rounds(&mut self, racing: bool, commits: u64) -> Result<(), Violation> {
        let mut quiet = 0;
        for round in 0..MOST_ROUNDS {
            let before = (self.world.position(), self.world.traffic.writes);
            self.round(racing).await?;
            self.world.pass(1_000, &mut self.dice);
            let made = self.world.traffic.commits - commits;
            if made > MOST_COMMITS * self.live().len() as u64 {
                let detail = format!("{made} commits after {} rounds, and no end", round + 1);
                return Err(Violation::new(Invariant::Settles, detail));
            }
            let after = (self.world.position(), self.world.traffic.writes);
            if before != after || self.world.is_busy() {
                self.figures.rounds = round + 1;
                quiet = 0;
                continue;
            }
            quiet += 1;
            if quiet == QUIET_ROUNDS {
                return Ok(());
            }
            self.world.pass(JUMP_MS, &mut self.dice);
        }
        let detail = format!("it still moves after {MOST_ROUNDS} rounds");
        Err(Violation::new(Invariant::Settles, detail))
    }

    async fn round(&mut self, racing: bool) -> Result<(), Violation> {
        for app in self.live() {
            self.calmly(app, true, !racing).await?;
        }
        if racing {
            for app in self.live() {
                self.calmly(app, false, true).await?;
            }
        }
        Ok(())
    }

    /// All devices sync, until they have nothing new to tell each other.
    pub(super) async fn all_sync(&mut self) -> Result<(), Violation> {
        for _ in 0..3 {
            for app in self.live() {
                self.calmly(app, true, false).await?;
            }
        }
        Ok(())
    }

    /// A device syncs, and makes ready to send if its user is in the room as far as it knows.
    pub(super) async fn calmly(
        &mut self,
        app: usize,
        syncs: bool,
        prepares: bool,
    ) -> Result<(), Violation> {
        let turn = async |run: &mut Self| {
            if syncs {
                run.sync(app, false).await?;
            }
            let name = run.apps[app].name.user_id();
            if prepares && run.apps[app].kept.joined.contains_key(&name) {
                run.prepare(app).await?;
            }
            Ok(())
        };
        match self.guarded(app, turn).await {
            Ok(()) | Err(Stop::Crashed) => Ok(()),
            Err(Stop::Violated(violation)) => Err(violation),
        }
    }
}
