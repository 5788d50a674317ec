//! Founding a room's group with all its members at once (docs/decisions/032).
//!
//! A device that makes a group for several users first *gathers*: it has their device lists and key
//! packages asked for, as before any commit. When all is here that is to be had, the group is made
//! in one step: its first epoch has the number 1 and all devices in it, one announcement tells of
//! it, and nobody has a commit to process. A room of few devices, and one in which nobody else can
//! be added, begins with a group of one (`create`).
//!
//! The work is done in three parts. [`found_next`] collects in a turn what is needed.
//! [`Founders::found`] checks the key packages and makes the group with no lock held; it changes
//! nothing, and can be stopped at any time. [`stage_founding`] enters the group in another turn, if
//! what was collected still holds, and queues what is to be sent. Whatever ends the process before
//! that, the founding begins anew with the key packages that were claimed. After it the very same
//! bytes are sent again.
//!
//! The founder enters as any member does: OpenMLS opens the founder's part of the Welcome, and
//! checks the tree, its leaves, the signature and the confirmation tag.
//!
//! A gathering ends when somebody else's group becomes known.

use std::collections::{BTreeMap, BTreeSet};

use openmls::{
    framing::MlsMessageBodyIn,
    group::StagedWelcome,
    prelude::{GroupId, KeyPackage, KeyPackageBundle},
};
use openmls_traits::{OpenMlsProvider as _, storage::StorageProvider as _};
use ruma::OwnedUserId;

use super::{
    create::found,
    in_tree::{self, Unfit},
    key_packages::{self, Candidate},
    key_queries::ask_for_outdated,
    plan::blocked_until,
    publish::{BaseName, CommitDraft, TreePlace, publish},
    silent, trusted,
};
use crate::{
    devices::{self, Device},
    epochs::{EpochRecord, Origin, Status, graph, joinable},
    failure::Failure,
    identity::{self, Crypto, Identity, Provider},
    messages::SendError,
    mls::{
        founding::{Founded, Founding},
        group_id, join_config, keep_export, parse_message,
    },
    parallel,
    protocol::{DeviceName, GroupName},
    ratchet_trees::parse_tree,
    requests,
    room::{Room, membership, undone},
    store::StoreError,
    turn::Turn,
};

/// From so many devices on, the founder's included, a group is founded in one step. Below, the
/// commit that adds all costs no more than the Welcome that the founder opens.
const LEAST_DEVICES: usize = 16;
/// So many devices are in a new group at the most. The rest come by commits.
const MOST_DEVICES: usize = 20_000;

/// What the next step of a founding is.
pub(crate) enum FoundingStep {
    /// The requests with these ids have to be answered; with none, time has to pass.
    Waiting(Vec<i64>),
    /// The group can be made.
    Ready(Box<Founders>),
    /// There is a group already: this device makes none.
    GivenUp,
}

/// Does the next step of the founding of a room.
pub(crate) fn found_next(turn: &Turn<'_>, room: &mut Room) -> Result<FoundingStep, SendError> {
    if room.others_group || joinable::best(turn.tx, &room.id, None)?.is_some() {
        tracing::info!(room = %room.id, "another device has made the group");
        room.standing.end_gathering();
        return Ok(FoundingStep::GivenUp);
    }
    if blocked_until(turn, room).is_some() {
        return Ok(FoundingStep::Waiting(Vec::new()));
    }
    let users = membership::users_of_group(turn.tx, room)?;
    devices::track(turn.tx, users.iter().map(|user| &**user))?;
    let queries = ask_for_outdated(turn, &users)?;
    if !queries.is_empty() {
        return Ok(FoundingStep::Waiting(queries));
    }
    match trusted::refuse_changed(turn, &users) {
        // Others need not wait until this device's user has decided.
        Err(SendError::IdentityChanged(_)) => return found_alone(turn, room),
        checked => checked?,
    }
    let asking = silent::ask(turn, &room.id, &users)?;
    let mut add = wanted(turn, &users)?;
    if add.len() + 1 < LEAST_DEVICES && asking.awaited.is_empty() {
        return found_alone(turn, room);
    }
    key_packages::leave_out_unreachable(turn, &room.id, &mut add)?;
    undone::hold_back(turn.tx, &room.id, &mut add, turn.now_ms)?;
    add.truncate(MOST_DEVICES - 1);
    let mut claims = key_packages::claim_missing(turn, &room.id, &add)?;
    claims.extend(asking.awaited);
    if !claims.is_empty() {
        return Ok(FoundingStep::Waiting(claims));
    }
    let candidates = key_packages::candidates(turn, &room.id, add)?;
    if candidates.is_empty() {
        return found_alone(turn, room);
    }
    let group_id = group_id(&room.id, GroupName::First);
    let own = own_key_package(turn)?;
    let now_ms = turn.now_ms;
    Ok(FoundingStep::Ready(Box::new(Founders { group_id, own, candidates, now_ms })))
}

