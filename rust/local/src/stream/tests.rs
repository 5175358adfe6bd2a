use std::fs;
use std::slice::from_ref;
use std::sync::atomic::{AtomicUsize, Ordering};

use mdg_core::digest::Checker;
use mdg_core::recipe::file::File;
use mdg_core::recipe::{Need, Recipe, inside};

use super::*;

const P: usize = PIECE;

/// A second kind: the blocks of two files in turn, the second one's with every bit flipped. Each has [`BLOCK`] bytes.
struct Zipped {
    length: u64,
    digests: Vec<[u8; 32]>,
}

const BLOCK: u64 = 1000;

impl Zipped {
    fn new(left: &[u8], right: &[u8]) -> (Self, Vec<u8>) {
        let blocks = left.chunks(BLOCK as usize).zip(right.chunks(BLOCK as usize));
        let pairs = blocks.flat_map(|(left, right)| [left.to_vec(), right.iter().map(|byte| !byte).collect()]);
        let whole: Vec<u8> = pairs.flatten().collect();
        let digests = whole.chunks(BLOCK as usize).map(sum).collect();
        (Self { length: whole.len() as u64, digests }, whole)
    }
}

fn sum(block: &[u8]) -> [u8; 32] {
    let mut checker = Checker::new();
    checker.update(block);
    let mut sum = [0; 32];
    sum.copy_from_slice(checker.finish().as_bytes());
    sum
}

impl Kind for Zipped {
    fn length(&self) -> u64 {
        self.length
    }

    fn sources(&self) -> Vec<u64> {
        vec![self.length / 2; 2]
    }

    fn plan(&self, start: u64, end: u64) -> Result<Vec<Need>> {
        inside(start, end, self.length)?;
        let blocks = if start == end { 0..0 } else { start / BLOCK..end.div_ceil(BLOCK) };
        let need = |block: u64| {
            let (at, whole) = (block / 2 * BLOCK, block * BLOCK >= start && (block + 1) * BLOCK <= end);
            let place = (block.is_multiple_of(2) && whole).then(|| (block * BLOCK - start) as usize);
            Need { source: (block % 2) as usize, start: at, end: at + BLOCK, place }
        };
        Ok(blocks.map(need).collect())
    }

    fn fill(&self, start: u64, end: u64, buffers: &[&[u8]], room: &mut [u8]) -> Result<()> {
        let mut buffers = buffers.iter();
        for (need, block) in self.plan(start, end)?.iter().zip(start / BLOCK..) {
            let first = (block * BLOCK).max(start);
            let behind = ((block + 1) * BLOCK).min(end);
            let place = &mut room[(first - start) as usize..(behind - start) as usize];
            let made: Vec<u8> = match (need.place, need.source) {
                (Some(_), _) => place.to_vec(),
                (None, 0) => buffers.next().expect("planned").to_vec(),
                (None, _) => buffers.next().expect("planned").iter().map(|byte| !byte).collect(),
            };
            if sum(&made) != self.digests[block as usize] {
                return Err(Error::refused_at(Code::StoreCorrupt, "zipped", block * BLOCK, "changed"));
            }
            place.copy_from_slice(&made[(first - block * BLOCK) as usize..(behind - block * BLOCK) as usize]);
        }
        assert!(buffers.next().is_none());
        Ok(())
    }
}

fn content(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|at| ((at + seed) * 31 % 251) as u8).collect()
}

fn vector(length: usize) -> Result<Vec<u8>> {
    Ok(vec![0; length])
}

/// Everything up to the end, or what came before the error.
fn drain(stream: &mut Stream<Vec<u8>>) -> (Vec<u8>, Option<Error>) {
    let mut got = Vec::new();
    loop {
        match stream.next(vector).and_then(|piece| piece.map(Piece::wait).transpose()) {
            Ok(Some(piece)) => got.extend(piece),
            Ok(None) => return (got, None),
            Err(error) => return (got, Some(error)),
        }
    }
}

fn finished(folder: &tempfile::TempDir, data: &[u8]) -> (PathBuf, Arc<dyn Kind>) {
    let path = folder.path().join("release");
    fs::write(&path, data).expect("room");
    let mut checker = Checker::new();
    checker.update(data);
    (path, Arc::new(Recipe::File(File::new(checker.finish()))))
}

#[test]
fn every_range_of_a_file_is_streamed_in_pieces_of_any_size() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = content(5 * P + 57, 0);
    let (path, recipe) = finished(&folder, &data);
    let paths = [path];
    for start in [0, 1, P - 1, P, 2 * P + 9, data.len() - 1, data.len()] {
        for end in [start, start + 1, 3 * P, data.len()].into_iter().filter(|end| (start..=data.len()).contains(end)) {
            for piece in [P, P + 57, 1 << 20] {
                let stream = Stream::open(Arc::clone(&recipe), &paths, start as u64, end as u64, piece as u64);
                let (got, error) = drain(&mut stream.expect("inside"));
                assert!(error.is_none() && got == data[start..end], "{start}..{end} by {piece}");
            }
        }
    }
}

