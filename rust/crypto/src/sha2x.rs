//! SHA-256 (FIPS 180-4) of two independent messages side by side.
//!
//! A core's SHA instructions wait for one another: one message leaves part of their throughput unused, nearly half on AMD
//! Zen 4; on Intel's Ice Lake family a round every 3 cycles is possible and one message takes 4. [`Pair`] interleaves two
//! messages, such as the plaintext of a file and its ciphertext, or two files. Where the processor has no SHA-NI, and for
//! bytes that only one lane has, the blocks go to the `sha2` crate one lane after the other.
//!
//! What is interleaved is what both lanes get in the *same* call. A caller whose lanes have other boundaries splits its
//! calls at each boundary:
//!
//! ```
//! use mdg_crypto::sha2x::{Lane, Pair};
//!
//! let mut pair = Pair::new();
//! pair.update(b"first file", b"ciphertext");
//! let first = pair.finish(Lane::Left); // the right message goes on
//! pair.update(b"second", b"goes on");
//! let second = pair.finish(Lane::Left);
//! let sealed = pair.finish(Lane::Right);
//! # assert_ne!(first, second);
//! # assert_ne!(second, sealed);
//! ```

use sha2::block_api::compress256;

/// Bytes of a block.
const BLOCK: usize = 64;

/// H(0) of FIPS 180-4, 5.3.3.
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

type Block = [u8; BLOCK];

/// Which of the two messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// The first argument of [`Pair::update`].
    Left,
    /// The second argument of [`Pair::update`].
    Right,
}

/// Two running digests.
#[derive(Clone, Default)]
pub struct Pair {
    left: Message,
    right: Message,
}

impl Pair {
    /// Two empty messages.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends to each message; the lengths are free, and what they have in common runs side by side.
    pub fn update(&mut self, left: &[u8], right: &[u8]) {
        let left = self.left.fill_up(left);
        let right = self.right.fill_up(right);
        let (left_blocks, left_rest) = left.as_chunks::<BLOCK>();
        let (right_blocks, right_rest) = right.as_chunks::<BLOCK>();
        let common = left_blocks.len().min(right_blocks.len());
        let (left_both, left_alone) = left_blocks.split_at(common);
        let (right_both, right_alone) = right_blocks.split_at(common);
        compress_both([&mut self.left.state, &mut self.right.state], [left_both, right_both]);
        compress256(&mut self.left.state, left_alone);
        compress256(&mut self.right.state, right_alone);
        self.left.keep(left_rest);
        self.right.keep(right_rest);
    }

    /// The digest of one message; that lane begins a new, empty one and the other is left alone.
    pub fn finish(&mut self, lane: Lane) -> [u8; 32] {
        let message = match lane {
            Lane::Left => &mut self.left,
            Lane::Right => &mut self.right,
        };
        std::mem::take(message).digest()
    }
}

/// SHA-256 of two whole messages.
#[must_use]
pub fn digests(left: &[u8], right: &[u8]) -> ([u8; 32], [u8; 32]) {
    let mut pair = Pair::new();
    pair.update(left, right);
    (pair.finish(Lane::Left), pair.finish(Lane::Right))
}

/// One running digest: the chaining value and the bytes of an unfinished block.
#[derive(Clone)]
struct Message {
    state: [u32; 8],
    block: Block,
    /// Bytes so far; modulo 64 it says how many of `block` count.
    length: u64,
}

impl Default for Message {
    fn default() -> Self {
        Self { state: INITIAL, block: [0; BLOCK], length: 0 }
    }
}

impl Message {
    fn filled(&self) -> usize {
        (self.length % BLOCK as u64) as usize
    }

    /// Completes an unfinished block from `data` and returns what is left of it.
    fn fill_up<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        let filled = self.filled();
        self.length += data.len() as u64;
        if filled == 0 {
            return data;
        }
        let (head, rest) = data.split_at(data.len().min(BLOCK - filled));
        self.block[filled..filled + head.len()].copy_from_slice(head);
        if filled + head.len() == BLOCK {
            compress256(&mut self.state, &[self.block]);
        }
        rest
    }

    /// Keeps the bytes behind the last whole block; `length` counts them already.
    fn keep(&mut self, rest: &[u8]) {
        self.block[..rest.len()].copy_from_slice(rest);
    }

    fn digest(mut self) -> [u8; 32] {
        let filled = self.filled();
        let bits = self.length.wrapping_mul(8).to_be_bytes();
        let mut padding = [0u8; 2 * BLOCK];
        padding[..filled].copy_from_slice(&self.block[..filled]);
        padding[filled] = 0x80;
        let end = if filled < BLOCK - 8 { BLOCK } else { 2 * BLOCK };
        padding[end - 8..end].copy_from_slice(&bits);
        compress256(&mut self.state, padding[..end].as_chunks().0);
        let mut digest = [0u8; 32];
        for (bytes, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(self.state) {
            *bytes = word.to_be_bytes();
        }
        digest
    }
}

/// Compresses as many blocks of one message as of the other.
fn compress_both(states: [&mut [u32; 8]; 2], blocks: [&[Block]; 2]) {
    #[cfg(target_arch = "x86_64")]
    if sha_ni::present() {
        // SAFETY: the processor has the features that `compress` is compiled for.
        unsafe { sha_ni::compress(states, blocks) };
        return;
    }
    let [left, right] = states;
    compress256(left, blocks[0]);
    compress256(right, blocks[1]);
}

