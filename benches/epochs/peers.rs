//! The members of the room that are not measured: plain OpenMLS, who make the commits.

use matrix_mls_kit::{
    OrMissing as _, Result, bail,
    peer::{Peer, identity},
};
use openmls::prelude::{KeyPackage, LeafNodeIndex};

use super::{MINE, ROOM, USER};

/// How many members commit while the room grows, at the most.
const COMMITTERS: usize = 64;
/// How many of them go on committing.
const LIVE: usize = 4;

/// Who commits what.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Another member renews its keys.
    Rotation,
    /// The measured device renews its own.
    OwnRotation,
    /// Another member adds a device, without a path.
    Add,
    /// Another member removes a device.
    Remove,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Rotation, Self::OwnRotation, Self::Add, Self::Remove];

    pub fn name(self) -> &'static str {
        match self {
            Self::Rotation => "another's rotation",
            Self::OwnRotation => "own rotation",
            Self::Add => "an add",
            Self::Remove => "a removal",
        }
    }
}

/// The members that are not measured.
pub struct Peers {
    founder: Peer,
    live: Vec<Peer>,
    made: usize,
    removed: usize,
}

impl Peers {
    pub fn grow(devices: usize) -> Self {
        let mut founder = Peer::new("@user0:example.org", "D0");
        founder.create(ROOM, false);
        let mut peers = Self { founder, live: Vec::new(), made: 0, removed: 0 };
        let committers = COMMITTERS.min(devices / 4).max(1);
        for number in 0..committers {
            let until = (devices - 2) * (number + 1) / committers;
            let packages: Vec<_> =
                (peers.made..until - 1).map(|_| peers.new_peer().key_package()).collect();
            if !packages.is_empty() {
                peers.founder.put_tree_in_welcomes(false);
                let (commit, _) = peers.founder.add(&packages);
                peers.process(&commit, None);
            }
            let mut member = peers.new_peer();
            let welcome = peers.add(&[member.key_package()], true);
            member.join(&welcome);
            let commit = member.update();
            peers.founder.process(&commit);
            peers.process(&commit, None);
            if number % committers.div_ceil(LIVE) == 0 {
                peers.live.push(member);
            }
        }
        peers
    }

    fn new_peer(&mut self) -> Peer {
        self.made += 1;
        Peer::new(&format!("@user{}:example.org", self.made % 100), &format!("D{}", self.made))
    }

    fn process(&mut self, commit: &[u8], committer: Option<usize>) {
        for (number, peer) in self.live.iter_mut().enumerate() {
            if Some(number) != committer {
                peer.process(commit);
            }
        }
    }

    /// A commit by one of the devices that are measured.
    pub fn take_in(&mut self, commit: &[u8]) {
        self.founder.process(commit);
        self.process(commit, None);
    }

    /// Adds devices; gives the Welcome.
    pub fn add(&mut self, packages: &[KeyPackage], tree: bool) -> Vec<u8> {
        self.founder.put_tree_in_welcomes(tree);
        let (commit, welcome) = self.founder.add(packages);
        self.process(&commit, None);
        welcome
    }

    /// The leaf of a member that does nothing, now here, now there in the tree.
    fn next_to_go(&mut self) -> LeafNodeIndex {
        let mut stay = MINE.map(|device| identity(USER, device)).to_vec();
        let busy = self.live.iter().chain([&self.founder]);
        stay.extend(busy.map(|peer| identity(&peer.user, &peer.device)));
        let mut idle: Vec<_> = self.founder.group().members().collect();
        idle.retain(|member| {
            !stay.iter().any(|name| name == member.credential.serialized_content())
        });
        self.removed += 1;
        idle[self.removed * 397 % idle.len()].index
    }

    pub fn commit(&mut self, kind: Kind, round: usize) -> Result<Vec<u8>> {
        let commit = match kind {
            Kind::Rotation => {
                let committer = round % (self.live.len() + 1);
                let commit = match self.live.get_mut(committer) {
                    Some(peer) => peer.update(),
                    None => self.founder.update(),
                };
                self.process(&commit, Some(committer));
                if committer < self.live.len() {
                    self.founder.process(&commit);
                }
                commit
            }
            Kind::Add => {
                let package = self.new_peer().key_package();
                self.founder.put_tree_in_welcomes(false);
                let (commit, _) = self.founder.add(&[package]);
                self.process(&commit, None);
                commit
            }
            Kind::Remove => {
                let leaf = self.next_to_go();
                let Peer { group, provider, signer, .. } = &mut self.founder;
                let group = group.as_mut().or_missing("group of the founder")?;
                let (commit, ..) = group.remove_members(provider, signer, &[leaf])?;
                group.merge_pending_commit(provider)?;
                let commit = commit.to_bytes()?;
                self.process(&commit, None);
                commit
            }
            Kind::OwnRotation => bail!("that is the measured devices' own"),
        };
        Ok(commit)
    }
}
