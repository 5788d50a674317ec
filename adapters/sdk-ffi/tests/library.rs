//! What is in the one library, and how often.

use std::{env, error::Error, fs, path::Path, process::Command};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// The names that the library defines: `nm` of all its symbols, or of those that it exports.
fn symbols(of: &[&str]) -> Outcome<Vec<String>> {
    let (before, after) = (env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
    // Cargo has built the library for this test, beside it.
    let library = env::current_exe()?.with_file_name(format!("{before}sdk_ffi{after}"));
    let printed = Command::new("nm").args(of).arg("--defined-only").arg(&library).output()?;
    if !printed.status.success() {
        return Err(String::from_utf8_lossy(&printed.stderr).into());
    }
    let lines = String::from_utf8(printed.stdout)?;
    Ok(lines.lines().filter_map(|line| Some(line.split(' ').next_back()?.to_owned())).collect())
}

#[test]
fn sqlite_and_the_runtime_are_in_it_once() -> Outcome {
    let symbols = symbols(&[])?;
    for once in ["sqlite3_open_v2", "sqlite3_libversion", "rust_eh_personality"] {
        let count = symbols.iter().filter(|name| name.trim_start_matches('_') == once).count();
        assert_eq!(count, 1, "{once}");
    }
    Ok(())
}

#[test]
fn it_exports_each_namespace_and_no_sqlite() -> Outcome {
    let exported = symbols(&["-D"])?;
    for name in [
        "uniffi_matrix_mls_fn_method_mlsmachine_room",
        "ffi_matrix_mls_uniffi_contract_version",
        "uniffi_sdk_ffi_fn_method_mls_machine",
        "ffi_sdk_ffi_uniffi_contract_version",
        "ffi_matrix_sdk_uniffi_contract_version",
    ] {
        assert!(exported.iter().any(|exported| exported == name), "{name}");
    }
    assert!(!exported.iter().any(|name| name.starts_with("sqlite3_")), "SQLite stays inside");
    Ok(())
}

#[test]
fn both_are_built_with_one_uniffi_one_sqlite_and_one_tokio() -> Outcome {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../matrix-sdk/Cargo.lock");
    let lock = fs::read_to_string(lock)?;
    for once in ["uniffi_core", "uniffi_meta", "libsqlite3-sys", "rusqlite", "tokio"] {
        let name = format!("name = \"{once}\"");
        assert_eq!(lock.lines().filter(|line| *line == name).count(), 1, "{once}");
    }
    Ok(())
}
