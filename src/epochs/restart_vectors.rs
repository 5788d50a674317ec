//! The specification's vectors of restarts (`docs/spec/vectors`): what a room's state says, what a
//! device knows, and with which group the room goes on.

use ruma::{EventId, OwnedEventId, RoomId, UserId, owned_user_id, room_id};
use serde_json::{Value, json};

use super::{EpochRecord, JoinableEpoch, Origin, Status, graph, head, restarts};
use crate::{
    devices,
    groups::Groups,
    identity::{Crypto, Identity, Publishing},
    protocol::{
        CommitContent, DeviceName, EpochId, GroupName, RestartContent, encode_base64,
        vectors::{
            Outcome, cases, file,
            mls::{ALGORITHM, Member},
            text,
        },
    },
    room::{self, Membership, Restart, Room, membership},
    store::{Store, StoreKeyMaterial, Tx},
    turn::Turn,
};

const ADMIN: &str = "@admin:example.org";
const BOB: &str = "@bob:example.org";
/// By how much a number may be higher than the last.
const AHEAD: u64 = 1 << 20;

fn room() -> &'static RoomId {
    room_id!("!room:example.org")
}

/// The id of a group, whose random bytes tell it from others of its number.
fn group_id(number: u64, random: u8) -> Vec<u8> {
    GroupName::Restarted { number, nonce: [random; 16] }.group_id(room())
}

/// An event in which a device publishes the state of its group.
fn event(of: &Member, commit: Option<&[u8]>) -> Outcome<Value> {
    let content = json!({
        "algorithm": ALGORITHM, "ciphertext": encode_base64(commit.unwrap_or_default()),
        "epoch_creator": of.name, "sender": of.name, "resolves": [],
        "commit_event": if commit.is_some() { "$one:example.org" } else { "$create:example.org" },
        "public_group_state": encode_base64(&of.group_info()?),
    });
    Ok(json!({ "sender": of.name.user_id, "content": content }))
}

/// The state event of a restart.
fn state(sender: &str, number: u64, announcement: &str) -> Value {
    json!({ "sender": sender, "content": { "number": number, "announcement": announcement } })
}

/// A device that is in the list of its user.
struct Listed {
    member: Member,
    keys: Value,
}

impl Listed {
    fn new(user: &str) -> Outcome<Self> {
        let member = Member::alone(user, "PHONE", b"none")?;
        let keys = member.device_keys()?;
        Ok(Self { member, keys })
    }

    /// Its announcement of a group.
    fn announces(self, group_id: &[u8]) -> Outcome<(Self, Value)> {
        let member = self.member.again(group_id)?;
        let event = event(&member, None)?;
        Ok((Self { member, ..self }, event))
    }

    /// Its first commit in a group.
    fn commits(self, group_id: &[u8]) -> Outcome<(Self, Value)> {
        let mut member = self.member.again(group_id)?;
        let commit = member.renew()?;
        let event = event(&member, Some(&commit))?;
        Ok((Self { member, ..self }, event))
    }
}

fn with(mut case: Value, changes: &[(&str, Value)]) -> Value {
    for (field, value) in changes {
        case[field] = value.clone();
    }
    case
}

