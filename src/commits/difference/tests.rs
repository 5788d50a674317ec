//! What is remembered of a room makes no difference to what a comparison says, whatever has
//! happened since, been undone, or been let go of.

use std::{collections::BTreeSet, error::Error};

use openmls::prelude::{BasicCredential, LeafNodeIndex, Member};
use openmls_basic_credential::SignatureKeyPair;
use openmls_traits::{signatures::Signer as _, types::Ciphersuite};
use proptest::prelude::*;
use ruma::{CanonicalJsonObject, OwnedUserId, owned_user_id, room_id};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::*;
use crate::{
    compared::Compared,
    exported::MemberPolicy,
    groups::Groups,
    identity::{Crypto, Identity, Publishing},
    protocol::{encode_base64, identifiers},
    room::{self, Membership},
    store::{Store, StoreError, StoreKeyMaterial, Tx},
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;
const USERS: usize = 4;
const DEVICES: usize = 3;
/// Places in three chunks.
const PLACES: [u32; 8] = [0, 1, 2, 63, 64, 65, 130, 131];

fn room() -> &'static RoomId {
    room_id!("!room:b")
}

fn user(number: usize) -> OwnedUserId {
    match number % USERS {
        0 => owned_user_id!("@me:b"),
        1 => owned_user_id!("@a:b"),
        2 => owned_user_id!("@b:c"),
        _ => owned_user_id!("@c:d"),
    }
}

fn name(user_number: usize, device: usize) -> DeviceName {
    let id = if (user_number, device) == (0, 0) { "ME".to_owned() } else { format!("D{device}") };
    DeviceName::new(user(user_number), id.into())
}

/// What may happen between two comparisons.
#[derive(Debug, Clone)]
enum Step {
    /// The homeserver lists these devices of a user, as far as the user is tracked.
    List(usize, [bool; DEVICES]),
    /// Nobody says anything of a user's list.
    Untrack(usize),
    /// A user joins, is invited or leaves.
    Member(usize, Option<bool>),
    /// An epoch has these leaves: by place user, device, and whether the key is the device's.
    Leaves([Option<(usize, usize, bool)>; PLACES.len()]),
    /// Only signed devices take part, or any.
    Policy(bool),
    /// Invited users are in the group, or not.
    Invited(bool),
    /// Memory runs short.
    Release,
}

fn step() -> impl Strategy<Value = Step> {
    let leaf = || prop::option::of((0..USERS, 0..DEVICES, prop::bool::weighted(0.8)));
    prop_oneof![
        4 => (0..USERS, any::<[bool; DEVICES]>()).prop_map(|(user, list)| Step::List(user, list)),
        1 => (0..USERS).prop_map(Step::Untrack),
        3 => (0..USERS, prop::option::of(any::<bool>()))
            .prop_map(|(user, how)| Step::Member(user, how)),
        3 => [leaf(), leaf(), leaf(), leaf(), leaf(), leaf(), leaf(), leaf()]
            .prop_map(Step::Leaves),
        1 => any::<bool>().prop_map(Step::Policy),
        1 => any::<bool>().prop_map(Step::Invited),
        1 => Just(Step::Release),
    ]
}

/// Steps of one transaction, and how it ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Kept,
    /// It fails.
    Undone,
    /// A part of it fails, and the rest is kept.
    PartUndone,
}

fn transactions() -> impl Strategy<Value = Vec<(End, Vec<Step>)>> {
    let end = prop_oneof![4 => Just(End::Kept), 1 => Just(End::Undone), 1 => Just(End::PartUndone)];
    prop::collection::vec((end, prop::collection::vec(step(), 1..5)), 1..12)
}

struct Scene {
    _directory: TempDir,
    store: Store,
    identity: Identity,
    crypto: Crypto,
    groups: Groups,
    compared: Compared,
    /// By user and device: the key pair, and what the device publishes.
    devices: Vec<Vec<(SignatureKeyPair, Value)>>,
}

impl Scene {
    fn new() -> Outcome<Self> {
        let directory = tempfile::tempdir()?;
        let store = Store::open(directory.path(), StoreKeyMaterial::None)?;
        let crypto = Crypto::default();
        let own = name(0, 0);
        let identity = store.write(|tx| {
            Identity::load_or_create(tx, &crypto, &own.user_id, &own.device_id, Publishing::Alone)
                .map_err(Box::<dyn Error>::from)
        })?;
        let mut devices = Vec::new();
        for user in 0..USERS {
            let published = (0..DEVICES).map(|device| published(&name(user, device)));
            devices.push(published.collect::<Outcome<Vec<_>>>()?);
        }
        let (groups, compared) = (Groups::default(), Compared::bounded(0, 1_000));
        Ok(Self { _directory: directory, store, identity, crypto, groups, compared, devices })
    }

