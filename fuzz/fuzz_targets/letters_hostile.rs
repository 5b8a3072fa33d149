//! The fuzzer's entry to `letters_hostile`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(fuzz::letters_hostile);
