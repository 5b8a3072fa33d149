//! The fuzzer's entry to `table_hostile`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(fuzz::table_hostile);