    fn turn<'a>(&'a self, tx: &'a Tx<'a>) -> Turn<'a> {
        Turn::new(tx, &self.identity, &self.crypto, &self.groups, 0)
    }

    /// The next comparison as it is made before a message, and one that remembers nothing.
    fn check(&self, tx: &Tx<'_>, epoch: Option<EpochId>) -> Outcome {
        let Some(epoch) = epoch else { return Ok(()) };
        let in_room = room::load(tx, room())?;
        let turn = self.turn(tx).remembering(&self.compared);
        let taken = self.compared.take(room());
        let mut known = begin(&turn, &in_room, taken.known)?;
        let said = compare(&turn, room(), epoch, &mut known)?;
        self.compared.keep(room(), known, taken.releases);
        let alone = self.turn(tx);
        let mut nothing = begin(&alone, &in_room, None)?;
        assert_eq!(said, compare(&alone, room(), epoch, &mut nothing)?);
        Ok(())
    }

    fn step(&self, tx: &Tx<'_>, step: &Step, epoch: &mut Option<EpochId>) -> Outcome {
        match step {
            Step::List(number, listed) => self.list(tx, *number, listed)?,
            Step::Untrack(number) => devices::untrack(tx, [&*user(*number)])?,
            Step::Member(number, how) => {
                let how = how.map(|joins| match joins {
                    true => Membership::Joined,
                    false => Membership::Invited,
                });
                room::edit(tx, room(), |room| membership::set(tx, room, &user(*number), how))?;
            }
            Step::Leaves(leaves) => *epoch = Some(self.keep(tx, leaves)?),
            Step::Policy(strict) => {
                let policy = match strict {
                    true => MemberPolicy::CrossSigned,
                    false => MemberPolicy::AnySigned,
                };
                devices::set_policy(tx, policy, &name(0, 0), self.identity.public_key())?;
            }
            Step::Invited(invited) => room::edit(tx, room(), |room| {
                room.settings.include_invited = *invited;
                room.state.history_visibility = Some("invited".to_owned());
                Ok::<_, StoreError>(())
            })?,
            Step::Release => self.compared.release(),
        }
        Ok(())
    }

    fn list(&self, tx: &Tx<'_>, number: usize, listed: &[bool; DEVICES]) -> Outcome {
        let user = user(number);
        devices::mark_outdated(tx, [&*user])?;
        let (query, _) = devices::query_request(tx, BTreeSet::from([user.clone()]))?;
        let published = self.devices[number].iter().enumerate();
        let keys: Map<String, Value> = published
            .filter(|(device, _)| listed[*device])
            .map(|(device, (_, keys))| (name(number, device).device_id.to_string(), keys.clone()))
            .collect();
        let answer = json!({ "device_keys": { user.as_str(): keys } }).to_string();
        devices::handle_query_response(tx, &query, answer.as_bytes(), 0)?;
        Ok(())
    }

    /// Keeps the leaves of an epoch that is named by them.
    fn keep(
        &self,
        tx: &Tx<'_>,
        leaves: &[Option<(usize, usize, bool)>; PLACES.len()],
    ) -> Outcome<EpochId> {
        let members = PLACES.iter().zip(leaves).filter_map(|(place, leaf)| {
            let (user, device, is_its_own) = (*leaf)?;
            let name = name(user, device);
            let key = match (is_its_own, (user, device) == (0, 0)) {
                (true, true) => self.identity.public_key().to_vec(),
                (true, false) => self.devices[user][device].0.public().to_vec(),
                (false, _) => vec![9; 32],
            };
            let credential = BasicCredential::new(credential::encode(&name));
            let index = LeafNodeIndex::new(*place);
            Some(Member::new(index, vec![0; 32], key, credential.into()))
        });
        use sha2::Digest as _;
        let id = EpochId::from_bytes(sha2::Sha256::digest(format!("{leaves:?}")).into());
        archive::keep(tx, room(), id, None, members)?;
        Ok(id)
    }

    fn transaction(&self, end: End, steps: &[Step], epoch: &mut Option<EpochId>) -> Outcome {
        let before = *epoch;
        let run = |tx: &Tx<'_>, steps: &[Step], epoch: &mut Option<EpochId>| {
            for step in steps {
                self.step(tx, step, epoch)?;
                self.check(tx, *epoch)?;
            }
            Outcome::Ok(())
        };
        let mut failed = Ok(());
        let done: Outcome = self.store.write_repeatable(|tx| {
            match end {
                End::Kept => run(tx, steps, epoch)?,
                End::Undone => {
                    failed = run(tx, steps, epoch);
                    return Err("the transaction is undone".into());
                }
                End::PartUndone => {
                    let (rest, part) = steps.split_at(steps.len() / 2);
                    run(tx, rest, epoch)?;
                    let whole = *epoch;
                    let undone: Outcome = tx.savepoint(|| {
                        failed = run(tx, part, epoch);
                        Err("a part is undone".into())
                    });
                    assert!(undone.is_err());
                    *epoch = whole;
                }
            }
            self.check(tx, *epoch)
        });
        failed?;
        match end {
            End::Undone => *epoch = before,
            End::Kept | End::PartUndone => done?,
        }
        self.store.write_repeatable(|tx| self.check(tx, *epoch))
    }
}

