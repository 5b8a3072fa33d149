//! The fuzzer's entry to `node_hostile`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(fuzz::node_hostile);
