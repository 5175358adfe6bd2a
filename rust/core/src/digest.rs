//! Hashing as bytes pass: SHA-256 and the check table of seg/1 9.1 in one pass, and the hash texts of JMIX 1.0.

use std::collections::BTreeMap;
use std::ops::Range;

use sha2::{Digest as _, Sha256};

use crate::{Code, Error, Result};

/// Bytes of stored content that one check value covers (seg/1 9.1); the last piece of a file may be shorter.
pub const PIECE: usize = 64 * 1024;

/// Bytes of a check value.
const CHECK: usize = 32;

/// What one pass over stored bytes yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// SHA-256 of all bytes.
    pub sha256: [u8; 32],
    /// One check value for each piece; it knows the size too.
    pub check: CheckTable,
}

/// SHA-256 and the check table of bytes that pass once, in updates of any length.
#[derive(Clone, Default)]
pub struct Digester {
    sha256: Sha256,
    check: Checker,
}

impl Digester {
    /// Nothing has passed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next bytes.
    pub fn update(&mut self, data: &[u8]) {
        self.sha256.update(data);
        self.check.update(data);
    }

    /// Both results.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest { sha256: self.sha256.finalize().into(), check: self.check.finish() }
    }
}

/// The check table alone, for a caller that hashes with [`mdg_crypto::sha2x::Pair`] beside it.
#[derive(Clone, Default)]
pub struct Checker {
    size: u64,
    values: Vec<u8>,
    /// The piece under way, when an update ended inside it.
    open: blake3::Hasher,
}

impl Checker {
    /// Nothing has passed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next bytes.
    pub fn update(&mut self, data: &[u8]) {
        let filled = (self.size % PIECE as u64) as usize;
        self.size += data.len() as u64;
        let mut rest = data;
        if filled > 0 {
            let (head, tail) = data.split_at(data.len().min(PIECE - filled));
            self.open.update(head);
            if filled + head.len() == PIECE {
                self.values.extend_from_slice(self.open.finalize().as_bytes());
                self.open.reset();
            }
            rest = tail;
        }
        let (pieces, begun) = rest.as_chunks::<PIECE>();
        for piece in pieces {
            self.values.extend_from_slice(blake3::hash(piece).as_bytes());
        }
        self.open.update(begun);
    }

    /// The table, with a short last piece when there is one.
    #[must_use]
    pub fn finish(mut self) -> CheckTable {
        if !self.size.is_multiple_of(PIECE as u64) {
            self.values.extend_from_slice(self.open.finalize().as_bytes());
        }
        CheckTable { size: self.size, values: self.values }
    }
}

/// The check table of content that is written in any order, each byte once: a writer that comes back to fill in a header
/// need not read again what it wrote. Of a piece that is not complete, all bytes are held.
#[derive(Default)]
pub struct ScatteredChecker {
    size: u64,
    values: Vec<u8>,
    done: Vec<bool>,
    begun: BTreeMap<usize, Begun>,
}

/// A piece of which some bytes were written.
#[derive(Default)]
struct Begun {
    bytes: Vec<u8>,
    written: Vec<Range<usize>>,
}

impl Begun {
    /// Whether bytes `0..length` were written.
    fn complete(&self, length: usize) -> bool {
        self.written.iter().map(ExactSizeIterator::len).sum::<usize>() == length && self.bytes.len() == length
    }
}

impl ScatteredChecker {
    /// Nothing was written.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes of `data` were written at `offset`. `Misuse` when one of them was written before.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        let twice = || Error::misuse("content that is checked as it is written is written once");
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let (index, inside) = ((at / PIECE as u64) as usize, (at % PIECE as u64) as usize);
            let (now, later) = rest.split_at(rest.len().min(PIECE - inside));
            if self.done.get(index).is_some_and(|done| *done) {
                return Err(twice());
            }
            if now.len() == PIECE && !self.begun.contains_key(&index) {
                self.complete(index, now);
            } else {
                let piece = self.begun.entry(index).or_default();
                let range = inside..inside + now.len();
                if piece.written.iter().any(|known| known.start < range.end && range.start < known.end) {
                    return Err(twice());
                }
                piece.bytes.resize(piece.bytes.len().max(range.end), 0);
                piece.bytes[range.clone()].copy_from_slice(now);
                piece.written.push(range);
                if piece.complete(PIECE)
                    && let Some(piece) = self.begun.remove(&index)
                {
                    self.complete(index, &piece.bytes);
                }
            }
            at += now.len() as u64;
            rest = later;
        }
        self.size = self.size.max(at);
        Ok(())
    }

    /// The table. `Misuse` when some byte before the last one was not written.
    pub fn finish(mut self) -> Result<CheckTable> {
        let last = (self.size / PIECE as u64) as usize;
        let short = (self.size % PIECE as u64) as usize;
        if let Some(piece) = self.begun.remove(&last)
            && piece.complete(short)
        {
            self.complete(last, &piece.bytes);
        }
        if !self.begun.is_empty() || self.done.contains(&false) {
            return Err(Error::misuse("content that is checked as it is written has no gaps"));
        }
        CheckTable::new(self.size, &self.values)
    }

    fn complete(&mut self, index: usize, bytes: &[u8]) {
        if self.done.len() <= index {
            self.done.resize(index + 1, false);
            self.values.resize((index + 1) * CHECK, 0);
        }
        self.done[index] = true;
        self.values[index * CHECK..(index + 1) * CHECK].copy_from_slice(blake3::hash(bytes).as_bytes());
    }
}

