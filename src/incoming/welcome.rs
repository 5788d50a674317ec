//! Joining by a Welcome.
//!
//! The Welcome is opened in a namespace of its own. The private keys of the key package that it
//! used are deleted in the same transaction in which the epoch is kept, so a Welcome that fails
//! costs nothing, and one that succeeds can never be opened a second time. A Welcome whose ratchet
//! tree stands in the media repository waits for that. Whether a Welcome counts at all is decided
//! before (`room::hears`): it never makes a room what its state does not say.

use std::collections::BTreeSet;

use openmls::{framing::MlsMessageBodyIn, group::StagedWelcome, messages::Welcome};
use ruma::{OwnedUserId, RoomId, UserId};
use serde::{Deserialize, Serialize};

use super::{
    error::{Awaited, EventError},
    fair_share::{Share, take_surplus},
    members,
    ratchet_tree::{Fetched, Named},
};
use crate::{
    devices,
    epochs::{
        CommitDoubt, EpochRecord, Origin, Status, graph,
        head::{self, NewEpoch},
        missing, numbers, restarts,
    },
    failure::Failure,
    identity::{self, IdentityError, Provider},
    mls::{
        Removed, join_config, keep_export, note_bindings_of_members, parse_message,
        refuse_conflicting,
    },
    protocol::{GroupName, WelcomeContent, credential},
    ratchet_trees::parse_tree,
    rejection::{InputError, Rejection},
    room::{LeafOrigin, OwnLeaf, RejoinReason, Room, Standing, membership},
    store::{Collection, StoreError},
    turn::{Consequence, Turn},
};

/// Joins the group that a Welcome leads to; gives the number of the epoch. Nothing means that this
/// device is already there.
pub(crate) fn join(
    turn: &Turn<'_>,
    room: &mut Room,
    sender: &UserId,
    content: &WelcomeContent,
) -> Result<Option<u64>, EventError> {
    if content.sender.user_id != sender {
        let reason = "the event names another user as sender";
        return Err(Rejection::SenderMismatch(reason).into());
    }
    let (event, maker) = (&content.commit_event, &content.sender);
    if graph::by_event(turn.tx, &room.id, event)?.is_some_and(|epoch| epoch.creator == *maker)
        || graph::by_hint(turn.tx, &room.id, event, maker)?.is_some()
    {
        return Ok(None);
    }
    let is_stranger = check_inviter(turn, room, sender, content)?;
    let MlsMessageBodyIn::Welcome(welcome) = parse_message(&content.ciphertext.bytes()?)? else {
        return Err(Rejection::NotAWelcome.into());
    };
    let namespace = turn.tx.new_namespace()?;
    let provider = turn.provider(namespace);
    let named = Named {
        whole: content.ratchet_tree.as_ref(),
        difference: content.tree_difference.as_ref(),
    };
    let (staged, tree) = open(turn, room, &provider, (content, named), welcome)?;
    let group_id = staged.group_context().group_id().as_slice();
    let name = GroupName::of(&room.id, group_id)
        .ok_or(Rejection::OtherGroup("the Welcome leads to another room's group"))?;
    if name.number() > room.group().number() && restarts::is_unnamed(turn.tx, room, name)? {
        return Err(EventError::Awaits(Awaited::Restart(name)));
    }
    let users = check_members(turn, &staged)?;
    let group = staged.into_group(&provider).map_err(InputError::from)?;
    if !is_stranger {
        note_bindings_of_members(turn, &group)?;
    }

    let origin = Origin {
        namespace,
        creator: content.sender.clone(),
        parent: None,
        group: (name, room.rank_of(name)),
        status: Status::Accepted,
        since_ms: turn.now_ms,
    };
    let mut epoch = EpochRecord::of(&group, origin)?;
    if graph::find(turn.tx, &room.id, epoch.id)?.is_some() {
        return Err(Rejection::KnownEpoch.into());
    }
    if is_stranger {
        epoch.doubts.push(CommitDoubt::InvitedByStranger(content.sender.clone()));
    }
    numbers::check(turn.tx, room, epoch.number)?;
    epoch.commit_event = Some(content.commit_event.clone());
    epoch.event_is_hint = true;
    epoch.begin_tree();
    keep_export(turn.tx, &room.id, epoch.id, &group, &provider, room.settings.history)?;
    let used_one_time =
        identity::forget_used_key_packages(turn.tx, turn.crypto).map_err(|error| match error {
            IdentityError::Store(error) => Failure::Store(error),
            error => Failure::defect("identity", error),
        })?;

    for user in &users {
        // A stranger may have made up the rest.
        if !is_stranger || membership::is_known(turn.tx, &room.id, user)? {
            devices::track(turn.tx, [&**user])?;
        }
    }
    missing::ask_again(turn, &room.id)?;
    let origin = match used_one_time {
        true => LeafOrigin::OneTimePackage,
        false => LeafOrigin::LastResortPackage,
    };
    let leaf = OwnLeaf { origin, ..OwnLeaf::renewed(epoch.id, turn.now_ms) };
    room.renewal.keep_leaf(leaf, &room.kept);
    let number = epoch.number;
    head::enter(turn, room, NewEpoch { epoch, added: &[], removed: &Removed::default() })?;
    turn.report(Consequence::Welcomed);
    if let Some(tree) = tree {
        tree.keep(turn, &room.id, name)?;
    }
    named.used(turn, &room.id)?;
    Ok(Some(number))
}

