//! Generates the Kotlin or the Swift of every UniFFI namespace in a library, as the xtask of
//! matrix-rust-sdk does: `bindgen LIBRARY kotlin|swift DIRECTORY`. `cargo metadata` of the current
//! directory says where each crate has its `uniffi.toml`.

use std::{env, error::Error, fs};

use uniffi_bindgen::bindings::{GenerateOptions, TargetLanguage, generate};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [library, language, directory] = arguments.as_slice() else {
        return Err("usage: bindgen LIBRARY kotlin|swift DIRECTORY".into());
    };
    let language = match language.as_str() {
        "kotlin" => TargetLanguage::Kotlin,
        "swift" => TargetLanguage::Swift,
        other => return Err(format!("there is no output {other}: kotlin or swift").into()),
    };
    fs::create_dir_all(directory)?;
    generate(GenerateOptions {
        languages: vec![language],
        source: library.into(),
        out_dir: directory.into(),
        ..GenerateOptions::default()
    })?;
    Ok(())
}
