//! The fuzzer's entry to `layout_hostile`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(fuzz::layout_hostile);
