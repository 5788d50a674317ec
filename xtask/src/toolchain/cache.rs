//! The directory that keeps tools which were set up once.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use crate::failure::Failure;

/// Makes the directory if it is missing, and returns its path.
///
/// It is `$MATRIX_MLS_CACHE`, or else `matrix-mls` in the user's cache directory. The test kit uses
/// the same directory.
pub fn directory() -> Result<PathBuf, Failure> {
    let directory = choose(|name| std::env::var_os(name)).ok_or_else(|| {
        Failure::Message(
            "there is no directory to keep tools in: set MATRIX_MLS_CACHE to one".to_owned(),
        )
    })?;
    fs::create_dir_all(&directory).map_err(Failure::io(&directory))?;
    Ok(directory)
}

/// Chooses the directory by the environment's variables. A variable that is empty counts as unset.
fn choose(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("MATRIX_MLS_CACHE").or_else(|| {
        let home = || set("HOME").map(|home| home.join(".cache"));
        let user = set("XDG_CACHE_HOME").or_else(home);
        user.as_deref().map(|user| Path::join(user, "matrix-mls"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(variables: &[(&str, &str)]) -> Option<PathBuf> {
        choose(|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_first_variable_that_is_set_decides() {
        let (home, user, own) =
            (("HOME", "/home/a"), ("XDG_CACHE_HOME", "/cache"), ("MATRIX_MLS_CACHE", "/own"));
        assert_eq!(chosen(&[home]), Some("/home/a/.cache/matrix-mls".into()));
        assert_eq!(chosen(&[home, user]), Some("/cache/matrix-mls".into()));
        assert_eq!(chosen(&[home, user, own]), Some("/own".into()));
        assert_eq!(chosen(&[home, ("MATRIX_MLS_CACHE", "")]), chosen(&[home]));
        assert_eq!(chosen(&[]), None);
    }
}
