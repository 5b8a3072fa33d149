//! The fuzzer's entry to `wake_hostile`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(fuzz::wake_hostile);
