//! Project Wycheproof: X25519, Ed25519, JSON Web Signature. Skipped, and said so, where the vectors are not there.

use std::io::Write as _;

use mdg_core::seal::keys::X25519Key;
use mdg_core::sign::{verify, verify_jws};
use mdg_core::{Code, sign};
use serde_json::Value;

/// Every test of a file, with its group.
fn cases(name: &str) -> Vec<(Value, Value)> {
    let path = format!("{}/../../../shared/data/wycheproof/{name}_test.json", env!("CARGO_MANIFEST_DIR"));
    let Ok(text) = std::fs::read(&path) else {
        // Not eprintln!, which the test harness would swallow.
        writeln!(std::io::stderr(), "SKIPPED: no Wycheproof vectors at {path}").expect("stderr is open");
        return Vec::new();
    };
    let vectors: Value = serde_json::from_slice(&text).expect("Wycheproof is JSON");
    let groups = vectors["testGroups"].as_array().expect("groups");
    let all: Vec<_> = groups
        .iter()
        .flat_map(|group| group["tests"].as_array().expect("tests").iter().map(|test| (group.clone(), test.clone())))
        .collect();
    assert_eq!(Some(all.len() as u64), vectors["numberOfTests"].as_u64());
    all
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("a hex member")).expect("hex digits")
}

fn array(value: &Value) -> [u8; 32] {
    bytes(value).try_into().expect("32 bytes")
}

#[test]
fn x25519_agrees_and_refuses_exactly_the_zero_secrets() {
    let all = cases("x25519");
    let mut refused = 0;
    for (_, test) in &all {
        let shared = X25519Key::from_secret(&array(&test["private"])).agree(&array(&test["public"]));
        let expected = array(&test["shared"]);
        match shared {
            Ok(shared) => assert_eq!(*shared, expected, "case {}", test["tcId"]),
            Err(error) => {
                assert_eq!((error.code(), expected), (Some(Code::Wrap), [0; 32]), "case {}", test["tcId"]);
                refused += 1;
            }
        }
    }
    assert!(all.is_empty() || (all.len(), refused) == (518, 31), "{} cases, {refused} refused", all.len());
}

#[test]
fn ed25519_accepts_exactly_the_valid_signatures() {
    let all = cases("ed25519");
    for (group, test) in &all {
        let result = verify("x", &array(&group["publicKey"]["pk"]), &bytes(&test["msg"]), &bytes(&test["sig"]));
        assert_eq!(result.is_ok(), test["result"] == "valid", "case {}", test["tcId"]);
    }
    assert!(all.is_empty() || all.len() == 151);
}

#[test]
fn a_jws_of_another_algorithm_is_never_accepted() {
    let all = cases("json_web_signature");
    let trusted = [sign::Ed25519Key::from_seed(&[7; 32]).public()];
    for (_, test) in &all {
        let text = test["jws"].as_str().map_or_else(|| test["jws"].to_string(), str::to_owned);
        let error = verify_jws("x", text.as_bytes(), "JWT", &trusted).expect_err("no Ed25519 in this file");
        assert!(matches!(error.code(), Some(Code::SigFormat | Code::SigHeader)), "case {}: {error}", test["tcId"]);
    }
    assert!(all.is_empty() || all.len() == 401);
}
