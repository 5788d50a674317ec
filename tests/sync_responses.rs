//! The homeserver's answers to a sync, read into what a machine is fed.

use matrix_mls::{
    FollowedRooms, MlsError, SyncStart, sync_changes_from_response, sync_changes_from_sliding_sync,
};
use matrix_mls_kit::{OrMissing as _, Result};
use serde_json::{Value, json};

#[test]
fn a_sliding_sync_is_read_with_every_part_of_it() -> Result {
    let request = |lists: Value| {
        let subscribed = json!({ "!open:example.org": { "timeline_limit": 20 } });
        json!({ "conn_id": "room-list", "lists": lists, "room_subscriptions": subscribed })
            .to_string()
    };
    let response = json!({
        "pos": "5", "lists": { "all": { "count": 3 } },
        "rooms": { "!room:example.org": {
            "initial": true, "limited": true, "joined_count": 4, "invited_count": 1,
            "required_state": [{ "type": "m.room.create" }], "timeline": [{ "type": "m.room.member" }],
            "prev_batch": "t1", "bump_stamp": 3, "heroes": [], "num_live": 0,
        } },
        "extensions": {
            "to_device": { "next_batch": "2", "events": [{ "type": "m.dummy" }] },
            "e2ee": {
                "device_lists": { "changed": ["@a:example.org"], "left": ["@b:example.org"] },
                "device_one_time_keys_count": { "signed_curve25519": 50 },
                "device_unused_fallback_key_types": ["signed_curve25519"],
            },
        },
    })
    .to_string();
    let ranges =
        |to: u64| json!({ "all": { "ranges": [[0, to]], "filters": {}, "timeline_limit": 1 } });
    let read = |lists, pos: Option<&str>| {
        let pos = pos.map(str::to_owned);
        sync_changes_from_sliding_sync(request(lists), pos, response.clone())
    };
    let changes = read(ranges(2), Some("4"))?;
    assert_eq!(changes.connection, "room-list");
    assert_eq!(changes.start, SyncStart::After { since: "4".into() });
    assert_eq!(changes.next_batch, "5");
    assert_eq!(changes.to_device.len(), 1);
    assert!(
        changes.device_lists.is_some_and(|lists| (lists.changed.len(), lists.left.len()) == (1, 1))
    );
    assert_eq!(changes.one_time_key_counts.map(|counts| counts["signed_curve25519"]), Some(50));
    assert_eq!(changes.unused_fallback_key_types.map(|unused| unused.len()), Some(1));
    assert_eq!(changes.followed_rooms, FollowedRooms::All);
    let room = changes.rooms.first().or_missing("room")?;
    assert_eq!((room.state.len(), room.timeline.len(), room.state_after.len()), (0, 1, 1));
    assert_eq!((room.limited, room.joined_count), (true, Some(4)));

    assert_eq!(read(ranges(2), None)?.start, SyncStart::Anew);
    let only = FollowedRooms::Only { room_ids: vec!["!open:example.org".into()] };
    assert_eq!(read(ranges(1), None)?.followed_rooms, only, "the list has more rooms");
    let filtered = json!({ "all": {
        "ranges": [[0, 9]], "filters": { "is_dm": true }, "timeline_limit": 1,
    } });
    assert_eq!(read(filtered, None)?.followed_rooms, only);
    assert_eq!(read(json!({}), None)?.followed_rooms, only);
    let without = json!({ "all": { "ranges": [[0, 9]], "timeline_limit": 0 } });
    assert_eq!(read(without, None)?.followed_rooms, only, "gaps are not told");
    Ok(())
}

#[test]
fn what_is_no_sliding_sync_is_refused() -> Result {
    for body in ["{}", r#"{"errcode":"M_UNKNOWN_POS"}"#, r#"{"next_batch":"s1"}"#, "[]", ""] {
        match sync_changes_from_sliding_sync("{}".into(), None, body.into()) {
            Err(MlsError::InvalidInput { details }) => {
                assert_eq!(details.code, "bad_sync_response")
            }
            other => panic!("{body}: {other:?}"),
        }
    }
    for request in ["no JSON", "[]", r#"{"lists":7}"#] {
        match sync_changes_from_sliding_sync(request.into(), None, r#"{"pos":"1"}"#.into()) {
            Err(MlsError::InvalidInput { details }) => assert_eq!(details.code, "bad_sync_request"),
            other => panic!("{request}: {other:?}"),
        }
    }
    let empty = sync_changes_from_sliding_sync("{}".into(), None, r#"{"pos":"1"}"#.into())?;
    assert_eq!((empty.rooms.len(), empty.device_lists), (0, None));
    Ok(())
}

#[test]
fn the_state_behind_a_timeline_is_told_from_that_before_it() -> Result {
    for name in ["state_after", "org.matrix.msc4222.state_after"] {
        let body = json!({
            "next_batch": "s2", "rooms": { "join": { "!room:example.org": {
                name: { "events": [{ "type": "m.room.member" }] },
                "timeline": { "limited": true, "events": [] },
                "summary": { "m.joined_member_count": 3 },
            } } },
        });
        let changes = sync_changes_from_response(body.to_string(), Some("s1".into()))?;
        assert_eq!(changes.start, SyncStart::After { since: "s1".into() });
        let room = changes.rooms.first().or_missing("room")?;
        assert_eq!((room.state.len(), room.state_after.len()), (0, 1));
        assert_eq!((room.limited, room.joined_count), (true, Some(3)));
    }
    Ok(())
}
