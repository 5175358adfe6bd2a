//! The vectors of JMIX 1.0 (tests/vectors/jmix-1.0) as files: fetched by ranges of a recipe, then opened, each ends as it
//! says.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use mdg_core::Result;
use mdg_core::digest::{Checker, PIECE};
use mdg_core::envelope::Progress;
use mdg_core::envelope::v1::open::{Expected, Trusted};
use mdg_core::recipe::file::File;
use mdg_core::recipe::{Kind, Recipe};
use mdg_core::seal::keys::X25519Key;
use mdg_local::envelope::{open, verify};
use mdg_local::stream::Stream;

/// Bytes `start` to `end` of the release whose file is at `path`.
fn range(recipe: &Arc<dyn Kind>, path: &Path, start: u64, end: u64) -> Result<Vec<u8>> {
    let mut stream = Stream::open(Arc::clone(recipe), &[path.to_owned()], start, end, PIECE as u64)?;
    let mut got = Vec::new();
    while let Some(piece) = stream.next(|length| Ok(vec![0; length]))? {
        got.extend(piece.wait()?);
    }
    Ok(got)
}

#[test]
fn each_vector_that_was_fetched_in_ranges_ends_as_it_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/jmix-1.0");
    let mut seen = 0;
    for path in fs::read_dir(vectors).expect("the vectors").map(|entry| entry.expect("readable").path()) {
        if path.extension().is_some() {
            continue;
        }
        seen += 1;
        let all = fs::read(&path).expect("a vector");
        let end = all.windows(2).position(|two| two == b"\n\n").expect("a header");
        let header = String::from_utf8_lossy(&all[..end]).into_owned();
        let value = |key: &str| header.lines().find_map(|line| line.strip_prefix(key)).expect("every key").to_owned();
        let raw = |key: &str| {
            let bytes = value(key);
            std::array::from_fn(|at| u8::from_str_radix(&bytes[2 * at..2 * at + 2], 16).expect("hex digits"))
        };

        // The release, fetched in three ranges, as a client that was interrupted twice has it.
        let envelope = &all[end + 2..];
        let (served, fetched) = (folder.path().join("served"), folder.path().join("fetched"));
        fs::write(&served, envelope).expect("room");
        let mut checker = Checker::new();
        checker.update(envelope);
        let recipe: Arc<dyn Kind> = Arc::new(Recipe::File(File::new(checker.finish())));
        let length = envelope.len() as u64;
        let cuts = [0, length / 3, length - length / 7, length];
        let parts = cuts.windows(2).map(|cut| range(&recipe, &served, cut[0], cut[1]).expect("unchanged"));
        fs::write(&fetched, parts.collect::<Vec<_>>().concat()).expect("room");
        assert!(fs::read(&fetched).expect("there") == envelope);

        let key = X25519Key::from_secret(&raw("recipient: "));
        let trust = [Trusted { sender: None, public: raw("signer: ") }];
        let expected = Expected { trust: &trust, request: None, receiver: None, key: Some(&key) };
        let out = folder.path().join("out");
        let code =
            |ended: Result<_>| ended.err().map_or("ok", |error| error.code().map_or("other", |code| code.as_str()));
        let verified = code(verify(&fetched, &expected, &mut Progress::default()));
        let opened = code(open(&fetched, &expected, &out, &mut Progress::default()));
        assert_eq!((verified, opened), (value("expect: ").as_str(), value("expect: ").as_str()), "{}", path.display());
        assert_eq!(out.exists(), opened == "ok", "{}", path.display());
        let _ = fs::remove_dir_all(&out);
    }
    assert!(seen > 20);
}
