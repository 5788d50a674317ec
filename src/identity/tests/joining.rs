//! Key packages in use: others add this device with them, and it joins.

use openmls::prelude::{
    MlsGroup, MlsGroupCreateConfig, MlsGroupJoinConfig, MlsMessageBodyIn, MlsMessageIn,
    StagedWelcome, Welcome, tls_codec::Serialize as _,
};
use openmls_rust_crypto::OpenMlsRustCrypto;

use super::{
    super::key_packages::{self, mark_used},
    *,
};

/// A Welcome for the device whose package this is, into a new group of somebody else's.
fn welcome(package: openmls::prelude::KeyPackage) -> Outcome<Welcome> {
    let provider = OpenMlsRustCrypto::default();
    let signer = SignatureKeyPair::new(SUITE.signature_algorithm())?;
    let name = DeviceName::new(user_id!("@host:b").to_owned(), "H".into());
    let credential = CredentialWithKey {
        credential: BasicCredential::new(credential::encode(&name)).into(),
        signature_key: signer.public().into(),
    };
    let config = MlsGroupCreateConfig::builder().use_ratchet_tree_extension(true).build();
    let mut group = MlsGroup::new(&provider, &signer, &config, credential)?;
    let (_, message, _) = group.add_members(&provider, &signer, &[package])?;
    let bytes = message.tls_serialize_detached()?;
    match MlsMessageIn::tls_deserialize_exact(&bytes)?.extract() {
        MlsMessageBodyIn::Welcome(welcome) => Ok(welcome),
        _ => Err("adding makes a Welcome".into()),
    }
}

impl Scene {
    /// Joins, keeping it or not. The inner result is the join's own.
    fn join(&self, welcome: Welcome, keep: bool) -> Outcome<Result<(), String>> {
        let joined = self.store.write(|tx| {
            let namespace = tx.new_namespace()?;
            let provider = Provider::new(&self.crypto, MlsStorage::new(tx, namespace));
            let config = MlsGroupJoinConfig::default();
            let joined = StagedWelcome::new_from_welcome(&provider, &config, welcome, None)
                .and_then(|staged| staged.into_group(&provider));
            if !keep {
                return Err(StoreError::Full);
            }
            let forgotten = forget_used_key_packages(tx, &self.crypto);
            Ok(forgotten.map(|_| joined.map(drop).map_err(|error| error.to_string())))
        });
        match joined {
            Ok(joined) => Ok(joined?),
            Err(error) => Ok(Err(error.to_string())),
        }
    }
}

#[test]
fn a_one_time_package_joins_once_and_its_private_keys_go() -> Outcome {
    let scene = Scene::new(Publishing::Alone)?;
    let packages = values(scene.upload(real_now_ms()?, 50)?.one_time_keys.values())?;
    let package = &packages[..1];
    let first = welcome(scene.parse(&package[0])?)?;
    assert!(scene.join(first.clone(), false)?.is_err());
    assert_eq!(scene.kept(package)?, 1, "a join that was undone uses up nothing");
    scene.join(first, true)??;
    assert_eq!(scene.kept(package)?, 0);
    assert_eq!(scene.kept(&packages)?, 49);
    assert_eq!(scene.write(key_packages::list)?.len(), 50);
    assert!(scene.join(welcome(scene.parse(&package[0])?)?, true)?.is_err());
    Ok(())
}

#[test]
fn the_last_resort_package_joins_again_and_again() -> Outcome {
    let scene = Scene::new(Publishing::Alone)?;
    let (plan, request) = scene.planned(real_now_ms()?)?;
    let package = values(request.fallback_keys.values())?;
    let reference = plan.fallback.ok_or("the plan has no fallback key")?;
    for _ in 0..2 {
        scene.join(welcome(scene.parse(&package[0])?)?, true)??;
        assert!(!scene.write(|tx| mark_used(tx, &scene.crypto, &reference))?);
    }
    assert_eq!(scene.kept(&package)?, 1);
    Ok(())
}
