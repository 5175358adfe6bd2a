//! The vectors of JMIX 1.0 (tests/vectors/jmix-1.0, whose README says how they are made): packing with given keys, IV and
//! time gives exactly the bytes of the good ones, and opening each of them ends as it says.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use mdg_core::archive::zip::{self, Entry, feed};
use mdg_core::envelope::manifest::{Entity, Terms};
use mdg_core::envelope::metadata::Identifier;
use mdg_core::envelope::v1::container::Container;
use mdg_core::envelope::v1::hashing::InTurn;
use mdg_core::envelope::v1::open::{Expected, Trusted, verify};
use mdg_core::envelope::v1::pack::{Order, Plan};
use mdg_core::envelope::v1::payload_reader::{Files, Nowhere};
use mdg_core::envelope::v1::payload_writer::Given;
use mdg_core::envelope::{Alone, Open, Progress};
use mdg_core::seal::keys::X25519Key;
use mdg_core::sign::Ed25519Key;
use mdg_core::{ReadAt, Result};
use sha2::{Digest, Sha256};

const RECIPIENT: [u8; 32] = [9; 32];
const SIGNER: [u8; 32] = [7; 32];
const EPHEMERAL: [u8; 32] = [5; 32];

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors")
}

struct Bytes(Vec<u8>);

impl Open for Bytes {
    fn open(&self) -> Result<Box<dyn ReadAt + '_>> {
        Ok(Box::new(self.0.clone()))
    }
}

/// What a payload held.
#[derive(Default)]
struct Kept(BTreeMap<String, Vec<u8>>, String);

