//! A finished file, given as it is: JMIX 1.0 has its tag, hash and signature only at the end, so an envelope is written to
//! a file first and served from there.
//!
//! Whole pieces of the check table are read to their place in the range and checked there. The pieces in which a range
//! begins and ends may stand in it in part only; they are read into buffers of their own, because all of a piece must be
//! checked.

use super::{DIGEST, Kind, Need, inside};
use crate::digest::{CheckTable, PIECE};
use crate::error::{Code, Error, Result};

/// How errors name the file.
const PART: &str = "spooled release";

/// A file and its check table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File(CheckTable);

impl File {
    /// The file whose content `check` describes.
    #[must_use]
    pub fn new(check: CheckTable) -> Self {
        Self(check)
    }

    /// BLAKE3 of length and check table, and so of every byte of the file.
    pub(super) fn digest(&self) -> [u8; DIGEST] {
        let mut text = Vec::new();
        self.write(&mut text);
        blake3::hash(&text).into()
    }

    /// `u64be length || check values`.
    pub(super) fn write(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.0.size().to_be_bytes());
        into.extend_from_slice(self.0.as_bytes());
    }

    /// What [`File::write`] wrote.
    pub(super) fn read(text: &[u8]) -> Result<Self> {
        let corrupt = |why: &str| Error::refused(Code::StoreCorrupt, "recipe", why);
        let (length, values) = text.split_first_chunk().ok_or_else(|| corrupt("ends early"))?;
        let check = CheckTable::new(u64::from_be_bytes(*length), values);
        check.map(Self).map_err(|_| corrupt("its check values are not those of its length"))
    }

    /// The pieces that `[start, end)` touches, as ranges of the file: whether all of one stands in the range, and one range
    /// for those that do.
    fn parts(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64, bool)> {
        let piece = PIECE as u64;
        let last = end.checked_next_multiple_of(piece).map_or(self.length(), |whole| whole.min(self.length()));
        let whole_start = start.checked_next_multiple_of(piece).unwrap_or(u64::MAX);
        let whole_end = if end == self.length() { end } else { end - end % piece };
        let parts = if start == end {
            [(0, 0, false); 3]
        } else if whole_start < whole_end {
            [(start - start % piece, whole_start, false), (whole_start, whole_end, true), (whole_end, last, false)]
        } else {
            [(start - start % piece, last, false), (0, 0, false), (0, 0, false)]
        };
        parts.into_iter().filter(|(start, end, _)| start < end)
    }
}

impl Kind for File {
    fn length(&self) -> u64 {
        self.0.size()
    }

    fn sources(&self) -> Vec<u64> {
        vec![self.0.size()]
    }

    fn plan(&self, start: u64, end: u64) -> Result<Vec<Need>> {
        inside(start, end, self.length())?;
        let need = |(from, to, whole): (u64, u64, bool)| Need {
            source: 0,
            start: from,
            end: to,
            place: whole.then(|| (from - start) as usize),
        };
        Ok(self.parts(start, end).map(need).collect())
    }

