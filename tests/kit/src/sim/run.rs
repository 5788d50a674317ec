//! A schedule that is running: the world, the devices, and what has been noted of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
    sync::Arc,
};

use matrix_mls::{MlsError, MlsMachine, MlsRoom};

use super::{
    app::App,
    dice::Dice,
    images::Images,
    ledger::Ledger,
    liar::Liar,
    loud,
    report::Figures,
    schedule::{Schedule, Trouble},
    violation::{Invariant, Violation},
    world::{Name, World},
};

/// What came of a schedule.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What it broke, if anything.
    pub violation: Option<Violation>,
    /// What was measured.
    pub figures: Figures,
    /// What happened, line by line; the same for the same schedule.
    pub trace: Vec<String>,
    /// How often things worth a look happened.
    pub counts: BTreeMap<String, u64>,
}

/// Runs a schedule, brings the world to quiet, and checks.
pub async fn run(images: &mut Images, schedule: &Schedule) -> Outcome {
    let mut run = match images.begin(schedule).await {
        Ok(run) => run,
        Err(violation) => return Outcome::simulator(violation),
    };
    let result = run.all(images, schedule).await;
    run.finish(result.err())
}

/// Why a step ends before its end.
pub(super) enum Stop {
    /// The device's process died.
    Crashed,
    /// An invariant is broken.
    Violated(Violation),
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Self::Violated(violation)
    }
}

/// A schedule that is running.
pub(super) struct Run {
    pub(super) world: World,
    pub(super) apps: Vec<App>,
    pub(super) ledger: Ledger,
    /// The hostile member, where there is one.
    pub(super) liar: Option<Liar>,
    pub(super) dice: Dice,
    pub(super) figures: Figures,
    /// Whose request is in for what trouble, after how many others.
    pub(super) fault: Option<(usize, u8, Trouble)>,
    /// Who has made the group, where there was none.
    pub(super) founder: Option<usize>,
    pub(super) began_ms: u64,
    pub(super) root: PathBuf,
    trace: Vec<String>,
    counts: BTreeMap<String, u64>,
}

impl Outcome {
    fn simulator(violation: Violation) -> Self {
        Self {
            violation: Some(violation),
            figures: Figures::default(),
            trace: Vec::new(),
            counts: BTreeMap::new(),
        }
    }
}

impl Run {
    pub(super) fn new(world: World, apps: Vec<App>, root: PathBuf) -> Self {
        Self {
            began_ms: world.now_ms,
            world,
            apps,
            ledger: Ledger::default(),
            liar: None,
            dice: Dice::new(0),
            figures: Figures::default(),
            fault: None,
            founder: None,
            root,
            trace: Vec::new(),
            counts: BTreeMap::new(),
        }
    }

    async fn all(&mut self, images: &mut Images, schedule: &Schedule) -> Result<(), Violation> {
        self.world.weather = schedule.weather;
        for (number, app) in self.apps.iter_mut().enumerate() {
            app.live_in(&schedule.weather, number);
        }
        drop(matrix_mls::test_hooks::take_opened_messages());
        for step in &schedule.steps {
            self.step(images, step).await?;
        }
        if self.liar.is_some() {
            self.stop_lying(schedule.weather.expels);
        }
        self.settle(schedule.weather.racing).await?;
        // Whoever disagrees comes to rest as well, and to agreement once all are told the same.
        if self.world.tell_the_truth() {
            self.note("-- all servers tell the truth");
            self.settle(schedule.weather.racing).await?;
        }
        self.check().await
    }

    fn finish(mut self, violation: Option<Violation>) -> Outcome {
        for request in std::mem::take(&mut self.world.unknown_requests) {
            self.count(format!("unknown request {request}"));
        }
        for app in &mut self.apps {
            app.die();
        }
        let _ = std::fs::remove_dir_all(&self.root);
        let Self { figures, trace, counts, .. } = self;
        Outcome { violation, figures, trace, counts }
    }

