//! Peers that the workspace does not build: each a package outside it, with a lockfile of its
//! own, built when a row needs it and run in its own process.

use crate::errand::Errand;
use crate::measure::Side;
use crate::pin::Cpus;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// A way to call cargo, and its name.
type Toolchain = (&'static str, fn() -> Command);

/// A package of such peers.
pub struct Package {
    /// Its folder in this one, which is also its program's name.
    folder: &'static str,
    /// What to build it with: the first that succeeds.
    toolchains: &'static [Toolchain],
}

/// Peers that stable does not build: with a nightly toolchain, or else with this one let loose
/// on what is unstable in it.
pub const NIGHTLY: Package = Package {
    folder: "nightly-peers",
    toolchains: &[("nightly", nightly), ("RUSTC_BOOTSTRAP=1", bootstrap)],
};

/// iceoryx2, which stable builds, but with some sixty crates that nothing else needs.
pub const ICEORYX2: Package =
    Package { folder: "iceoryx2-peer", toolchains: &[("this toolchain", this)] };

/// The program of a package, which runs one of its peers once.
pub struct Apart {
    program: PathBuf,
}

impl Apart {
    /// Builds it.
    ///
    /// # Errors
    ///
    /// When no toolchain does: what each said.
    pub fn build(package: &Package) -> Result<Self, String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(package.folder);
        let target = folder.join("target");
        let mut reasons = Vec::new();
        for (name, cargo) in package.toolchains {
            eprintln!("building {} with {name}", package.folder);
            let built = cargo()
                .args(["build", "--release", "--quiet", "--manifest-path"])
                .arg(folder.join("Cargo.toml"))
                .arg("--target-dir")
                .arg(&target)
                .output();
            match built {
                Ok(built) if built.status.success() => {
                    let program = target.join("release").join(package.folder);
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
            let ran = Command::new(&self.program)
                .args([peer, case])
                .args(Errand { cpus, count, steps }.arguments())
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

/// The cargo that built this program.
fn this() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
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

/// The cargo that built this program, unstable features allowed. Crates for a nightly that has since made a feature
/// stable no longer name it, so it is named for them.
fn bootstrap() -> Command {
    let mut cargo = this();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_build_says_why() {
        let absent = Package { folder: "no-such-package", toolchains: &[("this", this)] };
        let reason = Apart::build(&absent).err().expect("there is no such package");
        assert!(reason.starts_with("does not build: this: error"), "{reason}");
    }
}
