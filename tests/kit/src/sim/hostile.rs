//! Steps in which somebody lies: the hostile member, and the homeservers; and how that ends.

use std::sync::Arc;

use super::{
    liar::{self, Client, Stage},
    lie::{Bend, Lie},
    run::{Run, Stop},
    violation::{Invariant, Violation},
    world::{HONEST, Listed, Name, Order, SERVERS, USERS, user_id},
};

/// For how long a device may be kept from sending: as long as one that was removed again and again
/// is left out, and an hour.
const LOCKED_OUT_MS: u64 = 25 * 60 * 60 * 1_000;
/// How often an app tries then, and after how long.
const TRIES: usize = 6;
const TRY_AFTER_MS: u64 = 10_000;
/// The most bytes that a store has at the end.
const MOST_BYTES: u64 = 8_000_000;
/// The most events that are tried in one sync.
const MOST_TRIED: u64 = 500;
/// The most requests a device, from the end of the lies until all is quiet.
const MOST_REQUESTS: u64 = 200;

impl Run {
    /// The hostile member lies, if there is one.
    pub(super) fn lie(&mut self, lie: Lie) {
        let Some(mut liar) = self.liar.take() else { return };
        let devices: Vec<Name> =
            self.live().into_iter().map(|app| self.apps[app].name.clone()).collect();
        let (world, dice) = (&mut self.world, &mut self.dice);
        let told = liar.tell(&mut Stage { world, dice, devices: &devices }, lie);
        self.liar = Some(liar);
        match told {
            Ok(what) => {
                self.figures.lies += 1;
                self.count(format!("lie: {}", lie.name()));
                self.note(format!("mal: {what}"));
            }
            Err(reason) => {
                self.count(format!("lie not told: {}", lie.name()));
                self.note(format!("mal cannot: {reason}"));
            }
        }
    }

    /// A homeserver lies.
    pub(super) fn bend(&mut self, bend: Bend) -> Result<(), Violation> {
        if !self.world.is_hostile {
            return Ok(());
        }
        self.figures.lies += 1;
        self.count(format!("server's lie: {}", bend.name()));
        let device = |run: &Self, number| run.device(number).map(|app| run.apps[app].name.clone());
        match bend {
            Bend::Hide { device: number, events } => {
                if let Some(name) = device(self, number) {
                    self.world.hide(&name, events);
                }
            }
            Bend::Backwards { device: number } => self.reorder(number, Order::Backwards),
            Bend::Shuffled { device: number } => self.reorder(number, Order::Shuffled),
            Bend::Twice { device: number } => self.reorder(number, Order::Twice),
            Bend::AddDevice { server, user } => {
                let name = Name {
                    user: usize::from(user) % HONEST,
                    device: format!("FALSE{}", self.figures.lies),
                };
                let listed = made_up(&name)?;
                self.note(format!("{name} is listed by server {}", usize::from(server) % 3));
                self.world.list(usize::from(server) % SERVERS.len(), &name, listed);
            }
            Bend::SwapKey { server, device: number } => {
                let Some(name) = device(self, number) else { return Ok(()) };
                let server = usize::from(server) % SERVERS.len();
                // A device's own server that lies about it to itself takes the device off the
                // network.
                if name.server() != server {
                    let listed = made_up(&name)?;
                    self.note(format!("{name} has another key for server {server}"));
                    self.world.swap(server, &name, listed);
                }
            }
            Bend::ListGone { server } => {
                let listed = self.world.list_gone(usize::from(server) % SERVERS.len());
                self.note(format!("{listed} devices that are gone are listed"));
            }
            Bend::OldAnswers { server } => {
                self.world.answer_as_before(usize::from(server) % SERVERS.len());
            }
        }
        Ok(())
    }

    fn reorder(&mut self, number: u8, order: Order) {
        if let Some(app) = self.device(number) {
            let name = self.apps[app].name.clone();
            self.world.reorder(&name, order);
        }
    }

    /// The hostile user is removed by another, or its device is logged out.
    pub(super) fn banish(&mut self, by: u8, logs_out: bool) {
        let Some(liar) = &self.liar else { return };
        if logs_out {
            let name = liar.name.clone();
            self.note(format!("{name} is logged out"));
            self.world.log_out(&name, &mut self.dice);
            return;
        }
        if let Some(by) = self.some_joined(by) {
            let done = self.world.remove(by, liar::USER, &mut self.dice);
            self.note(format!("{} removes mal: {done}", user_id(by)));
        }
    }

