//! Any byte range of a release, made on demand (architecture "Bytes").
//!
//! A [`Recipe`] is immutable. [`Recipe::plan`] names the source bytes that a range needs and [`Recipe::fill`] makes the range
//! from them; [`Recipe::read`] does both where the sources can be read at an offset. Whole download, Range, resume and HEAD
//! are uses of it. Every piece is compared with its check value before a byte of it is given, in a buffer that nobody else
//! can write (seg/1 9.1, 9.3): what has changed since it was digested breaks the release with `E_STORE_CORRUPT`.
//!
//! So far there is one kind, a finished file: JMIX 1.0 has its tag, hash and signature only at the end, so it is spooled
//! first and then served like any file.

use std::ops::Range;

use crate::digest::{CheckTable, Digest, PIECE};
use crate::limits::RECIPE;
use crate::{Code, Error, ReadAt, Result};

/// First bytes of a stored recipe: the kind and version of what follows.
const MAGIC: &[u8; 16] = b"mdg-recipe/1 \xff\r\n";

/// Bytes of a SHA-256 or BLAKE3 digest.
const DIGEST: usize = 32;

/// What stands in a stored recipe before the check values: magic, `u64be` length, SHA-256.
const HEAD: usize = MAGIC.len() + 8 + DIGEST;

/// Bytes of a source that a range of the release needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Index among the sources.
    pub source: usize,
    /// First byte.
    pub start: u64,
    /// Byte behind the last one.
    pub end: u64,
}

/// How to make any range of one release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    sha256: [u8; DIGEST],
    check: CheckTable,
}

impl Recipe {
    /// A finished file: source 0, given as it is.
    #[must_use]
    pub fn spool(digest: Digest) -> Self {
        Self { sha256: digest.sha256, check: digest.check }
    }

