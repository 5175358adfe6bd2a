//! Streaming AES-256-GCM against RustCrypto and Wycheproof.

use std::io::Write;

use aes_gcm::aead::{Aead, KeyInit};
use mdg_crypto::gcm::{Error, Opener, Sealer, TAG};

const KEY: [u8; 32] = *b"0123456789abcdef0123456789abcdef";
const IV: [u8; 12] = *b"0123456789ab";

fn message(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8).collect()
}

/// Ciphertext and tag by RustCrypto.
fn oracle(plain: &[u8]) -> (Vec<u8>, [u8; TAG]) {
    let cipher = aes_gcm::Aes256Gcm::new(&KEY.into());
    let mut sealed = cipher.encrypt(&IV.into(), plain).expect("short messages seal");
    let tag = sealed.split_off(plain.len()).try_into().expect("the tag is last");
    (sealed, tag)
}

#[test]
fn any_step_gives_the_bytes_of_the_oracle() {
    for length in [0, 1, 15, 16, 17, 31, 32, 33, 255, 256, 257, 16_383, 16_384, 16_385, 65_536 + 1] {
        let plain = message(length);
        let (sealed, tag) = oracle(&plain);
        for step in [1, 7, 16, 57, 1024, 16_384 + 16] {
            let mut sealer = Sealer::new(&KEY, &IV);
            let mut ours = vec![0; length];
            for (from, to) in plain.chunks(step).zip(ours.chunks_mut(step)) {
                sealer.update(from, to).expect("far below the limit");
            }
            assert_eq!(ours, sealed, "{length} bytes in steps of {step}");
            assert_eq!(sealer.finish(), tag, "{length} bytes in steps of {step}");

            let mut opener = Opener::new(&KEY, &IV);
            for piece in ours.chunks_mut(step) {
                opener.update_in_place(piece).expect("far below the limit");
            }
            assert_eq!(ours, plain);
            assert_eq!(opener.finish(&tag), Ok(()));
        }
    }
}

#[test]
fn sealing_in_place_and_opening_beside_give_the_same() {
    let plain = message(100_003);
    let mut data = plain.clone();
    let mut sealer = Sealer::new(&KEY, &IV);
    sealer.update_in_place(&mut data).expect("far below the limit");
    let tag = sealer.finish();
    assert_eq!((data.clone(), tag), oracle(&plain));

    let mut opener = Opener::new(&KEY, &IV);
    let mut opened = vec![0; data.len()];
    opener.update(&data, &mut opened).expect("far below the limit");
    assert_eq!(opened, plain);
    assert_eq!(opener.finish(&tag), Ok(()));
}

#[test]
fn every_changed_bit_of_the_tag_and_a_changed_message_are_refused() {
    let (sealed, tag) = oracle(&message(33));
    let finish = |sealed: &[u8], tag: &[u8; TAG]| {
        let mut opener = Opener::new(&KEY, &IV);
        opener.update(sealed, &mut vec![0; sealed.len()]).expect("far below the limit");
        opener.finish(tag)
    };
    assert_eq!(finish(&sealed, &tag), Ok(()));
    for bit in 0..8 * TAG {
        let mut other = tag;
        other[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(finish(&sealed, &other), Err(Error::Tag));
    }
    for bit in 0..8 * sealed.len() {
        let mut other = sealed.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(finish(&other, &tag), Err(Error::Tag));
    }
    assert_eq!(finish(&sealed[..32], &tag), Err(Error::Tag));
}

#[test]
fn a_message_may_begin_in_one_thread_and_end_in_another() {
    let plain = message(4096);
    let mut sealer = Sealer::new(&KEY, &IV);
    let mut data = plain.clone();
    let (head, tail) = data.split_at_mut(1000);
    sealer.update_in_place(head).expect("far below the limit");
    let sealer = std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            sealer.update_in_place(tail).expect("far below the limit");
            sealer
        });
        worker.join().expect("the worker ends well")
    });
    let tag = sealer.finish();
    assert_eq!((data, tag), oracle(&plain));
}

#[test]
fn wycheproof_cases_without_additional_data_agree() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/wycheproof/aes_gcm_test.json");
    let Ok(text) = std::fs::read(path) else {
        // Not eprintln!, which the test harness would swallow.
        writeln!(std::io::stderr(), "SKIPPED: no Wycheproof vectors at {path}").expect("stderr is open");
        return;
    };
    let vectors: serde_json::Value = serde_json::from_slice(&text).expect("Wycheproof is JSON");
    let bytes = |case: &serde_json::Value, name: &str| {
        hex::decode(case[name].as_str().expect("a hex member")).expect("hex digits")
    };
    let mut cases = (0, 0);
    for group in vectors["testGroups"].as_array().expect("groups") {
        if (&group["keySize"], &group["ivSize"], &group["tagSize"]) != (&256.into(), &96.into(), &128.into()) {
            continue;
        }
        for case in group["tests"].as_array().expect("tests") {
            if case["aad"] != "" {
                continue;
            }
            let key = bytes(case, "key").try_into().expect("32 bytes");
            let iv = bytes(case, "iv").try_into().expect("12 bytes");
            let (plain, sealed) = (bytes(case, "msg"), bytes(case, "ct"));
            let tag = bytes(case, "tag").try_into().expect("16 bytes");
            let mut opener = Opener::new(&key, &iv);
            let mut opened = vec![0; sealed.len()];
            opener.update(&sealed, &mut opened).expect("far below the limit");
            if case["result"] == "valid" {
                assert_eq!((opened, opener.finish(&tag)), (plain.clone(), Ok(())), "case {}", case["tcId"]);
                let mut sealer = Sealer::new(&key, &iv);
                let mut ours = vec![0; plain.len()];
                sealer.update(&plain, &mut ours).expect("far below the limit");
                assert_eq!((ours, sealer.finish()), (sealed, tag), "case {}", case["tcId"]);
                cases.0 += 1;
            } else {
                assert_eq!(opener.finish(&tag), Err(Error::Tag), "case {}", case["tcId"]);
                cases.1 += 1;
            }
        }
    }
    assert_eq!(cases, (21, 27), "valid and invalid cases of 256-bit keys without additional data");
}
