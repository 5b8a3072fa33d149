//! The fuzzer's entry to `channel_hostile`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(fuzz::channel_hostile);
