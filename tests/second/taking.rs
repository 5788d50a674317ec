//! What came is taken in: commits on whatever epoch they are based, messages, Welcomes, restarts.

use matrix_mls_kit::{OrMissing as _, Result, bail, published_tree};
use mls_rs::{
    KeyPackageStorage, MlsMessage,
    extension::built_in::RatchetTreeExt,
    group::{CommitEffect, ExportedTree, ReceivedMessage, proposal::Proposal},
    identity::SigningIdentity,
    mls_rs_codec::MlsEncode as _,
};

use crate::{
    client::Second,
    events::{Commit, Event, Media, Message, Payload, Plaintext, TreeDifference, Welcome},
    head::{AHEAD, Device, EpochId, Maker, Node, Place},
    mls::{MlsGroup, device_in, device_of, epoch_id},
    names,
    opening::{Export, Header},
    room::{Claim, Epoch, Read, Removal},
    wire::from_base64,
};

/// Whether an event is settled or waits for something.
#[derive(PartialEq, Eq)]
enum Outcome {
    Settled,
    Waits,
}

/// What a commit, a Welcome or an announcement has made of a group.
pub struct Arrival {
    pub group: MlsGroup,
    pub creator: Device,
    pub commit_event: String,
    pub parent: Option<EpochId>,
    pub removes: Vec<Maker>,
    pub joined_as_outsider: bool,
    pub by_impostor: bool,
}

impl Second {
    /// Takes in all that waits in a room, until nothing more can be.
    pub async fn take_events(&mut self, id: &str) -> Result {
        loop {
            let mut moved = false;
            for event in std::mem::take(&mut self.room(id)?.unsettled) {
                match self.take_event(id, &event).await {
                    Ok(Outcome::Settled) => moved = true,
                    Ok(Outcome::Waits) => self.room(id)?.unsettled.push(event),
                    Err(error) => {
                        moved = true;
                        self.room(id)?.refuse(&event.event_id, &error);
                    }
                }
            }
            self.count_restart(id).await?;
            if !moved {
                return Ok(());
            }
        }
    }

    async fn take_event(&mut self, id: &str, event: &Event) -> Result<Outcome> {
        let algorithm = event.content["algorithm"].as_str().unwrap_or_default();
        if !names::is(algorithm, names::ROOM) {
            return Ok(Outcome::Settled);
        }
        if event.content.get("public_group_state").is_some_and(|state| !state.is_null()) {
            let commit: Commit = serde_json::from_value(event.content.clone())?;
            self.take_commit(id, event, &commit).await
        } else {
            let message: Message = serde_json::from_value(event.content.clone())?;
            self.take_message(id, event, &message)
        }
    }

    async fn take_commit(&mut self, id: &str, event: &Event, commit: &Commit) -> Result<Outcome> {
        if commit.sender.0 != event.sender {
            bail!("the commit's sender is not the event's");
        }
        let is_announcement =
            matches!(&commit.ciphertext, Payload::Inline(text) if text.is_empty());
        if is_announcement {
            self.claim(id, event, commit, None)?;
            return Ok(Outcome::Settled);
        }
        let bytes = self.bytes(&commit.ciphertext).await?;
        let message = MlsMessage::from_bytes(&bytes)?;
        let number = message.epoch().or_missing("number in the header")?;
        let group_id = message.group_id().or_missing("group id in the header")?.to_vec();
        names::group_number(id, &group_id).or_missing("group of this room")?;
        // A commit that can be processed is taken whatever its GroupInfo says (R6).
        let claimed = self.claim(id, event, commit, Some((number, &group_id)));
        if self.room(id)?.own.contains(&event.event_id) {
            return Ok(Outcome::Settled);
        }
        let room = self.room(id)?;
        let mut bases: Vec<(bool, EpochId)> = room
            .epochs
            .iter()
            .filter(|(_, epoch)| {
                epoch.group.is_some() && epoch.number == number && epoch.group_id == group_id
            })
            .map(|(id, epoch)| (epoch.commit_event.as_ref() != Some(&commit.commit_event), *id))
            .collect();
        bases.sort_unstable();
        let mut last_error = None;
        for (_, base) in bases {
            match self.take_commit_on(id, base, event, commit, &message) {
                Ok(()) => return Ok(Outcome::Settled),
                Err(error) => last_error = Some(error),
            }
        }
        claimed?;
        last_error.map_or(Ok(Outcome::Waits), Err)
    }

