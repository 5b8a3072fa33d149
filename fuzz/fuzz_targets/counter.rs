//! The fuzzer's entry to `counter`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(fuzz::counter);
