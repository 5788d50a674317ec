//! What the rooms' connection tells, and what it leaves out.

use serde_json::{Value, json};

use super::super::{Name, ROOM, World, user_id};
use crate::sim::dice::Dice;

/// Ann, Ben and Cat in the room, and Ann's phone.
fn world() -> (World, Name, Dice) {
    let (mut world, mut dice) = (World::new(1_000_000), Dice::new(0));
    let ann = Name { user: 0, device: "PHONE".to_owned() };
    world.log_in(&ann);
    world.create_room(&mut dice);
    for user in [1, 2] {
        world.invite(0, user, &mut dice);
    }
    (world, ann, dice)
}

fn ask(world: &mut World, ann: &Name, pos: Option<u64>) -> Option<Value> {
    let request = json!({ "lists": { "all_rooms": { "timeline_limit": 1 } } });
    let mut answer = world.slide_rooms(ann, &request, pos)?;
    answer["pos"] = json!(answer["pos"].as_str()?.parse::<u64>().ok()?);
    Some(answer)
}

/// The members that an answer has in its state.
fn members(answer: &Value) -> Vec<String> {
    let state = answer["rooms"][ROOM]["required_state"].as_array().cloned().unwrap_or_default();
    let keys = state.iter().filter(|event| event["type"] == "m.room.member");
    let mut keys: Vec<String> =
        keys.filter_map(|event| event["state_key"].as_str().map(str::to_owned)).collect();
    keys.sort();
    keys
}

#[test]
fn who_left_in_a_gap_is_not_named() {
    let (mut world, ann, mut dice) = world();
    let first = ask(&mut world, &ann, None).unwrap_or_default();
    assert_eq!(first["rooms"][ROOM]["initial"], true);
    assert_eq!(members(&first), [user_id(0), user_id(2)], "herself, and whom the last event names");
    assert!(world.remove(1, 1, &mut dice));
    assert!(world.invite(0, 3, &mut dice));
    let second = ask(&mut world, &ann, first["pos"].as_u64()).unwrap_or_default();
    let room = &second["rooms"][ROOM];
    assert_eq!((&room["limited"], &room["joined_count"]), (&json!(true), &json!(3)));
    assert_eq!(members(&second), [user_id(3)]);
    let third = ask(&mut world, &ann, second["pos"].as_u64()).unwrap_or_default();
    assert!(third["rooms"][ROOM].is_null(), "there is nothing new");
}

#[test]
fn a_position_counts_until_the_next_one_is_asked_from_and_for_a_week() {
    let (mut world, ann, mut dice) = world();
    let first = ask(&mut world, &ann, None).unwrap_or_default()["pos"].as_u64();
    let lost = ask(&mut world, &ann, first).unwrap_or_default()["pos"].as_u64();
    let second = ask(&mut world, &ann, first).unwrap_or_default()["pos"].as_u64();
    assert!(second.is_some() && second != lost, "the first position can be asked from again");
    assert!(ask(&mut world, &ann, second).is_some());
    assert!(ask(&mut world, &ann, first).is_none());
    let begun = ask(&mut world, &ann, None).unwrap_or_default()["pos"].as_u64();
    world.pass(super::FORGOTTEN_MS + 1, &mut dice);
    assert!(ask(&mut world, &ann, begun).is_none());
}

#[test]
fn a_room_that_was_left_is_told_of_once_and_one_of_the_removed_stays() {
    let (mut world, ann, mut dice) = world();
    let first = ask(&mut world, &ann, None).unwrap_or_default();
    assert!(world.remove(1, 0, &mut dice));
    let second = ask(&mut world, &ann, first["pos"].as_u64()).unwrap_or_default();
    assert_eq!(members(&second), [user_id(0), user_id(1)], "she is out, and by whom");
    let anew = ask(&mut world, &ann, None).unwrap_or_default();
    assert_eq!(members(&anew), [user_id(0), user_id(1)], "she was removed");
    assert!(world.invite(1, 0, &mut dice));
    assert!(world.remove(0, 0, &mut dice));
    let left = ask(&mut world, &ann, anew["pos"].as_u64()).unwrap_or_default();
    assert_eq!(members(&left), [user_id(0)]);
    let anew = ask(&mut world, &ann, None).unwrap_or_default();
    assert!(anew["rooms"][ROOM].is_null(), "she left by herself");
}
