//! Names that people give, as parts of names of files.

use crate::domain::SegmentName;

/// The segment `kind`, then `name`, then `rest`. A slash, which no file name has, is written `%s`
/// there, and `%` as `%%`: two names never become one.
pub(crate) fn segment(kind: &str, name: &[u8], rest: &str) -> SegmentName {
    let mut file = String::from(kind);
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '/' => file.push_str("%s"),
                '%' => file.push_str("%%"),
                other => file.push(other),
            }
        }
        for byte in chunk.invalid() {
            file.push_str(&format!("%{byte:02x}"));
        }
    }
    // 64 bytes become 128 at the most in a name that is text, and 197 in one that is not at all:
    // names are text, so that cutting is for those that memory may hold besides.
    let most = SegmentName::MAX_LENGTH - rest.len();
    let end = (0..=most.min(file.len())).rev().find(|at| file.is_char_boundary(*at));
    file.truncate(end.unwrap_or(0));
    file.push_str(rest);
    SegmentName::new(&file).expect("neither empty nor too long, and without slash or NUL")
}

/// The name that was written so; `None` if none was.
pub(crate) fn read(file: &str) -> Option<String> {
    let (mut rest, mut name) = (file.chars(), String::new());
    while let Some(character) = rest.next() {
        match character {
            '%' => match rest.next()? {
                's' => name.push('/'),
                '%' => name.push('%'),
                _ => return None,
            },
            other => name.push(other),
        }
    }
    Some(name)
}
