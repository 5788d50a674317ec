//! Answers that no honest homeserver gives: what is wrong with one part must not touch the others.

use super::*;

fn bob() -> OwnedUserId {
    owned_user_id!("@bob:example.com")
}

impl Scene {
    fn with_both() -> Outcome<Self> {
        let scene = Self::new()?;
        scene.write(|tx| track(tx, [&*alice(), &*bob()]))?;
        Ok(scene)
    }

    fn changed(&self) -> Outcome {
        self.write(|tx| note_device_lists(tx, &[alice(), bob()], &[]))
    }
}

#[test]
fn nonsense_about_one_user_leaves_the_other_as_good() -> Outcome {
    let keys = signed(&key_pair()?, &key_pair()?)?;
    for nonsense in [json!(null), json!(3), json!("x"), json!([]), json!(true), json!(1.5)] {
        let scene = Scene::with_both()?;
        let mut body = answer(&keys);
        body["device_keys"]["@bob:example.com"] = nonsense;
        let report = scene.query(body)?;
        assert_eq!(report.changed_users, [alice()]);
        assert_eq!(report.postponed, [PostponedUser { user_id: bob(), retry_at_ms: 60_000 }]);
        assert_eq!(scene.eligible()?.len(), 1);
        assert_eq!(scene.outdated(60_000)?, [bob()], "what was said of him was no list");
    }
    Ok(())
}

#[test]
fn nonsense_about_one_device_leaves_the_other_as_good() -> Outcome {
    let scene = Scene::with_both()?;
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    let keys = signed(&key_pair()?, &key_pair()?)?;
    let body = format!(
        r#"{{"device_keys":{{"@alice:example.org":{{
            "":{{}},"{long}":{{}},"DEEP":{deep},"FLOAT":{{"user_id":1.5}},"HUGE":{{"n":1e400}},
            "TWICE":{{"user_id":"@alice:example.org","user_id":7}},"NULL":null,"PHONE":{keys}
        }}}},"master_keys":7}}"#,
        long = "L".repeat(256),
    );
    let report = scene.write(|tx| {
        let (query, _) = query_request(tx, [alice()].into())?;
        Outcome::Ok(handle_query_response(tx, &query, body.as_bytes(), 0)?)
    })?;
    assert_eq!(scene.eligible()?.len(), 1);
    let rejected: Vec<_> = report.rejected.iter().map(|one| one.name.device_id.as_str()).collect();
    assert_eq!(rejected, ["DEEP", "FLOAT", "HUGE", "NULL", "TWICE"]);
    assert!(report.rejected.iter().all(|rejected| {
        let expected = match rejected.name.device_id.as_str() {
            "TWICE" => DeviceFault::WrongIdentity,
            _ => DeviceFault::Malformed,
        };
        rejected.reason == expected
    }));
    Ok(())
}

#[test]
fn an_answer_of_the_wrong_shape_is_an_error_and_changes_nothing() -> Outcome {
    let scene = Scene::with_both()?;
    scene.query(answer(&signed(&key_pair()?, &key_pair()?)?))?;
    scene.changed()?;
    for body in [
        "null",
        "7",
        r#""x""#,
        "{",
        "[]",
        "[{}]",
        "[{},{}]",
        r#"{"device_keys":7}"#,
        r#"{"device_keys":[]}"#,
        r#"{"failures":7}"#,
    ] {
        scene.write(|tx| {
            let (query, _) = query_request(tx, [alice(), bob()].into())?;
            let answer = handle_query_response(tx, &query, body.as_bytes(), 0);
            assert!(matches!(answer, Err(DevicesError::MalformedAnswer)), "{body}");
            Outcome::Ok(())
        })?;
    }
    assert_eq!(scene.eligible()?.len(), 1);
    assert_eq!(scene.outdated(0)?, [alice(), bob()]);
    // That it does not speak of devices at all does not say that nobody has any.
    for body in [json!({}), json!({ "error": "?" }), json!({ "failures": {} })] {
        scene.changed()?;
        let report = scene.query(body)?;
        assert_eq!(report.postponed.len(), 2);
        assert_eq!(scene.eligible()?.len(), 1);
    }
    Ok(())
}

