//! `shm stop`: ends a service that has no server.

use crate::cli::{Global, Stop};
use crate::failure::Failure;
use shm_transport::service::view;

/// Does what was asked.
pub fn run(global: &Global, options: &Stop) -> Result<(), Failure> {
    let (domain, Stop { service, within }) = (global.domain()?, options);
    if view::stop(&domain, service, *within).map_err(Failure::because)? {
        return Ok(());
    }
    let (domain, directory) = (domain.name(), domain.directory().display());
    Err(Failure::Nothing(format!(
        "there is no service {service:?} in domain {domain:?} in {directory}: see `shm list` for \
         those there are, and check the domain"
    )))
}
