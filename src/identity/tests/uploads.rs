//! Uploads that are interrupted, repeated, overtaken, or that somebody abuses.

use super::{
    super::key_packages::{self, MOST_KEPT, mark_used},
    *,
};

/// A request's keys, as they would be sent.
fn sent(request: &upload_keys::v3::Request) -> Value {
    json!([request.device_keys, request.one_time_keys, request.fallback_keys])
}

fn answer(count: u64) -> String {
    json!({ "one_time_key_counts": { identifiers::key_package_algorithm(SUITE): count } })
        .to_string()
}

impl Scene {
    /// The same device after a restart.
    fn reopened(self) -> Outcome<Self> {
        let Self { store, crypto, identity, _directory } = self;
        let (name, publishing) = (identity.name(), identity.publishing);
        drop((store, identity));
        let store = Store::open(_directory.path(), StoreKeyMaterial::None)?;
        let identity = store.write(|tx| {
            Identity::load_or_create(tx, &crypto, &name.user_id, &name.device_id, publishing)
        })?;
        Ok(Self { store, crypto, identity, _directory })
    }

    fn mark(&self, plan: &UploadPlan, count: u64, now_ms: u64) -> Outcome {
        self.write(|tx| mark_uploaded(tx, plan, answer(count).as_bytes(), now_ms))
    }
}

#[test]
fn an_upload_without_an_answer_is_planned_again_with_the_same_keys() -> Outcome {
    let scene = Scene::new(Publishing::Alone)?;
    let (_, first) = scene.planned(NOW_MS)?;
    let scene = scene.reopened()?;
    // Counts of a sync from before the upload, or after it, make it no other one.
    scene.counts(0, false)?;
    let (_, second) = scene.planned(NOW_MS + DAY_MS)?;
    assert_eq!(sent(&first), sent(&second));
    scene.counts(50, true)?;
    let (plan, third) = scene.planned(NOW_MS + DAY_MS)?;
    assert_eq!(sent(&first), sent(&third));
    scene.mark(&plan, 50, NOW_MS + DAY_MS)?;
    assert!(scene.reopened()?.plan(NOW_MS + DAY_MS)?.is_none());
    Ok(())
}

#[test]
fn a_plan_that_the_store_did_not_keep_leaves_nothing() -> Outcome {
    let scene = Scene::new(Publishing::Alone)?;
    let mut lost = Vec::new();
    let undone: Outcome = scene.write(|tx| {
        let plan = plan_upload(tx, &scene.crypto, &scene.identity, NOW_MS)?;
        let (_, request) = plan.ok_or("there is nothing to upload")?;
        lost = values(request.one_time_keys.values())?;
        Outcome::Err(StoreError::Full.into())
    });
    let undone = undone.err().ok_or("the plan was kept")?;
    assert_eq!(undone.downcast_ref(), Some(&StoreError::Full));
    let (_, request) = scene.planned(NOW_MS)?;
    let kept = values(request.one_time_keys.values())?;
    assert_eq!((lost.len(), kept.len()), (50, 50));
    assert!(kept.iter().all(|package| !lost.contains(package)));
    Ok(())
}

#[test]
fn an_answer_counts_once() -> Outcome {
    let scene = Scene::new(Publishing::Alone)?;
    let (first, _) = scene.planned(NOW_MS)?;
    scene.mark(&first, 50, NOW_MS)?;
    scene.counts(50, false)?;
    let (second, request) = scene.planned(NOW_MS)?;
    let fallback = values(request.fallback_keys.values())?;
    // Neither before the second upload is confirmed nor after does the first answer count again:
    // it would replace the newer fallback key by the older.
    scene.mark(&first, 0, NOW_MS)?;
    assert_eq!(sent(&scene.planned(NOW_MS)?.1), sent(&request));
    scene.mark(&second, 50, NOW_MS)?;
    scene.mark(&first, 0, NOW_MS)?;
    assert!(scene.plan(NOW_MS)?.is_none());
    assert!(scene.plan(NOW_MS + 10 * DAY_MS)?.is_none());
    assert_eq!(scene.kept_of(&fallback)?, 1);
    Ok(())
}

