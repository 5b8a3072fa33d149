//! `shm man`, `shm completions`: made of the command line's own description.

use crate::cli::{Cli, Man};
use crate::failure::Failure;
use clap::CommandFactory;
use clap_complete::Shell;
use std::io::Write;

/// Prints the manual page, or writes one for each command.
pub fn man(options: &Man) -> Result<(), Failure> {
    match &options.into {
        Some(directory) => clap_mangen::generate_to(Cli::command(), directory).map_err(|error| {
            let directory = directory.display();
            Failure::because(format!(
                "cannot write pages into {directory}: {error}; name a directory that exists"
            ))
        }),
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            Ok(std::io::stdout().write_all(&page)?)
        }
    }
}

/// Prints what a shell reads to complete words.
pub fn completions(shell: Shell) -> Result<(), Failure> {
    // Into memory first: clap_complete panics if it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "shm", &mut script);
    Ok(std::io::stdout().write_all(&script)?)
}
