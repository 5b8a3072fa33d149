//! The steps, but for the measuring.

mod broadcast;
mod company;
mod death;
mod end;
mod service;
mod transfer;

pub use broadcast::{Broadcasting, broadcast};
pub use company::{Company, Meeting};
pub use death::{Death, death};
pub use end::{End, end};
pub use service::{Service, serve, service};
pub use transfer::{Transfer, transfer};
