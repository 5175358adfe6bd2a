use std::collections::BTreeMap;

use super::container::Container;
use super::hashing::InTurn;
use super::open::{Expected, Trusted, inspect};
use super::pack::{Order, Plan};
use super::payload_reader::{Files, Nowhere};
use super::payload_writer::Given;
use crate::ReadAt;
use crate::envelope::manifest::{Entity, Terms};
use crate::envelope::metadata::Identifier;
use crate::envelope::report::Report;
use crate::envelope::{Alone, Open, Progress};
use crate::error::{Code, Error, Result};
use crate::seal::keys::X25519Key;
use crate::sign::Ed25519Key;

impl Open for Vec<u8> {
    fn open(&self) -> Result<Box<dyn ReadAt + '_>> {
        Ok(Box::new(self.clone()))
    }
}

#[derive(Default)]
struct Kept(BTreeMap<String, Vec<u8>>, String);

impl Files for Kept {
    fn create(&mut self, name: &str, size: u64) -> Result<()> {
        assert!(self.0.insert(name.into(), Vec::with_capacity(size as usize)).is_none());
        self.1 = name.into();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.get_mut(&self.1).expect("created").extend(bytes);
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

const RECIPIENT: [u8; 32] = [9; 32];
const SIGNER: [u8; 32] = [7; 32];

/// An explicit little endian file with a few attributes and `pixels` bytes of PixelData.
pub(super) fn instance(study: &str, patient: &str, number: u32, pixels: usize) -> Vec<u8> {
    let mut file = vec![0; 128];
    file.extend(b"DICM");
    let mut put = |tag: [u16; 2], vr: &[u8; 2], value: &[u8]| {
        let mut value = value.to_vec();
        if value.len() % 2 == 1 {
            value.push(if vr == b"UI" { 0 } else { b' ' });
        }
        file.extend(tag[0].to_le_bytes());
        file.extend(tag[1].to_le_bytes());
        file.extend(vr);
        if vr == b"OW" {
            file.extend([0; 2]);
            file.extend((value.len() as u32).to_le_bytes());
        } else {
            file.extend((value.len() as u16).to_le_bytes());
        }
        file.extend(value);
    };
    put([2, 0x10], b"UI", b"1.2.840.10008.1.2.1");
    put([8, 0x16], b"UI", b"1.2.840.10008.5.1.4.1.1.2");
    put([8, 0x18], b"UI", format!("1.2.3.{number}").as_bytes());
    put([8, 0x60], b"CS", b"CT");
    put([0x10, 0x10], b"PN", b"Doe^Jane");
    put([0x10, 0x20], b"LO", patient.as_bytes());
    put([0x10, 0x30], b"DA", b"19700102");
    put([0x10, 0x40], b"CS", b"F");
    put([0x20, 0xD], b"UI", study.as_bytes());
    put([0x20, 0xE], b"UI", format!("{study}.{}", number % 2).as_bytes());
    put([0x7FE0, 0x10], b"OW", &vec![number as u8; pixels]);
    file
}

fn entity(name: &str) -> Entity {
    Entity::given(name, &format!(r#"{{"id":"org:{name}","name":"{name}","contact":"mail"}}"#)).expect("an entity")
}

fn order<'a>(signer: &'a Ed25519Key, instances: Vec<Vec<u8>>) -> Order<'a> {
    let given =
        |(index, file): (usize, Vec<u8>)| Given { part: format!("file {index}"), source: Box::new(file), sha256: None };
    Order {
        terms: Terms {
            id: "6f57f5fa-1cd1-45be-a5c3-fb209be1e0ec".into(),
            timestamp: "2026-11-24T08:00:00Z".into(),
            sender: entity("a"),
            requester: None,
            receiver: entity("b"),
            classification: "confidential".into(),
            request: Some([3; 32]),
        },
        patient_id: "urn:uuid:6f57f5fa-1cd1-45be-a5c3-fb209be1e0ed".into(),
        identifiers: vec![Identifier { system: "urn:x".into(), value: "P1".into() }],
        instances: instances.into_iter().enumerate().map(given).collect(),
        files: vec![("note.txt".into(), given((99, b"hello".to_vec())))],
        recipient: X25519Key::from_secret(&RECIPIENT).public(),
        signer,
        ephemeral: X25519Key::from_secret(&[5; 32]),
        iv: [1; 12],
    }
}

fn packed(instances: Vec<Vec<u8>>) -> Vec<u8> {
    let signer = Ed25519Key::from_seed(&SIGNER);
    let mut out = Vec::new();
    let plan = Plan::new(order(&signer, instances), &Alone).expect("one study");
    let (_, report) = plan.zip(&mut out, &mut InTurn::default(), &mut Progress::default()).expect("memory");
    assert_eq!(report.length, out.len() as u64);
    out
}

/// [`super::open::verify`] with each expectation in its place.
fn verify(
    container: Container<'_>,
    trust: &[Trusted],
    request: Option<[u8; 32]>,
    receiver: Option<&str>,
    key: Option<&X25519Key>,
    files: &mut dyn Files,
) -> Result<Report> {
    let expected = Expected { trust, request, receiver, key };
    super::open::verify(container, &expected, files, &mut InTurn::default(), &mut Progress::default())
}

fn trust() -> Vec<Trusted> {
    vec![Trusted { sender: Some("org:a".into()), public: Ed25519Key::from_seed(&SIGNER).public() }]
}

fn open(zip: &dyn ReadAt, files: &mut dyn Files) -> Result<Report> {
    let key = X25519Key::from_secret(&RECIPIENT);
    verify(Container::of_zip(zip)?, &trust(), Some([3; 32]), None, Some(&key), files)
}

fn code<T>(result: Result<T>) -> Option<Code> {
    result.err().and_then(|error| error.code())
}

#[test]
fn what_is_packed_is_opened_whatever_the_sizes() {
    for sizes in [vec![0], vec![2, 510, 512, 514], vec![1 << 20, (1 << 20) + 2, 3 << 20], vec![100; 700]] {
        let files: Vec<_> = sizes.iter().zip(0..).map(|(size, i)| instance("1.2", "P1", i, *size)).collect();
        let zip = packed(files.clone());
        let mut kept = Kept::default();
        let report = open(&zip, &mut kept).expect("opens");
        assert_eq!((report.ok, report.opened, report.instances), (true, true, Some(files.len() as u64)));
        assert_eq!(report.files, Some(1));
        assert_eq!(kept.0["files/note.txt"], b"hello");
        for (index, file) in files.iter().enumerate() {
            assert!(kept.0[&format!("dicom/1.2.3.{index}.dcm")] == *file, "instance {index}");
        }
        let verified = verify(Container::of_zip(&zip).expect("ZIP"), &trust(), None, None, None, &mut Nowhere);
        assert_eq!(verified.map(|report| (report.ok, report.opened, report.instances)), Ok((true, false, None)));
        assert!(!inspect(Container::of_zip(&zip).expect("ZIP")).expect("readable").ok);
    }
}

#[test]
fn a_changed_byte_is_refused_or_listed_as_unsigned() {
    let zip = packed(vec![instance("1.2", "P1", 1, 300)]);
    let unsigned = open(&zip, &mut Nowhere).expect("opens").unsigned;
    let free = |at: usize| unsigned.iter().any(|range| (range.start..range.end).contains(&(at as u64)));
    // The whole file byte by byte is the work of tests/envelope with the optimised core; here every 17th byte and each
    // unsigned one.
    for at in (0..zip.len()).filter(|at| at % 17 == 0 || free(*at)) {
        let mut broken = zip.clone();
        broken[at] ^= 0x20;
        match open(&broken, &mut Nowhere) {
            Ok(report) => assert!(free(at) && !report.warnings.is_empty(), "byte {at}"),
            Err(Error::Refused { .. }) => assert!(!free(at), "byte {at}"),
            Err(other) => assert_eq!(other, Error::misuse("a refusal"), "byte {at}"),
        }
    }
}

#[test]
fn keys_and_requests_are_the_right_ones() {
    let zip = packed(vec![instance("1.2", "P1", 1, 300)]);
    let (mine, other) = (X25519Key::from_secret(&RECIPIENT), X25519Key::from_secret(&[8; 32]));
    let with = |trust: &[Trusted], request, key| {
        code(verify(Container::of_zip(&zip).expect("ZIP"), trust, request, None, Some(key), &mut Nowhere))
    };
    let mut for_another = trust();
    for_another[0].sender = Some("org:c".into());
    let stranger = [Trusted { sender: None, public: Ed25519Key::from_seed(&[1; 32]).public() }];
    assert_eq!(with(&trust(), Some([3; 32]), &mine), None);
    assert_eq!(with(&trust(), Some([4; 32]), &mine), Some(Code::Req));
    assert_eq!(with(&for_another, None, &mine), Some(Code::SigKey));
    assert_eq!(with(&stranger, None, &mine), Some(Code::SigKey));
    assert_eq!(with(&trust(), None, &other), Some(Code::NoRecipient));
}

#[test]
fn one_envelope_holds_one_study_of_one_patient() {
    let signer = Ed25519Key::from_seed(&SIGNER);
    let plan = |files| code(Plan::new(order(&signer, files), &Alone));
    let first = || instance("1.2", "P1", 1, 0);
    assert_eq!(plan(vec![first(), instance("1.3", "P1", 2, 0)]), Some(Code::DicomIdentity));
    assert_eq!(plan(vec![first(), instance("1.2", "P2", 2, 0)]), Some(Code::DicomIdentity));
    assert_eq!(plan(vec![first(), first()]), Some(Code::DicomIdentity));
    assert_eq!(plan(vec![first(), b"no DICOM".to_vec()]), Some(Code::NotDicom));
    assert!(matches!(Plan::new(order(&signer, vec![instance("1.2", "P9", 1, 0)]), &Alone), Err(Error::Misuse { .. })));
}

/// The entries of a packed envelope in another order, every header right.
fn reordered(zip: &[u8], order: &[usize]) -> Vec<u8> {
    use crate::WriteAt as _;
    use crate::archive::zip::{Layout, read};
    let archive = read(&zip.to_vec()).expect("ZIP");
    let entries: Vec<_> = order.iter().map(|index| &archive.entries[*index]).collect();
    let sizes = entries.iter().map(|entry| (entry.name.as_str(), entry.size));
    let layout = Layout::new(sizes, archive.time.expect("one time")).expect("names");
    let mut out = Vec::new();
    for (place, entry) in entries.iter().enumerate() {
        let content = &zip[entry.offset as usize..(entry.offset + entry.size) as usize];
        out.write_at(layout.content(place).expect("there"), content).expect("memory");
    }
    layout.finish(&entries.iter().map(|entry| entry.crc).collect::<Vec<_>>(), &mut out).expect("memory");
    out
}

#[test]
fn the_entries_of_a_zip_stand_in_one_order() {
    let zip = packed(vec![instance("1.2", "P1", 1, 300)]);
    assert_eq!(reordered(&zip, &[0, 1, 2, 3]), zip);
    let mut tried = 0;
    for order in (0..256).map(|n| [n / 64, n / 16 % 4, n / 4 % 4, n % 4]) {
        let all = (0..4).all(|index| order.contains(&index));
        if all && order != [0, 1, 2, 3] {
            tried += 1;
            let error = open(&reordered(&zip, &order), &mut Nowhere).expect_err("another order");
            assert_eq!(error.code(), Some(Code::ZipName), "{order:?}");
            assert!(error.to_string().contains("stands in the wrong place"), "{error}");
        }
    }
    assert_eq!(tried, 23);
}

#[test]
fn what_is_no_envelope_is_called_what_it_is() {
    let why = |data: &[u8]| Container::of_zip(&data.to_vec()).err().expect("no envelope").to_string();
    assert!(why(b"# README, a text of some length").ends_with("not a ZIP file"));
    assert!(why(b"short").contains("not a ZIP file"));
    let zip = packed(vec![instance("1.2", "P1", 1, 300)]);
    assert!(why(&zip[..zip.len() - 1]).contains("cut off"));
    let others = reordered(&zip, &[1, 3]);
    assert_eq!(why(&others), "E_ZIP_NAME: envelope: no JMIX envelope: it has no manifest.json");
    // A directory that every other tool writes: another "version made by" is enough to be refused, and not the point.
    let mut foreign = others.clone();
    let central = foreign.windows(4).position(|bytes| bytes == b"PK\x01\x02").expect("a directory");
    foreign[central + 5] = 3;
    assert_eq!(why(&foreign), "E_ZIP_NAME: envelope: no JMIX envelope: it has no manifest.json");
}

#[test]
fn a_wrong_key_is_told_for_whom_the_envelope_is() {
    let zip = packed(vec![instance("1.2", "P1", 1, 300)]);
    let other = X25519Key::from_secret(&[8; 32]);
    let parts = Container::of_zip(&zip).expect("ZIP");
    let error = verify(parts, &trust(), None, None, Some(&other), &mut Nowhere);
    let error = error.expect_err("another key").to_string();
    assert_eq!(error, "E_NO_RECIPIENT: payload.encrypted: sealed for \"b\"; the key given is another");
}

#[test]
fn an_envelope_that_names_another_receiver_opens_with_a_warning() {
    let zip = packed(vec![instance("1.2", "P1", 1, 300)]);
    let mine = X25519Key::from_secret(&RECIPIENT);
    let warnings = |receiver| {
        let parts = Container::of_zip(&zip).expect("ZIP");
        let report = verify(parts, &trust(), None, receiver, Some(&mine), &mut Nowhere).expect("opens");
        report.warnings
    };
    assert_eq!(warnings(None), [""; 0]);
    assert_eq!(warnings(Some("org:b")), [""; 0]);
    assert_eq!(warnings(Some("org:c")), ["the manifest names another receiver than the owner of your key"]);
}

/// A file that says any length.
struct Claimed(u64);

impl Open for Claimed {
    fn open(&self) -> Result<Box<dyn ReadAt + '_>> {
        Ok(Box::new(Claimed(self.0)))
    }
}

impl ReadAt for Claimed {
    fn size(&self) -> u64 {
        self.0
    }

