//! Paired SHA-256 and streaming AES-256-GCM beside the floor, one SHA-256, in one run (criterion, bytes a second).
//!
//! `cargo bench -p mdg-crypto --bench crypto`. Everything is in cache except `gcm/400 MiB`, one message in pieces of 1 MiB.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mdg_crypto::gcm::{Opener, Sealer};
use mdg_crypto::sha2x::digests;
use sha2::{Digest, Sha256};

const MIB: usize = 1 << 20;
const KEY: [u8; 32] = [7; 32];
const IV: [u8; 12] = [9; 12];

fn sha256(c: &mut Criterion) {
    let (left, right) = (vec![1u8; MIB], vec![2u8; MIB]);
    let mut group = c.benchmark_group("sha256");
    group.throughput(Throughput::Bytes(MIB as u64));
    group.bench_function("floor: one message, sha2", |b| b.iter(|| Sha256::digest(black_box(&left))));
    group.throughput(Throughput::Bytes(2 * MIB as u64));
    group.bench_function("two one after the other, sha2", |b| {
        b.iter(|| (Sha256::digest(black_box(&left)), Sha256::digest(black_box(&right))));
    });
    group.bench_function("two side by side", |b| b.iter(|| digests(black_box(&left), black_box(&right))));
    group.finish();
}

fn gcm(c: &mut Criterion) {
    let mut piece = vec![3u8; MIB];
    let mut room = vec![0u8; MIB];
    let mut group = c.benchmark_group("gcm");
    group.throughput(Throughput::Bytes(MIB as u64));
    let mut sealer = Sealer::new(&KEY, &IV);
    let mut left = 60_000;
    group.bench_function("seal 1 MiB in place", |b| {
        b.iter(|| {
            if left == 0 {
                (sealer, left) = (Sealer::new(&KEY, &IV), 60_000);
            }
            left -= 1;
            sealer.update_in_place(black_box(&mut piece)).expect("below 64 GiB");
        });
    });
    let mut opener = Opener::new(&KEY, &IV);
    let mut left = 60_000;
    group.bench_function("open 1 MiB beside", |b| {
        b.iter(|| {
            if left == 0 {
                (opener, left) = (Opener::new(&KEY, &IV), 60_000);
            }
            left -= 1;
            opener.update(black_box(&piece), &mut room).expect("below 64 GiB");
        });
    });
    group.sample_size(10);
    group.throughput(Throughput::Bytes(400 * MIB as u64));
    let plain = vec![5u8; 400 * MIB];
    group.bench_function("400 MiB", |b| {
        b.iter(|| {
            let mut sealer = Sealer::new(&KEY, &IV);
            for from in plain.chunks(MIB) {
                sealer.update(from, &mut room).expect("below 64 GiB");
            }
            sealer.finish()
        });
    });
    group.finish();
}

criterion_group!(benches, sha256, gcm);
criterion_main!(benches);
