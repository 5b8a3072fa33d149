//! The fuzzer's entry to `frame_hostile`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(fuzz::frame_hostile);