    /// The hostile user is invited again.
    pub(super) fn pardon(&mut self, by: u8) {
        if self.liar.is_none() {
            return;
        }
        if let Some(by) = self.some_joined(by) {
            let done = self.world.invite(by, liar::USER, &mut self.dice);
            self.note(format!("{} invites mal: {done}", user_id(by)));
        }
    }

    /// Whether a device that is ready to send, or is not, was kept from it for too long. One that
    /// was does what an app does for a person who waits: it syncs and tries again for a minute.
    pub(super) async fn is_not_locked_out(
        &mut self,
        app: usize,
        is_ready: bool,
    ) -> Result<bool, Stop> {
        if is_ready || !self.world.is_joined(self.apps[app].name.user) {
            self.apps[app].stuck_ms = None;
            return Ok(is_ready);
        }
        let since = *self.apps[app].stuck_ms.get_or_insert(self.world.now_ms);
        let locked_ms = self.world.now_ms - since;
        self.figures.locked_ms = self.figures.locked_ms.max(locked_ms);
        if locked_ms < LOCKED_OUT_MS {
            return Ok(false);
        }
        self.fault = None;
        for _ in 0..TRIES {
            self.world.pass(TRY_AFTER_MS, &mut self.dice);
            Box::pin(self.sync(app, false)).await?;
            if self.try_to_prepare(app).await? {
                self.apps[app].stuck_ms = None;
                return Ok(true);
            }
        }
        let hours = locked_ms / 3_600_000;
        let detail = format!("{} cannot send for {hours} hours", self.apps[app].name);
        Err(Violation::new(Invariant::Sends, detail).into())
    }

    /// Beside liars, a device's store is no larger than it may be, and no sync took more work.
    pub(super) fn is_bounded(&mut self, app: usize) -> Result<(), Violation> {
        let bytes = self.apps[app].store_bytes();
        self.figures.store_bytes = self.figures.store_bytes.max(bytes);
        if self.liar.is_none() {
            return Ok(());
        }
        let tried = self.figures.tried;
        if bytes > MOST_BYTES || tried > MOST_TRIED {
            let name = &self.apps[app].name;
            let detail =
                format!("the store of {name} has {bytes} bytes; {tried} events were tried");
            return Err(Violation::new(Invariant::Bounded, detail));
        }
        let (requests, devices) = (self.figures.requests, self.live().len() as u64);
        if requests > MOST_REQUESTS * devices {
            let detail = format!("{requests} requests of {devices} devices after the lies");
            return Err(Violation::new(Invariant::Bounded, detail));
        }
        Ok(())
    }

    /// The hostile member opens no message that was not sealed for it, with anything it ever had.
    pub(super) fn liar_opens_nothing(&mut self) -> Result<(), Violation> {
        let Some(mut liar) = self.liar.take() else { return Ok(()) };
        let sent: Vec<_> = self
            .ledger
            .sent(&self.world)
            .filter(|(_, sealed, _)| !sealed.members.iter().any(|name| name.user == liar::USER))
            .map(|(number, _, event)| (number, event.clone()))
            .collect();
        for (number, event) in sent {
            if liar.opens(&event) {
                let detail = format!("mal opens m{number}, and was no member for its sender");
                return Err(Violation::new(Invariant::Secret, detail));
            }
        }
        self.liar = Some(liar);
        Ok(())
    }

    fn some_joined(&self, number: u8) -> Option<usize> {
        let joined: Vec<usize> = (0..HONEST).filter(|user| self.world.is_joined(*user)).collect();
        joined.get(usize::from(number) % joined.len().max(1)).copied()
    }

    /// All lies end: the hostile member falls silent, or is removed by somebody who may; and
    /// servers tell the truth.
    pub(super) fn stop_lying(&mut self, expels: bool) {
        self.note("-- no more lies");
        self.world.straighten();
        if let Some(mut liar) = self.liar.take() {
            // It has seen all it ever will.
            liar.follow(&mut self.world);
            self.liar = Some(liar);
        }
        if expels {
            self.banish(0, false);
        }
    }
}

/// A device that its user does not have, with keys that hold together.
fn made_up(name: &Name) -> Result<Listed, Violation> {
    debug_assert!(name.user < USERS.len());
    let client = Client::new(&name.user_id(), &name.device);
    let (_, id, value) = client.key_package().map_err(Violation::simulator)?;
    let keys: Arc<str> = client.peer.device_keys().to_string().into();
    let value: Arc<str> = format!("\"{value}\"").into();
    Ok(Listed { keys, package: Some((id, value)) })
}