/// BLAKE3 of each piece of some stored bytes: what is read later is compared before it is given away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckTable {
    size: u64,
    values: Vec<u8>,
}

impl CheckTable {
    /// A stored table of content of `size` bytes. `Misuse` when the number of values is another.
    pub fn new(size: u64, values: &[u8]) -> Result<Self> {
        if size.div_ceil(PIECE as u64).checked_mul(CHECK as u64) != Some(values.len() as u64) {
            return Err(Error::misuse(format!("a check table of {size} bytes does not have {} bytes", values.len())));
        }
        Ok(Self { size, values: values.to_vec() })
    }

    /// Bytes of the content.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The values one after the other, 32 bytes each.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.values
    }

    /// Checks whole pieces of the content, `data` beginning at byte `start`, a piece boundary, and ending at one or at the
    /// end. `part` names the content in `E_STORE_CORRUPT`, whose byte is the beginning of the changed piece.
    pub fn verify(&self, part: &str, start: u64, data: &[u8]) -> Result<()> {
        let end = start.saturating_add(data.len() as u64);
        let piece = PIECE as u64;
        let whole = start.is_multiple_of(piece) && (end.is_multiple_of(piece) || end == self.size);
        if !whole || end > self.size {
            return Err(Error::misuse("only whole pieces of stored content can be checked"));
        }
        let first = (start / piece) as usize * CHECK;
        for (index, (data, expected)) in data.chunks(PIECE).zip(self.values[first..].chunks(CHECK)).enumerate() {
            if blake3::hash(data).as_bytes() != expected {
                let at = start + index as u64 * piece;
                return Err(Error::refused_at(
                    Code::StoreCorrupt,
                    part,
                    at,
                    "stored bytes have changed since they were digested",
                ));
            }
        }
        Ok(())
    }
}

/// `sha256:` and 64 lower-case hex digits, as JMIX 1.0 writes a digest.
#[must_use]
pub fn prefixed(sha256: &[u8; 32]) -> String {
    format!("sha256:{}", hex::encode(sha256))
}

/// The digest of a text that [`prefixed`] wrote; digits of either case, as the schema allows.
#[must_use]
pub fn parse_prefixed(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text.strip_prefix("sha256:")?, &mut digest).ok()?;
    Some(digest)
}

/// The H-list text of an unencrypted payload (spec/jmix-1.0 8): one line for each directory and file, in the order of
/// their paths' bytes. Paths are relative to `payload/`.
#[derive(Debug, Clone, Default)]
pub struct HashList {
    lines: BTreeMap<String, String>,
}

impl HashList {
    /// No entry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A directory; those that hold it are added.
    pub fn directory(&mut self, path: &str) {
        self.parents(path);
        self.lines.insert(path.to_owned(), format!("dir:{path}\n"));
    }

    /// A file; the directories that hold it are added.
    pub fn file(&mut self, path: &str, size: u64, sha256: &[u8; 32]) {
        self.parents(path);
        self.lines.insert(path.to_owned(), format!("file:{path}:{size}:{}\n", hex::encode(sha256)));
    }

