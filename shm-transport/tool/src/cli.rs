//! What can be said on the command line.

use crate::commands::{Demo, Part};
use crate::failure::Failure;
use crate::look::Snapshot;
use clap::builder::Styles;
use clap::builder::styling::AnsiColor;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use shm_primitives::table::SlotKey;
use shm_transport::config::{Config, ConfigError};
use shm_transport::domain::{Domain, NameError};
use std::path::PathBuf;
use std::time::Duration;

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
  4  what was asked for is not there: no such domain, segment, node, service
     or letter

Environment:
  SHM_DOMAIN     the domain, unless --domain names one; else it is `default`
  SHM_DIRECTORY  where segments lie, unless --directory says
  SHM_CONFIG     a file with these and all other settings of nodes
  NO_COLOR       no colours";

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

/// What this program says when it starts itself as another process. Apart from what people can
/// say, so that neither help nor pages nor completions offer it.
#[derive(Parser, Debug)]
#[command(name = "shm backstage")]
pub struct Backstage {
    /// What counts for all commands.
    #[command(flatten)]
    pub global: Global,
    /// What to be.
    #[command(subcommand)]
    pub role: Role,
}

/// The processes that this program starts itself as.
#[derive(Subcommand, Debug)]
pub enum Role {
    /// A process of the demonstration
    Demo {
        /// Who has started it: it ends when that one does
        #[arg(long)]
        parent: i32,
        /// What it does
        #[command(subcommand)]
        part: Part,
    },
    /// The other end of the measurements of `shm bench`
    Bench,
}

/// Who has said what.
#[derive(Debug)]
pub enum Said {
    /// People, and their programs.
    ByOthers(Cli),
    /// The program to itself.
    ByItself(Backstage),
}

impl Said {
    /// The first word of what the program says to itself.
    pub const BACKSTAGE: &str = "backstage";

    /// What the command line says; ends the program if that is wrong.
    pub fn parse() -> Self {
        let mut words = std::env::args_os().skip(1).peekable();
        if words.next_if(|word| word == Self::BACKSTAGE).is_some() {
            let program = std::iter::once("shm backstage".into());
            return Self::ByItself(Backstage::parse_from(program.chain(words)));
        }
        Self::ByOthers(Cli::parse())
    }

    /// What counts for all commands.
    pub const fn global(&self) -> &Global {
        match self {
            Self::ByOthers(cli) => &cli.global,
            Self::ByItself(backstage) => &backstage.global,
        }
    }
}

/// What counts for all commands.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// The domain: only processes that say the same one meet
    #[arg(long, short, global = true, value_name = "NAME", value_parser = domain)]
    pub domain: Option<String>,
    /// Where segments lie, instead of /dev/shm
    #[arg(long, global = true, value_name = "PATH")]
    pub directory: Option<PathBuf>,
    /// The domain is for the members of this group, by number, instead of one user
    #[arg(long, global = true, value_name = "GID")]
    pub group: Option<u32>,
    /// When to colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
    /// Say what the library does; twice for more, three times for all
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub verbose: u8,
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
    /// Show domains: their segments, members, nodes and services
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
    /// Show who sends how much, and what waits, each second
    ///
    /// Looks from outside, without joining: nodes do not notice, and the dead are shown too.
    Top(Top),
    /// End a service whose server is gone: its workers finish what they have in hand, and go
    ///
    /// Its callers are told that it is gone; dead letters stay. One that has a server is to be
    /// stopped by that.
    Stop(Stop),
    /// Look at the dead letters of a service: messages whose worker died of them, or with them
    ///
    /// They are not run again by themselves.
    Dlq(Dlq),
    /// Print the state of the domain's nodes and services in the OpenMetrics text format
    ///
    /// Once to standard output, or with --listen to whoever asks by HTTP.
    Metrics(Metrics),
    /// Send a message to a node
    ///
    /// MESSAGE, or all of standard input as one message, or each of its lines as one.
    Send(Send),
    /// Join as a node and show the messages that come
    Recv(Recv),
    /// Join as a node and send each message back to its sender
    Echo(Echo),
    /// Pass a stream of bytes from one process to another
    ///
    /// `shm pipe --from NAME` writes to standard output what `shm pipe --to NAME` reads from
    /// standard input, in memory that both see. The end of the input travels too; if the writer is
    /// killed before it, the reader says so and exits with 1.
    Pipe(Pipe),
    /// Measure round trips and throughput between two processes on this machine
    Bench(Bench),
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
    /// Look at so many bytes at most, from the beginning; they are copied
    #[arg(long, value_name = "BYTES", default_value_t = Snapshot::MOST)]
    pub limit: u64,
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
    /// Dead letters too, of services that nobody serves any more
    #[arg(long)]
    pub letters: bool,
    /// All domains of this user in the directory
    #[arg(long, conflicts_with_all = ["domain", "group"])]
    pub all: bool,
    /// How to print.
    #[command(flatten)]
    pub format: Format,
}

