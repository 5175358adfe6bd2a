//! Paired SHA-256 against RustCrypto, one message at a time.

use mdg_crypto::sha2x::{Lane, Pair, digests};
use sha2::{Digest, Sha256};

fn message(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|at| ((at + seed) * 131 % 253) as u8).collect()
}

fn oracle(data: &[u8]) -> [u8; 32] {
    Sha256::digest(data).into()
}

#[test]
fn every_pair_of_seam_lengths_agrees() {
    let lengths = [0, 1, 54, 55, 56, 57, 63, 64, 65, 119, 120, 127, 128, 129, 1000, 4096, 4097];
    for left in lengths {
        for right in lengths {
            let (a, b) = (message(left, 1), message(right, 2));
            assert_eq!(digests(&a, &b), (oracle(&a), oracle(&b)), "{left} and {right} bytes");
        }
    }
}

#[test]
fn awkward_steps_of_two_sizes_agree() {
    let (a, b) = (message(10_007, 3), message(20_011, 4));
    for (step_a, step_b) in [(1, 1), (57, 64), (64, 57), (63, 65), (1000, 128), (4096, 1), (10_007, 3)] {
        let mut pair = Pair::new();
        let (mut pieces_a, mut pieces_b) = (a.chunks(step_a), b.chunks(step_b));
        loop {
            match (pieces_a.next(), pieces_b.next()) {
                (None, None) => break,
                (left, right) => pair.update(left.unwrap_or_default(), right.unwrap_or_default()),
            }
        }
        assert_eq!(pair.finish(Lane::Left), oracle(&a), "steps {step_a} and {step_b}");
        assert_eq!(pair.finish(Lane::Right), oracle(&b), "steps {step_a} and {step_b}");
    }
}

#[test]
fn one_lane_ends_and_begins_again_while_the_other_goes_on() {
    let files = [message(25_000, 5), message(0, 6), message(131_072, 7), message(77, 8), message(64, 9)];
    let sealed = message(files.iter().map(Vec::len).sum(), 10);
    for (left, right) in [(Lane::Left, Lane::Right), (Lane::Right, Lane::Left)] {
        let mut pair = Pair::new();
        let mut at = 0;
        for file in &files {
            for piece in file.chunks(1000) {
                let beside = &sealed[at..at + piece.len()];
                match left {
                    Lane::Left => pair.update(piece, beside),
                    Lane::Right => pair.update(beside, piece),
                }
                at += piece.len();
            }
            assert_eq!(pair.finish(left), oracle(file));
        }
        assert_eq!(pair.finish(right), oracle(&sealed));
        assert_eq!(pair.finish(right), oracle(b""), "a finished lane is empty");
    }
}
