//! mls-rs at the other end: an implementation that shares no code with OpenMLS.

use mls_rs::{
    CipherSuite, CipherSuiteProvider, Client, CryptoProvider, ExtensionList, Group, MlsMessage,
    client_builder::MlsConfig,
    group::ReceivedMessage,
    identity::{
        SigningIdentity,
        basic::{BasicCredential as MlsRsCredential, BasicIdentityProvider},
    },
};
use mls_rs_crypto_rustcrypto::RustCryptoProvider;

use super::*;

const MLS_RS_SUITE: CipherSuite = CipherSuite::CURVE25519_AES128;

fn client(name: &str) -> Client<impl MlsConfig> {
    let crypto = RustCryptoProvider::default();
    let suite = crypto.cipher_suite_provider(MLS_RS_SUITE).unwrap();
    let (secret, public) = suite.signature_key_generate().unwrap();
    let credential = MlsRsCredential::new(name.as_bytes().to_vec()).into_credential();
    Client::builder()
        .identity_provider(BasicIdentityProvider)
        .crypto_provider(crypto)
        .signing_identity(SigningIdentity::new(credential, public), secret, MLS_RS_SUITE)
        .build()
}

/// Messages in both directions between mls-rs and an export.
fn converse(group: &mut Group<impl MlsConfig>, name: &str, device: &Device, epoch: &Epoch) {
    let leaf = group.current_member_index();
    let sent: Vec<_> = (0u8..3)
        .map(|n| {
            let message = group.encrypt_application_message(&[n; 50], b"aad".to_vec());
            message.unwrap().to_bytes().unwrap()
        })
        .collect();
    for n in [2u8, 0, 1, 2] {
        let message = &sent[usize::from(n)];
        let generation = assert_opens(epoch, message, leaf, name, &[n; 50]);
        assert_eq!(generation, u32::from(n));
        assert_eq!(epoch.open(message).unwrap().authenticated_data, b"aad");
    }
    for generation in [0, 1, 5, 3, 4, 200] {
        let text = format!("number {generation}");
        let message = epoch.seal(&device.signer, generation, text.as_bytes());
        let message = MlsMessage::from_bytes(&message).unwrap();
        let ReceivedMessage::ApplicationMessage(received) =
            group.process_incoming_message(message).unwrap()
        else {
            panic!("not an application message");
        };
        assert_eq!(received.data(), text.as_bytes());
        assert_eq!(received.authenticated_data, b"beside");
        assert_eq!(received.sender_index, epoch.keys.own_leaf());
    }
}

#[test]
fn mls_rs_joins_a_group_of_openmls() {
    let mut alice = Device::new("alice");
    alice.create_group(SUITE);
    let bob = client("bob");
    let package =
        bob.generate_key_package_message(ExtensionList::new(), ExtensionList::new(), None).unwrap();
    let package = MlsMessageIn::tls_deserialize_exact(package.to_bytes().unwrap()).unwrap();
    let MlsMessageBodyIn::KeyPackage(package) = package.extract() else {
        panic!("not a KeyPackage");
    };
    let package =
        package.validate(alice.crypto(), openmls::prelude::ProtocolVersion::Mls10).unwrap();
    let (_, welcome) = alice.add(&[package]);
    let welcome = MlsMessage::from_bytes(&welcome).unwrap();
    let (mut group, _) = bob.join_group(None, &welcome, None).unwrap();
    let epoch = alice.export();
    converse(&mut group, "bob", &alice, &epoch);

    let commit = alice.update();
    let commit = MlsMessage::from_bytes(&commit).unwrap();
    group.process_incoming_message(commit).unwrap();
    let epoch = alice.export();
    converse(&mut group, "bob", &alice, &epoch);
}

#[test]
fn openmls_joins_a_group_of_mls_rs() {
    let alice = client("alice");
    let mut group = alice.create_group(ExtensionList::new(), ExtensionList::new(), None).unwrap();
    let mut bob = Device::new("bob");
    let package = bob.key_package(SUITE).key_package().clone();
    let package = openmls::prelude::MlsMessageOut::from(package);
    let package = MlsMessage::from_bytes(&package.to_bytes().unwrap()).unwrap();
    let commit = group.commit_builder().add_member(package).unwrap().build().unwrap();
    group.apply_pending_commit().unwrap();
    bob.join(&commit.welcome_messages[0].to_bytes().unwrap());
    let epoch = bob.export();
    converse(&mut group, "alice", &bob, &epoch);
}