    /// Keeps what an event claims of an epoch, if its number fits (E7).
    fn claim(
        &mut self,
        id: &str,
        event: &Event,
        commit: &Commit,
        header: Option<(u64, &[u8])>,
    ) -> Result {
        let Payload::Inline(state) = &commit.public_group_state else {
            bail!("the GroupInfo is not in the event");
        };
        let state = from_base64(state)?;
        let message = MlsMessage::from_bytes(&state)?;
        let context = message.as_group_info().or_missing("GroupInfo")?.group_context();
        let group_id = context.group_id.clone();
        let room = self.room(id)?;
        let restart = names::group_number(id, &group_id).or_missing("group of this room")?;
        let continues = match header {
            Some((number, header_id)) => context.epoch == number + 1 && header_id == group_id,
            // Only the room's first group is founded with all members at once.
            None => context.epoch == 0 || (context.epoch == 1 && restart == 0),
        };
        if !continues {
            bail!("the number {} does not continue its base", context.epoch);
        }
        if !room.number_fits(context.epoch) {
            bail!("the number {} is too high", context.epoch);
        }
        let claim = Claim {
            id: epoch_id(context)?,
            number: context.epoch,
            group_id,
            sender: commit.sender.clone(),
            user: event.sender.clone(),
            base: commit.commit_event.clone(),
            is_announcement: header.is_none(),
            state,
            tree: commit.ratchet_tree.clone(),
            difference: commit.tree_difference.clone(),
        };
        room.claims.insert(event.event_id.clone(), claim);
        Ok(())
    }

    /// Processes a commit on the state of one epoch (E1).
    fn take_commit_on(
        &mut self,
        id: &str,
        base: EpochId,
        event: &Event,
        commit: &Commit,
        message: &MlsMessage,
    ) -> Result {
        let noted = self.mls.crypto.clone();
        let room = self.rooms.get_mut(id).or_missing("room")?;
        let mut group = room.epoch(base)?.group.clone().or_missing("state")?;
        let before = group.clone();
        let ReceivedMessage::Commit(made) = group.process_incoming_message(message.clone())? else {
            bail!("this is no commit");
        };
        let (new, is_removed) = match &made.effect {
            CommitEffect::NewEpoch(new) => (new, false),
            CommitEffect::Removed { new_epoch, .. } => (new_epoch, true),
            CommitEffect::ReInit(_) => bail!("a commit that ends the group"),
        };
        let mut removes = Vec::new();
        for proposal in &new.applied_proposals {
            if let Proposal::Remove(remove) = &proposal.proposal {
                let member = before.member_at_index(remove.to_remove());
                removes.push(self.devices.maker(&member.or_missing("leaf")?.signing_identity)?);
            }
        }
        let committer = match (made.is_external, is_removed) {
            (false, _) => before.member_at_index(made.committer),
            (true, false) => group.member_at_index(made.committer),
            (true, true) => None,
        };
        if let Some(member) = &committer {
            if device_in(&member.signing_identity)? != commit.sender {
                bail!("another device than the commit's sender has made it");
            }
            if made.is_external && removes.iter().any(|gone| gone.device != commit.sender) {
                bail!("who joins by himself removes another");
            }
            let after = (!is_removed).then(|| group.member_at_index(made.committer)).flatten();
            if after.is_some_and(|after| after.signing_identity != member.signing_identity) {
                bail!("the committer's leaf has another key");
            }
        }
        let maker = committer.map(|member| self.devices.maker(&member.signing_identity));
        let by_impostor = maker.transpose()?.is_some_and(|maker| maker.is_impostor);
        let outsider = made.is_external && room.is_outsider(&self.devices, &commit.sender);
        if is_removed {
            let claim = room.claims.get(&event.event_id).or_missing("GroupInfo of the removal")?;
            let node = Node {
                id: claim.id,
                number: claim.number,
                maker: Maker { device: commit.sender.clone(), is_impostor: by_impostor },
                parent: Some(base),
                group: room.place(&claim.group_id),
                left: false,
                removes,
                joined_as_outsider: outsider,
            };
            let before = room.epochs.keys().copied().collect();
            room.removals.push(Removal { node, before });
            return Ok(());
        }
        let arrival = Arrival {
            group,
            creator: commit.sender.clone(),
            commit_event: event.event_id.clone(),
            parent: Some(base),
            removes,
            joined_as_outsider: outsider,
            by_impostor,
        };
        let secrets = noted.noted();
        let new = self.arrive(id, arrival, secrets)?;
        if !made.is_external && !by_impostor {
            self.room(id)?.hear(&commit.sender, new, event.origin_server_ts);
        }
        Ok(())
    }

