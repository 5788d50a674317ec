//! What each step does.

use super::{
    app::App,
    dice::Dice,
    images::Images,
    run::{Run, Stop},
    schedule::{Action, Fault, Step},
    violation::Violation,
    world::{Name, user_id},
};

/// The most devices that are logged in at a time.
const MOST_DEVICES: usize = 6;
/// The most time a schedule may take, by the machines' clock: OpenMLS looks at the real one, and
/// the key packages have to be valid on both.
const LONGEST_MS: u64 = 40 * 86_400_000;

impl Run {
    /// Does one step.
    pub(super) async fn step(&mut self, images: &mut Images, step: &Step) -> Result<(), Violation> {
        self.dice = Dice::new(u64::from(step.salt));
        self.note(format!("-- {:?}", step.action));
        if self.world.weather.tidy && step.action.comes_or_goes() {
            self.tidy().await?;
        }
        match self.act(images, step.action, step.fault).await {
            Ok(()) => {}
            Err(Stop::Crashed) => {}
            Err(Stop::Violated(violation)) => return Err(violation),
        }
        self.fault = None;
        let ms = 50 + self.dice.below(200);
        self.world.pass(ms, &mut self.dice);
        Ok(())
    }

    /// Everybody is up to date, and all who should be are in the group.
    async fn tidy(&mut self) -> Result<(), Violation> {
        for _ in 0..2 {
            for app in self.live() {
                self.calmly(app, true, true).await?;
            }
        }
        Ok(())
    }

    async fn act(
        &mut self,
        images: &mut Images,
        action: Action,
        fault: Option<Fault>,
    ) -> Result<(), Stop> {
        match action {
            Action::Send { device, synced, messages } => {
                let Some(app) = self.begin(device, synced, fault).await? else { return Ok(()) };
                for _ in 0..messages {
                    self.guarded(app, async |run: &mut Self| run.send(app).await).await?;
                }
            }
            Action::Rotate { device, synced } => {
                let Some(app) = self.begin(device, synced, fault).await? else { return Ok(()) };
                let room = self.room(app).await?;
                let rotated = room.rotate_keys().await;
                drop(room);
                drop(self.fine(app, "rotate_keys", rotated)?);
                self.guarded(app, async |run: &mut Self| run.prepare(app).await.map(drop)).await?;
            }
            Action::Prepare { device, synced } => {
                let Some(app) = self.begin(device, synced, fault).await? else { return Ok(()) };
                self.guarded(app, async |run: &mut Self| run.prepare(app).await.map(drop)).await?;
            }
            Action::PrepareBoth { devices } => {
                for device in devices {
                    let Some(app) = self.begin(device, false, fault).await? else { continue };
                    let prepared = async |run: &mut Self| {
                        let room = run.room(app).await?;
                        let rotated = room.rotate_keys().await;
                        drop(room);
                        drop(run.fine(app, "rotate_keys", rotated)?);
                        run.prepare(app).await.map(drop)
                    };
                    self.guarded(app, prepared).await?;
                }
            }
            Action::Enable { device } => {
                let Some(app) = self.device(device) else { return Ok(()) };
                if *self.founder.get_or_insert(app) != app {
                    return Ok(());
                }
                let Some(app) = self.begin(device, true, fault).await? else { return Ok(()) };
                let room = self.room(app).await?;
                let enabled = room.enable(Default::default()).await;
                drop(room);
                drop(self.fine(app, "enable", enabled)?);
                self.guarded(app, async |run: &mut Self| run.drive(app).await).await?;
            }
            Action::Sync { device, forgets } => {
                let Some(app) = self.begin(device, false, fault).await? else { return Ok(()) };
                self.guarded(app, async |run: &mut Self| run.sync(app, forgets).await).await?;
            }
            Action::SyncAll => {
                for app in self.awake() {
                    self.fault = fault.map(|fault| (app, fault.nth, fault.trouble));
                    self.guarded(app, async |run: &mut Self| run.sync(app, false).await).await?;
                }
            }
            Action::LogIn { user } => {
                self.log_in(images, usize::from(user) % 4, fault).await?;
            }
            Action::LetIn { by, user } => self.let_in(images, by, user).await?,
            Action::Lie { lie } => self.lie(lie),
            Action::Bend { bend } => self.bend(bend)?,
            Action::Banish { by, logs_out } => self.banish(by, logs_out),
            Action::Pardon { by } => self.pardon(by),
            other => self.happen(images, other, fault).await?,
        }
        Ok(())
    }