fn make() -> Outcome<Value> {
    let (one, two) = ("$one:example.org", "$two:example.org");
    let (admin, first) = Listed::new(ADMIN)?.announces(&group_id(1, 1))?;
    let (admin, rival) = admin.announces(&group_id(1, 2))?;
    let (admin, second) = admin.announces(&group_id(2, 3))?;
    let (admin, nearest) = admin.announces(&group_id(AHEAD, 4))?;
    let (admin, too_far) = admin.announces(&group_id(AHEAD + 1, 4))?;
    let (admin, another_room) = admin.announces(b"!other:example.org")?;
    let (admin, rooms_first) = admin.announces(room().as_bytes())?;
    let (admin, later) = admin.commits(&group_id(1, 1))?;
    let mut not_announced = later.clone();
    not_announced["content"]["ciphertext"] = json!("");
    // Somebody else with the same name, whose key nobody publishes.
    let (_, forged) = Listed::new(ADMIN)?.announces(&group_id(1, 1))?;
    let (bob, of_bob) = Listed::new(BOB)?.announces(&group_id(1, 1))?;
    let (bob, vouching) = bob.commits(&group_id(1, 1))?;
    let (bob, elsewhere) = bob.commits(&group_id(1, 2))?;
    let (_, forged_commit) = Listed::new(BOB)?.commits(&group_id(1, 1))?;
    let admins = json!({ "PHONE": admin.keys });
    let bobs = json!({ "PHONE": bob.keys });
    let lists = json!({ ADMIN: admins, BOB: bobs });
    let gone = json!({ ADMIN: {}, BOB: bobs });
    let case = |name: &str, states: &[Value], events: Value, counts: Value| {
        json!({
            "name": name, "room_id": room(), "last": null, "is_in_a_group": true,
            "device_keys": lists, "joined": [ADMIN, BOB], "state": states,
            "announcements": events, "commits": [], "counts": counts,
        })
    };
    let before = json!({ "announcement": "$last:example.org", "sender": ADMIN });
    let last = |number: u64| with(before.clone(), &[("number", json!(number))]);
    let (by_admin, is_one) = ([state(ADMIN, 1, one)], json!({ one: first }));
    let plain = |name: &str| case(name, &by_admin, is_one.clone(), json!(one));
    let unlisted = |name: &str, counts: Value| {
        with(plain(name), &[("device_keys", gone.clone()), ("counts", counts)])
    };
    let vouched = |name: &str, commit: &Value, counts: Value| {
        with(unlisted(name, counts), &[("commits", json!([commit]))])
    };
    let refused = |name: &str, states: &[Value], event: &Value| {
        case(name, states, json!({ one: event }), Value::Null)
    };
    let both = json!({ one: first, two: rival });
    let twice = [state(ADMIN, 1, one), state(ADMIN, 1, two), state(ADMIN, 1, one)];
    let up = [state(ADMIN, 1, one), state(ADMIN, 2, two)];
    let down = [state(ADMIN, 2, two), state(ADMIN, 1, one)];
    let numbers = json!({ one: first, two: second });
    let made = vec![
        plain("the first restart"),
        with(plain("a device that is in no group"), &[("is_in_a_group", json!(false))]),
        case("the announcement is not to be had", &by_admin, json!({}), Value::Null),
        refused("the group id has another number", &[state(ADMIN, 2, one)], &first),
        refused("a number that is none", &[state(ADMIN, 0, one)], &rooms_first),
        refused("the room's first group", &by_admin, &rooms_first),
        refused("a group of another room", &by_admin, &another_room),
        refused("an announcement of a later epoch", &by_admin, &not_announced),
        refused("another user's announcement", &by_admin, &of_bob),
        refused("another user's state", &[state(BOB, 1, one)], &first),
        refused("signed with a key that is not listed", &by_admin, &forged),
        case("a second one", &up, numbers.clone(), json!(two)),
        case("an older one that is shown again", &down, numbers.clone(), json!(two)),
        with(plain("older than the last"), &[("last", last(2)), ("counts", Value::Null)]),
        with(plain("a number that counted already"), &[("last", last(1))]),
        case("two of one number", &twice[..2], both.clone(), json!(two)),
        case("two of one number, and the first again", &twice, both, json!(one)),
        case(
            "as far ahead as may be",
            &[state(ADMIN, AHEAD, one)],
            json!({ one: nearest }),
            json!(one),
        ),
        refused("too far ahead", &[state(ADMIN, AHEAD + 1, one)], &too_far),
        with(
            case(
                "ahead of the last",
                &[state(ADMIN, AHEAD + 1, one)],
                json!({ one: too_far }),
                json!(one),
            ),
            &[("last", last(1))],
        ),
        unlisted("the announcing device is gone", Value::Null),
        with(
            unlisted("it is gone, for a device that is in no group", json!(one)),
            &[("is_in_a_group", json!(false))],
        ),
        with(
            plain("a list that is not known, for a device that is in no group"),
            &[
                ("device_keys", json!({ BOB: bobs })),
                ("is_in_a_group", json!(false)),
                ("counts", Value::Null),
            ],
        ),
        vouched("it is gone, and a member has gone on", &vouching, json!(one)),
        vouched("a member has gone on in another group", &elsewhere, Value::Null),
        vouched("a commit of a key that is not listed", &forged_commit, Value::Null),
        with(
            vouched("who has gone on is not joined", &vouching, Value::Null),
            &[("joined", json!([ADMIN]))],
        ),
    ];
    Ok(json!({ "restarts": made }))
}

