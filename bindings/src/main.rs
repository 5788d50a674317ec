//! Generates the Kotlin and the Swift that an app sees, and the listing of the exported API, from a
//! built library: `matrix-mls-bindgen LIBRARY uniffi.toml kotlin|swift DIRECTORY` and
//! `matrix-mls-bindgen LIBRARY uniffi.toml api FILE`. `cargo xtask bindings` calls it.
//!
//! `matrix-mls-bindgen mend FILE` is for a library that has others beside this one inside. The
//! generator of that library has written this one's Kotlin or Swift into the file.

#![deny(missing_docs, unsafe_code)]

mod docs;
mod listing;
mod mended;

use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use uniffi_bindgen::{
    BindgenLoader, BindgenPaths, BindgenPathsLayer, GlobalConfig,
    bindings::{GenerateOptions, TargetLanguage, generate_with_bindgen_paths},
    interface::ComponentInterface,
};

/// The crate whose API is exported, as UniFFI names it.
const CRATE: &str = "matrix_mls";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [library, config, what, out] = match arguments.as_slice() {
        ["mend", file] if file.ends_with(".kt") => return change(file, mended::kotlin),
        ["mend", file] if file.ends_with(".swift") => return change(file, mended::swift),
        [library, config, what, out] => [library, config, what, out],
        _ => bail!(
            "usage: matrix-mls-bindgen LIBRARY UNIFFI_TOML kotlin|swift|api OUT, \
             or matrix-mls-bindgen mend FILE.kt|FILE.swift"
        ),
    };
    let mut paths = BindgenPaths::default();
    paths.add_layer(OurConfig(Utf8PathBuf::from(config)));
    match *what {
        "kotlin" => generate(paths, (library, config), TargetLanguage::Kotlin, out),
        "swift" => generate(paths, (library, config), TargetLanguage::Swift, out),
        "api" => {
            let listing = listing::write(&interface(paths, library)?);
            std::fs::write(out, listing).with_context(|| format!("writing {out}"))
        }
        other => bail!("there is no output {other}: kotlin, swift or api"),
    }
}

/// What a built library exports.
fn interface(paths: BindgenPaths, library: &str) -> Result<ComponentInterface> {
    let loader = BindgenLoader::new(paths, GlobalConfig::default());
    let metadata = loader.load_metadata(Utf8Path::new(library))?;
    let interfaces = loader.load_cis(metadata)?;
    let ours = interfaces.into_iter().find(|interface| interface.crate_name() == CRATE);
    ours.with_context(|| format!("{library} does not export {CRATE}"))
}

fn generate(
    paths: BindgenPaths,
    (library, config): (&str, &str),
    language: TargetLanguage,
    out: &str,
) -> Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("making {out}"))?;
    let options = GenerateOptions {
        languages: vec![language.clone()],
        source: library.into(),
        out_dir: out.into(),
        crate_filter: Some(CRATE.to_owned()),
        ..GenerateOptions::default()
    };
    let (file, words) = match language {
        TargetLanguage::Kotlin => ("org/matrixmls/matrix_mls.kt", docs::Language::Kotlin),
        _ => ("MatrixMls.swift", docs::Language::Swift),
    };
    generate_with_bindgen_paths(options, paths)?;
    let mut ours = BindgenPaths::default();
    ours.add_layer(OurConfig(config.into()));
    let names = docs::Names::of(&interface(ours, library)?);
    let file = Utf8Path::new(out).join(file);
    change(file.as_str(), |code| {
        let code = docs::translate(code, &names, words);
        match words {
            docs::Language::Kotlin => mended::kotlin(&code),
            docs::Language::Swift => Ok(code),
        }
    })
}

/// Changes a generated file.
fn change(file: &str, to: impl FnOnce(&str) -> Result<String>) -> Result<()> {
    let code = std::fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
    std::fs::write(file, to(&code)?).with_context(|| format!("writing {file}"))
}

/// Says where the configuration of the one crate is.
struct OurConfig(Utf8PathBuf);

impl BindgenPathsLayer for OurConfig {
    fn get_config_path(&self, crate_name: &str) -> Option<Utf8PathBuf> {
        (crate_name == CRATE).then(|| self.0.clone())
    }
}
