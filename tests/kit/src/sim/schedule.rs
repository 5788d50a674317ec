//! What a schedule is, and how one is drawn.
//!
//! Users, devices and servers are named by small numbers, taken modulo what there is when the step
//! is done; so any list of steps is a schedule, and a list stays one when steps are taken away.

use proptest::{collection, option, prelude::*, strategy::Union};
use serde::{Deserialize, Serialize};

use super::lie;

/// One thing that happens.
#[allow(missing_docs, reason = "the fields are numbers of what the variants speak of")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// A device seals and sends messages; before it, it syncs or not.
    Send { device: u8, synced: bool, messages: u8 },
    /// A device renews its keys, with a commit now.
    Rotate { device: u8, synced: bool },
    /// A device makes the group fit the room, with a commit where one is needed.
    Prepare { device: u8, synced: bool },
    /// Two devices do so at once: neither hears of the other before it has committed.
    PrepareBoth { devices: [u8; 2] },
    /// A device that finds the room without a group makes it.
    Enable { device: u8 },
    /// A joined user invites another, who joins as soon as its server shows the invitation.
    LetIn { by: u8, user: u8 },
    /// A user leaves the room; its devices leave the group first, or hear of it by sync.
    Leave { user: u8, told: bool },
    /// A joined user removes another.
    Kick { by: u8, user: u8 },
    /// A user logs in with one more device.
    LogIn { user: u8 },
    /// A device is logged out; its server deletes it.
    LogOut { device: u8 },
    /// Two servers no longer hear each other.
    Cut { link: u8 },
    /// They do again.
    Mend { link: u8 },
    /// A device syncs. It may lose its place at once, and get the same again with the next sync.
    Sync { device: u8, forgets: bool },
    /// All devices sync.
    SyncAll,
    /// A device's process ends, and its user looks at it again only after a time.
    Sleep { device: u8, how_long: Span },
    /// Time passes.
    Wait { how_long: Span },
    /// A device's process dies and starts anew.
    Crash { device: u8 },
    /// A device's app has an older place in its syncs, or none.
    LosePlace { device: u8, begins_anew: bool },
    /// A device's directory is copied.
    Copy { device: u8 },
    /// The copy is put back: as other files, or into the same ones, as when a whole system is set
    /// back.
    Restore { device: u8, in_place: bool },
    /// A device's directory is lost: its user logs in as a new device and logs the old one out.
    LoseStore { device: u8 },
    /// A server has a wrong list of another's user: no devices. It stays so until all others
    /// settled.
    Mislead { server: u8, user: u8 },
    /// What waits for a device in its inbox, and the next Welcome for it, are lost.
    LoseWelcomes { device: u8 },
    /// The hostile member lies.
    Lie { lie: lie::Lie },
    /// A homeserver lies to its devices.
    Bend { bend: lie::Bend },
    /// A joined user removes the hostile one, or that one's device is logged out. It goes on lying.
    Banish { by: u8, logs_out: bool },
    /// A joined user invites the hostile one again.
    Pardon { by: u8 },
}

impl Action {
    /// Whether it changes who is in the room, or with which devices.
    pub(super) fn comes_or_goes(self) -> bool {
        matches!(
            self,
            Self::LetIn { .. }
                | Self::Leave { .. }
                | Self::Kick { .. }
                | Self::LogIn { .. }
                | Self::LogOut { .. }
                | Self::LoseStore { .. }
        )
    }
}

/// How much time passes.
#[allow(missing_docs, reason = "they say themselves")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Span {
    Second,
    Minute,
    Hour,
    Day,
    /// Longer than old epochs are kept.
    EightDays,
    /// A holiday.
    ThreeWeeks,
}

impl Span {
    /// In milliseconds.
    pub fn ms(self) -> u64 {
        match self {
            Self::Second => 1_000,
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
            Self::Day => 86_400_000,
            Self::EightDays => 8 * 86_400_000,
            Self::ThreeWeeks => 21 * 86_400_000,
        }
    }
}

/// What befalls a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trouble {
    /// The server does it, and the answer is lost.
    AnswerLost,
    /// The server does it, and the answer comes much later.
    AnswerLate,
    /// The server does it, and the process dies before it has said so to the machine.
    CrashAfter,
    /// It never arrives.
    RequestLost,
    /// The app gives it up, and it arrives after all, later.
    RequestLate,
    /// 429.
    TooMany,
    /// 502.
    ServerError,
    /// The process dies before it is sent.
    CrashBefore,
}

