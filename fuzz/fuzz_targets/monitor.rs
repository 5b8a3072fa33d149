//! The fuzzer's entry to `monitor`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(fuzz::monitor);
