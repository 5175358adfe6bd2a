//! audit.json: what happened to the envelope, first `created` (JMIX 1.0 `audit`). Nobody signs it, so it proves nothing
//! and a fault in it is a warning (seg/1 2.5).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::documents::{self, Place};
use super::manifest::Manifest;
use super::names::AUDIT;
use crate::error::{Error, Result};

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// Events in the order in which they happened.
    pub audit: Vec<Entry>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// `created`, `sent`, `forwarded`, `received`, `stored` or another word.
    pub event: String,
    /// Who did it.
    pub by: Actor,
    /// Towards whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Actor>,
    /// RFC 3339.
    pub timestamp: String,
    /// Not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assertion: Option<Value>,
}

/// One party of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// As in the manifest.
    pub id: String,
    /// As in the manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The bytes of the audit of a new envelope: its creation, nothing else.
pub fn created(manifest: &Manifest) -> Result<Vec<u8>> {
    let by = Actor { id: manifest.sender.id.clone(), name: manifest.sender.name.clone() };
    let timestamp = manifest.timestamp.clone();
    documents::write(&Audit {
        audit: vec![Entry { event: "created".into(), by, to: None, timestamp, assertion: None }],
    })
}

/// What is wrong with an audit, as a warning.
pub fn warning(data: &[u8]) -> Option<String> {
    let times = |audit: &Audit| audit.audit.iter().all(|entry| documents::is_date_time(&entry.timestamp));
    match documents::parse::<Audit>(AUDIT, data, Place::Outside) {
        Ok(audit) if times(&audit) => None,
        Ok(_) => Some(format!("{AUDIT}: a timestamp that is no RFC 3339 time")),
        Err(Error::Refused { why, .. }) => Some(format!("{AUDIT}: {why}")),
        Err(other) => Some(other.to_string()),
    }
}
