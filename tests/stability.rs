//! What docs/stability.md promises of the exported API: the last release's listing against the one
//! at hand.
//!
//! Whether the meaning of a call has changed is for the reviewer. The store's promises are tested
//! by the store itself (`src/store/tests/format.rs`), the wire's by `tests/spec.rs`.

use std::{collections::BTreeSet, error::Error, fs, path::Path};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// The listing at hand.
const LISTING: &str = "bindings/api.txt";
/// The listings of releases, `VERSION.txt` each.
const RELEASED: &str = "bindings/released";
/// What the generator writes of a field that need not be given.
const HAS_DEFAULT: &str = "(has a default)";

/// Types of the modules that an app imports beside this library: of Swift, Foundation, Combine and
/// SwiftUI, of Kotlin and Android. An app that imports a second type of such a name has to qualify
/// both wherever it uses them.
const TAKEN: &str = "
    Array Dictionary Error Never Optional Result Set Task
    Bundle Data Date Host Notification Operation Port Process Progress Stream Thread Timer Unit URL
    AnyCancellable Cancellable Deferred Empty Fail Future Just Publisher Record Subject Subscriber
    Subscription
    App Binding Button Color Font Form Group Image Label Link List Menu Scene Section State Table
    Text View Window
    Context Flow Intent Job Log Message Pair Service
";

/// A version. Its text may end with a pre-release, which does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version([u64; 3]);

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('-').next()?.split('.').map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Self([next()?, next()?, next()?]))
    }

    /// Whether an app that was written for `old` must still build.
    fn keeps_what_is_in(self, old: Self) -> bool {
        let ([major, minor, _], [old_major, old_minor, _]) = (self.0, old.0);
        major == old_major && (major > 0 || minor == old_minor)
    }
}

/// The items of a listing without what is said about them, each with the name of what it belongs
/// to.
fn items(listing: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut owner = String::new();
    for line in listing.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let signature = line.split("  — ").next().unwrap_or(line).trim_end();
        if let Some(part) = signature.strip_prefix("  ") {
            found.insert(format!("{owner}: {part}"));
        } else {
            signature.clone_into(&mut owner);
            found.insert(owner.clone());
        }
    }
    found
}

/// What an app that was written for the old listing would miss or would have to give.
fn broken(old: &str, new: &str) -> Vec<String> {
    let (old, new) = (items(old), items(new));
    let gone = old.difference(&new).map(|item| format!("gone, or another now: {item}"));
    let demanded = new.difference(&old).filter(|item| {
        let owner = item.split(": ").next().unwrap_or_default();
        owner.starts_with("record ") && *item != owner && old.contains(owner)
            // Records that only the library makes may get any field.
            && old.iter().any(|known| known.starts_with(owner) && known.contains(HAS_DEFAULT))
            && !item.contains(HAS_DEFAULT)
    });
    gone.chain(demanded.map(|item| format!("has to be given: {item}"))).collect()
}

#[test]
fn what_the_last_release_had_is_still_there() -> Outcome {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let now = Version::parse(env!("CARGO_PKG_VERSION")).ok_or("the package's version")?;
    let mut releases = Vec::new();
    for entry in fs::read_dir(root.join(RELEASED))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        releases.push((Version::parse(&name).ok_or(name)?, path));
    }
    releases.sort();
    let (last, path) = releases.pop().ok_or("no release is listed")?;
    assert!(now >= last, "version {last:?} is released already");
    if now.keeps_what_is_in(last) {
        let (old, new) = (fs::read_to_string(path)?, fs::read_to_string(root.join(LISTING))?);
        let broken = broken(&old, &new);
        assert!(
            broken.is_empty(),
            "this version promises to keep what {last:?} has (docs/stability.md):\n{}",
            broken.join("\n")
        );
    }
    Ok(())
}

#[test]
fn versions_say_what_they_keep() -> Outcome {
    let version = |text| Version::parse(text).ok_or("no version");
    for (old, new, keeps) in [
        ("0.1.0", "0.1.0", true),
        ("0.1.0", "0.1.7", true),
        ("0.1.9", "0.2.0", false),
        ("0.9.0", "1.0.0", false),
        ("1.0.0", "1.9.3", true),
        ("1.9.3", "2.0.0", false),
        ("1.0.0-rc.1", "1.0.0", true),
    ] {
        assert_eq!(version(new)?.keeps_what_is_in(version(old)?), keeps, "{old} and {new}");
    }
    assert_eq!(Version::parse("1.0"), None);
    Ok(())
}

#[test]
fn breaks_are_found_and_additions_are_none() {
    let old = "# A listing\n\nobject Room  — One room.\n  method send(text: string)  — Sends.\n\n\
               record Settings  — How.\n  days: uint32 (has a default)  — Days.\n\n\
               record Message  — What.\n  text: string  — It.\n";
    assert!(broken(old, old).is_empty());
    let said_otherwise = old.replace("Sends.", "Sends a text.");
    assert!(broken(old, &said_otherwise).is_empty());
    let more = old
        .replace("\n\nrecord Message", "\n  hours: uint32 (has a default)\n\nrecord Message")
        + "  time: uint64  — When.\n\nfunction new()\n";
    assert!(broken(old, &more).is_empty(), "{:?}", broken(old, &more));
    for (from, to) in [
        ("send(text: string)", "send(text: string, to: string)"),
        ("method send(text: string)", "method send(text: string) throws MlsError"),
        ("  days: uint32 (has a default)  — Days.\n", "  days: uint64 (has a default)\n"),
        ("object Room", "object Chat"),
    ] {
        assert!(!broken(old, &old.replace(from, to)).is_empty(), "{to}");
    }
    let demanded = old.replace("\n\nrecord Message", "\n  hours: uint32\n\nrecord Message");
    assert_eq!(broken(old, &demanded), ["has to be given: record Settings: hours: uint32"]);
}

#[test]
fn no_type_has_a_name_that_an_app_has_already() -> Outcome {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listing = fs::read_to_string(root.join(LISTING))?;
    let mut names = BTreeSet::new();
    for line in listing.lines().filter(|line| !line.starts_with([' ', '#'])) {
        let mut words = line.split_whitespace();
        if words.next().is_some_and(|kind| kind != "function") {
            names.extend(words.next().map(str::to_owned));
        }
    }
    // What the layer by hand adds in Swift.
    for file in fs::read_dir(root.join("bindings/swift/Sources/MatrixMls"))? {
        let path = file?.path();
        if path.is_file() {
            for line in fs::read_to_string(&path)?.lines() {
                let declared = line.strip_prefix("public ").unwrap_or_default();
                let declared = declared.strip_prefix("final ").unwrap_or(declared);
                let mut words = declared.split(|c: char| !c.is_alphanumeric());
                let kind = words.next().unwrap_or_default();
                if ["class", "enum", "protocol", "struct"].contains(&kind) {
                    names.extend(words.next().map(str::to_owned));
                }
            }
        }
    }
    assert!(names.len() > 60 && names.contains("Transport"), "{names:?}");
    let taken: Vec<_> = TAKEN.split_whitespace().filter(|name| names.contains(*name)).collect();
    assert!(taken.is_empty(), "an app has to qualify {taken:?}");
    Ok(())
}
