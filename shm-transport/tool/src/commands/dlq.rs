//! `shm dlq`: the dead letters of a service.

use crate::cli::{Dlq, DlqAction, Format, Global, Which};
use crate::failure::Failure;
use crate::look::{LetterNow, LookError, ServiceFiles, letters, message, service};
use crate::output::{self, Cell, FAINT, HEADING, Report, Table, harmless};
use serde::Serialize;
use shm_primitives::table::SlotKey;
use shm_transport::domain::Domain;
use shm_transport::service::view::{self, Part};
use shm_transport::service::{Client, Priority};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The letters of one service.
#[derive(Debug, Serialize)]
struct Letters {
    service: String,
    letters: Vec<LetterNow>,
    #[serde(skip)]
    path: PathBuf,
}

/// One, with its message.
#[derive(Debug, Serialize)]
struct Whole {
    #[serde(flatten)]
    letter: LetterNow,
    /// The bytes that were kept, in hexadecimal digits.
    message: String,
    /// The same, if they are text.
    text: Option<String>,
}

/// Does what was asked.
pub fn run(global: &Global, options: &Dlq) -> Result<(), Failure> {
    let domain = global.domain()?;
    match &options.action {
        DlqAction::List { service, format } => {
            output::print(global, *format, &Letters::of(&domain, service)?)
        }
        DlqAction::Show { service, letter, raw, format } => {
            show(global, &Letters::of(&domain, service)?, *letter, *raw, *format)
        }
        DlqAction::Redrive { which, timeout } => {
            redrive(global, &domain, &Letters::of(&domain, &which.service)?, which, *timeout)
        }
        DlqAction::Drop { which, yes } => {
            drop_letters(global, &domain, &Letters::of(&domain, &which.service)?, which, *yes)
        }
    }
}

impl Letters {
    fn of(domain: &Domain, service: &str) -> Result<Self, Failure> {
        let path = domain.path_of(&view::segment_of(service, Part::Letters)?);
        if let Some(letters) = letters(&path)? {
            return Ok(Self { service: service.into(), letters, path });
        }
        let control = domain.path_of(&view::segment_of(service, Part::Control)?);
        if control.exists() {
            return Ok(Self { service: service.into(), letters: Vec::new(), path });
        }
        let (domain, directory) = (domain.name(), domain.directory().display());
        Err(Failure::Nothing(format!(
            "there is no service {service:?} in domain {domain:?} in {directory}, and no letters of \
             one: see `shm list` for those there are, and check the domain"
        )))
    }

    fn find(&self, key: SlotKey) -> Result<&LetterNow, Failure> {
        let Self { service, letters, .. } = self;
        if letters.is_empty() {
            return Err(self.none());
        }
        letters.iter().find(|letter| letter.key == key).ok_or_else(|| {
            let letter = name(key);
            Failure::Nothing(format!(
                "service {service:?} has no dead letter {letter}: it was dropped, or never was; \
                 see `shm dlq list {service}`"
            ))
        })
    }

    fn none(&self) -> Failure {
        Failure::Nothing(format!("service {:?} has no dead letters", self.service))
    }

    /// Those that are meant; all of them are there.
    fn some(&self, which: &Which) -> Result<Vec<&LetterNow>, Failure> {
        if which.all {
            let all: Vec<_> = self.letters.iter().collect();
            return if all.is_empty() { Err(self.none()) } else { Ok(all) };
        }
        which.letters.iter().map(|key| self.find(*key)).collect()
    }

    fn message(&self, letter: &LetterNow) -> Result<Vec<u8>, Failure> {
        let gone = || {
            let (service, letter) = (&self.service, &letter.letter);
            Failure::Nothing(format!("letter {letter} of service {service:?} was just dropped"))
        };
        message(&self.path, letter.key)?.ok_or_else(gone)
    }
}

fn name(key: SlotKey) -> String {
    format!("{}-{}", key.index(), key.generation())
}

fn show(
    global: &Global,
    letters: &Letters,
    key: SlotKey,
    raw: bool,
    format: Format,
) -> Result<(), Failure> {
    let letter = letters.find(key)?.clone();
    let bytes = letters.message(&letter)?;
    if raw {
        let mut stdout = output::unbuffered()?;
        return Ok(stdout.write_all(&bytes)?);
    }
    let message = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = String::from_utf8(bytes).ok();
    output::print(global, format, &Whole { letter, message, text })
}