/// What a case's device knows before the state comes.
fn prepare(turn: &Turn<'_>, room: &mut Room, case: &Value) -> Outcome {
    let lists = case["device_keys"].as_object().ok_or("no lists")?;
    let users = lists.keys().map(|user| Ok(UserId::parse(user)?)).collect::<Outcome<Vec<_>>>()?;
    devices::track(turn.tx, users.iter().map(|user| &**user))?;
    let (query, _) = devices::query_request(turn.tx, users.into_iter().collect())?;
    let answer = json!({ "device_keys": lists }).to_string();
    devices::handle_query_response(turn.tx, &query, answer.as_bytes(), turn.now_ms)?;
    for user in case["joined"].as_array().into_iter().flatten() {
        let user = <&UserId>::try_from(user.as_str().ok_or("no user")?)?;
        membership::set(turn.tx, room, user, Some(Membership::Joined))?;
    }
    if case["is_in_a_group"] == json!(true) {
        let origin = Origin {
            namespace: turn.tx.new_namespace()?,
            creator: DeviceName::new(owned_user_id!("@a:b"), "D".into()),
            parent: None,
            group: Default::default(),
            status: Status::Accepted,
            since_ms: 0,
        };
        let record = EpochRecord::new(EpochId::from_bytes([1; 32]), 7, 2, origin);
        graph::put(turn.tx, &room.id, &record)?;
        room.kept.push(record.id);
        head::choose(turn, room)?;
        assert_eq!(room.standing.head(), Some(record.id));
    }
    if let Some(number) = case["last"]["number"].as_u64() {
        room.restarts.last = Some(Restart {
            group: GroupName::Restarted { number, nonce: [9; 16] },
            announcement: EventId::parse(text(&case["last"], "announcement")?)?,
            by: UserId::parse(text(&case["last"], "sender")?)?,
        });
    }
    Ok(())
}

/// What an event of the room publishes, if it is taken.
fn read(turn: &Turn<'_>, id: &EventId, event: &Value) -> Outcome<Option<JoinableEpoch>> {
    let content: CommitContent = serde_json::from_value(event["content"].clone())?;
    Ok(JoinableEpoch::read(turn, room(), id, &content).ok())
}

/// Looks at what the state has said, with the announcements that are to be had.
fn look(turn: &Turn<'_>, room: &mut Room, case: &Value) -> Outcome {
    let mut asked: Vec<OwnedEventId> = Vec::new();
    loop {
        let missing = restarts::settle(turn, room)?;
        let Some(id) = missing.into_iter().find(|id| !asked.contains(id)) else { return Ok(()) };
        let event = &case["announcements"][id.as_str()];
        if event.is_object()
            && let Some(shown) = read(turn, &id, event)?
        {
            restarts::announced(turn.tx, &room.id, &shown)?;
        }
        asked.push(id);
    }
}

/// The announcement of the group in which the room goes on, as one device of a case sees it.
fn counts(tx: &Tx<'_>, case: &Value) -> Outcome<Option<String>> {
    let crypto = Crypto::default();
    let user = owned_user_id!("@me:example.org");
    let identity = Identity::load_or_create(tx, &crypto, &user, &"ME".into(), Publishing::Alone)?;
    let (groups, now_ms) = (Groups::default(), 1_000);
    let turn = Turn::new(tx, &identity, &crypto, &groups, now_ms);
    let mut room = room::load(tx, room())?;
    prepare(&turn, &mut room, case)?;
    for state in cases(case, "state")? {
        let by = <&UserId>::try_from(text(state, "sender")?)?;
        let content: RestartContent = serde_json::from_value(state["content"].clone())?;
        restarts::claim(tx, &room, by, &content, true)?;
        look(&turn, &mut room, case)?;
    }
    for commit in case["commits"].as_array().into_iter().flatten() {
        if let Some(shown) = read(&turn, ruma::event_id!("$commit:example.org"), commit)?
            && restarts::vouch(&turn, &room, &shown)?
        {
            look(&turn, &mut room, case)?;
        }
    }
    while turn.next_consequence().is_some() {}
    Ok(room.restarts.last.map(|last| last.announcement.to_string()))
}

#[test]
fn restarts_of_the_vectors() -> Outcome {
    let vectors = file("restarts", make)?;
    for case in cases(&vectors, "restarts")? {
        let directory = tempfile::tempdir()?;
        let store = Store::open(directory.path(), StoreKeyMaterial::None)?;
        let counting = store.write(|tx| counts(tx, case))?;
        let before = case["last"]["announcement"].as_str();
        let expected = case["counts"].as_str().or(before);
        assert_eq!(counting.as_deref(), expected, "{}", case["name"]);
    }
    Ok(())
}
