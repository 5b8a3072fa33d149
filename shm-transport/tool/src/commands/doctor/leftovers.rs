//! What the dead left behind.

use super::Finding;
use crate::commands::clean::{self, Fate};
use crate::output::bytes;
use shm_transport::domain::Domain;
use std::collections::BTreeSet;
use std::path::Path;

pub fn check(directory: &Path) -> Option<Finding> {
    let name = "leftovers";
    let mut domains = BTreeSet::new();
    for file in Domain::all(directory).ok()?.flatten() {
        if let Some(domain) = file.to_domain() {
            domains.insert((domain.group(), domain.name().to_owned()));
        }
    }
    let mut left = Vec::new();
    let mut resident = 0;
    for (group, domain) in domains {
        let Ok(found) = Domain::new(&domain) else { continue };
        let found = found.in_directory(directory);
        let found = match group {
            Some(gid) => found.of_group(gid),
            None => found,
        };
        let Ok(plan) = clean::plan(&found, false) else { continue };
        let of_the_dead: u64 =
            plan.iter().filter(|item| item.fate == Fate::Dead).map(|item| item.resident).sum();
        if of_the_dead > 0 {
            resident += of_the_dead;
            left.push(match group {
                Some(gid) => format!("--group {gid} --domain {domain}"),
                None => format!("--domain {domain}"),
            });
        }
    }
    if left.is_empty() {
        return Some(Finding::ok(name, "nothing of the dead"));
    }
    let found = format!("{} of the dead, in {} domain(s)", bytes(resident), left.len());
    let advice = format!("run `shm clean {}` to see, and with --yes to remove it", left[0]);
    Some(Finding::warn(name, found, advice))
}
