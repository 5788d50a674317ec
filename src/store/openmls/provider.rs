//! OpenMLS's `StorageProvider`, method by method: which kind of row, which key.
//!
//! A proposal is a row of its own. A group's queue is the list of its proposals' references, as in
//! OpenMLS's in-memory storage. A proposal that is queued twice is listed once, as in OpenMLS's
//! SQLite storage: if it were listed twice, removing it once would leave a reference to nothing.

use openmls_traits::storage::{CURRENT_VERSION as V, StorageProvider, traits};

use super::{kind::Kind, storage::MlsStorage};
use crate::store::StoreError;

impl StorageProvider<V> for MlsStorage<'_> {
    type Error = StoreError;

    fn write_mls_join_config<G: traits::GroupId<V>, T: traits::MlsGroupJoinConfig<V>>(
        &self,
        group_id: &G,
        config: &T,
    ) -> Result<(), StoreError> {
        self.write(Kind::JoinConfig, group_id, config)
    }

    fn append_own_leaf_node<G: traits::GroupId<V>, T: traits::LeafNode<V>>(
        &self,
        group_id: &G,
        leaf_node: &T,
    ) -> Result<(), StoreError> {
        self.append(Kind::OwnLeafNodes, group_id, leaf_node)
    }

    fn queue_proposal<
        G: traits::GroupId<V>,
        R: traits::ProposalRef<V>,
        T: traits::QueuedProposal<V>,
    >(
        &self,
        group_id: &G,
        proposal_ref: &R,
        proposal: &T,
    ) -> Result<(), StoreError> {
        let key = (group_id, proposal_ref);
        if self.read_row(Kind::QueuedProposal, &key)?.is_none() {
            self.append(Kind::QueuedProposalRefs, group_id, proposal_ref)?;
        }
        self.write(Kind::QueuedProposal, &key, proposal)
    }

    fn write_tree<G: traits::GroupId<V>, T: traits::TreeSync<V>>(
        &self,
        group_id: &G,
        tree: &T,
    ) -> Result<(), StoreError> {
        self.write(Kind::Tree, group_id, tree)
    }

    fn write_interim_transcript_hash<G: traits::GroupId<V>, T: traits::InterimTranscriptHash<V>>(
        &self,
        group_id: &G,
        interim_transcript_hash: &T,
    ) -> Result<(), StoreError> {
        self.write(Kind::InterimTranscriptHash, group_id, interim_transcript_hash)
    }

    fn write_context<G: traits::GroupId<V>, T: traits::GroupContext<V>>(
        &self,
        group_id: &G,
        group_context: &T,
    ) -> Result<(), StoreError> {
        self.write(Kind::GroupContext, group_id, group_context)
    }

    fn write_confirmation_tag<G: traits::GroupId<V>, T: traits::ConfirmationTag<V>>(
        &self,
        group_id: &G,
        confirmation_tag: &T,
    ) -> Result<(), StoreError> {
        self.write(Kind::ConfirmationTag, group_id, confirmation_tag)
    }

    fn write_group_state<T: traits::GroupState<V>, G: traits::GroupId<V>>(
        &self,
        group_id: &G,
        group_state: &T,
    ) -> Result<(), StoreError> {
        self.write(Kind::GroupState, group_id, group_state)
    }

    fn write_message_secrets<G: traits::GroupId<V>, T: traits::MessageSecrets<V>>(
        &self,
        group_id: &G,
        message_secrets: &T,
    ) -> Result<(), StoreError> {
        self.write(Kind::MessageSecrets, group_id, message_secrets)
    }

    fn write_resumption_psk_store<G: traits::GroupId<V>, T: traits::ResumptionPskStore<V>>(
        &self,
        group_id: &G,
        resumption_psk_store: &T,
    ) -> Result<(), StoreError> {
        self.write(Kind::ResumptionPskStore, group_id, resumption_psk_store)
    }

    fn write_own_leaf_index<G: traits::GroupId<V>, T: traits::LeafNodeIndex<V>>(
        &self,
        group_id: &G,
        own_leaf_index: &T,
    ) -> Result<(), StoreError> {
        self.write(Kind::OwnLeafIndex, group_id, own_leaf_index)
    }

    fn write_group_epoch_secrets<G: traits::GroupId<V>, T: traits::GroupEpochSecrets<V>>(
        &self,
        group_id: &G,
        group_epoch_secrets: &T,
    ) -> Result<(), StoreError> {
        self.write(Kind::GroupEpochSecrets, group_id, group_epoch_secrets)
    }

    fn write_signature_key_pair<
        K: traits::SignaturePublicKey<V>,
        T: traits::SignatureKeyPair<V>,
    >(
        &self,
        public_key: &K,
        signature_key_pair: &T,
    ) -> Result<(), StoreError> {
        self.write(Kind::SignatureKeyPair, public_key, signature_key_pair)
    }

    fn write_encryption_key_pair<K: traits::EncryptionKey<V>, T: traits::HpkeKeyPair<V>>(
        &self,
        public_key: &K,
        key_pair: &T,
    ) -> Result<(), StoreError> {
        self.write(Kind::EncryptionKeyPair, public_key, key_pair)
    }

    fn write_encryption_epoch_key_pairs<
        G: traits::GroupId<V>,
        E: traits::EpochKey<V>,
        T: traits::HpkeKeyPair<V>,
    >(
        &self,
        group_id: &G,
        epoch: &E,
        leaf_index: u32,
        key_pairs: &[T],
    ) -> Result<(), StoreError> {
        self.write(Kind::EncryptionEpochKeyPairs, &(group_id, epoch, leaf_index), key_pairs)
    }

    fn write_key_package<R: traits::HashReference<V>, T: traits::KeyPackage<V>>(
        &self,
        hash_ref: &R,
        key_package: &T,
    ) -> Result<(), StoreError> {
        self.write(Kind::KeyPackage, hash_ref, key_package)
    }

    fn write_psk<K: traits::PskId<V>, T: traits::PskBundle<V>>(
        &self,
        psk_id: &K,
        psk: &T,
    ) -> Result<(), StoreError> {
        self.write(Kind::Psk, psk_id, psk)
    }

    fn mls_group_join_config<G: traits::GroupId<V>, T: traits::MlsGroupJoinConfig<V>>(
        &self,
        group_id: &G,
    ) -> Result<Option<T>, StoreError> {
        self.read(Kind::JoinConfig, group_id)
    }

    fn own_leaf_nodes<G: traits::GroupId<V>, T: traits::LeafNode<V>>(
        &self,
        group_id: &G,
    ) -> Result<Vec<T>, StoreError> {
        self.read_list(Kind::OwnLeafNodes, group_id)
    }

    fn queued_proposal_refs<G: traits::GroupId<V>, R: traits::ProposalRef<V>>(
        &self,
        group_id: &G,
    ) -> Result<Vec<R>, StoreError> {
        self.read_list(Kind::QueuedProposalRefs, group_id)
    }

    fn queued_proposals<
        G: traits::GroupId<V>,
        R: traits::ProposalRef<V>,
        T: traits::QueuedProposal<V>,
    >(
        &self,
        group_id: &G,
    ) -> Result<Vec<(R, T)>, StoreError> {
        let refs: Vec<R> = self.read_list(Kind::QueuedProposalRefs, group_id)?;
        let with_proposal = |proposal_ref: R| {
            let proposal = self.read(Kind::QueuedProposal, &(group_id, &proposal_ref))?;
            let proposal = proposal
                .ok_or_else(|| StoreError::Damaged("a queued proposal is missing".to_owned()))?;
            Ok((proposal_ref, proposal))
        };
        refs.into_iter().map(with_proposal).collect()
    }

    fn tree<G: traits::GroupId<V>, T: traits::TreeSync<V>>(
        &self,
        group_id: &G,
    ) -> Result<Option<T>, StoreError> {
        self.read(Kind::Tree, group_id)
    }

    fn group_context<G: traits::GroupId<V>, T: traits::GroupContext<V>>(
        &self,
        group_id: &G,
    ) -> Result<Option<T>, StoreError> {
        self.read(Kind::GroupContext, group_id)
    }

    fn interim_transcript_hash<G: traits::GroupId<V>, T: traits::InterimTranscriptHash<V>>(
        &self,
        group_id: &G,
    ) -> Result<Option<T>, StoreError> {
        self.read(Kind::InterimTranscriptHash, group_id)
    }

    fn confirmation_tag<G: traits::GroupId<V>, T: traits::ConfirmationTag<V>>(
        &self,
        group_id: &G,
    ) -> Result<Option<T>, StoreError> {
        self.read(Kind::ConfirmationTag, group_id)
    }

    fn group_state<T: traits::GroupState<V>, G: traits::GroupId<V>>(
        &self,
        group_id: &G,
    ) -> Result<Option<T>, StoreError> {
        self.read(Kind::GroupState, group_id)
    }

    fn message_secrets<G: traits::GroupId<V>, T: traits::MessageSecrets<V>>(
        &self,
        group_id: &G,
    ) -> Result<Option<T>, StoreError> {
        self.read(Kind::MessageSecrets, group_id)
    }

    fn resumption_psk_store<G: traits::GroupId<V>, T: traits::ResumptionPskStore<V>>(
        &self,
        group_id: &G,
    ) -> Result<Option<T>, StoreError> {
        self.read(Kind::ResumptionPskStore, group_id)
    }

    fn own_leaf_index<G: traits::GroupId<V>, T: traits::LeafNodeIndex<V>>(
        &self,
        group_id: &G,
    ) -> Result<Option<T>, StoreError> {
        self.read(Kind::OwnLeafIndex, group_id)
    }

    fn group_epoch_secrets<G: traits::GroupId<V>, T: traits::GroupEpochSecrets<V>>(
        &self,
        group_id: &G,
    ) -> Result<Option<T>, StoreError> {
        self.read(Kind::GroupEpochSecrets, group_id)
    }

    fn signature_key_pair<K: traits::SignaturePublicKey<V>, T: traits::SignatureKeyPair<V>>(
        &self,
        public_key: &K,
    ) -> Result<Option<T>, StoreError> {
        self.read(Kind::SignatureKeyPair, public_key)
    }

    fn encryption_key_pair<T: traits::HpkeKeyPair<V>, K: traits::EncryptionKey<V>>(
        &self,
        public_key: &K,
    ) -> Result<Option<T>, StoreError> {
        self.read(Kind::EncryptionKeyPair, public_key)
    }

    fn encryption_epoch_key_pairs<
        G: traits::GroupId<V>,
        E: traits::EpochKey<V>,
        T: traits::HpkeKeyPair<V>,
    >(
        &self,
        group_id: &G,
        epoch: &E,
        leaf_index: u32,
    ) -> Result<Vec<T>, StoreError> {
        let key_pairs = self.read(Kind::EncryptionEpochKeyPairs, &(group_id, epoch, leaf_index))?;
        Ok(key_pairs.unwrap_or_default())
    }

    fn key_package<R: traits::HashReference<V>, T: traits::KeyPackage<V>>(
        &self,
        hash_ref: &R,
    ) -> Result<Option<T>, StoreError> {
        self.read(Kind::KeyPackage, hash_ref)
    }

    fn psk<T: traits::PskBundle<V>, K: traits::PskId<V>>(
        &self,
        psk_id: &K,
    ) -> Result<Option<T>, StoreError> {
        self.read(Kind::Psk, psk_id)
    }

    fn remove_proposal<G: traits::GroupId<V>, R: traits::ProposalRef<V>>(
        &self,
        group_id: &G,
        proposal_ref: &R,
    ) -> Result<(), StoreError> {
        self.remove_item(Kind::QueuedProposalRefs, group_id, proposal_ref)?;
        self.delete(Kind::QueuedProposal, &(group_id, proposal_ref))
    }

    fn delete_own_leaf_nodes<G: traits::GroupId<V>>(&self, group_id: &G) -> Result<(), StoreError> {
        self.delete(Kind::OwnLeafNodes, group_id)
    }

    fn delete_group_config<G: traits::GroupId<V>>(&self, group_id: &G) -> Result<(), StoreError> {
        self.delete(Kind::JoinConfig, group_id)
    }

    fn delete_tree<G: traits::GroupId<V>>(&self, group_id: &G) -> Result<(), StoreError> {
        self.delete(Kind::Tree, group_id)
    }

    fn delete_confirmation_tag<G: traits::GroupId<V>>(
        &self,
        group_id: &G,
    ) -> Result<(), StoreError> {
        self.delete(Kind::ConfirmationTag, group_id)
    }

    fn delete_group_state<G: traits::GroupId<V>>(&self, group_id: &G) -> Result<(), StoreError> {
        self.delete(Kind::GroupState, group_id)
    }

    fn delete_context<G: traits::GroupId<V>>(&self, group_id: &G) -> Result<(), StoreError> {
        self.delete(Kind::GroupContext, group_id)
    }

    fn delete_interim_transcript_hash<G: traits::GroupId<V>>(
        &self,
        group_id: &G,
    ) -> Result<(), StoreError> {
        self.delete(Kind::InterimTranscriptHash, group_id)
    }

    fn delete_message_secrets<G: traits::GroupId<V>>(
        &self,
        group_id: &G,
    ) -> Result<(), StoreError> {
        self.delete(Kind::MessageSecrets, group_id)
    }

    fn delete_all_resumption_psk_secrets<G: traits::GroupId<V>>(
        &self,
        group_id: &G,
    ) -> Result<(), StoreError> {
        self.delete(Kind::ResumptionPskStore, group_id)
    }

    fn delete_own_leaf_index<G: traits::GroupId<V>>(&self, group_id: &G) -> Result<(), StoreError> {
        self.delete(Kind::OwnLeafIndex, group_id)
    }

    fn delete_group_epoch_secrets<G: traits::GroupId<V>>(
        &self,
        group_id: &G,
    ) -> Result<(), StoreError> {
        self.delete(Kind::GroupEpochSecrets, group_id)
    }

    fn clear_proposal_queue<G: traits::GroupId<V>, R: traits::ProposalRef<V>>(
        &self,
        group_id: &G,
    ) -> Result<(), StoreError> {
        let refs: Vec<R> = self.read_list(Kind::QueuedProposalRefs, group_id)?;
        for proposal_ref in &refs {
            self.delete(Kind::QueuedProposal, &(group_id, proposal_ref))?;
        }
        self.delete(Kind::QueuedProposalRefs, group_id)
    }

    fn delete_signature_key_pair<K: traits::SignaturePublicKey<V>>(
        &self,
        public_key: &K,
    ) -> Result<(), StoreError> {
        self.delete(Kind::SignatureKeyPair, public_key)
    }

    fn delete_encryption_key_pair<K: traits::EncryptionKey<V>>(
        &self,
        public_key: &K,
    ) -> Result<(), StoreError> {
        self.delete(Kind::EncryptionKeyPair, public_key)
    }

    fn delete_encryption_epoch_key_pairs<G: traits::GroupId<V>, E: traits::EpochKey<V>>(
        &self,
        group_id: &G,
        epoch: &E,
        leaf_index: u32,
    ) -> Result<(), StoreError> {
        self.delete(Kind::EncryptionEpochKeyPairs, &(group_id, epoch, leaf_index))
    }

    fn delete_key_package<R: traits::HashReference<V>>(
        &self,
        hash_ref: &R,
    ) -> Result<(), StoreError> {
        self.delete(Kind::KeyPackage, hash_ref)
    }

    fn delete_psk<K: traits::PskId<V>>(&self, psk_id: &K) -> Result<(), StoreError> {
        self.delete(Kind::Psk, psk_id)
    }
}
