//! The fuzzer's entry to `frame_model`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(fuzz::frame_model);
