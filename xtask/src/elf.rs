//! The little of the ELF format that tells how a library's segments are aligned.

/// What is said of the segments that are loaded.
pub struct Segments {
    /// Whether the library is for a 64-bit machine.
    pub wide: bool,
    /// The alignment of each, in bytes.
    pub alignments: Vec<u64>,
}

/// Reads the program headers of a little-endian ELF file; nothing when it is not one.
pub fn load_segments(bytes: &[u8]) -> Option<Segments> {
    const LOAD: u64 = 1;
    if bytes.get(..4)? != b"\x7fELF" || *bytes.get(5)? != 1 {
        return None;
    }
    let wide = *bytes.get(4)? == 2;
    let number = |at: usize, size: usize| {
        let field = bytes.get(at..at.checked_add(size)?)?;
        Some(field.iter().rev().fold(0_u64, |value, byte| (value << 8) | u64::from(*byte)))
    };
    let (table, size, count) = match wide {
        true => (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?),
        false => (number(0x1c, 4)?, number(0x2a, 2)?, number(0x2c, 2)?),
    };
    let mut alignments = Vec::new();
    for index in 0..count {
        let at = usize::try_from(table.checked_add(size.checked_mul(index)?)?).ok()?;
        if number(at, 4)? == LOAD {
            alignments.push(if wide { number(at + 0x30, 8)? } else { number(at + 0x1c, 4)? });
        }
    }
    Some(Segments { wide, alignments })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn our_own_program_is_read() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let segments = load_segments(&bytes).unwrap();
        assert_eq!(segments.wide, cfg!(target_pointer_width = "64"));
        assert!(segments.alignments.len() >= 2, "code and data");
        assert!(segments.alignments.iter().all(|alignment| alignment.is_power_of_two()));
    }

    #[test]
    fn what_is_cut_short_or_something_else_is_nothing() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        for length in 0..120 {
            let _ = load_segments(&bytes[..length]);
        }
        assert!(load_segments(b"\x7fELF").is_none());
        assert!(load_segments(b"MZ is something else altogether").is_none());
    }
}
