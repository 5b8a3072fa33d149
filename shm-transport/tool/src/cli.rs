//! What can be said on the command line.

use crate::commands::Demo;
use clap::builder::Styles;
use clap::builder::styling::AnsiColor;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use shm_transport::domain::{Domain, NameError};
use std::path::PathBuf;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const AFTER: &str = "\
Exit codes:
  0  done, and all is well; also when whoever reads the output closes it
  1  it could not be done; standard error says why and what to do
  2  the command line is wrong
  3  it was done, and something is not as it should be: a failed check of
     `doctor`, damage found by `inspect`, something that `clean` had to leave
  4  what was asked for is not there: no such domain, segment or node

Environment:
  SHM_DOMAIN  the domain, unless --domain names one; else it is `default`
  NO_COLOR    no colours";

/// Looks at shared memory, talks to nodes, cleans up after the dead, and measures.
#[derive(Parser, Debug)]
#[command(name = "shm", version, after_help = AFTER, styles = STYLES, max_term_width = 100)]
pub struct Cli {
    /// What counts for all commands.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What counts for all commands.
#[derive(Args, Debug)]
pub struct Global {
    /// The domain: only processes that say the same one meet
    #[arg(long, short, global = true, value_name = "NAME", value_parser = domain)]
    pub domain: Option<String>,
    /// Where segments lie
    #[arg(long, global = true, value_name = "PATH", default_value = Domain::DIRECTORY)]
    pub directory: PathBuf,
    /// The domain is for the members of this group, by number, instead of one user
    #[arg(long, global = true, value_name = "GID")]
    pub group: Option<u32>,
    /// When to colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
}

/// When output is coloured.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Color {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// How facts are printed.
#[derive(Args, Clone, Copy, Debug)]
pub struct Format {
    /// Print JSON instead of text for people
    #[arg(long)]
    pub json: bool,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Show what this is: real processes, a file sent, one killed, and how fast it all is
    ///
    /// In a domain of its own, of which nothing is left, also if it is interrupted. Every claim is
    /// checked; exits with 1 if one does not hold.
    Demo(Demo),
    /// Show domains: their segments, members and nodes
    ///
    /// All domains in the directory unless --domain names one. Looks at copies, and so at what the
    /// dead left as well as at what is in use; changes nothing.
    #[command(visible_alias = "ls")]
    List(List),
    /// Look into one segment: header, parts, owners, and whether all of it is sound
    ///
    /// Also into a segment of a dead process, a truncated one, or a file that is none. Looks at a
    /// copy and changes nothing. Exits with 3 if something is wrong with it.
    Inspect(Inspect),
    /// Remove what the dead left behind
    ///
    /// Shows what would go; with --yes it goes. Only what belongs to processes that the kernel says
    /// are dead; nothing because it is old or silent.
    Clean(Clean),
    /// Check whether this machine and this process can use shared memory, and what to do if not
    Doctor(Format),
    /// Print the manual page, or write all of them into a directory
    Man(Man),
    /// Print the completions for a shell
    Completions(Completions),
}

/// `shm list`.
#[derive(Args, Debug)]
pub struct List {
    /// How to print.
    #[command(flatten)]
    pub format: Format,
}

/// `shm inspect`.
#[derive(Args, Debug)]
pub struct Inspect {
    /// The segment's name in the domain, or the path of a file if there is a slash in it
    #[arg(value_name = "SEGMENT")]
    pub segment: String,
    /// Show the bytes of the header and of each part's header too
    #[arg(long)]
    pub raw: bool,
    /// How to print.
    #[command(flatten)]
    pub format: Format,
}

/// `shm clean`.
#[derive(Args, Debug)]
pub struct Clean {
    /// Do it, instead of showing what would be done
    #[arg(long, short)]
    pub yes: bool,
    /// All domains of this user in the directory
    #[arg(long, conflicts_with_all = ["domain", "group"])]
    pub all: bool,
    /// How to print.
    #[command(flatten)]
    pub format: Format,
}

/// `shm man`.
#[derive(Args, Debug)]
pub struct Man {
    /// Write a page for each command into this directory instead
    #[arg(long, value_name = "PATH")]
    pub into: Option<PathBuf>,
}

/// `shm completions`.
#[derive(Args, Debug)]
pub struct Completions {
    /// Which shell
    pub shell: Shell,
}

fn domain(name: &str) -> Result<String, NameError> {
    Domain::new(name).map(|domain| domain.name().to_owned())
}

impl Global {
    /// The one domain that is meant.
    pub fn domain(&self) -> Result<Domain, NameError> {
        let domain = match &self.domain {
            Some(name) => Domain::new(name)?,
            None => Domain::from_environment()?,
        };
        let domain = domain.in_directory(&self.directory);
        Ok(match self.group {
            Some(gid) => domain.of_group(gid),
            None => domain,
        })
    }
}
