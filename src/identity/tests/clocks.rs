//! This device's clock is wrong for a while: what it publishes is good, and it loses nothing.

use openmls::prelude::Lifetime;

use super::*;

const DAY_S: u64 = 24 * 60 * 60;
const YEAR_MS: u64 = 365 * DAY_MS;

impl Scene {
    fn lifetimes(&self, request: &upload_keys::v3::Request) -> Outcome<Vec<Lifetime>> {
        values(request.one_time_keys.values().chain(request.fallback_keys.values()))?
            .iter()
            .map(|text| Ok(*self.parse(text)?.life_time()))
            .collect()
    }
}

#[test]
fn lifetimes_begin_before_every_clock_and_end_in_two_years() -> Outcome {
    let scene = Scene::new(Publishing::Alone)?;
    let now = real_now_ms()?;
    for lifetime in scene.lifetimes(&scene.upload(now, 50)?)? {
        assert_eq!((lifetime.not_before(), lifetime.not_after()), (0, now / 1000 + 730 * DAY_S));
    }
    Ok(())
}

#[test]
fn a_clock_that_shows_1970_makes_packages_that_are_good_today() -> Outcome {
    let scene = Scene::new(Publishing::Alone)?;
    let request = scene.upload(0, 50)?;
    for lifetime in scene.lifetimes(&request)? {
        // Until 2028.
        assert_eq!(lifetime.not_after(), 1_767_225_600 + 730 * DAY_S);
    }
    for now in [0, 1_000, YEAR_MS] {
        assert!(scene.plan(now)?.is_none(), "{now}");
    }
    Ok(())
}

#[test]
fn a_clock_that_was_ahead_for_a_moment_destroys_nothing() -> Outcome {
    let scene = Scene::new(Publishing::Alone)?;
    let first = scene.upload(NOW_MS, 50)?;
    let first = values(first.one_time_keys.values().chain(first.fallback_keys.values()))?;
    // All have expired, it seems: others are made, and those are good for everybody else too.
    let ahead = NOW_MS + 14 * YEAR_MS;
    let (_, request) = scene.planned(ahead)?;
    assert_eq!((request.one_time_keys.len(), request.fallback_keys.len()), (50, 1));
    let second = values(request.one_time_keys.values())?;
    assert_eq!(scene.kept_of(&first)?, 51);
    scene.upload(NOW_MS + DAY_MS, 100)?;
    // Only the last-resort package has to be younger.
    let third = scene.upload(NOW_MS + DAY_MS, 100)?;
    assert_eq!((third.one_time_keys.len(), third.fallback_keys.len()), (0, 1));
    for days in [1, 2, 9, 30] {
        assert!(scene.plan(NOW_MS + days * DAY_MS)?.is_none(), "{days}");
    }
    // The first last-resort package was replaced.
    assert_eq!((scene.kept_of(&first)?, scene.kept_of(&second)?), (50, 50));
    Ok(())
}

#[test]
fn a_clock_that_is_ahead_for_good_lets_go_of_what_has_expired() -> Outcome {
    let scene = Scene::new(Publishing::Alone)?;
    let first = values(scene.upload(NOW_MS, 50)?.one_time_keys.values())?;
    let ahead = NOW_MS + 14 * YEAR_MS;
    scene.upload(ahead, 100)?;
    scene.plan(ahead + 6 * DAY_MS)?;
    assert_eq!(scene.kept_of(&first)?, 50);
    scene.plan(ahead + 7 * DAY_MS)?;
    assert_eq!(scene.kept_of(&first)?, 0);
    Ok(())
}