#[test]
fn packages_used_before_the_answer_came_are_not_sent_again() -> Outcome {
    let scene = Scene::bound()?;
    let (plan, request) = scene.planned(NOW_MS)?;
    let used = plan.one_time[0].clone();
    assert!(scene.write(|tx| mark_used(tx, &scene.crypto, &used))?);
    assert!(!scene.write(|tx| mark_used(tx, &scene.crypto, &used))?, "once");
    let (plan, again) = scene.planned(NOW_MS)?;
    assert_eq!(again.one_time_keys.len(), request.one_time_keys.len() - 1);
    assert!(again.one_time_keys.keys().all(|id| request.one_time_keys.contains_key(id)));
    scene.mark(&plan, 49, NOW_MS)?;
    assert_eq!(scene.planned(NOW_MS)?.1.one_time_keys.len(), 1);
    Ok(())
}

#[test]
fn an_upload_that_grew_old_on_the_way_is_planned_anew() -> Outcome {
    let scene = Scene::bound()?;
    let (old, request) = scene.planned(NOW_MS)?;
    let later = NOW_MS + 306 * DAY_MS;
    let (new, fresh) = scene.planned(later)?;
    assert_eq!((fresh.one_time_keys.len(), fresh.fallback_keys.len()), (50, 1));
    assert!(fresh.one_time_keys.keys().all(|id| !request.one_time_keys.contains_key(id)));
    scene.mark(&old, 50, later)?;
    assert!(scene.plan(later)?.is_some(), "the old one's answer is not the new one's");
    scene.mark(&new, 50, later)?;
    assert!(scene.plan(later)?.is_none());
    Ok(())
}

#[test]
fn grace_begins_when_the_homeserver_has_the_new_fallback_key() -> Outcome {
    let scene = Scene::new(Publishing::Alone)?;
    let now = real_now_ms()?;
    let first = values(scene.upload(now, 50)?.fallback_keys.values())?;
    scene.counts(50, false)?;
    let (plan, _) = scene.planned(now + DAY_MS)?;
    // Two weeks without network: the homeserver still hands out the first one.
    scene.plan(now + 15 * DAY_MS)?;
    assert_eq!(scene.kept(&first)?, 1);
    scene.mark(&plan, 50, now + 15 * DAY_MS)?;
    scene.plan(now + 21 * DAY_MS)?;
    assert_eq!(scene.kept(&first)?, 1);
    scene.plan(now + 22 * DAY_MS)?;
    assert_eq!(scene.kept(&first)?, 0);
    Ok(())
}

#[test]
fn a_fallback_key_is_replaced_after_forty_days() -> Outcome {
    let scene = Scene::new(Publishing::Alone)?;
    scene.upload(NOW_MS, 50)?;
    assert!(scene.plan(NOW_MS + 40 * DAY_MS - 1000)?.is_none());
    let request = scene.upload(NOW_MS + 40 * DAY_MS, 50)?;
    assert_eq!((request.one_time_keys.len(), request.fallback_keys.len()), (0, 1));
    assert!(scene.plan(NOW_MS + 41 * DAY_MS)?.is_none());
    Ok(())
}

#[test]
fn beside_olm_no_upload_carries_device_keys_whatever_was_planned_before() -> Outcome {
    let scene = Scene::new(Publishing::Alone)?;
    assert!(scene.planned(NOW_MS)?.1.device_keys.is_some());
    let name = scene.identity.name();
    let Scene { store, crypto, _directory, .. } = scene;
    let publishing = Publishing::BesideOlm;
    let identity = store.write(|tx| {
        Identity::load_or_create(tx, &crypto, &name.user_id, &name.device_id, publishing)
    })?;
    let scene = Scene { store, crypto, identity, _directory };
    let (_, request) = scene.planned(NOW_MS)?;
    assert!(request.device_keys.is_none());
    assert_eq!(request.one_time_keys.len(), 50);
    Ok(())
}

#[test]
fn somebody_who_claims_all_packages_again_and_again_fills_no_store() -> Outcome {
    let scene = Scene::new(Publishing::Alone)?;
    let first = values(scene.upload(NOW_MS, 50)?.one_time_keys.values())?;
    let mut last = Vec::new();
    for _ in 0..MOST_KEPT / 50 {
        assert_eq!(scene.kept_of(&first)?, 50);
        scene.counts(0, true)?;
        last = values(scene.upload(NOW_MS, 50)?.one_time_keys.values())?;
    }
    scene.counts(50, true)?;
    assert!(scene.plan(NOW_MS)?.is_none());
    assert_eq!(scene.kept_of(&first)?, 0, "the oldest go");
    assert_eq!(scene.kept_of(&last)?, 50);
    Ok(())
}

