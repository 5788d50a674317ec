//! The specification's vectors of the head rule (`docs/spec/vectors`): graphs of epochs, what a
//! device knows of them, and the order that follows.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{RoomId, UserId, room_id};
use serde_json::{Value, json};

use super::{
    EpochRecord, Origin, Status, order,
    outsiders::{self, Maker},
    trees::{LASTING, Support},
};
use crate::{
    mls::Removed,
    protocol::{
        DeviceName, EpochId, GroupName, GroupRank,
        vectors::{Outcome, bytes, cases, file, hex, text},
    },
    room::{self, Membership, Room, member_list, membership},
    store::{Store, StoreKeyMaterial, Tx},
};

/// How many graphs are drawn, beside those that are written by hand.
const DRAWN: u64 = 60;
const DRAWN_WITH_IMPOSTOR: u64 = 20;

fn room() -> &'static RoomId {
    room_id!("!room:example.org")
}

fn id_of(number: usize) -> String {
    hex(&[u8::try_from(number).unwrap_or(u8::MAX); 32])
}

/// An epoch as a vector has it.
fn epoch(at: usize, number: u64, parent: Option<usize>, root: usize, by: &str) -> Value {
    json!({
        "id": id_of(at), "number": number.to_string(), "parent": parent.map(id_of),
        "root": id_of(root), "group": "first", "creator": [by, "D"], "left": false, "removes": [],
    })
}

fn with(mut epoch: Value, field: &str, value: Value) -> Value {
    epoch[field] = value;
    epoch
}

fn case(name: &str, epochs: &[Value], votes: Value, outsiders: Value) -> Value {
    json!({ "name": name, "epochs": epochs, "votes": votes, "outsiders": outsiders })
}

fn written() -> Vec<Value> {
    let (a, b, m) = ("@a:x", "@b:x", "@m:x");
    let mallory = json!([["@m:x", "D"]]);
    let fork = [
        epoch(1, 5, None, 1, a),
        epoch(3, 6, Some(1), 1, a),
        epoch(2, 6, Some(1), 1, b),
        epoch(4, 7, Some(3), 1, a),
    ];
    let removal = [
        epoch(1, 5, None, 1, a),
        with(epoch(2, 6, Some(1), 1, a), "removes", mallory.clone()),
        epoch(3, 6, Some(1), 1, m),
        epoch(4, 7, Some(3), 1, m),
        epoch(5, 8, Some(4), 1, m),
    ];
    let went_on = [removal.to_vec(), vec![epoch(6, 9, Some(5), 1, b)]].concat();
    let impostor = json!([["@b:x", "D", "impostor"]]);
    let by_impostor = |at, number, parent| {
        with(epoch(at, number, Some(parent), 1, b), "creator", json!(["@b:x", "D", "impostor"]))
    };
    let impostors = [
        epoch(1, 5, None, 1, a),
        with(epoch(2, 6, Some(1), 1, a), "removes", impostor.clone()),
        by_impostor(3, 6, 1),
        by_impostor(4, 7, 3),
        by_impostor(5, 8, 4),
    ];
    let not_removed =
        [vec![epoch(1, 5, None, 1, a), epoch(2, 6, Some(1), 1, a)], impostors[2..].to_vec()]
            .concat();
    let namesake = [
        vec![
            impostors[0].clone(),
            with(epoch(2, 6, Some(1), 1, a), "removes", json!([["@b:x", "D"]])),
        ],
        impostors[2..].to_vec(),
    ]
    .concat();
    let went_on_with_it = [impostors.to_vec(), vec![epoch(6, 9, Some(5), 1, b)]].concat();
    let trees = [epoch(1, 5, None, 1, a), epoch(2, 500, None, 2, m)];
    let made_up = [epoch(1, 5, None, 1, a), epoch(2, (1 << 48) + 8, None, 2, m)];
    let restarted = [
        epoch(1, 500, None, 1, a),
        with(epoch(2, 0, None, 2, a), "group", json!(1)),
        with(epoch(3, 1 << 40, None, 3, m), "group", json!("unnamed")),
    ];
    let left = [with(epoch(1, 9, None, 1, a), "left", json!(true)), epoch(2, 4, None, 2, a)];
    let votes = |one: Value, two: Value| json!({ id_of(1): one, id_of(2): two });
    vec![
        case("the longer branch", &fork, json!({}), json!([])),
        case("the smaller id", &fork[..3], json!({}), json!([])),
        case("a removed device went on", &removal, json!({}), mallory.clone()),
        case("it is in the room again", &removal, json!({}), json!([])),
        case("somebody went on with it", &went_on, json!({}), mallory),
        case("an impostor went on", &impostors, json!({}), impostor.clone()),
        case("an impostor is not removed", &not_removed, json!({}), impostor.clone()),
        case("the device itself is removed", &namesake, json!({}), impostor.clone()),
        case("somebody went on with an impostor", &went_on_with_it, json!({}), impostor),
        case("nobody votes", &trees, json!({}), json!([])),
        case("more votes", &trees, votes(json!(2), json!(1)), json!([])),
        case("as many votes", &trees, votes(json!(1), json!(1)), json!([])),
        case("both are lasting", &trees, votes(json!("lasting"), json!("lasting")), json!([])),
        case("one is lasting", &trees, votes(json!("lasting"), json!(7)), json!([])),
        case("a made-up number", &made_up, json!({}), json!([])),
        case("a made-up number with votes", &made_up, votes(json!(1), json!(2)), json!([])),
        case("started anew", &restarted, json!({}), json!([])),
        case("this device was removed", &left, json!({}), json!([])),
    ]
}

