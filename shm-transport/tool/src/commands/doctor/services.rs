//! Services that want somebody to look at them.

use super::Finding;
use crate::look::Survey;
use crate::output::plural;
use shm_transport::domain::Domain;
use std::collections::BTreeSet;
use std::path::Path;

pub fn check(directory: &Path) -> Option<Finding> {
    let name = "services";
    let domains: BTreeSet<_> = Domain::all(directory)
        .ok()?
        .flatten()
        .filter_map(|file| file.to_domain())
        .map(|domain| (domain.group(), domain.name().to_owned()))
        .collect();
    let (mut seen, mut wrong, mut advice) = (0, Vec::new(), None);
    for (group, domain) in domains {
        let Ok(found) = Domain::new(&domain) else { continue };
        let found = found.in_directory(directory);
        let found = group.map_or(found.clone(), |gid| found.of_group(gid));
        let Ok(now) = Survey::new(found).look() else { continue };
        for service in now.services {
            let mut say = |what: String, todo: String| {
                wrong.push(format!("{} in domain {domain}: {what}", service.name));
                advice.get_or_insert(todo);
            };
            let option = format!("--domain {domain}");
            if !service.workers.is_empty() {
                seen += 1;
                if !service.is_supervised() {
                    let todo = match service.up() {
                        0 => format!("start its server, or see `shm clean {option}`"),
                        _ => "start its server: it goes on with the workers that live".into(),
                    };
                    say("nobody looks after it".into(), todo);
                }
                let failed = service.workers.iter().filter(|it| it.condition == "failed").count();
                if failed > 0 {
                    let what = plural(failed, "place has failed", "places have failed");
                    let todo = format!(
                        "see `shm list {option}`, mend the worker, and have the server restart \
                         them (`Server::rolling_restart`)"
                    );
                    say(what, todo);
                }
                if service.stuck() > 0 {
                    let what = plural(service.stuck(), "worker does", "workers do");
                    let pids = service.workers.iter().filter(|it| it.condition == "stuck");
                    let pids =
                        pids.filter_map(|it| it.worker.as_ref()?.pid).map(|pid| pid.to_string());
                    let pids = pids.collect::<Vec<_>>().join(", ");
                    let todo = format!(
                        "see what process {pids} waits for, a disk or a network's file system: its \
                         place is lost until it has ended"
                    );
                    say(format!("{what} not die though killed"), todo);
                }
            }
            if service.letters > 0 {
                let what = plural(service.letters, "dead letter", "dead letters");
                say(what, format!("see `shm dlq list {} {option}`", service.name));
            }
        }
    }
    Some(match advice {
        None if seen == 0 => Finding::ok(name, "there are none"),
        None => Finding::ok(name, format!("{seen} at work")),
        Some(advice) => Finding::warn(name, wrong.join("; "), advice),
    })
}
