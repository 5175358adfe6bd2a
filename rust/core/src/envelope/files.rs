//! files.json: every payload file but itself, with hash and size (spec/jmix-1.0 7).

use serde::{Deserialize, Serialize};

use super::documents::{self, Place};
use super::names::FILES;
use crate::digest::{HashList, prefixed};
use crate::error::{Code, Error, Result};

/// One line of files.json.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Path inside the payload.
    pub file: String,
    /// `sha256:` and 64 lower-case hex digits; other writers leave the prefix out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Length in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
}

/// A payload file as it was written or met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Path inside the payload.
    pub name: String,
    /// Length in bytes.
    pub size: u64,
    /// SHA-256.
    pub sha256: [u8; 32],
}

/// The bytes of files.json. Its length depends on names and sizes only.
pub fn write(members: &[Member]) -> Result<Vec<u8>> {
    let line = |m: &Member| File { file: m.name.clone(), hash: Some(prefixed(&m.sha256)), size_bytes: Some(m.size) };
    documents::write(&members.iter().map(line).collect::<Vec<_>>())
}

/// Compares files.json with what was met: the same files, sizes and hashes. `E_INDEX_JSON`, `E_INDEX_SCHEMA`,
/// `E_INDEX_FILES`, `E_FILE_DIGEST`.
pub fn check(data: &[u8], members: &[Member]) -> Result<()> {
    let lines: Vec<File> = documents::parse(FILES, data, Place::Inside)?;
    let mut left: std::collections::HashMap<_, _> =
        members.iter().filter(|m| m.name != FILES).map(|member| (member.name.as_str(), member)).collect();
    for line in &lines {
        let member = left.remove(line.file.as_str()).ok_or_else(|| {
            Error::refused(Code::IndexFiles, FILES, "names a file twice, or one that is not in the payload")
        })?;
        let claimed = line
            .hash
            .as_deref()
            .ok_or_else(|| Error::refused(Code::IndexFiles, FILES, format!("no hash for {}", line.file)))?;
        let hex_digits = claimed.strip_prefix("sha256:").unwrap_or(claimed);
        if !hex_digits.eq_ignore_ascii_case(&hex::encode(member.sha256)) {
            return Err(Error::refused(Code::FileDigest, &line.file, "SHA-256 is not the one in files.json"));
        }
        if line.size_bytes.is_some_and(|size| size != member.size) {
            return Err(Error::refused(Code::FileDigest, &line.file, "size is not the one in files.json"));
        }
    }
    match left.keys().min() {
        Some(name) => Err(Error::refused(Code::IndexFiles, *name, "in the payload and not in files.json")),
        None => Ok(()),
    }
}

/// H-list of a payload with these files (spec/jmix-1.0 8).
#[must_use]
pub fn list_hash(members: &[Member]) -> [u8; 32] {
    let mut list = HashList::new();
    for member in members {
        list.file(&member.name, member.size, &member.sha256);
    }
    list.sha256()
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    fn member(name: &str, data: &[u8]) -> Member {
        Member { name: name.into(), size: data.len() as u64, sha256: Sha256::digest(data).into() }
    }

    #[test]
    fn the_list_and_the_payload_name_the_same_files() {
        let members = [member("dicom/a.dcm", b"AAA"), member("metadata.json", b"{}")];
        let list = write(&members).expect("JSON");
        assert_eq!(check(&list, &members), Ok(()));
        let code = |list: &[u8], members: &[Member]| check(list, members).err().and_then(|error| error.code());
        assert_eq!(code(&list, &members[..1]), Some(Code::IndexFiles));
        assert_eq!(code(&write(&members[1..]).expect("JSON"), &members), Some(Code::IndexFiles));
        let twice = [members[0].clone(), members[0].clone(), members[1].clone()];
        assert_eq!(code(&write(&twice).expect("JSON"), &members), Some(Code::IndexFiles));
        let changed = [member("dicom/a.dcm", b"AAB"), members[1].clone()];
        assert_eq!(code(&list, &changed), Some(Code::FileDigest));
        assert_eq!(code(b"[{\"file\":\"metadata.json\"}]", &members[1..]), Some(Code::IndexFiles));
        assert_eq!(code(b"{}", &members), Some(Code::IndexSchema));
        assert_eq!(code(b"[", &members), Some(Code::IndexJson));
    }
}