impl Files for Kept {
    fn create(&mut self, name: &str, _: u64) -> Result<()> {
        name.clone_into(&mut self.1);
        self.0.insert(name.into(), Vec::new());
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.entry(self.1.clone()).or_default().extend_from_slice(bytes);
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Kept {
    /// SHA-256 of one line `DIGEST  NAME` for each file, in the order of their names.
    fn digest(&self) -> String {
        let line = |(name, data): (&String, &Vec<u8>)| format!("{}  {name}\n", hex::encode(Sha256::digest(data)));
        hex::encode(Sha256::digest(self.0.iter().map(line).collect::<String>()))
    }
}

/// Names and lengths of files that travel beside the one instance.
type Beside = Vec<(&'static str, usize)>;

/// The good vectors: (name, comment, each byte of the IV, files).
fn good() -> Vec<(&'static str, &'static str, u8, Beside)> {
    vec![
        ("one_instance", "one DICOM file and nothing else", 1, vec![]),
        ("a_file_beside", "a file that is not DICOM travels under files/", 2, vec![("report.txt", 29)]),
        (
            "around_a_block",
            "empty files, and lengths around the 512 bytes of a tar block",
            3,
            vec![("0", 0), ("511", 511), ("512", 512), ("513", 513), ("a/b/0", 0)],
        ),
    ]
}

fn packed(iv: u8, files: Beside) -> Vec<u8> {
    let signer = Ed25519Key::from_seed(&SIGNER);
    let entity = |id: &str, name: &str| {
        Entity::given(
            "entity",
            &format!(r#"{{"id":"urn:example:{id}","name":"{name}","contact":"x@example.invalid"}}"#),
        )
    };
    let given = |name: &str, data: Vec<u8>| Given { part: name.into(), source: Box::new(Bytes(data)), sha256: None };
    let instance = fs::read(vectors().join("dicom/explicit")).expect("a vector");
    let identifier = |system: &str, value: &str| Identifier { system: system.into(), value: value.into() };
    let order = Order {
        terms: Terms {
            id: "6f57f5fa-1cd1-45be-a5c3-fb209be1e0ec".into(),
            timestamp: "2026-11-24T08:00:00Z".into(),
            sender: entity("sender", "Clinic A").expect("an entity"),
            requester: None,
            receiver: entity("receiver", "Clinic B").expect("an entity"),
            classification: "confidential".into(),
            request: None,
        },
        patient_id: "urn:uuid:6f57f5fa-1cd1-45be-a5c3-fb209be1e0ed".into(),
        identifiers: vec![
            identifier("urn:example:mrn", "DEMO-0001"),
            identifier("http://ns.electronichealth.net.au/id/hi/ihi/1.0", "8003608833357361"),
        ],
        instances: vec![given("explicit", instance)],
        files: files.into_iter().map(|(name, size)| (name.to_owned(), given(name, vec![b'.'; size]))).collect(),
        recipient: X25519Key::from_secret(&RECIPIENT).public(),
        signer: &signer,
        ephemeral: X25519Key::from_secret(&EPHEMERAL),
        iv: [iv; 12],
    };
    let mut out = Vec::new();
    let plan = Plan::new(order, &Alone).expect("one study");
    plan.zip(&mut out, &mut InTurn::default(), &mut Progress::default()).expect("memory");
    out
}

/// A vector: its header, and the envelope behind the first empty line.
struct Vector {
    name: String,
    header: BTreeMap<String, String>,
    envelope: Vec<u8>,
}

impl Vector {
    fn read(path: &Path) -> Self {
        let all = fs::read(path).expect("a vector");
        let end = all.windows(2).position(|two| two == b"\n\n").expect("a header");
        let text = std::str::from_utf8(&all[..end]).expect("a header of text");
        let line = |line: &str| line.split_once(": ").map(|(key, value)| (key.to_owned(), value.to_owned()));
        let header = text.lines().map(|text| line(text).expect("key: value")).collect();
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        Self { name, header, envelope: all[end + 2..].to_vec() }
    }

    fn raw(&self, key: &str) -> [u8; 32] {
        let mut raw = [0; 32];
        hex::decode_to_slice(&self.header[key], &mut raw).expect("64 hex digits");
        raw
    }
}

fn all() -> Vec<Vector> {
    let entries = fs::read_dir(vectors().join("jmix-1.0")).expect("the folder of the vectors");
    let paths = entries.map(|entry| entry.expect("readable").path());
    paths.filter(|path| path.extension().is_none()).map(|path| Vector::read(&path)).collect()
}

fn opened(vector: &Vector, key: bool, files: &mut dyn Files) -> std::result::Result<(), String> {
    let recipient = X25519Key::from_secret(&vector.raw("recipient"));
    let trust = [Trusted { sender: None, public: vector.raw("signer") }];
    let expected = Expected { trust: &trust, request: None, receiver: None, key: key.then_some(&recipient) };
    let container = Container::of_zip(&vector.envelope);
    container
        .and_then(|container| verify(container, &expected, files, &mut InTurn::default(), &mut Progress::default()))
        .map(drop)
        .map_err(|error| error.code().map_or_else(|| error.to_string(), |code| code.as_str().to_owned()))
}

#[test]
fn packing_with_given_keys_iv_and_time_gives_the_bytes_of_the_vector() {
    for (name, comment, iv, files) in good() {
        let envelope = packed(iv, files);
        let path = vectors().join("jmix-1.0").join(name);
        if std::env::var_os("UPDATE_VECTORS").is_some() {
            let header = BTreeMap::from(
                [
                    ("recipient", hex::encode(RECIPIENT)),
                    ("signer", hex::encode(Ed25519Key::from_seed(&SIGNER).public())),
                ]
                .map(|(key, value)| (key.to_owned(), value)),
            );
            let mut vector = Vector { name: name.into(), header, envelope };
            let mut kept = Kept::default();
            opened(&vector, true, &mut kept).expect("a good envelope");
            let text = format!(
                "expect: ok\ncomment: {comment}\nrecipient: {}\nsigner: {}\nsha256: {}\npayload: {}\n\n",
                vector.header["recipient"],
                vector.header["signer"],
                hex::encode(Sha256::digest(&vector.envelope)),
                kept.digest(),
            );
            let mut all = text.into_bytes();
            all.append(&mut vector.envelope);
            fs::write(&path, all).expect("room");
            continue;
        }
        assert!(Vector::read(&path).envelope == envelope, "{name}");
    }
}

/// The vector as a ZIP that arrives in awkward steps, every CRC-32 checked.
fn arrives(vector: &Vector) -> bool {
    let mut reader = feed::Reader::new();
    let fed = vector.envelope.chunks(57).try_for_each(|piece| reader.feed(piece, |_| Ok(())));
    fed.and_then(|()| reader.finish()).is_ok()
}

/// The same, read at its offsets.
fn stands(vector: &Vector) -> bool {
    let content = |entry: &Entry| &vector.envelope[entry.offset as usize..(entry.offset + entry.size) as usize];
    let holds = |entry: &Entry| crc32fast::hash(content(entry)) == entry.crc;
    zip::read(&vector.envelope).is_ok_and(|archive| archive.entries.iter().all(holds))
}

#[test]
fn each_vector_ends_as_it_says_and_gives_what_it_says() {
    let vectors = all();
    assert!(vectors.len() > 20);
    for vector in vectors {
        let name = &vector.name;
        assert_eq!(hex::encode(Sha256::digest(&vector.envelope)), vector.header["sha256"], "{name}");
        assert_eq!(arrives(&vector), stands(&vector), "{name}");
        let mut kept = Kept::default();
        let ended = opened(&vector, true, &mut kept);
        match vector.header["expect"].as_str() {
            "ok" => {
                assert_eq!(ended, Ok(()), "{name}");
                assert_eq!(kept.digest(), vector.header["payload"], "{name}");
                assert_eq!(opened(&vector, false, &mut Nowhere), Ok(()), "{name} without the key");
            }
            code => assert_eq!(ended, Err(code.to_owned()), "{name}"),
        }
    }
}