    /// Keeps an epoch that this device is in now; its id.
    pub fn arrive(
        &mut self,
        id: &str,
        arrival: Arrival,
        secrets: crate::crypto::Secrets,
    ) -> Result<EpochId> {
        let context = arrival.group.context();
        let new = epoch_id(context)?;
        let export =
            Export::of(context.mls_encode_to_vec()?, secrets, &arrival.group.export_tree())?;
        let (number, group_id) = (context.epoch, context.group_id.clone());
        let room = self.rooms.get_mut(id).or_missing("room")?;
        let place = room.place(&group_id);
        let node = Node {
            id: new,
            number,
            maker: Maker { device: arrival.creator.clone(), is_impostor: arrival.by_impostor },
            parent: arrival.parent,
            group: place,
            left: false,
            removes: arrival.removes,
            joined_as_outsider: arrival.joined_as_outsider,
        };
        if let Some(known) = room.epochs.get_mut(&new)
            && known.group.is_some()
        {
            // It was joined by a Welcome, and now its commit is followed as well.
            if let Some(before) = &mut known.node
                && before.parent.is_none()
            {
                *before = node;
            }
            known.commit_event = Some(arrival.commit_event);
            return Ok(new);
        }
        for member in arrival.group.roster().members_iter() {
            let identity = member.signing_identity;
            let binding = member
                .extensions
                .iter()
                .find(|extension| extension.extension_type == names::BINDING.into());
            let binding = binding.map(|extension| &*extension.extension_data);
            if let Ok(device) = device_in(&identity)
                && self.devices.is_key_of(&device, &identity.signature_key, binding)
            {
                self.devices.remember(&device, &identity.signature_key);
            }
        }
        let epoch = Epoch {
            node: Some(node),
            group_id,
            number,
            creator: arrival.creator,
            commit_event: Some(arrival.commit_event),
            group: Some(arrival.group),
            export,
            sealed: 0,
        };
        room.epochs.insert(new, epoch);
        Ok(new)
    }

    fn take_message(&mut self, id: &str, event: &Event, message: &Message) -> Result<Outcome> {
        let bytes = from_base64(&message.ciphertext)?;
        let header = Header::read(&bytes)?;
        let room = self.rooms.get_mut(id).or_missing("room")?;
        let fits =
            |epoch: &Epoch| epoch.number == header.number && epoch.group_id == header.group_id;
        let mut epochs: Vec<(bool, EpochId)> = room
            .epochs
            .iter()
            .filter(|(_, epoch)| fits(epoch))
            .map(|(id, epoch)| (epoch.commit_event.as_ref() != Some(&message.commit_event), *id))
            .collect();
        epochs.sort_unstable();
        if epochs.is_empty() {
            return Ok(Outcome::Waits);
        }
        let Some((epoch_id, opened)) = epochs
            .iter()
            .find_map(|(_, id)| Some((*id, room.epochs.get(id)?.export.open(&bytes).ok()?)))
        else {
            // It may be of a branch that this device has not followed yet.
            return Ok(Outcome::Waits);
        };
        let epoch = room.epoch(epoch_id)?;
        let leaf = epoch.export.leaf(opened.leaf).or_missing("leaf")?.clone();
        let sender = device_of(&leaf.identity()?)?;
        let plaintext: Plaintext = serde_json::from_slice(&opened.plaintext)?;
        if sender.0 != event.sender {
            bail!("the message is {}'s", sender.0);
        }
        if plaintext.room_id != id {
            bail!("the message is of {}", plaintext.room_id);
        }
        if plaintext.generation.is_some_and(|generation| generation != opened.generation) {
            bail!("sealed again: generation {}", opened.generation);
        }
        if self.devices.conflicts(&sender, &leaf.signature_key) {
            bail!("an impostor's message");
        }
        let shown = room.shown.entry((epoch_id, opened.leaf, opened.generation));
        if *shown.or_insert_with(|| event.event_id.clone()) != event.event_id {
            bail!("replayed");
        }
        // mls-rs reads the same, where it can: its own messages it does not open.
        let epoch = room.epoch(epoch_id)?;
        if let Some(group) = &mut epoch.group
            && group.current_member_index() != opened.leaf
        {
            let ReceivedMessage::ApplicationMessage(read) =
                group.process_incoming_message(MlsMessage::from_bytes(&bytes)?)?
            else {
                bail!("mls-rs reads no message");
            };
            if (read.data(), read.sender_index) != (&*opened.plaintext, opened.leaf) {
                bail!("mls-rs reads something else");
            }
        }
        room.hear(&sender, epoch_id, event.origin_server_ts);
        let kind = plaintext.kind;
        room.read.push(Read { sender, kind, content: plaintext.content });
        Ok(Outcome::Settled)
    }

