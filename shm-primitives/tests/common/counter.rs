//! A counter written down once more, in plain arithmetic: what every operation leaves in both
//! words, and what they mean.

use super::memory::Memory;
use shm_primitives::counter::Counter;

/// 2³¹: what the upper word counts.
pub const UNIT: u64 = 1 << 31;

/// What two words mean, in plain arithmetic.
fn meaning(low: u32, high: u32) -> u64 {
    let units = u64::from(high);
    let behind = u64::from(low / (1 << 31)) != units % 2;
    ((units + u64::from(behind)) * UNIT + u64::from(low) % UNIT) % (1 << 63)
}

/// An operation of the writer, or of somebody who keeps no protocol.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Add(u64),
    /// A new handle.
    Reopen,
    /// Overwrites a word, the upper one if `.0`.
    Poke(bool, u32),
}

/// Runs `ops` on two words; after each the words and the values are what they must be.
pub fn run(low: u32, high: u32, ops: &[Op]) {
    let memory = Memory::new(8, 0);
    let region = memory.region();
    memory.set(0, low);
    memory.set(4, high);
    let counter = Counter::at(&region).unwrap();
    assert_eq!(counter.get(), meaning(low, high));
    let mut words = [low, high];
    let mut value = meaning(low, high);
    let mut writer = counter.writer();
    words[1] = (value / UNIT) as u32;
    for op in ops {
        match *op {
            Op::Add(n) => {
                writer.add(n);
                let before = value;
                value = (u128::from(value) + u128::from(n)).min(i64::MAX as u128) as u64;
                words[0] = (value % (1 << 32)) as u32;
                if value / UNIT != before / UNIT {
                    words[1] = (value / UNIT) as u32;
                }
            }
            Op::Reopen => {
                value = meaning(words[0], words[1]);
                words[1] = (value / UNIT) as u32;
                writer = counter.writer();
            }
            Op::Poke(upper, word) => {
                words[usize::from(upper)] = word;
                memory.set(4 * usize::from(upper), word);
            }
        }
        assert_eq!(writer.get(), value, "{op:?}");
        assert_eq!([memory.get(0), memory.get(4)], words, "{op:?}");
        assert_eq!(counter.get(), meaning(words[0], words[1]), "{op:?}");
        assert!(counter.get() <= Counter::MAX);
    }
}
