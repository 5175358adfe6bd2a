//! Any byte range of a release, made on demand (spec/storage 5).
//!
//! A [`Recipe`] is immutable. [`Kind::plan`] names the source bytes that a range needs, from any number of sources, and
//! [`Kind::fill`] makes the range from them; both are pure, and there is no other way to make bytes. A whole download, a
//! Range, a resume and a HEAD are uses of it. Every byte is compared with its check value before the range is given
//! (seg/1 9.1, 9.3): what has changed since it was written breaks the release with `E_STORE_CORRUPT`.
//!
//! There is one file for each kind of release. So far there is one kind, the finished [`file`].

pub mod file;

use crate::error::{Code, Error, Result};
use crate::limits::RECIPE;

/// First bytes of a stored recipe: the version of what follows.
const MAGIC: &[u8; 16] = b"mdg-recipe/1 \xff\r\n";

/// Bytes of a BLAKE3 digest.
const DIGEST: usize = 32;

/// Bytes of a source that a range of the release needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Index among the sources.
    pub source: usize,
    /// First byte.
    pub start: u64,
    /// Byte behind the last one.
    pub end: u64,
    /// Where in the range these bytes stand as they are: they are read to this place. None for bytes that are read into a
    /// buffer of their own, because only a part of them, or something that is made of them, stands in the range.
    pub place: Option<usize>,
}

/// How to make any range of one release.
pub trait Kind: Send + Sync {
    /// Bytes of the whole release.
    fn length(&self) -> u64;

    /// Bytes of each source, in the order of [`Need::source`].
    fn sources(&self) -> Vec<u64>;

    /// The source bytes that `[start, end)` of the release needs, in the order of the release. `Misuse` for a range outside
    /// the release.
    fn plan(&self, start: u64, end: u64) -> Result<Vec<Need>>;

    /// Makes `[start, end)` of the release in `room`, which has its length and holds the needs with a place already.
    /// `buffers` are the other needs, in order. `E_STORE_CORRUPT` for a source that has changed, `Misuse` for other buffers;
    /// after an error no byte of `room` may be given to anybody.
    fn fill(&self, start: u64, end: u64, buffers: &[&[u8]], room: &mut [u8]) -> Result<()>;
}

/// A recipe of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipe {
    /// A finished file.
    File(file::File),
}

impl Recipe {
    fn kind(&self) -> &dyn Kind {
        match self {
            Self::File(file) => file,
        }
    }

    /// A digest of the whole release: two releases with the same digest are the same bytes.
    #[must_use]
    pub fn digest(&self) -> [u8; DIGEST] {
        match self {
            Self::File(file) => file.digest(),
        }
    }

    /// The stored form: magic, four letters that name the kind, what the kind says, BLAKE3 of all before.
    #[must_use]
    pub fn state(&self) -> Vec<u8> {
        let mut state = MAGIC.to_vec();
        match self {
            Self::File(file) => {
                state.extend_from_slice(b"file");
                file.write(&mut state);
            }
        }
        let seal = blake3::hash(&state);
        state.extend_from_slice(seal.as_bytes());
        state
    }

    /// From its stored form. `E_STORE_CORRUPT` when another version made it or it has changed, `E_LIMIT` when it is too
    /// long.
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
        match rest.split_first_chunk() {
            Some((b"file", rest)) => file::File::read(rest).map(Self::File),
            _ => Err(corrupt("of a kind that this version does not know")),
        }
    }
}

impl Kind for Recipe {
    fn length(&self) -> u64 {
        self.kind().length()
    }

    fn sources(&self) -> Vec<u64> {
        self.kind().sources()
    }

    fn plan(&self, start: u64, end: u64) -> Result<Vec<Need>> {
        self.kind().plan(start, end)
    }

    fn fill(&self, start: u64, end: u64, buffers: &[&[u8]], room: &mut [u8]) -> Result<()> {
        self.kind().fill(start, end, buffers, room)
    }
}

/// `Misuse` unless `[start, end)` lies inside a release of `length` bytes.
pub fn inside(start: u64, end: u64, length: u64) -> Result<()> {
    if start <= end && end <= length {
        return Ok(());
    }
    Err(Error::misuse(format!("no range {start} to {end} in a release of {length} bytes")))
}

#[cfg(test)]
mod tests {
    use super::{DIGEST, MAGIC, Recipe};
    use crate::Code;
    use crate::digest::{Checker, PIECE};
    use crate::recipe::file::File;

    #[test]
    fn a_stored_recipe_is_the_same_or_refused() {
        for length in [0, 1, PIECE, 3 * PIECE + 1] {
            let mut checker = Checker::new();
            checker.update(&vec![7; length]);
            let recipe = Recipe::File(File::new(checker.finish()));
            let state = recipe.state();
            assert_eq!(state.len(), MAGIC.len() + 4 + 8 + length.div_ceil(PIECE) * 32 + DIGEST);
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

    #[test]
    fn the_digest_changes_with_every_byte_and_with_the_length() {
        let digest = |data: &[u8]| {
            let mut checker = Checker::new();
            checker.update(data);
            Recipe::File(File::new(checker.finish())).digest()
        };
        let mut data = vec![0; PIECE + 9];
        let mut digests = vec![digest(&data), digest(&data[..PIECE]), digest(&data[..PIECE + 8]), digest(&[])];
        for at in [0, PIECE - 1, PIECE, PIECE + 8] {
            data[at] ^= 1;
            digests.push(digest(&data));
            data[at] ^= 1;
        }
        let unique: std::collections::HashSet<_> = digests.iter().collect();
        assert_eq!(unique.len(), digests.len());
        assert_eq!(digest(&data), digests[0]);
    }

    #[test]
    fn another_kind_is_refused() {
        let mut state = MAGIC.to_vec();
        state.extend_from_slice(b"seg1 and more");
        let seal = blake3::hash(&state);
        state.extend_from_slice(seal.as_bytes());
        assert_eq!(Recipe::load(&state).map_err(|error| error.code()), Err(Some(Code::StoreCorrupt)));
    }
}
