//! The client under test: a program that the run starts, tells one step a line, and listens to.
//!
//! Whatever the program does, a step ends: with its answer, or with the reason for which there is
//! none. What it prints is bounded in size, and how long a step takes is counted in seconds in
//! which the run was awake: a machine that stands still takes no time from the client.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use eyre::{WrapErr as _, eyre};
use tokio::sync::mpsc;

use super::facts::{Facts, shown};
use crate::{OrMissing as _, Result, bail};

/// The longest line in bytes.
const LONGEST: u64 = 1 << 16;
/// The most lines of one step.
const MOST: usize = 100_000;
/// How many lines of its standard error are told when it fails.
const ERRORS: usize = 3;

/// What a step was answered with.
pub enum Answer {
    /// `ok`, and the facts before it.
    Done(Facts),
    /// `failed`, and why.
    Failed(String),
    /// `left-out`, and why: the step needs what the specification lets a client leave out.
    LeftOut(String),
}

/// How long a client may take, and how often it has taken longer.
#[derive(Clone)]
pub struct Patience {
    /// For one step, in seconds.
    pub seconds: u64,
    /// How many steps were never answered.
    pub hangs: Arc<AtomicUsize>,
}

/// A running client. It is ended when this is dropped.
pub struct Device {
    child: Child,
    input: ChildStdin,
    lines: mpsc::Receiver<Result<String, String>>,
    errors: Arc<Mutex<VecDeque<String>>>,
    /// Ends with the program's standard error.
    complaints: std::thread::JoinHandle<()>,
    patience: Patience,
}

impl Device {
    /// Starts one: `command` is a shell's, and is given the four arguments.
    pub fn start(command: &str, arguments: [&str; 4], patience: Patience) -> Result<Self> {
        let mut child = Command::new("sh")
            .args(["-c", &format!("exec {command} \"$@\""), "sh"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .wrap_err_with(|| format!("starting {command}"))?;
        let input = child.stdin.take().or_missing("standard input")?;
        let output = child.stdout.take().or_missing("standard output")?;
        let complaints = child.stderr.take().or_missing("standard error")?;
        let (sender, lines) = mpsc::channel(64);
        // The threads end with the program's output, or with the receiver.
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            while let Some(line) = next_line(&mut output) {
                if sender.blocking_send(line).is_err() {
                    break;
                }
            }
        });
        let errors = Arc::new(Mutex::new(VecDeque::new()));
        let last = errors.clone();
        let complaints = std::thread::spawn(move || {
            let mut complaints = BufReader::new(complaints);
            while let Some(line) = next_line(&mut complaints) {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                last.push_back(line.unwrap_or_else(|error| error));
                if last.len() > ERRORS {
                    last.pop_front();
                }
            }
        });
        Ok(Self { child, input, lines, errors, complaints, patience })
    }

    /// Tells it a step, and does not listen to what it answers.
    pub fn begins(&mut self, step: &str) -> Result {
        writeln!(self.input, "{step}").wrap_err_with(|| shown(step))
    }

    /// Has it do a step. An error says why there is no answer; nothing more is to be asked of it.
    pub async fn does(&mut self, step: &str) -> Result<Answer> {
        if writeln!(self.input, "{step}").is_err() {
            // Nobody reads it any more.
            let status = self.ended().await;
            bail!("`{}`: the client {status}{}", shown(step), self.last_words());
        }
        let (mut facts, mut seconds) = (Facts::default(), 0);
        for _ in 0..MOST {
            let line = loop {
                match tokio::time::timeout(Duration::from_secs(1), self.lines.recv()).await {
                    Ok(line) => break line,
                    Err(_) if seconds < self.patience.seconds => seconds += 1,
                    Err(_) => {
                        self.patience.hangs.fetch_add(1, Ordering::Relaxed);
                        let reason = format!("gave no answer in {seconds} s");
                        bail!("`{}`: the client {reason}{}", shown(step), self.last_words());
                    }
                }
            };
            let Some(line) = line else {
                let status = self.ended().await;
                bail!("`{}`: the client {status}{}", shown(step), self.last_words());
            };
            let line = line.map_err(|error| eyre!("`{}`: {error}", shown(step)))?;
            if let Some(reason) = line.strip_prefix("left-out") {
                return Ok(Answer::LeftOut(shown(reason.trim_start())));
            }
            match line.strip_prefix("failed") {
                Some(reason) => return Ok(Answer::Failed(shown(reason.trim_start()))),
                None if line == "ok" => return Ok(Answer::Done(facts)),
                None => {
                    facts.take(&line).map_err(|error| eyre!("`{}`: {error}", shown(step)))?;
                }
            }
        }
        bail!("`{}`: it printed {MOST} lines and no answer", shown(step))
    }

    /// How its process ended, once its output has.
    async fn ended(&mut self) -> String {
        let mut ended = None;
        for _ in 0..50 {
            ended = ended.or(self.child.try_wait().ok().flatten());
            // What it has said last comes by another way, and may come later.
            if ended.is_some() && self.complaints.is_finished() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        match ended {
            Some(status) => format!("ended ({status})"),
            None => "closed its standard input or output".to_owned(),
        }
    }

    /// Ends its process, whatever it does.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn last_words(&self) -> String {
        let errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        if errors.is_empty() {
            return String::new();
        }
        let errors: Vec<String> = errors.iter().map(|line| shown(line)).collect();
        format!("; it last wrote to standard error: {}", errors.join(" / "))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The next line, or why it is none; nothing at the end.
fn next_line(output: &mut impl std::io::BufRead) -> Option<Result<String, String>> {
    let mut bytes = Vec::new();
    let read = output.by_ref().take(LONGEST).read_until(b'\n', &mut bytes);
    if read.ok()? == 0 {
        return None;
    }
    if bytes.last() != Some(&b'\n') && bytes.len() as u64 == LONGEST {
        return Some(Err(format!("it printed a line of more than {LONGEST} bytes")));
    }
    let line =
        String::from_utf8(bytes).map_err(|_| "it printed bytes that are no UTF-8".to_owned());
    Some(line.map(|line| line.trim_end_matches(['\n', '\r']).to_owned()))
}
