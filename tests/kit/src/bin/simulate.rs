//! Many schedules of the simulator, or one of them again: `cargo xtask simulate` starts it.

use std::{path::PathBuf, process::ExitCode};

use matrix_mls_kit::sim::{
    Profile, Schedule, Search,
    farm::{self, Job},
    loud,
};

const USAGE: &str = "\
usage: simulate [--schedules N] [--seed FIRST] [--jobs N]
                [--only Calm|Forks|Losses|Hostile|Phones]
                [--patience SECONDS] [--findings N] [--report FILE]
       simulate --again SEED|SCHEDULE     one, and everything that happens in it

  --schedules   how many (100,000)
  --seed        the first seed (1); the others follow
  --jobs        how many processes (one for each core)
  --only        only schedules of this kind
  --patience    how long a failing schedule is made shorter for (90)
  --findings    after so many failures a process stops (3)
  --report      where the report is written to, as well";

/// What is asked for.
struct Arguments {
    job: Job,
    jobs: Option<u64>,
    report: Option<PathBuf>,
    again: Option<String>,
}

fn main() -> ExitCode {
    if farm::work() {
        return ExitCode::SUCCESS;
    }
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(reason) => {
            eprintln!("{reason}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let result = match &arguments.again {
        Some(which) => again(&arguments.job, which),
        None => many(&arguments),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Arguments>, String> {
    let mut parsed = Arguments { job: Job::new(100_000), jobs: None, report: None, again: None };
    while let Some(option) = arguments.next() {
        if option == "-h" || option == "--help" {
            return Ok(None);
        }
        let value = arguments.next().ok_or_else(|| format!("`{option}` wants a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("`{value}` is no number"));
        match option.as_str() {
            "--schedules" => parsed.job.schedules = number()?,
            "--seed" => parsed.job.seed = number()?,
            "--jobs" => parsed.jobs = Some(number()?.max(1)),
            "--only" => parsed.job.profiles = vec![profile(&value)?],
            "--patience" => parsed.job.patience_s = number()?,
            "--findings" => parsed.job.most_findings = number()?,
            "--report" => parsed.report = Some(value.into()),
            "--again" => parsed.again = Some(value),
            _ => return Err(format!("there is no option `{option}`")),
        }
    }
    Ok(Some(parsed))
}

fn profile(name: &str) -> Result<Profile, String> {
    let known = Profile::ALL.into_iter().find(|known| format!("{known:?}") == name);
    known.ok_or_else(|| format!("there are no schedules of the kind `{name}`"))
}

/// Runs many; tells whether all hold.
fn many(arguments: &Arguments) -> Result<bool, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let worker = || std::process::Command::new(&this);
    let harvest = farm::run(&arguments.job, arguments.jobs, true, worker);
    let harvest = harvest.map_err(|error| error.to_string())?;
    println!("{harvest}");
    if let Some(path) = &arguments.report {
        std::fs::write(path, harvest.to_string())
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(harvest.holds())
}

/// Runs one, and tells what happens in it.
fn again(job: &Job, which: &str) -> Result<bool, String> {
    loud::be_loud();
    let mut search = Search::new().map_err(|violation| violation.to_string())?;
    let outcome = match serde_json::from_str::<Schedule>(which) {
        Ok(schedule) => search.run(&schedule),
        Err(_) => {
            let seed = which.parse().map_err(|_| format!("`{which}` is no seed"))?;
            search.seed(job.profile(seed), seed)
        }
    };
    println!("{:#?}\n{:#?}", outcome.figures, outcome.counts);
    match outcome.violation {
        Some(violation) => {
            println!("it breaks {violation}");
            Ok(false)
        }
        None => Ok(true),
    }
}
