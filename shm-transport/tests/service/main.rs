//! Services, with processes of their own.
#![cfg(target_os = "linux")]

mod server;