    /// What happens to devices, users and links, without a call of an app's.
    async fn happen(
        &mut self,
        images: &mut Images,
        action: Action,
        fault: Option<Fault>,
    ) -> Result<(), Stop> {
        match action {
            Action::Leave { user, told } => self.leave(user, told).await?,
            Action::Kick { by, user } => {
                if let Some((by, user)) = self.pair(by, user) {
                    let done = self.world.remove(by, user, &mut self.dice);
                    self.note(format!("{} removes {}: {done}", user_id(by), user_id(user)));
                }
            }
            Action::LogOut { device } => {
                if let Some(app) = self.device(device)
                    && self.live().len() > 1
                {
                    self.log_out(app);
                }
            }
            Action::Cut { link } => self.world.set_link(usize::from(link), false),
            Action::Mend { link } => self.world.set_link(usize::from(link), true),
            Action::Wait { how_long }
                if self.world.now_ms - self.began_ms + how_long.ms() < LONGEST_MS =>
            {
                self.world.pass(how_long.ms(), &mut self.dice);
            }
            Action::Crash { device } => {
                if let Some(app) = self.device(device) {
                    self.apps[app].die();
                }
            }
            Action::LosePlace { device, begins_anew } => {
                if let Some(app) = self.device(device) {
                    let number = self.dice.below(self.apps[app].places.len() as u64) as usize;
                    let older = self.apps[app].places.get(number).copied();
                    self.apps[app].kept.since = older.filter(|_| !begins_anew);
                    self.lose_connection(app, begins_anew);
                }
            }
            Action::Sleep { device, how_long } => {
                if let Some(app) = self.device(device)
                    && self.awake().len() > 1
                {
                    self.apps[app].die();
                    self.apps[app].sleeps_until_ms = self.world.now_ms + how_long.ms();
                    self.note(format!("{} sleeps", self.apps[app].name));
                }
            }
            Action::Copy { device } => {
                if let Some(app) = self.device(device) {
                    let tick = self.world.tick();
                    self.apps[app].copy(tick)?;
                }
            }
            Action::Restore { device, in_place } => {
                if let Some(app) = self.device(device) {
                    let tick = self.world.tick();
                    let done = self.apps[app].restore(in_place, tick)?;
                    self.note(format!("{} is restored: {done}", self.apps[app].name));
                    if done {
                        // An app that starts syncs before it does anything else.
                        self.fault = fault.map(|fault| (app, fault.nth, fault.trouble));
                        let sync = async |run: &mut Self| run.sync(app, false).await;
                        self.guarded(app, sync).await?;
                    }
                }
            }
            Action::LoseStore { device } => {
                if let Some(app) = self.device(device) {
                    let user = self.apps[app].name.user;
                    self.log_out(app);
                    self.log_in(images, user, fault).await?;
                }
            }
            Action::Mislead { server, user } => {
                let (server, user) = (usize::from(server), usize::from(user));
                let done = self.world.mislead(server, user);
                self.note(format!("a server knows of no devices of {}: {done}", user_id(user)));
            }
            Action::LoseWelcomes { device } => {
                if let Some(app) = self.device(device) {
                    let name = self.apps[app].name.clone();
                    self.world.lose_welcomes(&name);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A device is about to act: it gets the step's trouble, and what it was not told yet.
    async fn begin(
        &mut self,
        device: u8,
        synced: bool,
        fault: Option<Fault>,
    ) -> Result<Option<usize>, Stop> {
        let Some(app) = self.device(device) else { return Ok(None) };
        self.note(format!("{} acts", self.apps[app].name));
        self.fault = None;
        self.guarded(app, async |run: &mut Self| {
            if run.dice.percent(50) {
                run.answer_held(app).await?;
            }
            if synced { run.sync(app, false).await } else { Ok(()) }
        })
        .await?;
        self.fault = fault.map(|fault| (app, fault.nth, fault.trouble));
        Ok(Some(app))
    }

    /// Does something as a device; if its process dies meanwhile, it starts anew.
    pub(super) async fn guarded(
        &mut self,
        app: usize,
        work: impl AsyncFnOnce(&mut Self) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        match work(self).await {
            Err(Stop::Crashed) => {
                self.apps[app].die();
                Ok(())
            }
            other => other,
        }
    }

    /// Two joined users, the second another than the first.
    pub(super) fn pair(&self, by: u8, user: u8) -> Option<(usize, usize)> {
        let joined: Vec<usize> = (0..4).filter(|user| self.world.is_joined(*user)).collect();
        let by = *joined.get(usize::from(by) % joined.len().max(1))?;
        let others: Vec<usize> = joined.into_iter().filter(|other| *other != by).collect();
        let user = *others.get(usize::from(user) % others.len().max(1))?;
        Some((by, user))
    }

    async fn leave(&mut self, user: u8, told: bool) -> Result<(), Stop> {
        let joined: Vec<usize> = (0..4).filter(|user| self.world.is_joined(*user)).collect();
        let Some(user) = joined.get(usize::from(user) % joined.len().max(1)).copied() else {
            return Ok(());
        };
        let done = self.world.remove(user, user, &mut self.dice);
        self.note(format!("{} leaves: {done}", user_id(user)));
        if !(done && told) {
            return Ok(());
        }
        let first = self.awake().into_iter().find(|app| self.apps[*app].name.user == user);
        if let Some(app) = first {
            let room = self.room(app).await?;
            let left = room.leave().await;
            drop(room);
            if self.fine(app, "leave", left)?.is_ok() {
                self.apps[app].kept.entries.clear();
            }
        }
        Ok(())
    }

    fn log_out(&mut self, app: usize) {
        let name = self.apps[app].name.clone();
        self.note(format!("{name} is logged out"));
        self.world.log_out(&name, &mut self.dice);
        self.apps[app].die();
        self.apps[app].alive = false;
    }

    async fn let_in(&mut self, images: &mut Images, by: u8, user: u8) -> Result<(), Stop> {
        let joined: Vec<usize> = (0..4).filter(|user| self.world.is_joined(*user)).collect();
        let others: Vec<usize> = (0..4).filter(|user| !joined.contains(user)).collect();
        let by = joined.get(usize::from(by) % joined.len().max(1)).copied();
        let user = others.get(usize::from(user) % others.len().max(1)).copied();
        let (Some(by), Some(user)) = (by, user) else { return Ok(()) };
        if !self.live().iter().any(|app| self.apps[*app].name.user == user) {
            self.log_in(images, user, None).await?;
        }
        let done = self.world.invite(by, user, &mut self.dice);
        self.note(format!("{} invites {}: {done}", user_id(by), user_id(user)));
        Ok(())
    }

    async fn log_in(
        &mut self,
        images: &mut Images,
        user: usize,
        fault: Option<Fault>,
    ) -> Result<(), Stop> {
        let before = self.apps.iter().filter(|app| app.name.user == user).count();
        let name = Name { user, device: format!("D{}", before + 1) };
        if self.live().len() >= MOST_DEVICES {
            return Ok(());
        }
        let directory = self.root.join(format!("{user}-{}", name.device));
        images.device(&name, &directory, self.world.now_ms).await?;
        self.world.log_in(&name);
        self.note(format!("{name} logs in"));
        let app = self.apps.len();
        self.apps.push(App::new(name, directory));
        self.apps[app].live_in(&self.world.weather, app);
        self.fault = fault.map(|fault| (app, fault.nth, fault.trouble));
        let begin = async |run: &mut Self| {
            run.drive(app).await?;
            run.sync(app, false).await
        };
        self.guarded(app, begin).await
    }
}
