//! The fuzzer's entry to `pool_hostile`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(fuzz::pool_hostile);