/// The devices of these users that are to be in the group beside this one.
fn wanted(turn: &Turn<'_>, users: &BTreeSet<OwnedUserId>) -> Result<Vec<Device>, StoreError> {
    let own = turn.identity.name();
    let mut wanted = Vec::new();
    for user in users {
        let devices = devices::eligible_devices(turn.tx, user)?;
        wanted.extend(devices.into_iter().filter(|device| device.name != own));
    }
    Ok(wanted)
}

/// Makes a group of one after all.
pub(crate) fn found_alone(turn: &Turn<'_>, room: &mut Room) -> Result<FoundingStep, SendError> {
    if !room.standing.is_gathering() {
        return Ok(FoundingStep::Waiting(Vec::new()));
    }
    let epoch = found(turn, room, GroupName::First)?;
    room.standing.stage(epoch);
    Ok(FoundingStep::Waiting(requests::ids_of_room(turn.tx, &room.id)?))
}

/// What undoes a part of a turn that was done for its value alone.
enum Undone {
    With(Box<KeyPackageBundle>),
    Failed(Failure),
}

impl From<StoreError> for Undone {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

/// A key package of this device for its own group. It is in no store until the group is.
fn own_key_package(turn: &Turn<'_>) -> Result<KeyPackageBundle, Failure> {
    let made = turn.atomically(|| {
        let made =
            identity::make_founders_package(turn.tx, turn.crypto, turn.identity, turn.now_ms);
        Err::<(), _>(match made {
            Ok(bundle) => Undone::With(Box::new(bundle)),
            Err(error) => Undone::Failed(Failure::defect("key_package", error)),
        })
    });
    match made {
        Err(Undone::With(bundle)) => Ok(*bundle),
        Err(Undone::Failed(failure)) => Err(failure),
        Ok(()) => Err(Failure::defect("key_package", "nothing was made")),
    }
}

/// What a founding needs, outside of the turn.
pub(crate) struct Founders {
    group_id: GroupId,
    own: KeyPackageBundle,
    candidates: Vec<Candidate>,
    now_ms: u64,
}

/// A group that was made, and nobody has heard of yet.
pub(crate) struct NewGroup {
    own: KeyPackageBundle,
    /// Nothing where nobody can be added.
    founded: Option<Founded>,
    /// Those who are in it beside the founder, in the order of their leaves.
    members: Vec<Device>,
    /// Those whose key packages are of no use after all.
    unfit: Vec<(DeviceName, Unfit)>,
}

impl Founders {
    /// Checks the key packages and makes the group, with no lock held. Gives nothing once `stop`
    /// says so.
    pub(crate) fn found(
        self,
        crypto: &Crypto,
        identity: &Identity,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Option<NewGroup>, Failure> {
        let now_ms = self.now_ms;
        let check = |candidate: &Candidate| candidate.check(crypto, now_ms);
        let Some(checked) = parallel::map(&self.candidates, stop, &check) else { return Ok(None) };
        let mut unfit = Vec::new();
        let mut members: BTreeMap<DeviceName, Device> = BTreeMap::new();
        let mut packages: Vec<(DeviceName, KeyPackage)> = Vec::with_capacity(checked.len());
        for (candidate, package) in self.candidates.into_iter().zip(checked) {
            let name = candidate.device.name.clone();
            match package {
                Some(package) => {
                    packages.push((name.clone(), package));
                    members.insert(name, candidate.device);
                }
                None => unfit.push((name, Unfit::Package)),
            }
        }
        for (name, why) in in_tree::unfit_together(self.own.key_package(), &packages) {
            tracing::warn!(device = %name, ?why, "cannot be in the new group");
            packages.retain(|(other, _)| *other != name);
            members.remove(&name);
            unfit.push((name, why));
        }
        let (names, packages): (Vec<_>, Vec<_>) = packages.into_iter().unzip();
        let members = names.iter().filter_map(|name| members.remove(name)).collect();
        if packages.is_empty() {
            return Ok(Some(NewGroup { own: self.own, founded: None, members, unfit }));
        }
        let founding = Founding {
            crypto,
            signer: identity.signer(),
            group_id: &self.group_id,
            own: self.own.key_package(),
            others: &packages,
            is_inline: &|bytes| TreePlace::of(bytes) == TreePlace::Inline,
            stop,
        };
        let Some(founded) = founding.found()? else { return Ok(None) };
        Ok(Some(NewGroup { own: self.own, founded: Some(founded), members, unfit }))
    }
}

/// Enters the group that was made, and queues what has to be sent for it. Nothing happens where the
/// room is founded no longer, or somebody who is in the group should not be there any more: then
/// the next step of the founding comes first.
pub(crate) fn stage_founding(
    turn: &Turn<'_>,
    room: &mut Room,
    new: NewGroup,
) -> Result<(), SendError> {
    if !room.standing.is_gathering() || room.others_group {
        return Ok(());
    }
    for (name, why) in new.unfit {
        key_packages::unfit(turn, &room.id, &name, why)?;
    }
    let Some(founded) = new.founded else { return found_alone(turn, room).map(drop) };
    if !still_wanted(turn, room, &new.members)? {
        tracing::info!(room = %room.id, "the members have changed while the group was made");
        return Ok(());
    }
    enter(turn, room, &new.own, founded, &new.members)?;
    for device in &new.members {
        key_packages::used(turn, &room.id, &device.name)?;
    }
    Ok(())
}

/// Whether all of these devices are to be in the group, with these keys.
fn still_wanted(turn: &Turn<'_>, room: &Room, members: &[Device]) -> Result<bool, StoreError> {
    let users = membership::users_of_group(turn.tx, room)?;
    let wanted: BTreeMap<DeviceName, Vec<u8>> = wanted(turn, &users)?
        .into_iter()
        .map(|device| (device.name, device.credential_key))
        .collect();
    Ok(members.iter().all(|member| wanted.get(&member.name) == Some(&member.credential_key)))
}

/// Enters by the founder's part of the Welcome, as every member does by its own.
fn enter(
    turn: &Turn<'_>,
    room: &mut Room,
    own: &KeyPackageBundle,
    founded: Founded,
    members: &[Device],
) -> Result<(), SendError> {
    let namespace = turn.tx.new_namespace()?;
    let provider = turn.provider(namespace);
    let reference = own.key_package().hash_ref(turn.crypto);
    let reference = reference.map_err(|error| Failure::defect("key_package", error))?;
    provider.storage().write_key_package(&reference, own)?;
    let staged = open(&provider, &founded).map_err(|error| Failure::defect("founding", error))?;
    let group = staged.into_group(&provider).map_err(|error| Failure::defect("founding", error))?;
    // Whether or not OpenMLS has deleted it: nothing else can come for it.
    provider.storage().delete_key_package(&reference)?;

    let name = turn.identity.name();
    let origin = Origin {
        namespace,
        creator: name.clone(),
        parent: None,
        group: (GroupName::First, room.rank_of(GroupName::First)),
        status: Status::Staged,
        since_ms: turn.now_ms,
    };
    let mut epoch = EpochRecord::of(&group, origin)?;
    epoch.begin_tree();
    keep_export(turn.tx, &room.id, epoch.id, &group, &provider, room.settings.history)?;
    graph::put(turn.tx, &room.id, &epoch)?;
    tracing::debug!(room = %room.id, devices = members.len() + 1, "group founded");
    let create_event = room.state.create_event.as_ref();
    let base = BaseName {
        creator: name,
        commit_event: create_event.map(ToString::to_string).unwrap_or_default(),
    };
    let place = if founded.is_tree_inline { TreePlace::Inline } else { TreePlace::Outside };
    let names = members.iter().map(|device| device.name.clone());
    let draft = CommitDraft {
        welcome: founded.welcome,
        added: names.zip(founded.references).collect(),
        renews: true,
        welcome_tree: Some(place),
        ..CommitDraft::default()
    };
    publish(turn, &room.id, &epoch, &group, base, draft)?;
    turn.groups.keep(turn.tx, namespace, group)?;
    room.standing.stage(epoch.id);
    Ok(())
}

/// Has OpenMLS open the founder's part of the Welcome.
fn open(provider: &Provider<'_>, founded: &Founded) -> Result<StagedWelcome, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let message = parse_message(&founded.own_welcome).map_err(|error| text(&error))?;
    let MlsMessageBodyIn::Welcome(welcome) = message else { return Err("no Welcome".to_owned()) };
    let mut builder = StagedWelcome::build_from_welcome(provider, &join_config(), welcome)
        .map_err(|error| text(&error))?
        .skip_lifetime_validation();
    if !founded.is_tree_inline {
        let group = builder.processed_welcome().unverified_group_info().group_context().group_id();
        let tree = parse_tree(provider.crypto(), group, &founded.tree);
        builder = builder.with_ratchet_tree(tree.map_err(|error| text(&error))?);
    }
    builder.build().map_err(|error| text(&error))
}