/// Numbers below a bound, drawn by SplitMix64: the same each time.
fn draw(name: u64) -> impl FnMut(u64) -> u64 {
    let mut state = name.wrapping_mul(0x2545_F491_4F6C_DD1D);
    move |bound: u64| {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// A graph of up to nine epochs in up to three trees, by three users of whom one may be out.
fn drawn(name: u64) -> Value {
    let mut below = draw(name);
    let users = ["@a:x", "@b:x", "@m:x"];
    let mut epochs: Vec<Value> = Vec::new();
    let mut at_root: Vec<(usize, u64)> = Vec::new();
    for at in 1..=(2 + below(8) as usize) {
        let by = users[below(3) as usize];
        let begins = epochs.is_empty() || (at_root.len() < 3 && below(5) == 0);
        let mut made = if begins {
            let number = [0, 3, 6, 1 << 21, (1 << 48) + 1][below(5) as usize];
            at_root.push((at, number));
            epoch(at, number, None, at, by)
        } else {
            let parent = below(epochs.len() as u64) as usize;
            let base = &epochs[parent];
            let number: u64 =
                base["number"].as_str().and_then(|text| text.parse().ok()).unwrap_or_default();
            let root = base["root"].clone();
            with(epoch(at, number + 1, Some(parent + 1), 0, by), "root", root)
        };
        if by != "@m:x" && below(4) == 0 {
            made["removes"] = json!([["@m:x", "D"]]);
        }
        made["left"] = json!(below(9) == 0);
        epochs.push(made);
    }
    let mut votes = BTreeMap::new();
    for (root, _) in at_root {
        match below(5) {
            0 => {}
            4 => drop(votes.insert(id_of(root), json!("lasting"))),
            some => drop(votes.insert(id_of(root), json!(some))),
        }
    }
    let outsiders = if below(4) == 0 { json!([]) } else { json!([["@m:x", "D"]]) };
    case(&format!("drawn {name}"), &epochs, json!(votes), outsiders)
}

/// A graph of up to nine epochs of one tree, by two users and by a leaf with the name of one's
/// device.
fn drawn_with_impostor(name: u64) -> Value {
    let mut below = draw(name ^ 0x00C0_FFEE);
    let (a, b, impostor) =
        (json!(["@a:x", "D"]), json!(["@b:x", "D"]), json!(["@b:x", "D", "impostor"]));
    let mut epochs = vec![epoch(1, 5, None, 1, "@a:x")];
    for at in 2..=(3 + below(7) as usize) {
        let parent = below(epochs.len() as u64) as usize;
        let number: u64 = epochs[parent]["number"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .unwrap_or_default();
        let maker = [&a, &b, &impostor][below(3) as usize];
        let mut made =
            with(epoch(at, number + 1, Some(parent + 1), 1, ""), "creator", maker.clone());
        if *maker != impostor {
            made["removes"] = [json!([]), json!([b]), json!([impostor]), json!([b, impostor])]
                [below(4) as usize]
                .clone();
        }
        epochs.push(made);
    }
    case(&format!("drawn with an impostor {name}"), &epochs, json!({}), json!([impostor]))
}

/// The ids of a case's epochs, in the order of the head rule.
fn in_order(tx: &Tx<'_>, case: &Value) -> Outcome<Vec<String>> {
    let maker = |of: &Value| -> Outcome<Maker> {
        let user = of[0].as_str().ok_or("no user")?;
        let device =
            DeviceName::new(UserId::parse(user)?, of[1].as_str().ok_or("no device")?.into());
        Ok(Maker { device, is_impostor: of[2] == json!("impostor") })
    };
    let id = |text: &Value| -> Outcome<EpochId> {
        let bytes = bytes(&json!({ "id": text }), "id")?;
        Ok(EpochId::from_bytes(bytes.try_into().map_err(|_| "an id has 32 bytes")?))
    };
    let list = |of: &Value| of.as_array().cloned().unwrap_or_default();
    let is_out: BTreeSet<_> = list(&case["outsiders"]).iter().map(maker).collect::<Outcome<_>>()?;
    let mut epochs = Vec::new();
    for made in cases(case, "epochs")? {
        let rank = match (&made["group"], made["group"].as_u64()) {
            (_, Some(number)) => GroupRank::Restart(number),
            (Value::String(name), _) if name == "unnamed" => GroupRank::Unnamed,
            _ => GroupRank::First,
        };
        let Maker { device: creator, is_impostor } = maker(&made["creator"])?;
        let is_in = !is_out.contains(&Maker { device: creator.clone(), is_impostor: false });
        room::edit(tx, room(), |room| {
            membership::set(tx, room, &creator.user_id, is_in.then_some(Membership::Joined))
        })?;
        let origin = Origin {
            namespace: tx.new_namespace()?,
            creator,
            parent: made["parent"].is_string().then(|| id(&made["parent"])).transpose()?,
            group: (GroupName::First, rank),
            status: Status::Accepted,
            since_ms: 0,
        };
        let number = text(made, "number")?.parse()?;
        let mut record = EpochRecord::new(id(&made["id"])?, number, 2, origin);
        record.root = Some(id(&made["root"])?);
        record.left = made["left"] == json!(true);
        record.by_impostor = is_impostor;
        let mut removed = Removed::default();
        for gone in list(&made["removes"]).iter().map(maker) {
            let Maker { device, is_impostor } = gone?;
            removed.impostors.extend(is_impostor.then(|| device.clone()));
            removed.devices.push(device);
        }
        outsiders::forget(tx, room(), record.id)?;
        outsiders::note_removed(tx, room(), record.id, &removed)?;
        epochs.push(record);
    }
    let mut support = Support::new();
    for (root, votes) in case["votes"].as_object().into_iter().flatten() {
        let votes = votes.as_u64().and_then(|votes| votes.try_into().ok()).unwrap_or(LASTING);
        support.insert(Some(id(&json!(root))?), votes);
    }
    let room: Room = room::load(tx, room())?;
    let led = order::on_outsiders_commits(tx, &room, &epochs)?;
    order::sort_by(&mut epochs, &support, &led);
    Ok(epochs.iter().map(|epoch| hex(epoch.id.as_bytes())).collect())
}

#[test]
fn heads() -> Outcome {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path(), StoreKeyMaterial::None)?;
    store.write(|tx| {
        let mut list = member_list::load(tx, room())?;
        list.seen_from_the_beginning(3, 1);
        Outcome::Ok(member_list::save(tx, room(), &list)?)
    })?;
    let order = |case: &Value| store.write(|tx| in_order(tx, case));
    let vectors = file("heads", || {
        let mut made: Vec<Value> = written().into_iter().chain((1..=DRAWN).map(drawn)).collect();
        made.extend((1..=DRAWN_WITH_IMPOSTOR).map(drawn_with_impostor));
        for case in &mut made {
            case["order"] = json!(order(case)?);
        }
        Ok(json!({ "graphs": made }))
    })?;
    for case in cases(&vectors, "graphs")? {
        assert_eq!(json!(order(case)?), case["order"], "{}", case["name"]);
    }
    Ok(())
}
