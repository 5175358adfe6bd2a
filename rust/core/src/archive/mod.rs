//! ZIP and tar, written by arithmetic and read strictly: a reader accepts what it can account for byte by byte.
//!
//! Nothing here decides what an entry means or makes a file of that name; [`crate::envelope`] does the former and the
//! caller chooses its own file names. Rules: APPNOTE.TXT 6.3.10, POSIX.1 ustar, seg/1 2.2, spec/jmix-1.0 3 and 12.

pub mod tar;
pub mod zip;

/// Whether `name` is a plain relative path that means the same file on every system: no absolute path, `..`, empty or
/// dot segment, backslash, drive, stream, control character, trailing dot or space, or reserved device name
/// (spec/hostile-input H1).
#[must_use]
pub fn is_safe_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= crate::limits::NAME && name.split('/').all(is_safe_segment)
}

fn is_safe_segment(segment: &str) -> bool {
    const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];
    let forbidden = |c: char| c.is_control() || matches!(c, '\\' | ':' | '<' | '>' | '"' | '|' | '?' | '*');
    let stem = segment.split('.').next().unwrap_or(segment).trim_end().to_ascii_lowercase();
    let numbered = |prefix: &str| {
        let digit = stem.strip_prefix(prefix).map(|rest| rest.chars().collect::<Vec<_>>());
        matches!(digit.as_deref(), Some(['0'..='9' | '¹' | '²' | '³']))
    };
    !segment.is_empty()
        && !segment.ends_with(['.', ' '])
        && !segment.contains(forbidden)
        && !DEVICES.contains(&stem.as_str())
        && !numbered("com")
        && !numbered("lpt")
}

#[cfg(test)]
mod tests {
    use super::is_safe_name;

    #[test]
    fn names_that_leave_the_folder_or_change_meaning_are_unsafe() {
        let long = "a".repeat(256);
        for bad in [
            "", "/x", "../x", "a/../b", "a/./b", "a//b", "a/", "C:\\x", "C:x", "x\\..\\y", "a\0b", "a\nb", "x.", "x ",
            "CON", "con.txt", "a/Aux/b", "com1", "LPT9.dcm", "COM¹", "a:stream", "what?", &long,
        ] {
            assert!(!is_safe_name(bad), "{bad:?}");
        }
        for good in ["manifest.json", "dicom/1.2.3.dcm", "files/Bericht Ä.pdf", "console", "com10", ".hidden"] {
            assert!(is_safe_name(good), "{good:?}");
        }
    }
}