    /// All lines.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines.values().map(String::as_str).collect()
    }

    /// SHA-256 of [`HashList::text`], the `payload_hash`.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.text()).into()
    }

    fn parents(&mut self, path: &str) {
        for (slash, _) in path.match_indices('/') {
            let parent = &path[..slash];
            self.lines.entry(parent.to_owned()).or_insert_with(|| format!("dir:{parent}\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::{CheckTable, Checker, Digester, HashList, PIECE, ScatteredChecker, parse_prefixed, prefixed};
    use crate::Code;

    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn one_pass_in_awkward_steps_gives_both_digests() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE + 57] {
            let data = content(length);
            let checks: Vec<u8> = data.chunks(PIECE).flat_map(|piece| *blake3::hash(piece).as_bytes()).collect();
            for step in [57, 4096, PIECE - 1, PIECE, PIECE + 1, 1 << 20] {
                let mut digester = Digester::new();
                data.chunks(step).for_each(|piece| digester.update(piece));
                let digest = digester.finish();
                assert_eq!(digest.sha256, <[u8; 32]>::from(Sha256::digest(&data)));
                assert_eq!(digest.check.as_bytes(), checks, "{length} bytes in steps of {step}");
                assert_eq!(digest.check.size(), length as u64);
                assert_eq!(CheckTable::new(length as u64, &checks).as_ref(), Ok(&digest.check));
            }
        }
    }

    #[test]
    fn the_order_of_writing_does_not_change_the_table() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 57] {
            let data = content(length);
            let mut checker = Checker::new();
            checker.update(&data);
            let expected = checker.finish();
            for step in [997, PIECE - 1, PIECE, 2 * PIECE + 3] {
                let mut parts: Vec<_> = (0..length).step_by(step).collect();
                for turn in 0..3 {
                    let turned = turn * parts.len() / 3;
                    parts.rotate_left(turned);
                    let mut scattered = ScatteredChecker::new();
                    for at in &parts {
                        scattered.write(*at as u64, &data[*at..length.min(at + step)]).expect("once");
                    }
                    assert_eq!(scattered.finish().as_ref(), Ok(&expected), "{length} bytes in steps of {step}");
                }
            }
        }
    }

    #[test]
    fn content_with_a_gap_or_written_twice_has_no_table() {
        let data = content(3 * PIECE);
        for (missing, length) in [(0, 1), (PIECE, PIECE), (2 * PIECE - 1, 2), (PIECE + 5, 1)] {
            let mut scattered = ScatteredChecker::new();
            scattered.write(0, &data[..missing]).expect("once");
            scattered.write((missing + length) as u64, &data[missing + length..]).expect("once");
            assert_eq!(scattered.finish().map_err(|error| error.code()), Err(None), "{missing}");
        }
        for (start, end) in [(0, 1), (PIECE - 1, PIECE + 1), (PIECE, 2 * PIECE), (3 * PIECE - 1, 3 * PIECE)] {
            let mut scattered = ScatteredChecker::new();
            scattered.write(0, &data[..3 * PIECE - 7]).expect("once");
            scattered.write(3 * PIECE as u64 - 7, &data[3 * PIECE - 7..]).expect("once");
            assert!(scattered.write(start as u64, &data[start..end]).is_err(), "{start}..{end}");
        }
        let mut scattered = ScatteredChecker::new();
        scattered.write(10, &data[..10]).expect("once");
        assert!(scattered.write(19, &data[..2]).is_err());
    }

    #[test]
    fn a_changed_byte_is_found_in_its_piece() {
        let mut data = content(2 * PIECE + 9);
        let mut digester = Digester::new();
        digester.update(&data);
        let check = digester.finish().check;
        assert_eq!(check.verify("study.zip", 0, &data), Ok(()));
        assert_eq!(check.verify("study.zip", PIECE as u64, &data[PIECE..2 * PIECE]), Ok(()));
        assert_eq!(check.verify("study.zip", data.len() as u64, b"").map_err(|error| error.code()), Err(None));
        data[PIECE] ^= 1;
        assert_eq!(check.verify("study.zip", 0, &data[..PIECE]), Ok(()));
        let error = check.verify("study.zip", 0, &data).expect_err("a byte differs");
        assert_eq!(error.code(), Some(Code::StoreCorrupt));
        assert!(error.to_string().contains("study.zip, byte 65536"), "{error}");
    }

    #[test]
    fn parts_of_pieces_and_tables_of_another_size_are_misuse() {
        let data = content(PIECE + 9);
        let mut digester = Digester::new();
        digester.update(&data);
        let check = digester.finish().check;
        for (start, end) in [(0, 9), (9, PIECE), (PIECE, PIECE + 8), (PIECE + 1, PIECE + 9)] {
            assert_eq!(check.verify("x", start as u64, &data[start..end]).map_err(|error| error.code()), Err(None));
        }
        assert!(check.verify("x", 0, &content(PIECE + 10)).is_err());
        for size in [0, 1, PIECE as u64, 2 * PIECE as u64 + 1, u64::MAX] {
            assert!(CheckTable::new(size, check.as_bytes()).is_err());
        }
    }

    #[test]
    fn the_hash_list_of_jmix_interop_2_4_has_its_lines_and_digest() {
        let sha = |data: &str| <[u8; 32]>::from(Sha256::digest(data));
        let mut list = HashList::new();
        list.file("metadata.json", 2, &sha("{}"));
        list.file("files/r.txt", 5, &sha("hello"));
        list.file("dicom/b.dcm", 2, &sha("BB"));
        list.file("dicom/a.dcm", 3, &sha("AAA"));
        list.directory("dicom");
        assert_eq!(
            list.text(),
            "dir:dicom\n\
            file:dicom/a.dcm:3:cb1ad2119d8fafb69566510ee712661f9f14b83385006ef92aec47f523a38358\n\
            file:dicom/b.dcm:2:fc686c314491e1f68bf1899fc54b2327353c44dd1ab4ed56538ef623edd1e866\n\
            dir:files\n\
            file:files/r.txt:5:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\n\
            file:metadata.json:2:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\n"
        );
        let expected = "sha256:bcfb22da33ea03ce8aea75696ffd3e1de39fcbf970dcc807e42ea08b24c1278e";
        assert_eq!(prefixed(&list.sha256()), expected);
        assert_eq!(parse_prefixed(expected), Some(list.sha256()));
    }

    #[test]
    fn other_hash_texts_are_none() {
        for text in [
            "",
            "sha256:",
            "sha256:skipped",
            "sha256:00",
            "SHA256:",
            &"0".repeat(64),
            &format!("sha256:{}", "0".repeat(65)),
        ] {
            assert_eq!(parse_prefixed(text), None, "{text}");
        }
    }
}
