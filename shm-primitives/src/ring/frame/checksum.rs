//! Checksums of frames.

/// Whether frames carry a checksum; chosen when a ring is created, recorded in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Checksum {
    /// None: memory does not forget.
    #[default]
    None,
    /// CRC32C (Castagnoli) over the frame's length and its payload. For memory that
    /// does: links between chips, battery-backed RAM, writers not trusted to publish
    /// last. Needs the feature `checksum`.
    #[cfg(feature = "checksum")]
    Crc32c,
}

impl Checksum {
    pub(super) const fn to_word(self) -> u32 {
        match self {
            Self::None => 0,
            #[cfg(feature = "checksum")]
            Self::Crc32c => 1,
        }
    }

    pub(super) const fn from_word(word: u32) -> Option<Self> {
        match word {
            0 => Some(Self::None),
            #[cfg(feature = "checksum")]
            1 => Some(Self::Crc32c),
            _ => None,
        }
    }

    /// The checksum of a frame, 0 without one.
    #[inline]
    pub(super) fn of(self, payload: &[u8]) -> u32 {
        let _ = payload;
        match self {
            Self::None => 0,
            #[cfg(feature = "checksum")]
            Self::Crc32c => {
                use crc::{CRC_32_ISCSI, Crc, Table};
                #[cfg(not(target_os = "none"))]
                static CRC32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);
                // 1 KiB of tables instead of 16: flash is scarce.
                #[cfg(target_os = "none")]
                static CRC32C: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISCSI);
                let mut digest = CRC32C.digest();
                digest.update(&(payload.len() as u32).to_le_bytes());
                digest.update(payload);
                digest.finalize()
            }
        }
    }
}
