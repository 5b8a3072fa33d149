//! Weakens one ordering after the other and expects the model named at its site to
//! fail.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo run -p loom-tests --release --features loom --bin weaken [SITE…]
//! ```
//!
//! Each model runs in a process of its own, with `LOOM_WEAKEN=<site>=<ordering>`.
//! A weakening counts as caught only by an assertion of the model itself or a
//! causality violation (a data race) found by loom: not by a limit of the
//! exploration, an internal error or a time-out.

#[cfg(not(loom))]
fn main() {
    eprintln!("weaken: build with RUSTFLAGS=\"--cfg loom\" and --features loom");
    std::process::exit(2);
}

#[cfg(loom)]
fn main() {
    runner::main();
}

#[cfg(loom)]
mod runner {
    use shm_primitives::sync::{Ordering, Shown, Site};
    use std::io::Read;
    use std::process::{Command, Stdio, exit};
    use std::sync::Mutex;
    use std::time::{Duration, Instant};

    /// Longer than any sound model takes several times over.
    const LIMIT: Duration = Duration::from_secs(180);

    pub fn main() {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        if let [flag, model] = &arguments[..]
            && flag == "--model"
        {
            return run_model(model);
        }
        for name in &arguments {
            if !shm_primitives::sites().any(|site| site.name == name) {
                eprintln!("weaken: there is no site {name}");
                exit(2);
            }
        }
        let wanted = |site: &Site| arguments.is_empty() || arguments.iter().any(|n| n == site.name);
        let mut cases: Vec<(&Site, Ordering, &str)> = Vec::new();
        let mut limits = 0;
        for site in shm_primitives::sites().filter(|site| wanted(site)) {
            for weaker in site.weaker {
                match weaker.shown {
                    Shown::Model(model) => cases.push((site, weaker.to, model)),
                    Shown::Limit(_) => limits += 1,
                }
            }
        }
        cases.reverse();
        let (total, cases) = (cases.len(), Mutex::new(cases));
        let failed = Mutex::new(0);
        let workers = std::thread::available_parallelism().map_or(1, |n| n.get());
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        let Some((site, to, model)) = cases.lock().unwrap().pop() else { return };
                        let begun = Instant::now();
                        let verdict = try_one(site, to, model);
                        let seconds = begun.elapsed().as_secs_f32();
                        let (mark, how) = match &verdict {
                            Ok(how) => ("caught", how),
                            Err(how) => ("MISSED", how),
                        };
                        println!(
                            "{mark} {} to {to:?} by {model}, {seconds:.1} s: {how}",
                            site.name
                        );
                        if verdict.is_err() {
                            *failed.lock().unwrap() += 1;
                        }
                    }
                });
            }
        });
        let failed = failed.into_inner().unwrap();
        println!("{limits} weakenings stand in the table with loom's limit");
        println!("weakened orderings: {} passed, {failed} failed", total - failed);
        exit(i32::from(failed != 0));
    }

    fn run_model(name: &str) {
        let Some((_, model)) = loom_tests::models::all().find(|(n, _)| *n == name) else {
            eprintln!("weaken: there is no model {name}");
            exit(2);
        };
        model();
    }

    /// Runs `model` with `site` weakened to `to`; the reason it failed, or why that
    /// does not count.
    fn try_one(site: &Site, to: Ordering, model: &str) -> Result<String, String> {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--model", model])
            .env("LOOM_WEAKEN", format!("{}={to:?}", site.name))
            .env("RUST_BACKTRACE", "0")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut stderr = child.stderr.take().unwrap();
        let reading = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).map(|_| text).unwrap_or_default()
        });
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
                break status;
            }
            if begun.elapsed() > LIMIT {
                child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
                return Err(format!("no answer within {LIMIT:?}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let text = reading.join().unwrap();
        if status.success() {
            return Err("the model passed".into());
        }
        let caught = text.lines().find(|line| {
            let line = line.trim_start();
            line.starts_with("model: ") || line.starts_with("Causality violation")
        });
        caught.map(str::to_owned).ok_or_else(|| format!("failed otherwise: {}", text.trim()))
    }
}
