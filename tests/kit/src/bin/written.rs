//! Writes the groups that benches start from into files, for programs that cannot link this
//! library: `written DIRECTORY 10 100 …` makes `group-blank-10.mls`, `group-warm-10.mls` and so on
//! in it, each an MLSMessage with the GroupInfo of a group of so many devices, which anybody may
//! join by an external commit.

use std::{path::Path, process::ExitCode};

use matrix_mls_kit::{
    Result,
    written_tree::{Shape, WrittenGroup},
};

const ROOM: &str = "!giant:example.org";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next();
    let sizes: Option<Vec<usize>> = arguments.map(|size| size.parse().ok()).collect();
    let (Some(directory), Some(sizes)) = (directory, sizes) else {
        eprintln!("usage: written DIRECTORY DEVICES …");
        return ExitCode::from(2);
    };
    match write(Path::new(&directory), &sizes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{directory}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(directory: &Path, sizes: &[usize]) -> Result {
    std::fs::create_dir_all(directory)?;
    for devices in sizes.iter().copied().filter(|devices| *devices > 0) {
        for shape in Shape::ALL {
            let group = WrittenGroup::new(ROOM, devices, shape)?;
            let name = format!("group-{}-{devices}.mls", shape.name());
            std::fs::write(directory.join(name), group.group_info)?;
        }
    }
    Ok(())
}
