//! The fuzzer's entry to `lane_hostile`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(fuzz::lane_hostile);
