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

fn client(name: &str) -> Outcome<Client<impl MlsConfig>> {
    let crypto = RustCryptoProvider::default();
    let suite = crypto.cipher_suite_provider(MLS_RS_SUITE).ok_or("mls-rs lacks the suite")?;
    let (secret, public) = suite.signature_key_generate()?;
    let credential = MlsRsCredential::new(name.as_bytes().to_vec()).into_credential();
    Ok(Client::builder()
        .identity_provider(BasicIdentityProvider)
        .crypto_provider(crypto)
        .signing_identity(SigningIdentity::new(credential, public), secret, MLS_RS_SUITE)
        .build())
}

/// Messages in both directions between mls-rs and an export.
fn converse(
    group: &mut Group<impl MlsConfig>,
    name: &str,
    device: &Device,
    epoch: &Epoch,
) -> Outcome {
    let leaf = group.current_member_index();
    let mut sent = Vec::new();
    for n in 0u8..3 {
        let message = group.encrypt_application_message(&[n; 50], b"aad".to_vec())?;
        sent.push(message.to_bytes()?);
    }
    for n in [2u8, 0, 1, 2] {
        let message = &sent[usize::from(n)];
        let generation = assert_opens(epoch, message, leaf, name, &[n; 50])?;
        assert_eq!(generation, u32::from(n));
        assert_eq!(epoch.open(message)?.authenticated_data, b"aad");
    }
    for generation in [0, 1, 5, 3, 4, 200] {
        let text = format!("number {generation}");
        let message = epoch.seal(&device.signer, generation, text.as_bytes())?;
        let message = MlsMessage::from_bytes(&message)?;
        let ReceivedMessage::ApplicationMessage(received) =
            group.process_incoming_message(message)?
        else {
            return Err("not an application message".into());
        };
        assert_eq!(received.data(), text.as_bytes());
        assert_eq!(received.authenticated_data, b"beside");
        assert_eq!(Some(received.sender_index), epoch.keys.own_leaf());
    }
    Ok(())
}

#[test]
fn mls_rs_joins_a_group_of_openmls() -> Outcome {
    let mut alice = Device::new("alice")?;
    alice.create_group(SUITE)?;
    let bob = client("bob")?;
    let package =
        bob.generate_key_package_message(ExtensionList::new(), ExtensionList::new(), None)?;
    let package = MlsMessageIn::tls_deserialize_exact(package.to_bytes()?)?;
    let MlsMessageBodyIn::KeyPackage(package) = package.extract() else {
        return Err("not a KeyPackage".into());
    };
    let package = package.validate(alice.crypto(), openmls::prelude::ProtocolVersion::Mls10)?;
    let (_, welcome) = alice.add(&[package])?;
    let welcome = MlsMessage::from_bytes(&welcome)?;
    let (mut group, _) = bob.join_group(None, &welcome, None)?;
    let epoch = alice.export()?;
    converse(&mut group, "bob", &alice, &epoch)?;

    let commit = alice.update()?;
    let commit = MlsMessage::from_bytes(&commit)?;
    group.process_incoming_message(commit)?;
    let epoch = alice.export()?;
    converse(&mut group, "bob", &alice, &epoch)?;
    Ok(())
}

#[test]
fn openmls_joins_a_group_of_mls_rs() -> Outcome {
    let alice = client("alice")?;
    let mut group = alice.create_group(ExtensionList::new(), ExtensionList::new(), None)?;
    let mut bob = Device::new("bob")?;
    let package = bob.key_package(SUITE)?.key_package().clone();
    let package = openmls::prelude::MlsMessageOut::from(package);
    let package = MlsMessage::from_bytes(&package.to_bytes()?)?;
    let commit = group.commit_builder().add_member(package)?.build()?;
    group.apply_pending_commit()?;
    bob.join(&commit.welcome_messages[0].to_bytes()?)?;
    let epoch = bob.export()?;
    converse(&mut group, "alice", &bob, &epoch)?;
    Ok(())
}