/// What a device publishes that has one key for everything.
fn published(name: &DeviceName) -> Outcome<(SignatureKeyPair, Value)> {
    let pair = SignatureKeyPair::new(SUITE.signature_algorithm())?;
    let id = name.device_id.as_str();
    let key_ids = [format!("ed25519:{id}"), identifiers::credential_key_id(id)];
    let by_key = |value: String| -> Map<String, Value> {
        key_ids.iter().map(|id| (id.clone(), json!(value))).collect()
    };
    let mut keys = json!({
        "user_id": name.user_id, "device_id": id, "algorithms": [],
        "keys": by_key(encode_base64(pair.public())),
    });
    let canonical: CanonicalJsonObject = serde_json::from_value(keys.clone())?;
    let text = serde_json::to_string(&canonical)?;
    let signature = pair.sign(text.as_bytes()).map_err(|error| format!("{error:?}"))?;
    keys["signatures"] = json!({ name.user_id.as_str(): by_key(encode_base64(&signature)) });
    Ok((pair, keys))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_remembered_makes_no_difference(transactions in transactions()) {
        let checked = || -> Outcome {
            let scene = Scene::new()?;
            let mut epoch = None;
            for (end, steps) in &transactions {
                scene.transaction(*end, steps, &mut epoch)?;
            }
            Ok(())
        };
        checked().map_err(|error| TestCaseError::fail(error.to_string()))?;
    }
}

#[test]
fn only_who_has_changed_is_looked_at() -> Outcome {
    let scene = Scene::new()?;
    let everybody = [true; DEVICES];
    let leaves = [
        Some((0, 0, true)),
        Some((1, 0, true)),
        Some((1, 1, true)),
        Some((2, 0, true)),
        Some((1, 2, true)),
        None,
        None,
        None,
    ];
    let mut epoch = None;
    let open = |tx: &Tx<'_>| -> Outcome<BTreeSet<OwnedUserId>> {
        let turn = scene.turn(tx).remembering(&scene.compared);
        let taken = scene.compared.take(room());
        let known = begin(&turn, &room::load(tx, room())?, taken.known)?;
        let open = known.open.clone();
        scene.compared.keep(room(), known, taken.releases);
        Ok(open)
    };
    scene.store.write(|tx| {
        for number in 0..3 {
            scene.step(tx, &Step::Member(number, Some(true)), &mut epoch)?;
        }
        scene.step(tx, &Step::Leaves(leaves), &mut epoch)?;
        scene.check(tx, epoch)?;
        for (number, listed) in [(0, [true, false, false]), (1, everybody), (2, everybody)] {
            scene.step(tx, &Step::List(number, listed), &mut epoch)?;
        }
        scene.check(tx, epoch)?;
        // Two devices of this user are missing in the group until they are added, or go.
        assert_eq!(open(tx)?, BTreeSet::from([user(2)]));
        scene.step(tx, &Step::List(2, [true, false, false]), &mut epoch)?;
        scene.check(tx, epoch)?;
        assert_eq!(open(tx)?, BTreeSet::new());
        // One user has a device less, and another is heard of.
        scene.step(tx, &Step::List(1, [true, true, false]), &mut epoch)?;
        scene.step(tx, &Step::Member(3, Some(true)), &mut epoch)?;
        assert_eq!(open(tx)?, BTreeSet::from([user(1), user(3)]));
        Outcome::Ok(())
    })
}
