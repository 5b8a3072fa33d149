//! The fuzzer's entry to `segment_hostile`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(fuzz::segment_hostile);