/// Trouble with one of the requests that a step makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// With which request of the step, counted from 0.
    pub nth: u8,
    /// What befalls it.
    pub trouble: Trouble,
}

/// One step of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What happens.
    pub action: Action,
    /// What goes wrong meanwhile.
    pub fault: Option<Fault>,
    /// Decides the small things: delays, and which old sync is meant.
    pub salt: u16,
}

/// How the world is at the beginning. Ann and Dan are on the first server, Ben on the second, Cat
/// on the third.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scene {
    /// Ann and Ben in a group, a device each.
    Pair,
    /// Ann, Ben and Cat in a group, a device each.
    Trio,
    /// Ann with two devices, Ben, Cat and Dan in a group.
    Five,
    /// Ann and Ben in a room that has no group yet.
    Bare,
    /// Ann, Ben and a hostile member in a group, a device each.
    PairAndLiar,
    /// Ann, Ben, Cat and a hostile member.
    TrioAndLiar,
    /// Ann with two devices, Ben, Cat, Dan and a hostile member.
    FiveAndLiar,
}

/// How far a device's clock is off: ahead, or behind where it is less than 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Off {
    /// In hours.
    pub hours: i8,
    /// In years, beside that.
    pub years: i8,
}

impl Off {
    /// In milliseconds.
    pub fn ms(self) -> i64 {
        i64::from(self.hours) * 3_600_000 + i64::from(self.years) * 365 * 86_400_000
    }
}

/// How the network and the servers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weather {
    /// The longest that anything takes from server to server, in milliseconds. Each takes its own
    /// time, so they overtake each other.
    pub delay_ms: u32,
    /// The most timeline events in one sync; what came before those is left out.
    pub timeline_limit: u16,
    /// Whether a server hides what a user sent who is out of the room by the time it arrives, as
    /// Synapse does ("soft failure").
    pub hides: bool,
    /// Whether all devices are brought up to date before anybody comes or goes.
    pub tidy: bool,
    /// Whether, after the world has healed, all devices act before any hears of the others.
    pub racing: bool,
    /// Whether the hostile member is removed from the room in the end. Otherwise it falls silent.
    #[serde(default)]
    pub expels: bool,
    /// Which devices sync by sliding sync: a bit for each, in the order in which they log in. The
    /// ninth is as the first.
    #[serde(default)]
    pub slides: u8,
    /// How far their clocks are off, in the same order. The fifth is as the first.
    #[serde(default)]
    pub off: [Off; 4],
}

impl Weather {
    /// Nothing takes time, and nobody takes care.
    pub const CALM: Self = Self {
        delay_ms: 0,
        timeline_limit: 1_000,
        hides: false,
        tidy: false,
        racing: false,
        expels: false,
        slides: 0,
        off: [Off { hours: 0, years: 0 }; 4],
    };
}

/// A history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// How it begins.
    pub scene: Scene,
    /// In which world.
    pub weather: Weather,
    /// What happens.
    pub steps: Vec<Step>,
}

/// Which schedules are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Profile {
    /// Nothing that lets two devices commit on one epoch.
    Calm,
    /// Partitions, races, delays, faults of every request, crashes. No state is lost for ever.
    Forks,
    /// That, and losses: Welcomes, stores, places in a sync, hidden events, old copies.
    Losses,
    /// What `Forks` has, and a member and servers that lie.
    Hostile,
    /// Phones, most of which sync by sliding sync as Element X does: they sleep for up to weeks,
    /// are killed, come back to gaps, and some have the wrong time.
    Phones,
}

/// How many steps a schedule has.
const STEPS: std::ops::RangeInclusive<usize> = 10..=40;

impl Profile {
    /// All of them, gentlest first.
    pub const ALL: [Self; 5] = [Self::Calm, Self::Forks, Self::Losses, Self::Hostile, Self::Phones];
    /// What is drawn from if nothing else is said.
    pub const HONEST: [Self; 3] = [Self::Calm, Self::Forks, Self::Losses];