#[test]
fn a_kind_with_two_sources_and_many_needs_is_streamed_in_the_same_way() {
    let folder = tempfile::tempdir().expect("a folder");
    let (left, right) = (content(200 * BLOCK as usize, 1), content(200 * BLOCK as usize, 2));
    let paths = [folder.path().join("left"), folder.path().join("right")];
    fs::write(&paths[0], &left).expect("room");
    fs::write(&paths[1], &right).expect("room");
    let (zipped, whole) = Zipped::new(&left, &right);
    assert!(zipped.plan(0, P as u64).expect("inside").len() > 60);
    let kind: Arc<dyn Kind> = Arc::new(zipped);
    for (start, end) in [(0, whole.len()), (1, whole.len() - 1), (999, 1001), (P, 3 * P), (500, 501), (7, 7)] {
        for piece in [P, P + 1, 100_000] {
            let stream = Stream::open(Arc::clone(&kind), &paths, start as u64, end as u64, piece as u64);
            let (got, error) = drain(&mut stream.expect("inside"));
            assert!(error.is_none() && got == whole[start..end], "{start}..{end} by {piece}");
        }
    }
    // A byte of the second file that changed ends the stream before its piece.
    let mut changed = right.clone();
    changed[100 * BLOCK as usize] ^= 1;
    fs::write(&paths[1], &changed).expect("room");
    let mut stream = Stream::open(kind, &paths, 0, whole.len() as u64, P as u64).expect("inside");
    let (got, error) = drain(&mut stream);
    assert_eq!(error.and_then(|error| error.code()), Some(Code::StoreCorrupt));
    let block = 201 * BLOCK as usize;
    assert!(got == whole[..block - block % P]);
}

#[test]
fn a_changed_piece_ends_the_stream_for_good() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut data = content(5 * P, 0);
    let (path, recipe) = finished(&folder, &data);
    data[3 * P] ^= 1;
    fs::write(&path, &data).expect("room");
    let mut stream = Stream::open(recipe, &[path], 0, data.len() as u64, P as u64).expect("inside");
    let (got, error) = drain(&mut stream);
    assert!(got == data[..3 * P]);
    assert_eq!(error.and_then(|error| error.code()), Some(Code::StoreCorrupt));
    assert_eq!(stream.next(vector).err().and_then(|error| error.code()), Some(Code::StoreCorrupt));
}

/// A place for a piece that is counted while it lives.
struct Counted(Vec<u8>, Arc<AtomicUsize>);

impl AsMut<[u8]> for Counted {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::AcqRel);
    }
}

#[test]
fn at_most_three_pieces_are_alive() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = content(20 * P, 0);
    let (path, recipe) = finished(&folder, &data);
    let alive = Arc::new(AtomicUsize::new(0));
    let mut most = 0;
    let mut room = |length| -> Result<_> {
        most = most.max(alive.fetch_add(1, Ordering::AcqRel) + 1);
        Ok(Counted(vec![0; length], Arc::clone(&alive)))
    };
    let mut stream = Stream::open(recipe, &[path], 0, data.len() as u64, P as u64).expect("inside");
    let mut sent = None;
    while let Some(piece) = stream.next(&mut room).expect("unchanged") {
        // The reader still sends the piece before while it waits for this one.
        sent = Some(piece.wait().expect("unchanged"));
    }
    drop((sent, stream));
    assert_eq!(most, 3);
    // A thread of the pool may still hold the end of its work.
    while alive.load(Ordering::Acquire) > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn files_that_are_not_those_of_the_recipe_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, recipe) = finished(&folder, &content(P, 0));
    let open = |paths: &[PathBuf], end, piece| Stream::<Vec<u8>>::open(Arc::clone(&recipe), paths, 0, end, piece).err();
    let misuse = |error: Option<Error>| matches!(error, Some(Error::Misuse { .. }));
    assert!(misuse(open(&[], 1, P as u64)));
    assert!(misuse(open(&[path.clone(), path.clone()], 1, P as u64)));
    assert!(misuse(open(from_ref(&path), P as u64 + 1, P as u64)));
    assert!(misuse(open(from_ref(&path), 1, P as u64 - 1)));
    assert!(misuse(open(from_ref(&path), 1, STREAM_PIECE + 1)));
    fs::write(&path, content(P + 1, 0)).expect("room");
    assert_eq!(open(&[path], 1, P as u64).and_then(|error| error.code()), Some(Code::StoreCorrupt));
}