#[test]
fn more_devices_than_anybody_has_are_not_taken_in() -> Outcome {
    let scene = Scene::with_both()?;
    let keys = signed(&key_pair()?, &key_pair()?)?;
    scene.query(answer(&keys))?;
    scene.changed()?;
    let mut body = answer(&keys);
    for number in 0..5_000 {
        body["device_keys"]["@alice:example.org"][format!("D{number}")] = json!({});
    }
    let report = scene.query(body)?;
    assert_eq!(report.rejected, []);
    assert_eq!(report.postponed[0].user_id, alice());
    assert_eq!(scene.eligible()?.len(), 1);
    Ok(())
}

#[test]
fn either_name_of_the_credential_is_read_but_not_two_credentials() -> Outcome {
    let (device, credential) = (key_pair()?, key_pair()?);
    let [written, other] = identifiers::credential_key_ids("PHONE");
    let good = signed(&device, &credential)?;
    // Signs under both names.
    let sign_all = |mut keys: Value| -> Outcome<Value> {
        keys = sign(keys, &device, &credential)?;
        let user = &mut keys["signatures"]["@alice:example.org"];
        user[&other] = user[&written].clone();
        Ok(keys)
    };
    let bare = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| -> Outcome<Value> {
        let mut keys = good.clone();
        keys.as_object_mut().ok_or("the device keys are no object")?.remove("signatures");
        change(keys["keys"].as_object_mut().ok_or("the keys are no object")?);
        sign_all(keys)
    };
    let key = json!(encode_base64(credential.public()));
    let cases = [
        (
            bare(&|keys| drop(keys.remove(&written).map(|key| keys.insert(other.clone(), key))))?,
            None,
        ),
        (bare(&|keys| drop(keys.insert(other.clone(), key.clone())))?, None),
        (
            bare(&|keys| drop(keys.insert(other.clone(), json!("AAAA"))))?,
            Some(DeviceFault::Malformed),
        ),
        (bare(&|keys| drop(keys.insert(other.clone(), json!(7))))?, Some(DeviceFault::Malformed)),
        (
            bare(&|keys| drop(keys.insert(written.clone(), json!("*"))))?,
            Some(DeviceFault::Malformed),
        ),
        (
            bare(&|keys| drop(keys.insert(written.clone(), json!(""))))?,
            Some(DeviceFault::BadSignature),
        ),
    ];
    for (number, (keys, rejection)) in cases.into_iter().enumerate() {
        let scene = Scene::with_both()?;
        let report = scene.query(answer(&keys))?;
        let reasons: Vec<_> = report.rejected.iter().map(|rejected| rejected.reason).collect();
        assert_eq!(reasons, Vec::from_iter(rejection), "case {number}");
        assert_eq!(scene.eligible()?.len(), usize::from(rejection.is_none()), "case {number}");
    }
    Ok(())
}

#[test]
fn no_cut_or_altered_claim_makes_a_panic_or_another_device() -> Outcome {
    let id = format!("{}:x", identifiers::key_package_algorithm(SUITE));
    let whole = json!({ "one_time_keys": { "@alice:example.org": { "PHONE": { id: "AQID" } } } });
    let whole = whole.to_string().into_bytes();
    assert_eq!(parse_claim_response(&whole, SUITE)?.packages.len(), 1);
    for at in 0..whole.len() {
        assert!(parse_claim_response(&whole[..at], SUITE).is_err(), "cut at {at}");
        let mut altered = whole.clone();
        altered[at] ^= 1;
        if let Ok(claimed) = parse_claim_response(&altered, SUITE) {
            assert!(claimed.packages.len() <= 1, "byte {at}");
        }
    }
    for body in [r#"{"one_time_keys":[]}"#, "[]", "[{}]", "null"] {
        assert!(parse_claim_response(body.as_bytes(), SUITE).is_err(), "{body}");
    }
    assert_eq!(parse_claim_response(b"{}", SUITE)?.packages.len(), 0, "nobody had a package");
    Ok(())
}