    /// Joins by a Welcome that a sync has brought.
    pub async fn join_by_welcome(&mut self, sender: &str, welcome: &Welcome) -> Result {
        if welcome.sender.0 != sender {
            bail!("the Welcome's sender is not the event's");
        }
        let message = MlsMessage::from_bytes(&from_base64(&welcome.ciphertext)?)?;
        let info = self.mls.client.examine_welcome_message(&message)?;
        let context = info.group_context();
        let id = &*welcome.room_id;
        names::group_number(id, &context.group_id).or_missing("group of this room")?;
        if !self.room(id)?.number_fits(context.epoch) {
            bail!("the number {} is too high", context.epoch);
        }
        let tree = self.named_tree(&welcome.ratchet_tree, &welcome.tree_difference).await?;
        let (group, info) = self.mls.client.join_group(tree, &message, None)?;
        let secrets = self.mls.crypto.noted();
        let maker = group.member_at_index(info.sender).or_missing("who made the Welcome")?;
        // mls-rs deletes the private keys of a package when a group is stored, which none is (D13).
        for reference in message.welcome_key_package_references() {
            KeyPackageStorage::delete(&mut self.mls.packages, reference)?;
        }
        self.check_signer(&maker.signing_identity, &welcome.sender)?;
        let arrival = Arrival {
            group,
            creator: welcome.sender.clone(),
            commit_event: welcome.commit_event.clone(),
            parent: None,
            removes: Vec::new(),
            joined_as_outsider: false,
            by_impostor: false,
        };
        self.arrive(id, arrival, secrets)?;
        Ok(())
    }

    /// That a leaf is the device's that was named, under its key (D5).
    fn check_signer(&self, leaf: &SigningIdentity, named: &Device) -> Result {
        if device_in(leaf)? != *named || !self.devices.is_key_of(named, &leaf.signature_key, None) {
            bail!("{named:?} has not signed it");
        }
        Ok(())
    }

    /// The tree that a commit or a Welcome names outside of its GroupInfo.
    async fn named_tree(
        &self,
        whole: &Option<Media>,
        difference: &Option<TreeDifference>,
    ) -> Result<Option<ExportedTree<'static>>> {
        let tree = match (whole, difference) {
            (Some(media), _) => self.download(media).await?,
            (None, Some(difference)) => {
                let mut tree = self.download(&difference.whole).await?;
                if let Some(middle) = &difference.middle {
                    tree = published_tree::apply(&tree, &self.download(middle).await?)?;
                }
                if let Some(nodes) = &difference.nodes {
                    tree = published_tree::apply(&tree, &from_base64(nodes)?)?;
                }
                tree
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(ExportedTree::from_bytes(&tree)?))
    }

    /// Checks who signed a claim's GroupInfo; gives the tree to join with.
    pub async fn checked_tree(&self, claim: &Claim) -> Result<ExportedTree<'static>> {
        let message = MlsMessage::from_bytes(&claim.state)?;
        let info = message.as_group_info().or_missing("GroupInfo")?;
        let tree = match self.named_tree(&claim.tree, &claim.difference).await? {
            Some(tree) => tree,
            None => {
                let extension = info.extensions().get_as::<RatchetTreeExt>()?;
                extension.or_missing("ratchet tree")?.tree_data
            }
        };
        let leaf = tree.roster().member_with_index(info.sender())?.signing_identity;
        self.check_signer(&leaf, &claim.sender)?;
        self.mls.client.validate_group_info(&message, &leaf)?;
        Ok(tree)
    }

    /// Counts the restart that the state shows, if all holds (E16).
    async fn count_restart(&mut self, id: &str) -> Result {
        let room = self.room(id)?;
        let Some((user, restart)) = room.restart_state.clone() else { return Ok(()) };
        let last = room.restarts.keys().last().copied().unwrap_or(0);
        let Some(claim) = room.claims.get(&restart.announcement).cloned() else { return Ok(()) };
        let fits = claim.is_announcement
            && claim.user == user
            && names::group_number(id, &claim.group_id) == Some(restart.number)
            && restart.number >= last
            && restart.number <= last + AHEAD
            && !self.devices.is_gone(&claim.sender);
        if fits && self.checked_tree(&claim).await.is_ok() {
            self.room(id)?.restarts.insert(restart.number, claim.group_id);
        }
        Ok(())
    }

    /// Whether what this device is in is the group of the last restart, or the first.
    pub fn is_up_to_date(&mut self, id: &str, head: EpochId) -> Result<bool> {
        let room = self.room(id)?;
        let last = room.restarts.keys().last().copied();
        let place = room.epochs.get(&head).map(|epoch| room.place(&epoch.group_id));
        Ok(match last {
            Some(number) => place == Some(Place::Restart(std::cmp::Reverse(number))),
            None => place == Some(Place::First),
        })
    }
}