/// Two messages through SHA-NI. The instructions keep the chaining value as the words ABEF and CDGH, take two rounds at a
/// time and leave four independent chains (two per message) for the processor to overlap.
#[cfg(target_arch = "x86_64")]
mod sha_ni {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_set_epi32, _mm_set_epi64x,
        _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32,
    };

    use super::Block;

    /// K of FIPS 180-4, 4.2.2.
    #[rustfmt::skip]
    static K: [u32; 64] = [
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
    ];

    /// Whether [`compress`] may be called; the answer is cached by the standard library.
    pub(super) fn present() -> bool {
        is_x86_feature_detected!("sha") && is_x86_feature_detected!("sse4.1") && is_x86_feature_detected!("ssse3")
    }

    /// One message's registers: the words A, B, E, F and C, D, G, H, the first in the highest place, and the last sixteen
    /// schedule words, four to a register.
    #[derive(Clone, Copy)]
    struct Registers {
        abef: __m128i,
        cdgh: __m128i,
        w: [__m128i; 4],
    }

    /// Compresses the blocks that both have.
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    pub(super) fn compress(states: [&mut [u32; 8]; 2], blocks: [&[Block]; 2]) {
        let [left_state, right_state] = states;
        let (mut left, mut right) = (load(left_state), load(right_state));
        for (left_block, right_block) in blocks[0].iter().zip(blocks[1]) {
            let (left_before, right_before) = (left, right);
            left.w = words(left_block);
            right.w = words(right_block);
            // Written out, and by value, so that every register has a name of its own.
            macro_rules! rounds { ($($group:literal)*) => { $((left, right) = four_rounds::<$group>(left, right);)* } }
            rounds!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
            left = sum(left, left_before);
            right = sum(right, right_before);
        }
        *left_state = store(&left);
        *right_state = store(&right);
    }

    /// Rounds 4G to 4G + 3 of both messages; from group 4 on the schedule words are made first (FIPS 180-4, 6.2.2).
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn four_rounds<const G: usize>(mut left: Registers, mut right: Registers) -> (Registers, Registers) {
        if G >= 4 {
            left.w[G % 4] = schedule::<G>(left.w);
            right.w[G % 4] = schedule::<G>(right.w);
        }
        let k = quad(K[4 * G + 3], K[4 * G + 2], K[4 * G + 1], K[4 * G]);
        let left_wk = _mm_add_epi32(left.w[G % 4], k);
        let right_wk = _mm_add_epi32(right.w[G % 4], k);
        left.cdgh = _mm_sha256rnds2_epu32(left.cdgh, left.abef, left_wk);
        right.cdgh = _mm_sha256rnds2_epu32(right.cdgh, right.abef, right_wk);
        left.abef = _mm_sha256rnds2_epu32(left.abef, left.cdgh, _mm_shuffle_epi32(left_wk, 0x0e));
        right.abef = _mm_sha256rnds2_epu32(right.abef, right.cdgh, _mm_shuffle_epi32(right_wk, 0x0e));
        (left, right)
    }

    /// Schedule words 4G to 4G + 3 from the sixteen before them.
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn schedule<const G: usize>(w: [__m128i; 4]) -> __m128i {
        let [a, b, c, d] = [w[G % 4], w[(G + 1) % 4], w[(G + 2) % 4], w[(G + 3) % 4]];
        _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(a, b), _mm_alignr_epi8(d, c, 4)), d)
    }

    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn sum(after: Registers, before: Registers) -> Registers {
        Registers {
            abef: _mm_add_epi32(after.abef, before.abef),
            cdgh: _mm_add_epi32(after.cdgh, before.cdgh),
            w: after.w,
        }
    }

    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn quad(highest: u32, high: u32, low: u32, lowest: u32) -> __m128i {
        _mm_set_epi32(highest.cast_signed(), high.cast_signed(), low.cast_signed(), lowest.cast_signed())
    }

    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn load(state: &[u32; 8]) -> Registers {
        let [a, b, c, d, e, f, g, h] = *state;
        Registers { abef: quad(a, b, e, f), cdgh: quad(c, d, g, h), w: [quad(0, 0, 0, 0); 4] }
    }

    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn store(lane: &Registers) -> [u32; 8] {
        let [abef, cdgh] = [lane.abef, lane.cdgh];
        [
            _mm_extract_epi32(abef, 3),
            _mm_extract_epi32(abef, 2),
            _mm_extract_epi32(cdgh, 3),
            _mm_extract_epi32(cdgh, 2),
            _mm_extract_epi32(abef, 1),
            _mm_extract_epi32(abef, 0),
            _mm_extract_epi32(cdgh, 1),
            _mm_extract_epi32(cdgh, 0),
        ]
        .map(i32::cast_unsigned)
    }

    /// The sixteen big-endian words of a block. A load through a pointer was not faster.
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn words(block: &Block) -> [__m128i; 4] {
        let swap = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
        let halves = block.as_chunks::<8>().0;
        let half = |at: usize| i64::from_le_bytes(halves[at]);
        [0, 2, 4, 6].map(|at| _mm_shuffle_epi8(_mm_set_epi64x(half(at + 1), half(at)), swap))
    }
}
