//! The fuzzer's entry to `message`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(fuzz::message);
