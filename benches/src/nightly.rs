//! Peers that stable does not build: a package outside the workspace, in its own process.

use crate::measure::Side;
use crate::pin::Cpus;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// The program that runs one such peer once.
pub struct Nightly {
    program: PathBuf,
}

impl Nightly {
    /// Builds it with a nightly toolchain, or else with this one let loose on what is
    /// unstable in it.
    ///
    /// # Errors
    ///
    /// When neither works: what each said.
    pub fn build() -> Result<Self, String> {
        let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("nightly-peers");
        let target = package.join("target");
        let mut reasons = Vec::new();
        for (name, mut cargo) in [("nightly", nightly()), ("RUSTC_BOOTSTRAP=1", bootstrap())] {
            eprintln!("building nightly-peers with {name}");
            let built = cargo
                .args(["build", "--release", "--quiet", "--manifest-path"])
                .arg(package.join("Cargo.toml"))
                .arg("--target-dir")
                .arg(&target)
                .output();
            match built {
                Ok(built) if built.status.success() => {
                    let program = target.join("release/nightly-peers");
                    return Ok(Self { program });
                }
                Ok(built) => reasons.push(format!("{name}: {}", first_error(&built))),
                Err(error) => reasons.push(format!("{name}: {error}")),
            }
        }
        Err(format!("does not build: {}", reasons.join("; ")))
    }

    /// A peer as a side: each run a process of its own.
    pub fn side<'a>(&'a self, peer: &'a str, case: &'a str, cpus: Cpus, steps: u32) -> Side<'a> {
        Side::new(move |count| {
            let arguments = [
                cpus.first.to_string(),
                cpus.second.to_string(),
                count.to_string(),
                steps.to_string(),
            ];
            let ran = Command::new(&self.program)
                .args([peer, case])
                .args(arguments)
                .output()
                .map_err(|error| format!("{peer}: {error}"))?;
            let answer = String::from_utf8_lossy(&ran.stdout);
            match answer.trim().parse() {
                Ok(nanoseconds) if ran.status.success() => Ok(Duration::from_nanos(nanoseconds)),
                _ => Err(format!("{peer}, {case}: {}", first_error(&ran))),
            }
        })
    }
}

/// The nightly toolchain's cargo, by way of rustup.
fn nightly() -> Command {
    let mut cargo = Command::new("cargo");
    cargo.arg("+nightly");
    // Set by the toolchain that runs this program, for itself.
    for name in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH"] {
        cargo.env_remove(name);
    }
    cargo
}

/// The cargo that built this program. Crates for a nightly that has since made a feature
/// stable no longer name it, so it is named for them.
fn bootstrap() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let mut flags = env::var_os("RUSTFLAGS").unwrap_or_default();
    flags.push(" -Zcrate-attr=feature(isolate_most_least_significant_one)");
    cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", flags);
    cargo
}

fn first_error(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.starts_with("error"));
    let line = line.or_else(|| text.lines().next());
    line.map_or_else(|| output.status.to_string(), str::to_owned)
}