    fn fill(&self, start: u64, end: u64, buffers: &[&[u8]], room: &mut [u8]) -> Result<()> {
        inside(start, end, self.length())?;
        let other = || Error::misuse("the buffers are not those of the plan for this range");
        if room.len() as u64 != end - start {
            return Err(other());
        }
        let mut buffers = buffers.iter();
        for (from, to, whole) in self.parts(start, end) {
            // Where the bytes of this part that belong to the range stand, in the file.
            let (first, behind) = (from.max(start), to.min(end));
            let place = &mut room[(first - start) as usize..(behind - start) as usize];
            if whole {
                self.0.verify(PART, from, place)?;
                continue;
            }
            let buffer = buffers.next().filter(|buffer| buffer.len() as u64 == to - from).ok_or_else(other)?;
            self.0.verify(PART, from, buffer)?;
            place.copy_from_slice(&buffer[(first - from) as usize..(behind - from) as usize]);
        }
        if buffers.next().is_some() { Err(other()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Checker;

    fn release(length: usize) -> (Vec<u8>, File) {
        let data: Vec<u8> = (0..length).map(|at| (at * 7 % 253) as u8).collect();
        let mut checker = Checker::new();
        checker.update(&data);
        (data, File::new(checker.finish()))
    }

    fn seams(length: usize) -> Vec<usize> {
        let around = [0, PIECE, 2 * PIECE, length];
        let mut seams: Vec<_> =
            around.iter().flat_map(|at| [at.saturating_sub(1), *at, at + 1]).filter(|at| *at <= length).collect();
        seams.sort_unstable();
        seams.dedup();
        seams
    }

    /// A range from the bytes of the file, as a caller makes it.
    fn made(file: &File, data: &[u8], start: usize, end: usize) -> Result<Vec<u8>> {
        let (start, end) = (start as u64, end as u64);
        let mut room = vec![0; (end - start) as usize];
        let mut buffers = Vec::new();
        for need in file.plan(start, end)? {
            let bytes = &data[need.start as usize..need.end as usize];
            match need.place {
                Some(at) => room[at..at + bytes.len()].copy_from_slice(bytes),
                None => buffers.push(bytes),
            }
        }
        file.fill(start, end, &buffers, &mut room).map(|()| room)
    }

    #[test]
    fn every_range_between_seams_is_the_range_of_the_file() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 57, 4 * PIECE + 1] {
            let (data, file) = release(length);
            for start in seams(length) {
                for end in seams(length).into_iter().filter(|end| *end >= start) {
                    assert!(made(&file, &data, start, end).expect("unchanged") == data[start..end]);
                }
            }
        }
    }

    #[test]
    fn whole_pieces_are_read_to_their_place_and_others_beside() {
        let (_, file) = release(4 * PIECE + 9);
        let needs = |start: usize, end: usize| -> Vec<_> {
            let needs = file.plan(start as u64, end as u64).expect("inside");
            needs.iter().map(|need| (need.start as usize, need.end as usize, need.place)).collect()
        };
        assert_eq!(needs(0, 4 * PIECE + 9), [(0, 4 * PIECE + 9, Some(0))]);
        assert_eq!(needs(PIECE, 3 * PIECE), [(PIECE, 3 * PIECE, Some(0))]);
        assert_eq!(needs(7, 9), [(0, PIECE, None)]);
        assert_eq!(needs(7, PIECE + 9), [(0, 2 * PIECE, None)]);
        assert_eq!(
            needs(7, 3 * PIECE + 1),
            [(0, PIECE, None), (PIECE, 3 * PIECE, Some(PIECE - 7)), (3 * PIECE, 4 * PIECE, None)]
        );
        assert_eq!(needs(4 * PIECE + 1, 4 * PIECE + 9), [(4 * PIECE, 4 * PIECE + 9, None)]);
        assert_eq!(needs(9, 9), []);
    }

    #[test]
    fn a_changed_byte_breaks_the_ranges_of_its_piece_and_no_other() {
        let (mut data, file) = release(3 * PIECE);
        data[2 * PIECE - 1] ^= 1;
        for (start, end, good) in [
            (0, PIECE, true),
            (0, PIECE + 1, false),
            (PIECE, PIECE + 1, false),
            (2 * PIECE - 1, 2 * PIECE, false),
            (0, 3 * PIECE, false),
            (2 * PIECE, 3 * PIECE, true),
        ] {
            match made(&file, &data, start, end) {
                Ok(made) => assert!(good && made == data[start..end], "{start}..{end}"),
                Err(error) => assert_eq!((good, error.code()), (false, Some(Code::StoreCorrupt)), "{start}..{end}"),
            }
        }
    }

    #[test]
    fn ranges_outside_and_other_buffers_are_misuse() {
        let (data, file) = release(PIECE + 1);
        let length = data.len() as u64;
        for (start, end) in [(1, 0), (0, length + 1), (length + 1, length + 1), (u64::MAX, u64::MAX)] {
            assert!(matches!(file.plan(start, end), Err(Error::Misuse { .. })), "{start}..{end}");
            assert!(matches!(file.fill(start, end, &[], &mut []), Err(Error::Misuse { .. })), "{start}..{end}");
        }
        for wrong in [&[][..], &[&data[..PIECE - 1]], &[&data[..PIECE], &data[..1]], &[&data[..]]] {
            assert!(matches!(file.fill(0, 1, wrong, &mut [0]), Err(Error::Misuse { .. })));
        }
        assert!(matches!(file.fill(0, 1, &[&data[..PIECE]], &mut [0; 2]), Err(Error::Misuse { .. })));
    }
}
