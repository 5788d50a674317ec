//! Many schedules, on as many processes as there are cores.
//!
//! The machines' clock is one for a process, so each core gets a process of its own: the program
//! that calls [`run`] starts itself again, and what it starts calls [`work`]. Workers speak in
//! lines.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, BufRead, BufReader, Write},
    process::{Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{Finding, Profile, Report, Search, report::Figures};

/// Which schedules to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// What they are drawn from, each as often as the others.
    pub profiles: Vec<Profile>,
    /// The first seed.
    pub seed: u64,
    /// How many schedules.
    pub schedules: u64,
    /// Every how-manieth of them, for a worker.
    pub stride: u64,
    /// How long each failing schedule is made shorter for, in seconds.
    pub patience_s: u64,
    /// After so many failures a worker stops looking for more.
    pub most_findings: u64,
}

/// What starts a line of a worker's.
const MARK: &str = "@sim ";

/// How often a line of progress is written.
const PROGRESS: Duration = Duration::from_secs(10);

/// The variable that holds a worker's job.
pub const VARIABLE: &str = "MATRIX_MLS_SIMULATE";

#[derive(Serialize, Deserialize)]
enum Line {
    Done { figures: Figures, counts: BTreeMap<String, u64> },
    Found(Box<Finding>),
    Broken(String),
}

/// What came of a job.
#[derive(Debug, Default)]
pub struct Harvest {
    /// The figures of all schedules that hold.
    pub report: Report,
    /// Those that do not.
    pub findings: Vec<Finding>,
    /// What went wrong with the workers.
    pub broken: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// Runs a job in so many processes, or one for each core. `worker` makes the command that starts
/// this program as a worker.
pub fn run(
    job: &Job,
    jobs: Option<u64>,
    progress: bool,
    worker: impl Fn() -> Command,
) -> io::Result<Harvest> {
    let began = Instant::now();
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let cores = jobs.unwrap_or(cores);
    let (sender, lines) = mpsc::channel();
    let mut workers = Vec::new();
    for number in 0..cores.min(job.schedules) {
        let schedules = (job.schedules - number).div_ceil(cores);
        let part = Job { seed: job.seed + number, schedules, stride: cores, ..job.clone() };
        let mut command = worker();
        command.env(VARIABLE, serde_json::to_string(&part)?).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let stdout = child.stdout.take();
        let sender = sender.clone();
        std::thread::spawn(move || {
            let Some(stdout) = stdout else { return };
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // The test harness writes on the same line.
                if let Some((_, line)) = line.split_once(MARK) {
                    let _ = sender.send(line.to_owned());
                }
            }
        });
        workers.push(child);
    }
    drop(sender);

    let mut harvest = Harvest::default();
    let mut told = Instant::now();
    for line in lines {
        match serde_json::from_str(&line) {
            Ok(Line::Done { figures, counts }) => harvest.report.add(figures, &counts),
            Ok(Line::Found(finding)) => {
                // Now, and not only at the end of the night.
                eprintln!("{finding}");
                harvest.findings.push(*finding);
            }
            Ok(Line::Broken(reason)) => harvest.broken.push(reason),
            Err(error) => harvest.broken.push(format!("a worker says `{line}`: {error}")),
        }
        if progress && told.elapsed() > PROGRESS {
            told = Instant::now();
            let (done, bad) = (harvest.report.schedules(), harvest.findings.len());
            eprintln!(
                "[simulate] {done} of {} schedules hold, {bad} do not; {} s",
                job.schedules,
                began.elapsed().as_secs()
            );
        }
    }
    for mut child in workers {
        let status = child.wait()?;
        if !status.success() {
            harvest.broken.push(format!("a worker ended with {status}"));
        }
    }
    harvest.took = began.elapsed();
    Ok(harvest)
}

/// Does a worker's part of a job, if this process is a worker; tells whether it is.
pub fn work() -> bool {
    let Ok(job) = std::env::var(VARIABLE) else { return false };
    if let Err(reason) = work_on(&job) {
        say(&Line::Broken(reason));
    }
    true
}

fn work_on(job: &str) -> Result<(), String> {
    let job: Job = serde_json::from_str(job).map_err(|error| error.to_string())?;
    let mut search = Search::new().map_err(|violation| violation.to_string())?;
    let mut findings = 0;
    for number in 0..job.schedules {
        let seed = job.seed + number * job.stride;
        let profile = job.profile(seed);
        let outcome = search.seed(profile, seed);
        if outcome.violation.is_none() {
            say(&Line::Done { figures: outcome.figures, counts: outcome.counts });
        } else if let Some(finding) =
            search.shrink(profile, seed, outcome, Duration::from_secs(job.patience_s))
        {
            say(&Line::Found(Box::new(finding)));
            findings += 1;
            if findings >= job.most_findings {
                break;
            }
        }
    }
    Ok(())
}

impl Job {
    /// So many schedules of all kinds in which everybody is honest.
    pub fn new(schedules: u64) -> Self {
        Self {
            profiles: Profile::HONEST.to_vec(),
            seed: 1,
            schedules,
            stride: 1,
            patience_s: 90,
            most_findings: 3,
        }
    }

    /// What the schedule of a seed is drawn from.
    pub fn profile(&self, seed: u64) -> Profile {
        // Not by the lowest bit, which tells the workers apart.
        let number = super::dice::mix(seed) as usize;
        let chosen = self.profiles.get(number % self.profiles.len().max(1));
        chosen.copied().unwrap_or(Profile::Calm)
    }
}

impl Harvest {
    /// Whether all schedules hold, and all were run.
    pub fn holds(&self) -> bool {
        self.findings.is_empty() && self.broken.is_empty()
    }
}

fn say(line: &Line) {
    if let Ok(line) = serde_json::to_string(line) {
        // Whoever listened is gone: then there is nobody to tell.
        let _ = writeln!(io::stdout(), "{MARK}{line}");
    }
}

impl fmt::Display for Harvest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for reason in &self.broken {
            writeln!(formatter, "{reason}")?;
        }
        for finding in &self.findings {
            writeln!(formatter, "{finding}")?;
        }
        let (done, seconds) = (self.report.schedules(), self.took.as_secs_f64());
        writeln!(formatter, "{done} schedules hold; {seconds:.0} s\n")?;
        write!(formatter, "{}", self.report)
    }
}