/// `shm top`.
#[derive(Args, Debug)]
pub struct Top {
    /// Seconds from one table to the next
    #[arg(long, short, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub interval: Duration,
    /// End after so many tables
    #[arg(long, short = 'n', value_name = "NUMBER")]
    pub count: Option<u64>,
    /// How to print: an object a line.
    #[command(flatten)]
    pub format: Format,
}

/// `shm dlq`.
#[derive(Args, Debug)]
pub struct Dlq {
    /// What to do with them.
    #[command(subcommand)]
    pub action: DlqAction,
}

/// What is done with dead letters.
#[derive(Subcommand, Debug)]
pub enum DlqAction {
    /// Show those of a service
    List {
        /// The service
        service: String,
        /// How to print.
        #[command(flatten)]
        format: Format,
    },
    /// Show one, with its message
    Show {
        /// The service
        service: String,
        /// The letter, as `list` calls it
        #[arg(value_parser = letter)]
        letter: SlotKey,
        /// Write the bytes of the message and nothing else
        #[arg(long, conflicts_with = "json")]
        raw: bool,
        /// How to print.
        #[command(flatten)]
        format: Format,
    },
    /// Call the function again with the message, and drop the letter when that was completed
    ///
    /// If it fails the letter stays. If its worker dies of it again, there is one letter more.
    Redrive {
        /// The letters.
        #[command(flatten)]
        which: Which,
        /// Wait so many seconds for each reply
        #[arg(long, short, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
        timeout: Duration,
    },
    /// Drop letters for good; asks first
    Drop {
        /// The letters.
        #[command(flatten)]
        which: Which,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// Some letters of a service.
#[derive(Args, Debug)]
pub struct Which {
    /// The service
    pub service: String,
    /// The letters, as `list` calls them
    #[arg(value_name = "LETTER", value_parser = letter, required_unless_present = "all")]
    pub letters: Vec<SlotKey>,
    /// All that there are
    #[arg(long, conflicts_with = "letters")]
    pub all: bool,
}

/// `shm metrics`.
#[derive(Args, Debug)]
pub struct Metrics {
    /// Answer requests by HTTP at this address, such as 127.0.0.1:9464, until interrupted
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
}

/// The node that this program is.
#[derive(Args, Debug)]
pub struct Own {
    /// The name to join under, instead of `shm-` and the process's number
    #[arg(long = "as", value_name = "NAME")]
    pub name: Option<String>,
}

/// `shm send`.
#[derive(Args, Debug)]
pub struct Send {
    /// The node; an empty name is all others
    pub to: String,
    /// The message, instead of what comes on standard input
    pub message: Option<String>,
    /// Make a message of each line of standard input
    #[arg(long, conflicts_with = "message")]
    pub lines: bool,
    /// The group in the message's label
    #[arg(long, value_name = "NUMBER")]
    pub to_group: Option<u32>,
    /// The topic in the message's label
    #[arg(long, value_name = "NUMBER")]
    pub topic: Option<u32>,
    /// Send each message so many times
    #[arg(long, short = 'n', value_name = "NUMBER", default_value = "1")]
    pub count: u64,
    /// Wait so many seconds for the node to be there
    #[arg(long, short, value_name = "SECONDS", value_parser = seconds)]
    pub wait: Option<Duration>,
    /// Who sends.
    #[command(flatten)]
    pub own: Own,
}

/// `shm recv`.
#[derive(Args, Debug)]
pub struct Recv {
    /// The name to join under
    pub name: String,
    /// End after so many messages
    #[arg(long, short = 'n', value_name = "NUMBER")]
    pub count: Option<u64>,
    /// End with 4 if no message comes for so many seconds
    #[arg(long, short, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,
    /// Only messages with this group; may be given more than once
    #[arg(long = "of-group", value_name = "NUMBER")]
    pub groups: Vec<u32>,
    /// Only messages with this topic; may be given more than once
    #[arg(long = "topic", value_name = "NUMBER")]
    pub topics: Vec<u32>,
    /// Write the bytes of the messages and nothing else
    #[arg(long, conflicts_with = "json")]
    pub raw: bool,
    /// How to print: an object a line.
    #[command(flatten)]
    pub format: Format,
}

/// `shm stop`.
#[derive(Args, Debug)]
pub struct Stop {
    /// The service
    pub service: String,
    /// Kill workers that have not gone after so many seconds
    #[arg(long, short, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub within: Duration,
}

/// `shm echo`.
#[derive(Args, Debug)]
pub struct Echo {
    /// The name to join under
    pub name: String,
    /// End after so many messages
    #[arg(long, short = 'n', value_name = "NUMBER")]
    pub count: Option<u64>,
    /// End with 4 if no message comes for so many seconds
    #[arg(long, short, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,
}

/// `shm pipe`.
#[derive(Args, Debug)]
#[group(id = "end", required = true, multiple = false, args = ["to", "from"])]
pub struct Pipe {
    /// Read standard input, for the process that has the other end under this name
    #[arg(long, value_name = "NAME")]
    pub to: Option<String>,
    /// Take this name, and write to standard output what is piped to it
    #[arg(long, value_name = "NAME")]
    pub from: Option<String>,
    /// Wait so many seconds for the other end; the reading one waits for ever unless told
    #[arg(long, short, value_name = "SECONDS", value_parser = seconds)]
    pub wait: Option<Duration>,
    /// Who writes.
    #[command(flatten)]
    pub own: Own,
}

/// `shm bench`.
#[derive(Args, Debug)]
pub struct Bench {
    /// Seconds for each figure
    #[arg(long, short, value_name = "SECONDS", default_value = "0.3", value_parser = seconds)]
    pub seconds: Duration,
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

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds is wanted".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn letter(text: &str) -> Result<SlotKey, String> {
    let number = |text: &str| text.parse::<u32>().ok();
    let key = text
        .split_once('-')
        .and_then(|(index, generation)| Some(SlotKey::new(number(index)?, number(generation)?)));
    key.ok_or_else(|| "a letter is two numbers, such as 0-1: see `shm dlq list`".into())
}

fn domain(name: &str) -> Result<String, NameError> {
    Domain::new(name).map(|domain| domain.name().to_owned())
}

impl Global {
    /// The settings that nodes here would have: of the environment and of the file it names.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let mut config = Config::load()?;
        if let Some(name) = &self.domain {
            config.domain.clone_from(name);
        }
        if let Some(directory) = &self.directory {
            config.directory.clone_from(directory);
        }
        Ok(config)
    }

    /// Where segments lie.
    pub fn directory(&self) -> Result<PathBuf, ConfigError> {
        match &self.directory {
            Some(directory) => Ok(directory.clone()),
            None => Ok(self.config()?.directory),
        }
    }

    /// The one domain that is meant.
    pub fn domain(&self) -> Result<Domain, Failure> {
        let config = self.config()?;
        let domain = config.to_domain()?;
        Ok(match self.group {
            Some(gid) => domain.of_group(gid),
            None => domain,
        })
    }
}
