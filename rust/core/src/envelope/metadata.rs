//! metadata.json: patient and study, from the headers of the instances (spec/jmix-1.0 5, 7).
//!
//! Local patient ids stand under the system of whoever issued them, never bare; what is not valid in the schema is left
//! out instead of passed through. One envelope describes one study of one patient: [`Study`] refuses the first instance
//! that belongs to another.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::documents::{self, Place, is_date, is_date_time, is_uuid};
use super::names::{METADATA, VERSION};
use crate::dicom::{Header, Keyword};
use crate::error::{Code, Error, Result};

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Always [`VERSION`].
    pub version: String,
    /// The id of the manifest.
    pub id: String,
    /// RFC 3339.
    pub timestamp: String,
    /// Who was imaged.
    pub patient: Patient,
    /// A report among the files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
    /// One study; the schema gives it this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub studies: Option<Studies>,
    /// Anything.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extensions: Map<String, Value>,
}

/// The patient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patient {
    /// A scoped URI or `urn:uuid:`.
    pub id: String,
    /// From PatientName.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// `YYYY-MM-DD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dob: Option<String>,
    /// `M`, `F` or `O`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sex: Option<String>,
    /// Each under its system.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identifiers: Vec<Identifier>,
    /// Not written: the gateway states no more than it knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification: Option<Value>,
}

/// An identifier and who issued it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identifier {
    /// A URI.
    pub system: String,
    /// As issued.
    pub value: String,
}

/// A name in parts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Name {
    /// Family name complex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// Given and middle names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given: Vec<String>,
    /// `Dr` and the like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// `Jr` and the like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suffix: Option<String>,
    /// As one would say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// A report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Path inside the payload.
    pub file: String,
}

/// The study.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Studies {
    /// StudyDescription
    #[serde(skip_serializing_if = "Option::is_none")]
    pub study_description: Option<String>,
    /// StudyInstanceUID
    #[serde(skip_serializing_if = "Option::is_none")]
    pub study_uid: Option<String>,
    /// In the order in which their first instances were given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<Series>,
}

/// A series; the schema lets it have further members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// SeriesInstanceUID
    pub series_uid: String,
    /// Modality
    pub modality: String,
    /// BodyPartExamined
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_part: Option<String>,
    /// How many of its instances are in this envelope.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_count: Option<u64>,
    /// Whatever else it has.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Metadata {
    /// Reads and checks what this reader needs. `E_INDEX_JSON`, `E_INDEX_SCHEMA`, and `E_INDEX_ID` when it is not of the
    /// envelope `id`.
    pub fn read(data: &[u8], id: &str) -> Result<Self> {
        let schema = |why: &str| Error::refused(Code::IndexSchema, METADATA, why);
        let metadata: Self = documents::parse(METADATA, data, Place::Inside)?;
        if metadata.version != VERSION || !is_uuid(&metadata.id) || !is_date_time(&metadata.timestamp) {
            return Err(schema("version, id or timestamp"));
        }
        let patient = &metadata.patient;
        if patient.dob.as_deref().is_some_and(|dob| !is_date(dob)) {
            return Err(schema("patient.dob is not a date"));
        }
        if patient.sex.as_deref().is_some_and(|sex| !matches!(sex, "M" | "F" | "O")) {
            return Err(schema("patient.sex is not M, F or O"));
        }
        if metadata.extensions.contains_key("ief_seg") {
            return Err(Error::refused(Code::Downgrade, METADATA, "a segmented envelope stripped of its profile"));
        }
        if metadata.id != id {
            return Err(Error::refused(Code::IndexId, METADATA, "id is not that of the manifest"));
        }
        Ok(metadata)
    }

    /// The bytes of the document.
    pub fn write(&self) -> Result<Vec<u8>> {
        documents::write(self)
    }
}

/// Facts of one study, gathered header by header.
#[derive(Debug, Default)]
pub struct Study {
    uid: Option<String>,
    description: Option<String>,
    patient_id: Option<String>,
    issuer: Option<String>,
    name: Option<Name>,
    dob: Option<String>,
    sex: Option<String>,
    series: Vec<Series>,
}

