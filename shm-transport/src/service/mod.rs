//! Supervised services: workers that may crash, and callers that never notice more than an error.

mod failure;
mod mapped;
mod name;