    /// Draws schedules.
    pub fn schedules(self) -> impl Strategy<Value = Schedule> {
        let step = (self.actions(), self.faults(), any::<u16>());
        let step = step.prop_map(|(action, fault, salt)| Step { action, fault, salt });
        let scenes = match self {
            Self::Calm => vec![Scene::Pair, Scene::Trio, Scene::Five, Scene::Bare],
            Self::Hostile => {
                vec![Scene::PairAndLiar, Scene::TrioAndLiar, Scene::TrioAndLiar, Scene::FiveAndLiar]
            }
            _ => vec![Scene::Pair, Scene::Trio, Scene::Trio, Scene::Five],
        };
        (proptest::sample::select(scenes), self.weather(), collection::vec(step, STEPS))
            .prop_map(|(scene, weather, steps)| Schedule { scene, weather, steps })
    }

    fn weather(self) -> BoxedStrategy<Weather> {
        let calm = Weather::CALM;
        match self {
            Self::Calm => Just(Weather { tidy: true, ..calm }).boxed(),
            Self::Forks => (proptest::sample::select(vec![0_u32, 400, 5_000]), any::<bool>())
                .prop_map(move |(delay_ms, racing)| Weather { delay_ms, racing, ..calm })
                .boxed(),
            Self::Hostile => (
                proptest::sample::select(vec![0_u32, 400, 5_000]),
                any::<bool>(),
                any::<bool>(),
                proptest::bool::weighted(0.2),
            )
                .prop_map(move |(delay_ms, racing, expels, hides)| Weather {
                    delay_ms,
                    racing,
                    expels,
                    hides,
                    ..calm
                })
                .boxed(),
            Self::Phones => Self::phones().boxed(),
            Self::Losses => (
                proptest::sample::select(vec![0_u32, 400, 5_000]),
                proptest::sample::select(vec![1_000_u16, 10]),
                proptest::bool::weighted(0.3),
                any::<bool>(),
            )
                .prop_map(|(delay_ms, timeline_limit, hides, racing)| Weather {
                    delay_ms,
                    timeline_limit,
                    hides,
                    racing,
                    ..Weather::CALM
                })
                .boxed(),
        }
    }

    fn phones() -> impl Strategy<Value = Weather> {
        let hours = proptest::sample::select(vec![0_i8, 0, 0, 0, -13, -2, 3, 30]);
        let off = hours.prop_map(|hours| Off { hours, years: 0 });
        // One at the most: nobody could add devices of whom all others have another year.
        let years = option::weighted(0.2, (0..4_usize, proptest::sample::select(vec![-3_i8, 3])));
        (
            proptest::sample::select(vec![0_u32, 400, 5_000]),
            proptest::sample::select(vec![1_000_u16, 10]),
            any::<bool>(),
            proptest::bool::weighted(0.2),
            any::<u8>(),
            [off.clone(), off.clone(), off.clone(), off],
            years,
        )
            .prop_map(
                |(delay_ms, timeline_limit, racing, hides, slides, mut off, years)| {
                    if let Some((device, years)) = years {
                        off[device].years = years;
                    }
                    Weather {
                        delay_ms,
                        timeline_limit,
                        racing,
                        hides,
                        slides,
                        off,
                        ..Weather::CALM
                    }
                },
            )
    }

    fn faults(self) -> impl Strategy<Value = Option<Fault>> {
        use Trouble::*;
        // Where a commit may be out and not yet accepted, another device's forks the group.
        let troubles = match self {
            Self::Calm => vec![AnswerLost, AnswerLate, CrashAfter],
            _ => vec![
                AnswerLost,
                AnswerLate,
                CrashAfter,
                RequestLost,
                RequestLate,
                TooMany,
                ServerError,
                CrashBefore,
            ],
        };
        let fault = (0..4_u8, proptest::sample::select(troubles))
            .prop_map(|(nth, trouble)| Fault { nth, trouble });
        option::weighted(0.2, fault)
    }

