//! What a worker is told by whoever starts it, in its environment.
//!
//! | variable | what |
//! |---|---|
//! | `SHM_WORKER` | `<place>.<incarnation>`: which place it is to take, and as the how-manieth worker there |
//! | `SHM_SERVICE` | the service's name |
//! | `SHM_DOMAIN`, `SHM_DIRECTORY` | the domain, as for nodes |
//! | `SHM_GROUP` | the number of the group that the domain is for, if it is for one |
//! | `SHM_PROGRAM` | the program, if worker and server are to be the same one |

use super::error::WorkerError;
use crate::domain::Domain;
use crate::service::name::ServiceName;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

pub(in crate::service) const WORKER: &str = "SHM_WORKER";
pub(in crate::service) const SERVICE: &str = "SHM_SERVICE";
pub(in crate::service) const DIRECTORY: &str = "SHM_DIRECTORY";
pub(in crate::service) const GROUP: &str = "SHM_GROUP";
/// Said with a program, and not by [`Assignment`].
pub(in crate::service) const PROGRAM: &str = "SHM_PROGRAM";

/// Which worker a process is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::service) struct Assignment {
    pub domain: Domain,
    pub service: ServiceName,
    pub place: u32,
    pub incarnation: u32,
}

impl Assignment {
    /// What the environment says.
    pub fn from_environment() -> Result<Self, WorkerError> {
        Self::read(|name| std::env::var_os(name))
    }

    /// The same in an environment that `variable` stands for.
    fn read(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, WorkerError> {
        let Some(worker) = variable(WORKER) else { return Err(WorkerError::NotStarted) };
        let wrong = |variable: &'static str, found: &OsStr, expected: &'static str| {
            WorkerError::Environment { variable, found: found.into(), expected }
        };
        let Some((place, incarnation)) = parse(&worker) else {
            return Err(wrong(WORKER, &worker, "\"<place>.<incarnation>\", two numbers"));
        };
        let service = variable(SERVICE).unwrap_or_default();
        let Ok(service) = ServiceName::new(service.as_bytes()) else {
            return Err(wrong(SERVICE, &service, "the name of a service, 1 to 64 bytes"));
        };
        let name = variable(Domain::VARIABLE).unwrap_or_else(|| Domain::DEFAULT.into());
        let Some(Ok(mut domain)) = name.to_str().map(Domain::new) else {
            let expected = "a domain's name, 1 to 64 bytes with no slash, dot or NUL in it";
            return Err(wrong(Domain::VARIABLE, &name, expected));
        };
        if let Some(directory) = variable(DIRECTORY).map(PathBuf::from) {
            if !directory.is_absolute() {
                return Err(wrong(DIRECTORY, directory.as_os_str(), "an absolute path"));
            }
            domain = domain.in_directory(directory);
        }
        if let Some(group) = variable(GROUP) {
            let Some(gid) = group.to_str().and_then(number) else {
                return Err(wrong(GROUP, &group, "the number of a group"));
            };
            domain = domain.of_group(gid);
        }
        Ok(Self { domain, service, place, incarnation })
    }

    /// The variables that say it, to be set for the worker's process.
    pub fn variables(&self) -> Vec<(&'static str, OsString)> {
        let mut variables = vec![
            (WORKER, format!("{}.{}", self.place, self.incarnation).into()),
            (SERVICE, OsString::from_vec(self.service.as_bytes().into())),
            (Domain::VARIABLE, self.domain.name().into()),
            (DIRECTORY, self.domain.directory().into()),
        ];
        if let Some(gid) = self.domain.group() {
            variables.push((GROUP, gid.to_string().into()));
        }
        variables
    }
}

fn parse(worker: &OsStr) -> Option<(u32, u32)> {
    let (place, incarnation) = worker.to_str()?.split_once('.')?;
    Some((number(place)?, number(incarnation)?))
}

/// A number of nothing but digits.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment() -> Assignment {
        let domain = Domain::new("robot").unwrap().in_directory("/tmp/somewhere").of_group(7);
        let service = ServiceName::try_from("math/2").unwrap();
        Assignment { domain, service, place: 3, incarnation: 12 }
    }

    fn read(variables: &[(&'static str, OsString)]) -> Result<Assignment, WorkerError> {
        Assignment::read(|name| {
            Some(variables.iter().find(|(variable, _)| *variable == name)?.1.clone())
        })
    }

    #[test]
    fn what_was_said_is_read() {
        let assignment = assignment();
        assert_eq!(read(&assignment.variables()).unwrap(), assignment);
        let domain = Domain::new("default").unwrap();
        let least = read(&[(WORKER, "0.1".into()), (SERVICE, "a".into())]).unwrap();
        let service = ServiceName::try_from("a").unwrap();
        assert_eq!(least, Assignment { domain, service, place: 0, incarnation: 1 });
    }

    #[test]
    fn what_is_missing_or_malformed_is_named() {
        assert!(matches!(read(&[]), Err(WorkerError::NotStarted)));
        for (variable, text) in [
            (WORKER, ""),
            (WORKER, "1"),
            (WORKER, "1."),
            (WORKER, "+1.1"),
            (WORKER, "1.1.1"),
            (WORKER, "1.-1"),
            (WORKER, "4294967296.1"),
            (SERVICE, ""),
            (Domain::VARIABLE, "a.b"),
            (Domain::VARIABLE, ""),
            (DIRECTORY, "here"),
            (GROUP, "users"),
        ] {
            let mut variables = assignment().variables();
            for (name, value) in &mut variables {
                if *name == variable {
                    *value = text.into();
                }
            }
            match read(&variables) {
                Err(WorkerError::Environment { variable: found, found: value, .. }) => {
                    assert_eq!((found, &*value), (variable, OsStr::new(text)));
                }
                other => panic!("{variable}={text}: {other:?}"),
            }
        }
    }
}
