//! A whole domain, looked at again and again.

use super::{
    Life, LookError, MEMBERS, Members, NodeFile, NodeNow, NodeRow, REGISTRY, ServiceFiles,
    ServiceNow, nodes, service, short,
};
use serde::Serialize;
use shm_primitives::identity::OwnerId;
use shm_transport::domain::{Domain, SegmentName};
use std::collections::HashMap;
use std::io;

/// What the names of nodes' segments begin with.
const NODE: &str = "node.";

/// A domain, and what of it is open.
#[derive(Debug)]
pub struct Survey {
    domain: Domain,
    open: HashMap<SegmentName, NodeFile>,
}

/// A domain at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DomainNow {
    pub nodes: Vec<NodeReading>,
    pub services: Vec<ServiceNow>,
    pub members_alive: usize,
    pub members_dead: usize,
    pub segments: usize,
    /// Bytes of memory that all of it takes.
    pub resident: u64,
}

/// A node at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct NodeReading {
    pub name: String,
    pub pid: u32,
    /// Its id among the members.
    pub owner: String,
    pub state: Life,
    pub silent_ms: u32,
    /// Bytes of memory that its segment takes.
    pub resident: u64,
    /// Lanes of other nodes that it sends through.
    pub lanes_out: u32,
    #[serde(flatten)]
    pub now: NodeNow,
}

impl Survey {
    /// One of that domain.
    pub fn new(domain: Domain) -> Self {
        Self { domain, open: HashMap::new() }
    }

    /// Looks once more. What cannot be looked at is left out, or zero.
    pub fn look(&mut self) -> io::Result<DomainNow> {
        let mut all = DomainNow::default();
        let (mut there, mut segments) = (Vec::new(), Vec::new());
        for name in self.domain.segments()? {
            let name = name?;
            all.segments += 1;
            let path = self.domain.path_of(&name);
            all.resident += super::Seen::at(&path).map_or(0, |seen| seen.resident);
            if name.as_str().starts_with(NODE) {
                there.push(name);
            } else {
                segments.push((name, path));
            }
        }
        let services = ServiceFiles::among(segments.into_iter());
        let services =
            services.iter().filter_map(|(name, files)| service(name, files, &mut Vec::new()));
        all.services = services.collect();
        self.open.retain(|name, file| there.contains(name) && file.is_current());
        for name in there {
            if let std::collections::hash_map::Entry::Vacant(place) = self.open.entry(name)
                && let Ok(file) = NodeFile::open(&self.domain.path_of(place.key()))
            {
                place.insert(file);
            }
        }
        let registered = self.part(REGISTRY, nodes).unwrap_or_default();
        let mut by_owner = HashMap::new();
        for file in self.open.values() {
            if let (Some(owner), Ok(now)) = (file.owner(), file.look()) {
                by_owner.insert(owner, (now, file.resident()));
            }
        }
        // After everything that names an id.
        let members = self.part(MEMBERS, Members::at);
        if let Some(members) = &members {
            for row in members.rows() {
                match row.state {
                    Life::Alive => all.members_alive += 1,
                    Life::Dead => all.members_dead += 1,
                    Life::Unknown => {}
                }
            }
            for service in &mut all.services {
                service.judge(members);
            }
        }
        let mut lanes_out = HashMap::<OwnerId, u32>::new();
        for sender in by_owner.values().flat_map(|(now, _)| &now.senders) {
            *lanes_out.entry(*sender).or_default() += 1;
        }
        all.nodes = registered
            .into_iter()
            .map(|mut row| {
                if let Some(members) = &members {
                    row.judge(members);
                }
                let id = row.id();
                let (now, resident) = by_owner.remove(&id).unwrap_or_default();
                let NodeRow { name, pid, state, silent_ms, .. } = row;
                let lanes_out = lanes_out.get(&id).copied().unwrap_or(0);
                let owner = short(id);
                NodeReading { name, pid, owner, state, silent_ms, resident, lanes_out, now }
            })
            .collect();
        Ok(all)
    }

    /// What can be read from a segment of that name.
    fn part<T>(
        &self,
        name: &str,
        read: impl FnOnce(&std::path::Path) -> Result<Option<T>, LookError>,
    ) -> Option<T> {
        let name = SegmentName::new(name).ok()?;
        read(&self.domain.path_of(&name)).ok().flatten()
    }
}