fn redrive(
    global: &Global,
    domain: &Domain,
    letters: &Letters,
    which: &Which,
    timeout: Duration,
) -> Result<(), Failure> {
    let wanted = letters.some(which)?;
    for letter in &wanted {
        let LetterNow { letter, length, kept, .. } = letter;
        if kept < length {
            return Err(Failure::because(format!(
                "of letter {letter} only {kept} bytes of {length} were kept: it cannot be called \
                 again; start the server with room for longer letters"
            )));
        }
    }
    let vip = vip_places(domain, &letters.service);
    let client = Client::builder(&letters.service)
        .in_domain(domain.clone())
        .connect_timeout(timeout)
        .connect()
        .map_err(Failure::because)?;
    let mut failed = Vec::new();
    for letter in wanted {
        let bytes = letters.message(letter)?;
        let priority = if vip.contains(&letter.worker) { Priority::High } else { Priority::Low };
        let mut stdout = output::stdout(global.color);
        match client.call(letter.function, &bytes, priority, timeout) {
            Ok(reply) => {
                view::drop_letter(domain, &letters.service, letter.key)?;
                writeln!(
                    stdout,
                    "letter {}: completed with {}, and dropped",
                    letter.letter,
                    output::plural(reply.len(), "byte", "bytes")
                )?;
            }
            Err(error) => {
                writeln!(
                    stdout,
                    "letter {}: kept: {}",
                    letter.letter,
                    harmless(&error.to_string())
                )?;
                failed.push(format!("letter {}: {error}", letter.letter));
            }
        }
    }
    match failed.first() {
        None => Ok(()),
        Some(first) => {
            let count = output::plural(failed.len(), "letter was", "letters were");
            Err(Failure::because(format!("{count} not completed, and kept; the first: {first}")))
        }
    }
}

/// The places of its workers for calls of high priority; none if that cannot be seen.
fn vip_places(domain: &Domain, name: &str) -> Vec<u32> {
    let Ok(control) = view::segment_of(name, Part::Control) else { return Vec::new() };
    let control = Some(domain.path_of(&control));
    let files = ServiceFiles { control, ..ServiceFiles::default() };
    let found = service(name, &files, &mut Vec::<LookError>::new());
    let workers = found.into_iter().flat_map(|found| found.workers);
    workers.filter(|worker| worker.group == "vip").map(|worker| worker.place).collect()
}

fn drop_letters(
    global: &Global,
    domain: &Domain,
    letters: &Letters,
    which: &Which,
    yes: bool,
) -> Result<(), Failure> {
    let wanted = letters.some(which)?;
    let count = output::plural(wanted.len(), "letter", "letters");
    if !yes {
        let mut stderr = io::stderr().lock();
        write!(stderr, "drop {count} of service {:?} for good? [y/N] ", letters.service)?;
        stderr.flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Err(Failure::because("nothing was dropped: answer y, or say --yes"));
        }
    }
    for letter in wanted {
        let was = view::drop_letter(domain, &letters.service, letter.key)?;
        let done = if was { "dropped" } else { "was gone already" };
        writeln!(output::stdout(global.color), "letter {}: {done}", letter.letter)?;
    }
    Ok(())
}

impl Report for Letters {
    fn show(&self, page: &mut dyn Write) -> io::Result<()> {
        let Self { service, letters, .. } = self;
        let name = harmless(service);
        if letters.is_empty() {
            return writeln!(page, "service {name} has no dead letters");
        }
        let count = output::plural(letters.len(), "dead letter", "dead letters");
        writeln!(page, "{HEADING}service {name}{HEADING:#}: {count}")?;
        let mut table = Table::new([
            "LETTER",
            "FUNCTION",
            "BYTES",
            "ITS WORKER",
            "PLACE",
            "PID",
            "CALLER",
            "AGE",
        ]);
        for letter in letters {
            table.row([
                Cell::new(&letter.letter),
                Cell::number(letter.function),
                Cell::number(letter.length),
                Cell::new(letter.cause.as_deref().unwrap_or("-")),
                Cell::number(letter.worker),
                Cell::number(letter.worker_pid),
                Cell::number(letter.client_pid),
                Cell::number(age(letter.time_ms)),
            ]);
        }
        table.show(page)
    }
}

impl Report for Whole {
    fn show(&self, page: &mut dyn Write) -> io::Result<()> {
        let Self { letter, message, text } = self;
        let LetterNow { function, length, kept, cause, worker, worker_pid, .. } = letter;
        writeln!(page, "{HEADING}letter {}{HEADING:#}", letter.letter)?;
        let mut table = Table::bare();
        let mut line = |name: &str, text: String| {
            table.row([Cell::new(name).style(FAINT), Cell::new(text)]);
        };
        line("function", function.to_string());
        line("its worker", cause.as_deref().unwrap_or("unknown").into());
        line("worker", format!("place {worker}, process {worker_pid}"));
        line("caller", format!("process {}", letter.client_pid));
        line("attempt", letter.attempt.to_string());
        line("age", age(letter.time_ms));
        let cut = if kept < length { format!(", {kept} of them kept") } else { String::new() };
        line("bytes", format!("{length}{cut}"));
        match text {
            Some(text) => line("text", text.clone()),
            None => line("message", message.clone()),
        }
        table.show(page)
    }
}

fn age(time_ms: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let seconds = now.saturating_sub(time_ms.into()) / 1000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}