    /// Bytes of the whole release.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.check.size()
    }

    /// SHA-256 of the whole release.
    #[must_use]
    pub fn sha256(&self) -> &[u8; DIGEST] {
        &self.sha256
    }

    /// The stored form: `MAGIC || u64be length || SHA-256 || check values || BLAKE3 of all before`.
    #[must_use]
    pub fn state(&self) -> Vec<u8> {
        let values = self.check.as_bytes();
        let mut state = Vec::with_capacity(HEAD + values.len() + DIGEST);
        state.extend_from_slice(MAGIC);
        state.extend_from_slice(&self.length().to_be_bytes());
        state.extend_from_slice(&self.sha256);
        state.extend_from_slice(values);
        let seal = blake3::hash(&state);
        state.extend_from_slice(seal.as_bytes());
        state
    }

    /// From its stored form. `E_STORE_CORRUPT` when another version made it or it has changed, `E_LIMIT` when it is too long.
    pub fn load(state: &[u8]) -> Result<Self> {
        let corrupt = |why: &str| Error::refused(Code::StoreCorrupt, "recipe", why);
        if state.len() as u64 > RECIPE {
            return Err(Error::refused(Code::Limit, "recipe", format!("a recipe of more than {RECIPE} bytes")));
        }
        let (content, seal) = state.split_last_chunk::<DIGEST>().ok_or_else(|| corrupt("ends early"))?;
        let rest = content.strip_prefix(MAGIC).ok_or_else(|| corrupt("not made by this version"))?;
        if blake3::hash(content) != *seal {
            return Err(corrupt("has changed since it was stored"));
        }
        let (length, rest) = rest.split_first_chunk().ok_or_else(|| corrupt("ends early"))?;
        let (sha256, values) = rest.split_first_chunk().ok_or_else(|| corrupt("ends early"))?;
        let check = CheckTable::new(u64::from_be_bytes(*length), values);
        let check = check.map_err(|_| corrupt("its check values are not those of its length"))?;
        Ok(Self { sha256: *sha256, check })
    }

    /// The source bytes that `[start, end)` of the release needs, in order: whole pieces, so that they can be checked.
    /// `Misuse` for a range outside the release.
    pub fn plan(&self, start: u64, end: u64) -> Result<Vec<Need>> {
        if start > end || end > self.length() {
            return Err(Error::misuse(format!("no range {start} to {end} in a release of {} bytes", self.length())));
        }
        if start == end {
            return Ok(Vec::new());
        }
        let piece = PIECE as u64;
        let end = end.checked_next_multiple_of(piece).map_or(self.length(), |whole| whole.min(self.length()));
        Ok(vec![Need { source: 0, start: start - start % piece, end }])
    }

    /// Appends `[start, end)` of the release to `into` from the buffers that [`Recipe::plan`] named. Nothing is appended on
    /// an error: `E_STORE_CORRUPT` for a changed piece, `Misuse` for other buffers.
    pub fn fill(&self, start: u64, end: u64, buffers: &[&[u8]], into: &mut Vec<u8>) -> Result<()> {
        let needs = self.plan(start, end)?;
        let fits = needs.iter().zip(buffers).all(|(need, buffer)| need.end - need.start == buffer.len() as u64);
        if !fits || needs.len() != buffers.len() {
            return Err(Error::misuse("the buffers are not those of the plan for this range"));
        }
        for (need, buffer) in needs.iter().zip(buffers) {
            self.verify(need, buffer)?;
        }
        for (need, buffer) in needs.iter().zip(buffers) {
            into.extend_from_slice(&buffer[inside(need, start, end)]);
        }
        Ok(())
    }

    /// Makes `[start, end)` of the release in `room`, which takes what the sources give, and says where in it the range
    /// stands. On an error the content of `room` is of no use.
    pub fn read(&self, start: u64, end: u64, sources: &[&dyn ReadAt], room: &mut Vec<u8>) -> Result<Range<usize>> {
        let mut found = 0..0;
        for need in self.plan(start, end)? {
            let source = sources.get(need.source).ok_or_else(|| Error::misuse("a source of the recipe is missing"))?;
            let length = usize::try_from(need.end - need.start).map_err(|_| Error::misuse("a range beyond memory"))?;
            // Shrinking or staying costs nothing; only a room that grows is cleared first.
            room.resize(length, 0);
            source.read_at(need.start, room)?;
            self.verify(&need, room)?;
            found = inside(&need, start, end);
        }
        Ok(found)
    }

    fn verify(&self, need: &Need, data: &[u8]) -> Result<()> {
        self.check.verify("spooled release", need.start, data)
    }
}

/// Where the bytes of `[start, end)` stand in what was read for `need`.
fn inside(need: &Need, start: u64, end: u64) -> Range<usize> {
    (start.max(need.start) - need.start) as usize..(end.min(need.end) - need.start) as usize
}

#[cfg(test)]
mod tests {
    use super::{DIGEST, HEAD, Need, Recipe};
    use crate::digest::{Digester, PIECE};
    use crate::{Code, Error, ReadAt, Result};

    fn release(length: usize) -> (Vec<u8>, Recipe) {
        let data: Vec<u8> = (0..length).map(|at| (at * 7 % 253) as u8).collect();
        let mut digester = Digester::new();
        digester.update(&data);
        (data, Recipe::spool(digester.finish()))
    }

    fn seams(length: usize) -> Vec<usize> {
        let around = [0, PIECE, 2 * PIECE, length];
        let mut seams: Vec<_> =
            around.iter().flat_map(|at| [at.saturating_sub(1), *at, at + 1]).filter(|at| *at <= length).collect();
        seams.sort_unstable();
        seams.dedup();
        seams
    }