    fn actions(self) -> Union<BoxedStrategy<Action>> {
        use Action::*;
        let forks = self != Self::Calm;
        let losses = self == Self::Losses;
        // In a calm world whoever acts knows all there is to know.
        let synced = move || if forks { any::<bool>().boxed() } else { Just(true).boxed() };
        let device = || 0..8_u8;
        let user = || 0..4_u8;
        let mut actions: Vec<(u32, BoxedStrategy<Action>)> = vec![
            (10, (device(), synced(), 1..4_u8).prop_map(send).boxed()),
            (4, device().prop_map(|device| Sync { device, forgets: false }).boxed()),
            (4, Just(SyncAll).boxed()),
            (
                3,
                (device(), synced()).prop_map(|(device, synced)| Rotate { device, synced }).boxed(),
            ),
            (
                2,
                (device(), synced())
                    .prop_map(|(device, synced)| Prepare { device, synced })
                    .boxed(),
            ),
            (3, (user(), user()).prop_map(|(by, user)| LetIn { by, user }).boxed()),
            (2, (user(), user()).prop_map(|(by, user)| Kick { by, user }).boxed()),
            (1, (user(), any::<bool>()).prop_map(|(user, told)| Leave { user, told }).boxed()),
            (2, user().prop_map(|user| LogIn { user }).boxed()),
            (1, device().prop_map(|device| LogOut { device }).boxed()),
            (2, spans(losses).prop_map(|how_long| Wait { how_long }).boxed()),
            (2, device().prop_map(|device| Crash { device }).boxed()),
            (1, device().prop_map(|device| Sync { device, forgets: true }).boxed()),
        ];
        if self == Self::Calm {
            actions.push((2, device().prop_map(|device| Enable { device }).boxed()));
        }
        if forks {
            actions.extend([
                (4, (0..3_u8).prop_map(|link| Cut { link }).boxed()),
                (3, (0..3_u8).prop_map(|link| Mend { link }).boxed()),
                (4, [device(), device()].prop_map(|devices| PrepareBoth { devices }).boxed()),
            ]);
        }
        if self == Self::Hostile {
            let banish = (user(), proptest::bool::weighted(0.3))
                .prop_map(|(by, logs_out)| Banish { by, logs_out });
            actions.extend([
                (24, lie::Lie::any().prop_map(|lie| Action::Lie { lie }).boxed()),
                (8, lie::Bend::any().prop_map(|bend| Action::Bend { bend }).boxed()),
                (2, banish.boxed()),
                (2, user().prop_map(|by| Pardon { by }).boxed()),
            ]);
        }
        if self == Self::Phones {
            let long = proptest::sample::select(vec![Span::Day, Span::EightDays, Span::ThreeWeeks]);
            let sleep =
                (device(), long.clone()).prop_map(|(device, how_long)| Sleep { device, how_long });
            let wait = long.prop_map(|how_long| Wait { how_long });
            let begin_anew = device().prop_map(|device| LosePlace { device, begins_anew: true });
            actions.extend([
                (6, sleep.boxed()),
                (3, wait.boxed()),
                (2, begin_anew.boxed()),
                (2, device().prop_map(|device| Crash { device }).boxed()),
                (2, device().prop_map(|device| Sync { device, forgets: true }).boxed()),
                (2, (user(), user()).prop_map(|(by, user)| LetIn { by, user }).boxed()),
                (1, (user(), user()).prop_map(|(by, user)| Kick { by, user }).boxed()),
                (1, user().prop_map(|user| LogIn { user }).boxed()),
                (1, device().prop_map(|device| LogOut { device }).boxed()),
            ]);
        }
        if losses {
            let lose_place = (device(), any::<bool>())
                .prop_map(|(device, begins_anew)| LosePlace { device, begins_anew });
            let restore = (device(), any::<bool>())
                .prop_map(|(device, in_place)| Restore { device, in_place });
            actions.extend([
                (2, lose_place.boxed()),
                (2, device().prop_map(|device| Copy { device }).boxed()),
                (2, restore.boxed()),
                (1, device().prop_map(|device| LoseStore { device }).boxed()),
                (2, device().prop_map(|device| LoseWelcomes { device }).boxed()),
                (2, (0..3_u8, user()).prop_map(|(server, user)| Mislead { server, user }).boxed()),
            ]);
        }
        Union::new_weighted(actions)
    }
}

fn send((device, synced, messages): (u8, bool, u8)) -> Action {
    Action::Send { device, synced, messages }
}

fn spans(long: bool) -> impl Strategy<Value = Span> {
    let mut spans = vec![Span::Second, Span::Minute, Span::Hour, Span::Day];
    if long {
        spans.push(Span::EightDays);
    }
    proptest::sample::select(spans)
}
