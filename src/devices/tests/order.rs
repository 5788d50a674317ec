//! Changes, queries, answers and failures in any order: a list that counts as up to date is the
//! one the homeserver has.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

#[test]
fn an_answer_from_before_a_user_was_given_up_is_not_news_after() -> Outcome {
    let scene = Scene::new()?;
    scene.track()?;
    let old = answer(&signed(&key_pair()?, &key_pair()?)?).to_string();
    scene.write(|tx| {
        let (query, _) = query_request(tx, [alice()].into())?;
        untrack(tx, [&*alice()])?;
        // Nobody tells us of what changes meanwhile.
        track(tx, [&*alice()])?;
        assert!(!query.covers(tx, &alice())?);
        handle_query_response(tx, &query, old.as_bytes(), 0)?;
        Outcome::Ok(())
    })?;
    assert_eq!(scene.outdated(0)?, [alice()]);
    Ok(())
}

#[test]
fn an_answer_that_was_overtaken_undoes_nothing() -> Outcome {
    let scene = Scene::new()?;
    scene.track()?;
    let keys = signed(&key_pair()?, &key_pair()?)?;
    scene.write(|tx| {
        let (early, _) = query_request(tx, [alice()].into())?;
        note_device_lists(tx, &[alice()], &[])?;
        let (late, _) = query_request(tx, [alice()].into())?;
        let body = answer(&keys).to_string();
        handle_query_response(tx, &late, body.as_bytes(), 0)?;
        for body in [r#"{"device_keys":{}}"#, r#"{"failures":{"example.org":{}}}"#] {
            let report = handle_query_response(tx, &early, body.as_bytes(), 0)?;
            assert!(report.changed_users.is_empty());
            assert_eq!(report.postponed, []);
        }
        Outcome::Ok(())
    })?;
    assert!(scene.outdated(u64::MAX)?.is_empty());
    assert_eq!(scene.eligible()?.len(), 1);
    Ok(())
}

#[test]
fn a_clock_set_back_stops_no_query() -> Outcome {
    let scene = Scene::new()?;
    scene.track()?;
    let year_ms = 365 * 24 * 60 * 60 * 1000;
    scene.write(|tx| {
        let (query, _) = query_request(tx, [alice()].into())?;
        let body = br#"{"failures":{"example.org":{}}}"#;
        handle_query_response(tx, &query, body, year_ms)?;
        Outcome::Ok(())
    })?;
    assert!(scene.outdated(year_ms)?.is_empty());
    assert_eq!(scene.outdated(0)?, [alice()]);
    Ok(())
}

/// How many lists the homeserver has in turn.
const LIST_COUNT: usize = 24;

static LISTS: LazyLock<Result<Vec<(String, String)>, String>> =
    LazyLock::new(|| lists().map_err(|error| error.to_string()));

/// What the homeserver has of Alice in turn: one device, each time another.
fn lists() -> Outcome<Vec<(String, String)>> {
    (0..LIST_COUNT)
        .map(|number| {
            let id = format!("D{number}");
            let keys = own_keys(&id)?;
            let devices = json!({ id.as_str(): keys });
            let body = json!({ "device_keys": { "@alice:example.org": devices } });
            Ok((id, body.to_string()))
        })
        .collect()
}

#[derive(Debug, Clone)]
enum Step {
    /// The list changes, and sync says so to whoever follows it.
    Change,
    /// A query is sent. The homeserver answers from what it has at once; the answer takes its time.
    Ask,
    /// One of the answers under way arrives.
    Hear(prop::sample::Index),
    /// One of the queries under way fails for Alice's server.
    Fail(prop::sample::Index),
    Track,
    Untrack,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Change),
        4 => Just(Step::Ask),
        4 => any::<prop::sample::Index>().prop_map(Step::Hear),
        1 => any::<prop::sample::Index>().prop_map(Step::Fail),
        2 => Just(Step::Track),
        1 => Just(Step::Untrack),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn a_list_that_is_up_to_date_is_the_homeservers(
        steps in prop::collection::vec(step(), 0..LIST_COUNT),
    ) {
        play(steps).map_err(|error| TestCaseError::fail(error.to_string()))?;
    }
}

/// Takes these steps, and checks after each of them that a list without doubt is the homeserver's.
fn play(steps: Vec<Step>) -> Outcome {
    let lists = LISTS.as_ref().map_err(String::clone)?;
    let scene = Scene::new()?;
    scene.write(|tx| {
        let (mut list, mut tracked) = (0, false);
        let mut under_way: Vec<(KeyQuery, usize)> = Vec::new();
        for step in steps {
            match step {
                Step::Change => {
                    list += 1;
                    note_device_lists(tx, &[alice()], &[])?;
                }
                Step::Ask => {
                    let (query, _) = query_request(tx, [alice()].into())?;
                    under_way.push((query, list));
                }
                Step::Hear(index) if !under_way.is_empty() => {
                    let (query, list) = under_way.remove(index.index(under_way.len()));
                    let body = lists[list].1.as_bytes();
                    handle_query_response(tx, &query, body, 0)?;
                }
                Step::Fail(index) if !under_way.is_empty() => {
                    let (query, _) = under_way.remove(index.index(under_way.len()));
                    let body = br#"{"failures":{"example.org":{}}}"#;
                    handle_query_response(tx, &query, body, 0)?;
                }
                Step::Hear(_) | Step::Fail(_) => {}
                Step::Track => {
                    track(tx, [&*alice()])?;
                    tracked = true;
                }
                Step::Untrack => {
                    untrack(tx, [&*alice()])?;
                    tracked = false;
                }
            }
            let outdated = outdated(tx, u64::MAX)?;
            assert!(tracked || outdated.is_empty());
            if tracked && outdated.is_empty() {
                let devices = eligible_devices(tx, &alice())?;
                let ids: Vec<_> = devices.iter().map(|one| one.name.device_id.as_str()).collect();
                assert_eq!(ids, [lists[list].0.as_str()]);
            }
        }
        Outcome::Ok(())
    })
}
