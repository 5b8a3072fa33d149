//! The fuzzer's entry to `spsc_model`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(fuzz::spsc_model);