    fn read_at(&self, _: u64, into: &mut [u8]) -> Result<()> {
        into.fill(0);
        Ok(())
    }
}

#[test]
fn files_of_8_gib_and_more_are_refused_by_name_whatever_they_add_up_to() {
    let signer = Ed25519Key::from_seed(&SIGNER);
    for size in [1 << 33, u64::MAX / 2] {
        let mut order = order(&signer, vec![instance("1.2", "P1", 1, 0)]);
        for number in 0..3 {
            let given = Given { part: format!("large {number}"), source: Box::new(Claimed(size)), sha256: None };
            order.files.push((format!("{number}"), given));
        }
        let error = Plan::new(order, &Alone).err().expect("too large");
        assert_eq!(error, Error::misuse("large 0: a payload file must be shorter than 8 GiB"));
    }
    let mut order = order(&signer, vec![instance("1.2", "P1", 1, 0)]);
    for number in 0..8 {
        let given = Given { part: "large".into(), source: Box::new(Claimed((1 << 33) - 1)), sha256: None };
        order.files.push((format!("{number}"), given));
    }
    let error = Plan::new(order, &Alone).err().expect("over 60 GiB").to_string();
    assert!(error.contains("60 GiB"), "{error}");
}

#[test]
fn a_payload_that_is_as_it_was_signed_under_a_wrong_crc_is_damaged() {
    let zip = packed(vec![instance("1.2", "P1", 1, 300)]);
    let archive = crate::archive::zip::read(&zip).expect("ZIP");
    let payload = archive.entry("payload.encrypted").expect("there");
    let (mut wrong, mut changed) = (zip.clone(), zip.clone());
    let places: Vec<_> = (0..zip.len() - 4).filter(|at| zip[*at..at + 4] == payload.crc.to_le_bytes()).collect();
    assert_eq!(places.len(), 2, "local and central header");
    places.iter().for_each(|at| wrong[*at] ^= 1);
    changed[(payload.offset + payload.size / 2) as usize] ^= 1;
    let key = X25519Key::from_secret(&RECIPIENT);
    for key in [None, Some(&key)] {
        let checked =
            |zip: &Vec<u8>| code(verify(Container::of_zip(zip).expect("ZIP"), &trust(), None, None, key, &mut Nowhere));
        assert_eq!(checked(&wrong), Some(Code::ZipCrc));
        // The CRC is wrong here as well, and the signed hash says more.
        assert_eq!(checked(&changed), Some(Code::PayloadHash));
    }
}

#[test]
fn a_file_that_is_not_the_indexed_one_stops_the_pass() {
    let signer = Ed25519Key::from_seed(&SIGNER);
    let mut order = order(&signer, vec![instance("1.2", "P1", 1, 0)]);
    order.instances[0].sha256 = Some([0; 32]);
    let plan = Plan::new(order, &Alone).expect("one study");
    assert_eq!(
        code(plan.zip(&mut Vec::new(), &mut InTurn::default(), &mut Progress::default())),
        Some(Code::StoreCorrupt)
    );
}

#[test]
fn a_pass_can_be_stopped_from_outside() {
    let signer = Ed25519Key::from_seed(&SIGNER);
    let mut stop = |_: u64, _: u64| Err(Error::misuse("stopped"));
    let plan = Plan::new(order(&signer, vec![instance("1.2", "P1", 1, 0)]), &Alone).expect("one study");
    let stopped = plan.zip(&mut Vec::new(), &mut InTurn::default(), &mut Progress::to(&mut stop));
    assert!(matches!(stopped, Err(Error::Misuse { .. })));
}
