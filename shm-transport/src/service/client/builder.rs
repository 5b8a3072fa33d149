//! Connecting.

use super::Client;
use super::error::ConnectError;
use super::family::Family;
use crate::config::{Config, Wait};
use crate::domain::Domain;
use shm_primitives::layout::lrpc::NodeId;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A client to be; see [`Client::builder`]. What is not said here is the default, or, of the
/// domain, what the [configuration](crate::config) says.
#[derive(Clone, Debug)]
#[must_use = "nothing is connected until `connect`"]
pub struct ClientBuilder {
    service: String,
    domain: Option<String>,
    in_domain: Option<Domain>,
    timeout: Duration,
    wait: Wait,
}

impl ClientBuilder {
    /// How long to wait for a service, unless something else is said.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

    pub(super) fn new(service: &str) -> Self {
        Self {
            service: service.into(),
            domain: None,
            in_domain: None,
            timeout: Self::CONNECT_TIMEOUT,
            wait: Wait::default(),
        }
    }

    /// The domain of that name: only processes that say the same meet.
    pub fn domain(mut self, name: &str) -> Self {
        self.domain = Some(name.into());
        self
    }

    /// That domain, which may be a group's, or lie in another directory.
    pub fn in_domain(mut self, domain: Domain) -> Self {
        self.in_domain = Some(domain);
        self
    }

    /// How long to wait for the service to be there and for one of its workers to be up: 5 seconds.
    /// With 0 it is looked once.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How its threads wait for replies.
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// Connects. Blocks, for as long as was said at the most. Takes some hundred microseconds if the
    /// service is there.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`]; nothing is left behind then.
    pub fn connect(self) -> Result<Client, ConnectError> {
        let Self { service, domain, in_domain, timeout, wait } = self;
        let service = NodeId::try_from(&*service)?;
        let domain = match in_domain {
            Some(domain) => domain,
            None => {
                let mut config = Config::load()?;
                config.domain = domain.unwrap_or(config.domain);
                config.to_domain()?
            }
        };
        let begun = Instant::now();
        let family = Arc::new(Family::join(service, domain, wait)?);
        let connection = family.connect(begun, timeout)?;
        Ok(Client::of(family, Some(Arc::new(connection))))
    }
}