impl Study {
    /// Takes one more instance. `E_DICOM_IDENTITY` when its study or patient is another one, `E_DICOM` when it does not
    /// say to what study and series it belongs; `part` names it.
    pub fn add(&mut self, header: &Header, part: &str) -> Result<()> {
        let text = |keyword| header.text(keyword).map(str::to_owned);
        let missing =
            |what: &str| Error::refused(Code::Dicom, part, format!("has no {what}; it can go along as a file"));
        let uid = text(Keyword::StudyInstanceUID).ok_or_else(|| missing("StudyInstanceUID"))?;
        let series = text(Keyword::SeriesInstanceUID).ok_or_else(|| missing("SeriesInstanceUID"))?;
        same(&mut self.uid, Some(uid), part, "belongs to another study; pack one study at a time")?;
        let other_patient = "belongs to another patient; pack one patient's study at a time";
        same(&mut self.patient_id, text(Keyword::PatientID), part, other_patient)?;
        same(&mut self.issuer, text(Keyword::IssuerOfPatientID), part, other_patient)?;

        self.description = self.description.take().or_else(|| text(Keyword::StudyDescription));
        self.name = self.name.take().or_else(|| header.text(Keyword::PatientName).and_then(name));
        self.dob = self.dob.take().or_else(|| header.text(Keyword::PatientBirthDate).and_then(dob));
        self.sex =
            self.sex.take().or_else(|| text(Keyword::PatientSex).filter(|s| matches!(s.as_str(), "M" | "F" | "O")));
        // Instances come series by series as a rule, so the search ends at its first look.
        match self.series.iter_mut().rev().find(|known| known.series_uid == series) {
            Some(known) => known.instance_count = known.instance_count.map(|count| count + 1),
            None => self.series.push(Series {
                series_uid: series,
                modality: text(Keyword::Modality).unwrap_or_else(|| "OT".into()),
                body_part: text(Keyword::BodyPartExamined),
                instance_count: Some(1),
                other: Map::new(),
            }),
        }
        Ok(())
    }

    /// The document. `Misuse` when identifiers are given and none of them is the PatientID of the instances: an opener
    /// would have to refuse the envelope.
    pub fn metadata(
        self,
        id: &str,
        timestamp: &str,
        patient_id: &str,
        identifiers: Vec<Identifier>,
    ) -> Result<Metadata> {
        if !is_identified(&identifiers, self.patient_id.as_deref()) {
            return Err(Error::misuse("the PatientID of the instances is missing among the identifiers"));
        }
        Ok(Metadata {
            version: VERSION.into(),
            id: id.into(),
            timestamp: timestamp.into(),
            patient: Patient {
                id: patient_id.into(),
                name: self.name,
                dob: self.dob,
                sex: self.sex,
                identifiers,
                verification: None,
            },
            report: None,
            studies: self.uid.map(|uid| Studies {
                study_description: self.description,
                study_uid: Some(uid),
                series: self.series,
            }),
            extensions: Map::new(),
        })
    }
}

/// Whether a PatientID is one of the identifiers; true when either side has none (seg/1 13.1 step 13).
#[must_use]
pub fn is_identified(identifiers: &[Identifier], patient_id: Option<&str>) -> bool {
    patient_id.is_none_or(|id| identifiers.is_empty() || identifiers.iter().any(|known| known.value == id))
}

fn same(known: &mut Option<String>, found: Option<String>, part: &str, why: &str) -> Result<()> {
    match (known.as_ref(), found) {
        (Some(known), Some(found)) if *known != found => Err(Error::refused(Code::DicomIdentity, part, why)),
        (None, found) => {
            *known = found;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The alphabetic group of a PN value in parts (PS3.5 6.2.1).
fn name(value: &str) -> Option<Name> {
    let group = value.split('=').next().unwrap_or_default();
    let parts: Vec<_> = group.split('^').map(str::trim).collect();
    let part = |index: usize| parts.get(index).copied().filter(|part| !part.is_empty()).map(str::to_owned);
    let given = [1, 2].into_iter().filter_map(part).collect::<Vec<_>>();
    let spoken = [3, 1, 2, 0, 4].into_iter().filter_map(part).collect::<Vec<_>>().join(" ");
    let text = Some(spoken).filter(|text| !text.is_empty())?;
    Some(Name { family: part(0), given, prefix: part(3), suffix: part(4), text: Some(text) })
}

/// A DA value as a date that exists.
fn dob(value: &str) -> Option<String> {
    let iso =
        (value.len() == 8 && value.is_ascii()).then(|| format!("{}-{}-{}", &value[..4], &value[4..6], &value[6..]));
    iso.filter(|date| is_date(date))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_and_dates_only_when_they_exist() {
        let found = name("Doe^Jane^Q^Dr^MD=ドウ^ジェーン").expect("a name");
        assert_eq!(found.family.as_deref(), Some("Doe"));
        assert_eq!(found.given, ["Jane", "Q"]);
        assert_eq!(found.text.as_deref(), Some("Dr Jane Q Doe MD"));
        assert_eq!(name("PHANTOM").and_then(|name| name.family).as_deref(), Some("PHANTOM"));
        assert_eq!(name("^^^"), None);
        assert_eq!(dob("19500229"), None);
        assert_eq!(dob("19500228").as_deref(), Some("1950-02-28"));
        assert_eq!(dob("1950.02.28"), None);
    }

    #[test]
    fn a_local_id_must_be_among_the_identifiers_when_there_are_any() {
        let known = [Identifier { system: "urn:x".into(), value: "1".into() }];
        assert!(is_identified(&known, Some("1")));
        assert!(is_identified(&known, None));
        assert!(is_identified(&[], Some("2")));
        assert!(!is_identified(&known, Some("2")));
    }
}