    /// Adds a line to the trace.
    pub(super) fn note(&mut self, line: impl fmt::Display) {
        let line = format!("{:>9} {line}", self.world.now_ms - self.began_ms);
        loud::say(&line);
        self.trace.push(line);
    }

    /// Counts something worth a look.
    pub(super) fn count(&mut self, what: impl Into<String>) {
        *self.counts.entry(what.into()).or_default() += 1;
    }

    /// An error that an app has to live with is given back; one that must never be is a violation.
    pub(super) fn fine<T>(
        &mut self,
        app: usize,
        what: &str,
        result: Result<T, MlsError>,
    ) -> Result<Result<T, MlsError>, Violation> {
        if let Err(error) = &result {
            self.no_defect(app, what, error)?;
            self.count(format!("{what}: {}", error.code()));
        }
        Ok(result)
    }

    /// Checks that an error is no defect.
    pub(super) fn no_defect(
        &self,
        app: usize,
        what: &str,
        error: &MlsError,
    ) -> Result<(), Violation> {
        use MlsError::{Closed, Internal, StoreDamaged, StoreFull, StoreInUse, StoreIo};
        match error {
            Internal { .. }
            | StoreDamaged { .. }
            | StoreIo { .. }
            | StoreInUse { .. }
            | StoreFull { .. }
            | Closed { .. } => Err(Violation::new(
                Invariant::NoDefect,
                format!("{}: {what}: {error}", self.apps[app].name),
            )),
            _ => Ok(()),
        }
    }

    pub(super) async fn open(&mut self, app: usize) -> Result<Arc<MlsMachine>, Violation> {
        self.show_clock(app);
        let machine = self.apps[app].open().await;
        self.fine(app, "open", machine)?.map_err(Violation::simulator)
    }

    pub(super) async fn room(&mut self, app: usize) -> Result<Arc<MlsRoom>, Violation> {
        self.show_clock(app);
        let room = self.apps[app].room().await;
        self.fine(app, "open", room)?.map_err(Violation::simulator)
    }

    /// The devices in a device's group.
    pub(super) async fn members(&mut self, app: usize) -> Result<BTreeSet<Name>, Violation> {
        let room = self.room(app).await?;
        let members = room.members().await;
        drop(room);
        let members = self.fine(app, "members", members)?.map_err(Violation::simulator)?;
        let names = members.iter().map(|member| Name::parse(&member.user_id, &member.device_id));
        names.collect::<Option<_>>().ok_or_else(|| Violation::simulator("a member of no world"))
    }

    /// The trouble that the next request of this device is in for.
    pub(super) fn trouble(&mut self, app: usize) -> Option<Trouble> {
        let (whose, before, trouble) = self.fault.as_mut()?;
        if *whose != app {
            return None;
        }
        if *before > 0 {
            *before -= 1;
            return None;
        }
        let trouble = *trouble;
        self.fault = None;
        Some(trouble)
    }

    /// The machines' clock shows what this device's does. They have one clock, and act in turn.
    fn show_clock(&self, app: usize) {
        let shown_ms = self.world.now_ms.saturating_add_signed(self.apps[app].off.ms());
        matrix_mls::test_hooks::set_clock_ms(shown_ms);
    }

    /// The devices that are logged in.
    pub(super) fn live(&self) -> Vec<usize> {
        (0..self.apps.len()).filter(|app| self.apps[*app].alive).collect()
    }

    /// Those of them that do something.
    pub(super) fn awake(&self) -> Vec<usize> {
        let is_awake = |app: &usize| self.apps[*app].sleeps_until_ms <= self.world.now_ms;
        self.live().into_iter().filter(is_awake).collect()
    }

    pub(super) fn device(&self, number: u8) -> Option<usize> {
        let awake = self.awake();
        awake.get(usize::from(number) % awake.len().max(1)).copied()
    }
}
