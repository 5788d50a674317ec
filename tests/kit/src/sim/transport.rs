//! The loop between a device's request queue and its server, and what goes wrong in it.

use matrix_mls::{OutgoingRequest, RequestOutcome, SendPlan};

use super::{
    app::Held,
    run::{Run, Stop},
    schedule::Trouble,
    world::Reply,
};

/// How often a loop goes round before its app does something else first.
const ROUNDS: usize = 12;

/// What became of a request.
pub(super) enum Exchange {
    Answered(Reply),
    /// The answer is still on its way.
    Held,
}

impl Run {
    /// Sends a request, with the trouble that is ordered for it.
    pub(super) fn exchange(
        &mut self,
        app: usize,
        request: &OutgoingRequest,
    ) -> Result<Exchange, Stop> {
        let trouble = self.trouble(app);
        let name = self.apps[app].name.clone();
        if let Some(trouble) = trouble {
            self.note(format!("{name}: {trouble:?} at {}", self.short(request)));
        }
        let reply = match trouble {
            Some(Trouble::RequestLost) => Reply::none(),
            Some(Trouble::TooMany) => Reply::too_many(),
            Some(Trouble::ServerError) => Reply::bad_gateway(),
            Some(Trouble::CrashBefore) => return Err(Stop::Crashed),
            Some(Trouble::RequestLate) => {
                let ms = 1_000 + self.dice.below(10_000);
                self.world.delay_request(&name, request.clone(), ms);
                Reply::none()
            }
            Some(Trouble::CrashAfter) => {
                self.world.handle(&name, request, &mut self.dice);
                return Err(Stop::Crashed);
            }
            Some(Trouble::AnswerLost) => {
                self.world.handle(&name, request, &mut self.dice);
                Reply::none()
            }
            Some(Trouble::AnswerLate) => {
                let reply = self.world.handle(&name, request, &mut self.dice);
                let position = self.world.position_of(name.server());
                self.apps[app].held.push(Held { id: request.id.clone(), reply, position });
                return Ok(Exchange::Held);
            }
            None => self.world.handle(&name, request, &mut self.dice),
        };
        Ok(Exchange::Answered(reply))
    }

    /// A request as it is named in traces, without what is random in it.
    fn short(&self, request: &OutgoingRequest) -> String {
        let path = request.path.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = path.split('/').skip(4).collect();
        let parts: Vec<&str> = match parts[..] {
            ["rooms", _, what, kind, ..] => vec![what, kind],
            [first, second, ..] => vec![first, second],
            _ => parts,
        };
        format!("{} {}", request.method, parts.join(" "))
    }

    /// Sends a request of the machine and tells it the answer; tells whether it was accepted.
    async fn send_request(&mut self, app: usize, request: &OutgoingRequest) -> Result<bool, Stop> {
        let Exchange::Answered(reply) = self.exchange(app, request)? else { return Ok(false) };
        let what = format!("{} -> {}", self.short(request), reply.status);
        self.note(format!("{}: {what}", self.apps[app].name));
        let position = self.world.position_of(self.apps[app].name.server());
        self.answer(app, Held { id: request.id.clone(), reply, position }, &what).await
    }

    async fn answer(
        &mut self,
        app: usize,
        Held { id, reply, position }: Held,
        what: &str,
    ) -> Result<bool, Stop> {
        if let Some(members) = reply.members() {
            self.follow_list(app, &members, position);
        }
        self.follow_members(app, reply.members_of_page().iter());
        let machine = self.open(app).await?;
        let outcome = machine.mark_request_as_sent(id, reply.status, reply.body.clone()).await;
        let outcome = self.fine(app, what, outcome)?;
        Ok(match outcome {
            Ok(RequestOutcome::Accepted) => {
                self.world.note_told(&self.apps[app].name, &reply.body);
                true
            }
            Ok(RequestOutcome::Refused { code, .. }) => {
                self.count(format!("refused {code}"));
                true
            }
            Ok(RequestOutcome::RetryLater { .. } | RequestOutcome::Unauthorized { .. })
            | Err(_) => false,
        })
    }

    /// Tells the machine the answers that were still on their way.
    pub(super) async fn answer_held(&mut self, app: usize) -> Result<(), Stop> {
        for held in std::mem::take(&mut self.apps[app].held) {
            let status = held.reply.status;
            self.note(format!("{}: a late answer, {status}", self.apps[app].name));
            self.answer(app, held, "a late answer").await?;
        }
        Ok(())
    }

    fn is_held(&self, app: usize, request: &OutgoingRequest) -> bool {
        self.apps[app].held.iter().any(|held| held.id == request.id)
    }

    /// Sends what the machine wants sent until nothing is due, and the app's own messages.
    pub(super) async fn drive(&mut self, app: usize) -> Result<(), Stop> {
        for _ in 0..ROUNDS {
            let machine = self.open(app).await?;
            let requests = machine.outgoing_requests().await;
            let requests = self.fine(app, "outgoing_requests", requests)?.unwrap_or_default();
            let mut moved = false;
            for request in requests {
                if !self.is_held(app, &request) {
                    moved |= self.send_request(app, &request).await?;
                }
            }
            if !moved {
                break;
            }
        }
        self.post(app)
    }

    /// Does what has to come before a send; tells whether the room is ready.
    pub(super) async fn prepare(&mut self, app: usize) -> Result<bool, Stop> {
        let is_ready = self.try_to_prepare(app).await?;
        if self.liar.is_some() {
            return self.is_not_locked_out(app, is_ready).await;
        }
        Ok(is_ready)
    }

    pub(super) async fn try_to_prepare(&mut self, app: usize) -> Result<bool, Stop> {
        for _ in 0..ROUNDS {
            let room = self.room(app).await?;
            let plan = room.prepare_to_send().await;
            drop(room);
            let requests = match self.fine(app, "prepare_to_send", plan)? {
                Ok(SendPlan::Ready) => return Ok(true),
                Ok(SendPlan::Waiting { requests, .. }) => requests,
                Err(error) => {
                    self.note(format!("{}: not ready, {}", self.apps[app].name, error.code()));
                    return Ok(false);
                }
            };
            let mut moved = false;
            for request in requests {
                if !self.is_held(app, &request) {
                    moved |= self.send_request(app, &request).await?;
                }
            }
            if !moved {
                return Ok(false);
            }
        }
        self.count("prepare went round in circles");
        Ok(false)
    }
}
