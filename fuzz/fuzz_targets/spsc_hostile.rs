//! The fuzzer's entry to `spsc_hostile`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(fuzz::spsc_hostile);
