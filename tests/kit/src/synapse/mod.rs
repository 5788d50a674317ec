//! A real Synapse in a process of its own, to check the engine against the homeserver that most of
//! Matrix runs on. Installed once into a cache directory outside the tree; each start is a fresh
//! server with an empty SQLite database in a temporary directory. It federates with nobody, unless
//! it is one of a [`Federation`](crate::Federation).
//!
//! The server cannot outlive this process, however that ends: it runs under a small shell that
//! waits for the end of its standard input, which the system closes when we are gone.

mod certificate;
mod config;
mod install;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use self::config::Setup;
use crate::KitError;

/// How long a start may take on a slow machine.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// Runs the command after $1 until standard input ends, and then deletes the directory $1, unless
/// a file `keep` is in it.
const WATCHDOG: &str = r#"
directory=$1
shift
exec 3<&0
"$@" 3<&- </dev/null &
server=$!
{ cat <&3; : >"$directory/stopped"; kill -KILL "$server"; } >/dev/null 2>&1 &
watch=$!
exec 3<&-
wait "$server" 2>/dev/null
status=$?
if [ ! -e "$directory/stopped" ]; then
    kill "$watch" 2>/dev/null
elif [ ! -e "$directory/keep" ]; then
    cd / && rm -rf "$directory"
fi
exit "$status"
"#;

/// How a Synapse is to be, where that differs from the usual.
#[derive(Clone, Copy, Default)]
struct Manner {
    /// The port for clients, where not any will do.
    port: Option<u16>,
    federates: bool,
    limited: bool,
}

/// A running Synapse; it stops when dropped.
pub struct Synapse {
    base_url: String,
    federation_port: Option<u16>,
    watchdog: Child,
    /// Deleted by the watchdog, which outlives even a killed process.
    directory: PathBuf,
}

impl Synapse {
    /// A Python that has Synapse, and with it the package `cryptography`. Installs it the first
    /// time.
    pub fn python() -> Result<PathBuf, KitError> {
        install::python_with_synapse()
    }

    /// Installs Synapse if need be, starts it, and waits until it answers.
    pub fn start() -> Result<Self, KitError> {
        Self::start_with("synapse.test", Manner::default())
    }

    /// The same at this port of this machine.
    pub fn start_at(port: u16) -> Result<Self, KitError> {
        Self::start_with("synapse.test", Manner { port: Some(port), ..Manner::default() })
    }

    /// The same with Synapse's default limits on how often users may send, join, invite and create
    /// rooms.
    pub fn start_limited() -> Result<Self, KitError> {
        Self::start_with("synapse.test", Manner { limited: true, ..Manner::default() })
    }

    /// One with this server name and a port for other servers.
    pub(crate) fn start_federating(server_name: &str) -> Result<Self, KitError> {
        Self::start_with(server_name, Manner { federates: true, ..Manner::default() })
    }

    fn start_with(server_name: &str, manner: Manner) -> Result<Self, KitError> {
        let python = install::python_with_synapse()?;
        // Another process may take the port between our asking and Synapse's listening.
        let mut failure = None;
        for _ in 0..3 {
            match Self::start_once(&python, server_name, manner) {
                Ok(synapse) => return Ok(synapse),
                Err(Failed::PortTaken) => {}
                Err(Failed::Other(error)) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        Err(failure.unwrap_or_else(|| {
            KitError::Setup("Synapse found each port taken three times in a row".to_owned())
        }))
    }

    fn start_once(python: &Path, server_name: &str, manner: Manner) -> Result<Self, Failed> {
        let began = Instant::now();
        let directory = tempfile::Builder::new()
            .prefix("matrix-mls-synapse-")
            .tempdir()
            .map_err(KitError::io("making a directory for Synapse"))?;
        let free_port = || free_port().map_err(KitError::io("finding a free port"));
        let port = manner.port.map_or_else(free_port, Ok)?;
        let federation_port = manner.federates.then(free_port).transpose()?;
        if manner.federates {
            certificate::make(python, directory.path())?;
        }
        let limited = manner.limited;
        let setup = Setup { server_name, client_port: port, federation_port, limited };
        config::write(directory.path(), &setup)
            .map_err(KitError::io("writing Synapse's configuration"))?;
        let output = std::fs::File::create(directory.path().join("output.log"))
            .map_err(KitError::io("making Synapse's output file"))?;
        let errors = output.try_clone().map_err(KitError::io("making Synapse's output file"))?;
        let watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "synapse"])
            .arg(directory.path())
            .arg(python)
            .args(["-m", "synapse.app.homeserver", "-c"])
            .arg(directory.path().join("homeserver.yaml"))
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            // Ctrl-C is for this process alone, which then ends the server and deletes its files.
            .process_group(0)
            .spawn()
            .map_err(KitError::io("starting Synapse through `sh`"))?;
        let base_url = format!("http://127.0.0.1:{port}");
        let mut synapse = Self { base_url, federation_port, watchdog, directory: directory.keep() };
        synapse.wait_until_it_answers(port)?;
        eprintln!("[synapse] up at {} after {:.1?}", synapse.base_url, began.elapsed());
        Ok(synapse)
    }

    fn wait_until_it_answers(&mut self, port: u16) -> Result<(), Failed> {
        let began = Instant::now();
        let mut announced = Duration::ZERO;
        loop {
            if answers(port) {
                return Ok(());
            }
            let ended = self.watchdog.try_wait().map_err(KitError::io("watching Synapse"))?;
            let log = self.log();
            if ended.is_some() && log.contains("Address already in use") {
                return Err(Failed::PortTaken);
            }
            let waited = began.elapsed();
            if ended.is_some() || waited > START_TIMEOUT {
                let why = match ended {
                    Some(status) => format!("ended with {status}"),
                    None => format!("did not answer in {START_TIMEOUT:?}"),
                };
                let tail = tail(&log, 40);
                return Err(
                    KitError::Setup(format!("Synapse {why}. The end of its log:\n{tail}")).into()
                );
            }
            if waited > announced + Duration::from_secs(5) {
                announced = waited;
                eprintln!("[synapse] starting, {} s", waited.as_secs());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Where it listens, without a trailing slash.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Where it listens for other servers, with TLS.
    pub(crate) fn federation_port(&self) -> Option<u16> {
        self.federation_port
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        let read = |name: &str| {
            let bytes = std::fs::read(self.directory.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        read("homeserver.log") + &read("output.log")
    }
}

impl Drop for Synapse {
    fn drop(&mut self) {
        let keep =
            std::thread::panicking() && std::fs::write(self.directory.join("keep"), "").is_ok();
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
        if keep {
            eprintln!("[synapse] the log is kept in {}", self.directory.display());
        } else {
            // Gone already, unless Synapse ended by itself.
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

/// Why one start failed.
enum Failed {
    PortTaken,
    Other(KitError),
}

impl From<KitError> for Failed {
    fn from(error: KitError) -> Self {
        Self::Other(error)
    }
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Whether `/versions` is answered with a success.
fn answers(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /_matrix/client/versions HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut start = [0; 12];
        stream.read_exact(&mut start)?;
        Ok(start.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}