#[test]
fn packages_that_grew_old_on_the_homeserver_are_taken_back() -> Outcome {
    let scene = Scene::new(Publishing::Alone)?;
    let first = scene.upload(NOW_MS, 50)?;
    let later = NOW_MS + 306 * DAY_MS;
    assert!(!scene.has_old(NOW_MS)?);
    let second = scene.upload(later, 100)?;
    let (old, new) =
        (values(first.one_time_keys.values())?, values(second.one_time_keys.values())?);
    assert_eq!((old.len(), new.len()), (50, 50));
    // The homeserver hands out the oldest first.
    for id in first.one_time_keys.keys() {
        assert!(scene.has_old(later)?);
        let (_, key_id) = id.as_str().split_once(':').ok_or("no key id")?;
        scene.take_back(Some(key_id), later)?;
    }
    assert!(!scene.has_old(later)?);
    assert_eq!((scene.kept_of(&old)?, scene.kept_of(&new)?), (0, 50));
    assert!(scene.plan(later)?.is_none(), "nothing is missing");
    Ok(())
}

#[test]
fn what_others_have_claimed_is_not_taken_back() -> Outcome {
    let scene = Scene::new(Publishing::Alone)?;
    let old = values(scene.upload(NOW_MS, 50)?.one_time_keys.values())?;
    let later = NOW_MS + 306 * DAY_MS;
    // None of the old ones is left, and Welcomes for them may be on the way.
    scene.counts(0, true)?;
    scene.upload(later, 50)?;
    assert!(!scene.has_old(later)?);
    assert_eq!(scene.kept_of(&old)?, 50);
    Ok(())
}

#[test]
fn a_homeserver_that_hands_out_what_it_likes_is_not_asked_without_end() -> Outcome {
    let scene = Scene::new(Publishing::Alone)?;
    let old = values(scene.upload(NOW_MS, 50)?.one_time_keys.values())?;
    let later = NOW_MS + 310 * DAY_MS;
    let new = scene.upload(later, 100)?;
    for wrong in [None, Some("no base64 *"), Some("AAAA"), Some("")] {
        scene.counts(100, true)?;
        scene.take_back(wrong, later)?;
        assert!(!scene.has_old(later)?, "{wrong:?}");
        assert!(!scene.has_old(later + DAY_MS - 1000)?);
        assert!(scene.has_old(later + DAY_MS)?);
        // The rest was noted by a clock that has been set back since.
        assert!(scene.has_old(later - 2 * DAY_MS)?);
    }
    // A new one before the old ones: it was handed out, and another takes its place.
    let id = new.one_time_keys.keys().next().ok_or("no key")?;
    let (_, key_id) = id.as_str().split_once(':').ok_or("no key id")?;
    scene.take_back(Some(key_id), later)?;
    assert!(!scene.has_old(later)?);
    assert_eq!(scene.kept_of(&old)?, 50);
    assert_eq!(scene.planned(later)?.1.one_time_keys.len(), 1);
    Ok(())
}

impl Scene {
    fn has_old(&self, now_ms: u64) -> Outcome<bool> {
        self.write(|tx| has_old_packages(tx, now_ms))
    }

    fn take_back(&self, key_id: Option<&str>, now_ms: u64) -> Outcome {
        self.write(|tx| take_back(tx, &self.crypto, key_id, now_ms))
    }

    /// Like [`Scene::kept`], without OpenMLS's look at the clock.
    pub(super) fn kept_of(&self, packages: &[String]) -> Outcome<usize> {
        self.write(|tx| {
            let provider = Provider::new(&self.crypto, MlsStorage::new(tx, Namespace::GLOBAL));
            let mut kept: Vec<String> = Vec::new();
            for package in key_packages::list(tx)? {
                let form =
                    key_packages::published_form(&provider, &self.identity, &package.reference);
                let (_, value) = form?.ok_or("a listed package has lost its private keys")?;
                kept.push(serde_json::from_str(value.json().get())?);
            }
            Outcome::Ok(packages.iter().filter(|package| kept.contains(package)).count())
        })
    }
}

