//! The chat of the example: two of them, in processes of their own, talk on Synapse, verify each
//! other and bring history back.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use matrix_mls_kit::{Homeserver, OrMissing as _, Result, bail};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A chat that runs. It is ended when this is dropped.
struct Chat {
    name: String,
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    seen: VecDeque<String>,
}

impl Chat {
    fn start(
        program: &Path,
        url: &str,
        directory: &Path,
        name: &str,
        extra: &[&str],
    ) -> Result<Self> {
        let mut child = Command::new(program)
            .args(["--homeserver", url, "--user", name, "--password", "a password", "--directory"])
            .arg(directory)
            .args(extra)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().or_missing("standard output")?;
        let input = child.stdin.take().or_missing("standard input")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut chat = Self { name: name.to_owned(), child, input, lines, seen: VecDeque::new() };
        chat.shows("logged in as ")?;
        Ok(chat)
    }

    fn types(&mut self, line: &str) -> Result {
        Ok(writeln!(self.input, "{line}")?)
    }

    /// Waits for a line that has this part; gives what follows it.
    fn shows(&mut self, part: &str) -> Result<String> {
        let began = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(began.elapsed());
            let Ok(line) = self.lines.recv_timeout(left) else {
                bail!("{} does not show {part:?}: {:#?}", self.name, self.seen);
            };
            let found = line.split_once(part).map(|(_, rest)| rest.to_owned());
            self.seen.push_back(line);
            if let Some(rest) = found {
                return Ok(rest);
            }
        }
    }

    /// Types a line until what it shows has this part.
    fn types_until(&mut self, line: &str, part: &str) -> Result<String> {
        let began = Instant::now();
        loop {
            self.types(line)?;
            let asked = Instant::now();
            while asked.elapsed() < Duration::from_secs(2) {
                let Ok(shown) = self.lines.recv_timeout(Duration::from_millis(200)) else {
                    continue;
                };
                let found = shown.split_once(part).map(|(_, rest)| rest.to_owned());
                self.seen.push_back(shown);
                if let Some(rest) = found {
                    return Ok(rest);
                }
            }
            if began.elapsed() > PATIENCE {
                bail!("{} does not show {part:?} after {line}: {:#?}", self.name, self.seen);
            }
        }
    }

    fn quit(mut self) -> Result {
        self.types("/quit")?;
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                assert!(status.success(), "{}: {status}: {:#?}", self.name, self.seen);
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("{} does not end", self.name)
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Builds the example, which `cargo test --test chat` leaves out, with the features of all tests: it
/// is there then.
fn program() -> Result<PathBuf> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = [
        "build",
        "--quiet",
        "--workspace",
        "--locked",
        "--example",
        "chat",
        "--manifest-path",
        manifest,
    ];
    assert!(Command::new(cargo).args(arguments).status()?.success(), "the example is built");
    let own = std::env::current_exe()?;
    let profile = own.parent().and_then(Path::parent).or_missing("target directory")?;
    Ok(profile.join("examples/chat"))
}

#[test]
fn two_chats_talk_verify_and_recover() -> Result {
    let program = program()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let homeserver = runtime.block_on(Homeserver::synapse())?;
    let url = homeserver.base_url();
    let places = tempfile::tempdir()?;
    let place = |name: &str| places.path().join(name);
    let mut anna = Chat::start(&program, url, &place("anna"), "anna", &["--register"])?;
    let mut bert = Chat::start(&program, url, &place("bert"), "bert", &["--register"])?;

    anna.types("/create @bert:synapse.test")?;
    let room = anna.shows("created ")?;
    bert.types_until("/rooms", &room)?;
    bert.types(&format!("/join {room}"))?;
    bert.shows("joined")?;
    bert.types_until("/rooms", "(mls)")?;
    anna.types("hello Bert")?;
    bert.shows("[mls] @anna:synapse.test: hello Bert")?;
    bert.types("hello Anna")?;
    anna.shows("[mls] @bert:synapse.test: hello Anna")?;

    // They compare emojis.
    anna.types_until("/verify @bert:synapse.test", "asked")?;
    // The direct chat that the SDK makes for it.
    let invitation = bert.types_until("/rooms", "(invited)");
    if invitation.is_ok() {
        let line = bert.seen.back().or_missing("line")?;
        let direct = line.split(' ').next().unwrap_or_default().to_owned();
        bert.types(&format!("/join {direct}"))?;
    }
    bert.shows("wants to compare emojis")?;
    let emojis = anna.shows("emojis: ")?;
    assert_eq!(bert.shows("emojis: ")?, emojis);
    anna.types("/yes")?;
    bert.types("/yes")?;
    anna.shows("verified @bert:synapse.test")?;
    bert.shows("verified @anna:synapse.test")?;
    anna.types(&format!("/open {room}"))?;
    // What the Olm machine has verified counts for MLS as well.
    let began = Instant::now();
    while !anna.types_until("/members", "@bert:synapse.test ")?.ends_with(" Verified") {
        assert!(began.elapsed() < PATIENCE, "Bert is not verified: {:#?}", anna.seen);
    }

    // Anna backs up, and goes on with a new device.
    anna.types("/backup")?;
    let key = anna.shows("recovery key: ")?;
    anna.quit()?;
    let mut tablet = Chat::start(&program, url, &place("tablet"), "anna", &[])?;
    tablet.types(&format!("/recover {key}"))?;
    tablet.shows("recovered")?;
    tablet.shows("epochs can be read again")?;
    tablet.types(&format!("/open {room}"))?;
    tablet.types_until("/rooms", "(mls)")?;
    tablet.types("from the tablet")?;
    bert.types(&format!("/open {room}"))?;
    bert.shows("[mls] @anna:synapse.test: from the tablet")?;
    bert.quit()?;
    // And again, from what is on the disk.
    tablet.quit()?;
    let mut tablet = Chat::start(&program, url, &place("tablet"), "anna", &[])?;
    tablet.types(&format!("/open {room}"))?;
    tablet.types("after a restart")?;
    tablet.shows("[mls] @anna:synapse.test: after a restart")?;
    tablet.quit()
}