    fn buffers<'a>(data: &'a [u8], needs: &[Need]) -> Vec<&'a [u8]> {
        needs.iter().map(|need| &data[need.start as usize..need.end as usize]).collect()
    }

    #[test]
    fn every_range_between_seams_is_the_range_of_the_file() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 57] {
            let (data, recipe) = release(length);
            let (mut filled, mut room) = (Vec::new(), Vec::new());
            for start in seams(length) {
                for end in seams(length).into_iter().filter(|end| *end >= start) {
                    let (from, to) = (start as u64, end as u64);
                    let needs = recipe.plan(from, to).expect("inside");
                    filled.clear();
                    recipe.fill(from, to, &buffers(&data, &needs), &mut filled).expect("unchanged");
                    assert_eq!(filled, data[start..end], "{start}..{end} of {length}");
                    let found = recipe.read(from, to, &[&data], &mut room).expect("unchanged");
                    assert_eq!(room[found], data[start..end], "{start}..{end} of {length}");
                }
            }
        }
    }

    #[test]
    fn a_changed_byte_breaks_the_ranges_of_its_piece_and_no_other() {
        let (mut data, recipe) = release(3 * PIECE);
        data[2 * PIECE - 1] ^= 1;
        let mut room = Vec::new();
        for (start, end, good) in [
            (0, PIECE, true),
            (0, PIECE + 1, false),
            (PIECE, PIECE + 1, false),
            (2 * PIECE - 1, 2 * PIECE, false),
            (2 * PIECE, 3 * PIECE, true),
        ] {
            let result = recipe.read(start as u64, end as u64, &[&data], &mut room);
            assert_eq!(result.is_ok(), good, "{start}..{end}");
            let needs = recipe.plan(start as u64, end as u64).expect("inside");
            let mut filled = Vec::new();
            let result = recipe.fill(start as u64, end as u64, &buffers(&data, &needs), &mut filled);
            if good {
                assert_eq!(filled, data[start..end]);
            } else {
                assert_eq!(result.expect_err("changed").code(), Some(Code::StoreCorrupt));
                assert!(filled.is_empty());
            }
        }
    }

    #[test]
    fn ranges_outside_and_other_buffers_are_misuse() {
        let (data, recipe) = release(PIECE + 1);
        let length = data.len() as u64;
        for (start, end) in [(1, 0), (0, length + 1), (length + 1, length + 1), (u64::MAX, u64::MAX)] {
            assert!(matches!(recipe.plan(start, end), Err(Error::Misuse { .. })), "{start}..{end}");
        }
        for wrong in [&[][..], &[&data[..PIECE]], &[&data[..], &data[..]], &[&data[1..]]] {
            let result = recipe.fill(0, length, wrong, &mut Vec::new());
            assert!(matches!(result, Err(Error::Misuse { .. })));
        }
        assert!(matches!(recipe.read(0, 1, &[], &mut Vec::new()), Err(Error::Misuse { .. })));
    }

    #[test]
    fn a_source_that_ends_early_is_the_sources_error() {
        let (data, recipe) = release(PIECE + 1);
        let cut = data[..PIECE].to_vec();
        let read = |from, to| -> Result<_> { recipe.read(from, to, &[&cut as &dyn ReadAt], &mut Vec::new()) };
        assert!(read(0, 1).is_ok());
        assert!(matches!(read(0, data.len() as u64), Err(Error::Source { .. })));
    }

    #[test]
    fn a_stored_recipe_is_the_same_or_refused() {
        for length in [0, 1, PIECE, 3 * PIECE + 1] {
            let (_, recipe) = release(length);
            let state = recipe.state();
            assert_eq!(state.len(), HEAD + length.div_ceil(PIECE) * DIGEST + DIGEST);
            assert_eq!(Recipe::load(&state).as_ref(), Ok(&recipe));
            for bit in 0..8 * state.len() {
                let mut other = state.clone();
                other[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Recipe::load(&other).map_err(|error| error.code()), Err(Some(Code::StoreCorrupt)));
            }
            for end in 0..state.len() {
                assert_eq!(Recipe::load(&state[..end]).map_err(|error| error.code()), Err(Some(Code::StoreCorrupt)));
            }
        }
    }
}
