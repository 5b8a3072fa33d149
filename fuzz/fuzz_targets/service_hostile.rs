//! The fuzzer's entry to `service_hostile`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(fuzz::service_hostile);