/// Whether the inviter is a stranger to the room. Anybody can claim a key package of this device
/// and invite it into a group that bears the room's id. A device that has a group listens to the
/// room's members only, and nothing is fetched for anybody else; otherwise the doubt stays with the
/// epoch.
fn check_inviter(
    turn: &Turn<'_>,
    room: &Room,
    sender: &UserId,
    content: &WelcomeContent,
) -> Result<bool, EventError> {
    let users = membership::users_of_group(turn.tx, room)?;
    let is_stranger = !users.contains(sender);
    let has_tree_outside = content.ratchet_tree.is_some() || content.tree_difference.is_some();
    if is_stranger {
        if room.standing.head().is_some() || has_tree_outside {
            // A sync has to-device events first: who has come into the room stands behind them.
            return Err(EventError::Awaits(Awaited::Sender));
        }
        members::want(turn, &room.id)?;
    }
    Ok(is_stranger)
}

/// Has OpenMLS open a Welcome, and makes sure that it leads where the event says. Gives the ratchet
/// tree as well, if that was fetched.
fn open(
    turn: &Turn<'_>,
    room: &Room,
    provider: &Provider<'_>,
    (content, named): (&WelcomeContent, Named<'_>),
    welcome: Welcome,
) -> Result<(StagedWelcome, Option<Fetched>), EventError> {
    // A leaf that was never updated carries its key package's lifetime, so an old room would become
    // unjoinable. Whether each device may be there is decided by its published keys instead.
    let mut builder = StagedWelcome::build_from_welcome(provider, &join_config(), welcome)
        .map_err(InputError::from)?
        .skip_lifetime_validation();
    let tree = named.fetch(turn, &room.id)?;
    if let Some(fetched) = &tree {
        let group = builder.processed_welcome().unverified_group_info().group_context().group_id();
        let tree = parse_tree(turn.crypto, group, &fetched.tree)?;
        builder = builder.with_ratchet_tree(tree);
    }
    let staged = builder.build().map_err(InputError::from)?;
    let inviter = staged.welcome_sender().map_err(InputError::from)?;
    if credential::parse(inviter.credential().serialized_content())? != content.sender {
        let reason = "the Welcome was made by another device than the event says";
        return Err(Rejection::SenderMismatch(reason).into());
    }
    Ok((staged, tree))
}

/// Checks that the inviter is no impostor; gives the users of the group's members. An impostor
/// among those is removed before anything is sealed.
fn check_members(
    turn: &Turn<'_>,
    staged: &StagedWelcome,
) -> Result<BTreeSet<OwnedUserId>, EventError> {
    let inviter = staged.welcome_sender().map_err(InputError::from)?;
    let device = credential::parse(inviter.credential().serialized_content())?;
    refuse_conflicting(turn.tx, &device, inviter.signature_key().as_slice())?;
    let mut users = BTreeSet::new();
    for member in staged.members() {
        users.insert(credential::parse(member.credential.serialized_content())?.user_id);
    }
    Ok(users)
}

/// A Welcome that waits for its ratchet tree, or for its sender to be in the room.
#[derive(Serialize, Deserialize)]
pub(crate) struct WaitingWelcome {
    pub(crate) sender: OwnedUserId,
    pub(crate) content: WelcomeContent,
    /// When it came, in milliseconds since 1970.
    #[serde(default)]
    pub(crate) since_ms: u64,
}

/// The name is that of rows written by earlier versions.
const WAITING: Collection<WaitingWelcome> = Collection::new("pending_welcome");
/// How many wait in one room.
const MOST_WAITING: u64 = 16;
/// How long one waits, in milliseconds: 30 days.
const MOST_AGE_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// The key of a waiting Welcome: nobody's takes the place of another's.
fn key(content: &WelcomeContent) -> Vec<u8> {
    [&*credential::encode(&content.sender), content.commit_event.as_bytes()].concat()
}

/// Keeps a Welcome for later. Where too many wait, whoever has sent the most gives way.
pub(crate) fn keep(turn: &Turn<'_>, welcome: WaitingWelcome) -> Result<(), StoreError> {
    let room = welcome.content.room_id.clone();
    let mut all = waiting(turn, &room)?;
    let key = key(&welcome.content);
    all.retain(|other| self::key(&other.content) != key);
    WAITING.put(turn.tx, room.as_bytes(), &key, &welcome)?;
    all.push(welcome);
    let share = |welcome: &WaitingWelcome| Share { sender: welcome.sender.clone(), weight: 1 };
    for dropped in take_surplus(&mut all, MOST_WAITING, share) {
        remove(turn, &dropped.content)?;
    }
    Ok(())
}

/// The Welcomes of a room that wait, without those that have waited too long.
pub(crate) fn waiting(turn: &Turn<'_>, room: &RoomId) -> Result<Vec<WaitingWelcome>, StoreError> {
    let (old, kept): (Vec<_>, Vec<_>) = WAITING
        .list(turn.tx, room.as_bytes())?
        .into_iter()
        // Earlier versions did not note when.
        .partition(|row| row.since_ms > 0 && turn.has_passed(row.since_ms, MOST_AGE_MS));
    for welcome in old {
        remove(turn, &welcome.content)?;
    }
    Ok(kept)
}

/// A Welcome need not wait any more.
pub(crate) fn remove(turn: &Turn<'_>, content: &WelcomeContent) -> Result<(), StoreError> {
    let room = content.room_id.as_bytes();
    WAITING.delete(turn.tx, room, &key(content))?;
    // Rows of earlier versions.
    WAITING.delete(turn.tx, room, content.commit_event.as_bytes()).map(drop)
}

/// Whether a Welcome has to be kept until its ratchet tree is there, or its sender is in the room.
pub(crate) fn has_to_wait(error: &EventError) -> bool {
    matches!(error, EventError::Awaits(Awaited::Media | Awaited::Sender | Awaited::Restart(_)))
}

/// A Welcome could not be used. A device that has no group without it joins by itself: the key
/// package may have been used before, or the store may have forgotten it.
pub(crate) fn failed(turn: &Turn<'_>, room: &Room, error: &EventError) -> Result<(), StoreError> {
    tracing::info!(room = %room.id, %error, "a Welcome could not be used");
    let own = turn.identity.name().user_id;
    let can_join = match room.standing {
        Standing::NoGroup | Standing::Founding { .. } | Standing::Joining { .. } => {
            room.uses_mls() && membership::is_joined(turn.tx, &room.id, &own)?
        }
        Standing::Member(_) | Standing::Gone => false,
    };
    if can_join {
        turn.report(Consequence::MustRejoin(RejoinReason::NoGroup));
    }
    Ok(())
}
