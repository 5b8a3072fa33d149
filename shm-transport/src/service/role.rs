//! What the processes of a service are members of their domain as.

/// Starts workers and looks after them.
pub(super) const SUPERVISOR: u32 = u32::from_be_bytes(*b"SRVS");
/// Serves.
pub(super) const WORKER: u32 = u32::from_be_bytes(*b"SRVW");
/// Calls.
pub(super) const CLIENT: u32 = u32::from_be_bytes(*b"SRVC");

/// Whether the supervisor of a service puts away what a member of that role leaves.
pub(super) fn is_of_a_service(role: u32) -> bool {
    [SUPERVISOR, WORKER, CLIENT].contains(&role)
}