#[test]
fn no_cut_answer_confirms_an_upload() -> Outcome {
    let scene = Scene::new(Publishing::Alone)?;
    let (plan, _) = scene.planned(NOW_MS)?;
    let whole = answer(50);
    for end in 0..whole.len() {
        scene.write(|tx| {
            let answer = &whole.as_bytes()[..end];
            assert!(mark_uploaded(tx, &plan, answer, NOW_MS).is_err(), "cut at {end}");
            Outcome::Ok(())
        })?;
    }
    for body in ["[{}]", r#"{"one_time_key_counts":[]}"#, r#"{"one_time_key_counts":{"a":"1"}}"#] {
        scene.write(|tx| {
            assert!(mark_uploaded(tx, &plan, body.as_bytes(), NOW_MS).is_err(), "{body}");
            Outcome::Ok(())
        })?;
    }
    assert!(scene.plan(NOW_MS)?.is_some());
    Ok(())
}

mod order {
    //! Syncs, claims, uploads and restarts in any order: what the homeserver hands out can be
    //! joined with.

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        /// Others claim so many packages.
        Claim(usize),
        /// A sync, as the homeserver is now.
        Sync,
        /// The upload that is due reaches the homeserver; its answer may get lost.
        Upload { answered: bool },
        /// The upload that is due never reaches the homeserver.
        Lost,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0_usize..60).prop_map(Step::Claim),
            Just(Step::Sync),
            any::<bool>().prop_map(|answered| Step::Upload { answered }),
            Just(Step::Lost),
        ];
        prop::collection::vec(step, 0..12)
    }

    /// A homeserver's view of one device.
    #[derive(Default)]
    struct Server {
        one_time: Vec<String>,
        ever: Vec<String>,
        fallback: Option<String>,
        fallback_used: bool,
    }

    impl Server {
        fn take(&mut self, request: &upload_keys::v3::Request) -> Outcome {
            for package in values(request.one_time_keys.values())? {
                // Sent again: Synapse takes it for the one it has. It has not been claimed here
                // before its upload was confirmed, or it is one more time to be had.
                if !self.one_time.contains(&package) {
                    self.one_time.push(package.clone());
                }
                if !self.ever.contains(&package) {
                    self.ever.push(package);
                }
            }
            if let Some(package) = values(request.fallback_keys.values())?.pop() {
                self.fallback_used &= self.fallback.as_ref() == Some(&package);
                self.ever.push(package.clone());
                self.fallback = Some(package);
            }
            Ok(())
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn what_is_handed_out_has_its_private_keys(steps in steps()) {
            play(steps).map_err(|error| TestCaseError::fail(error.to_string()))?;
        }
    }

    /// Takes these steps, and leaves the device in peace after them.
    fn play(steps: Vec<Step>) -> Outcome {
        let scene = Scene::new(Publishing::Alone)?;
        let mut server = Server::default();
        for step in steps {
            match step {
                Step::Claim(count) => {
                    server.fallback_used |= count > server.one_time.len();
                    server.one_time.drain(..count.min(server.one_time.len()));
                }
                Step::Sync => {
                    let unused = server.fallback.is_some() && !server.fallback_used;
                    scene.counts(server.one_time.len() as u64, unused)?;
                }
                Step::Upload { answered } => {
                    if let Some((plan, request)) = scene.plan(NOW_MS)? {
                        server.take(&request)?;
                        if answered {
                            scene.mark(&plan, server.one_time.len() as u64, NOW_MS)?;
                        }
                    }
                }
                Step::Lost => drop(scene.plan(NOW_MS)?),
            }
        }
        let ever = server.ever.len();
        assert_eq!(scene.kept_of(&server.ever)?, ever);
        // Left in peace, it ends with everything in place: at most the upload that was under
        // way, and one for what is missing besides.
        for _ in 0..2 {
            let unused = server.fallback.is_some() && !server.fallback_used;
            scene.counts(server.one_time.len() as u64, unused)?;
            if let Some((plan, request)) = scene.plan(NOW_MS)? {
                server.take(&request)?;
                scene.mark(&plan, server.one_time.len() as u64, NOW_MS)?;
            }
        }
        let unused = server.fallback.is_some() && !server.fallback_used;
        scene.counts(server.one_time.len() as u64, unused)?;
        assert!(scene.plan(NOW_MS)?.is_none());
        assert!(server.one_time.len() >= 50);
        assert!(unused);
        Ok(())
    }
}
