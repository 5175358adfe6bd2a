//! Who the patient is, as a file says it: identifiers with their issuers, and every Individual Healthcare Identifier in the
//! spellings that are met (`docs/spec/patient-identity.md`). Which of them is believed is decided by the caller.

/// OID root of the IHI; public sources use it with the number as extension and with the number appended.
const IHI_OID: &str = "1.2.36.1.2001.1003.0";
/// The system of AU Base, and the one in the examples of JMIX 1.0.
const IHI_URIS: [&str; 2] =
    ["http://ns.electronichealth.net.au/id/hi/ihi/1.0", "http://ns.electronichealth.net.au/id/ihi/1.0"];
/// The assigning authority of HL7 v2 AU table 0301.
const IHI_AUTHORITY: &str = "AUSHIC";

/// A 16-digit number with the prefix of an IHI and a right check digit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ihi(String);

impl Ihi {
    /// The IHI in `text`, where spaces and hyphens may group the digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
        let valid = digits.len() == 16
            && digits.bytes().all(|b| b.is_ascii_digit())
            && digits.starts_with("800360")
            && luhn(&digits);
        valid.then_some(Self(digits))
    }

    /// Its 16 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether the last digit is the check digit of the others (ISO/IEC 7812-1 annex B).
fn luhn(digits: &str) -> bool {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, byte)| match u32::from(byte - b'0') * (1 + place as u32 % 2) {
            two_digits @ 10.. => two_digits - 9,
            digit => digit,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// One item of OtherPatientIDsSequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherPatientId {
    /// PatientID.
    pub id: String,
    /// IssuerOfPatientID, or else the UniversalEntityID of its qualifiers.
    pub issuer: Option<String>,
    /// TypeOfPatientID.
    pub type_of: Option<String>,
}

/// A PatientID with all that says who issued it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) id: Option<String>,
    pub(crate) issuer: Option<String>,
    pub(crate) universal: Option<String>,
    pub(crate) universal_type: Option<String>,
}

impl Claim {
    /// The IHIs of this claim with the number of their spelling, 1 to 5. The first spelling that holds is the one named; the
    /// number inside the OID of spelling 4 and a different one in the identifier are both given.
    pub(crate) fn ihis(&self) -> Vec<(Ihi, u8)> {
        let id = self.id.as_deref().and_then(Ihi::parse);
        let universal = self.universal.as_deref().unwrap_or_default();
        let universal_type = self.universal_type.as_deref().unwrap_or_default();
        let issuer = self.issuer.as_deref().unwrap_or_default();
        let appended = (universal_type == "ISO")
            .then(|| universal.strip_prefix(IHI_OID)?.strip_prefix('.'))
            .flatten()
            .and_then(Ihi::parse);
        let form = if universal == IHI_OID && universal_type == "ISO" {
            1
        } else if IHI_URIS.contains(&universal) && universal_type == "URI" {
            2
        } else if issuer == IHI_AUTHORITY {
            3
        } else if appended.is_some() {
            4
        } else if issuer.eq_ignore_ascii_case("IHI") {
            5
        } else {
            return Vec::new();
        };
        let mut found: Vec<(Ihi, u8)> = id.map(|ihi| (ihi, form)).into_iter().collect();
        if let Some(ihi) = appended
            && found.iter().all(|(other, _)| *other != ihi)
        {
            found.push((ihi, 4));
        }
        found
    }

    /// Whether it looks like an IHI but nothing says who issued it.
    pub(crate) fn is_candidate(&self) -> bool {
        self.issuer.is_none() && self.universal.is_none() && self.id.as_deref().and_then(Ihi::parse).is_some()
    }
}

/// PS3.5 9.1: at most 64 digits and dots, no empty component, no leading zero.
#[must_use]
pub fn is_uid(text: &[u8]) -> bool {
    (1..=64).contains(&text.len())
        && text.split(|byte| *byte == b'.').all(|component| match component {
            [] => false,
            [b'0', _, ..] => false,
            digits => digits.iter().all(u8::is_ascii_digit),
        })
}

#[cfg(test)]
mod tests {
    use super::{Claim, IHI_OID, IHI_URIS, Ihi};

    const IHI: &str = "8003608833357361";

    fn forms(id: &str, issuer: &str, universal: &str, universal_type: &str) -> Vec<(String, u8)> {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let claim = Claim {
            id: given(id),
            issuer: given(issuer),
            universal: given(universal),
            universal_type: given(universal_type),
        };
        claim.ihis().into_iter().map(|(ihi, form)| (ihi.as_str().to_owned(), form)).collect()
    }

    #[test]
    fn each_spelling_is_found_and_named() {
        let found = |form| vec![(IHI.to_owned(), form)];
        assert_eq!(forms(IHI, "", IHI_OID, "ISO"), found(1));
        for uri in IHI_URIS {
            assert_eq!(forms("8003 6088 3335 7361", "", uri, "URI"), found(2));
        }
        assert_eq!(forms("8003-6088-3335-7361", "AUSHIC", "", ""), found(3));
        assert_eq!(forms("17", "", &format!("{IHI_OID}.{IHI}"), "ISO"), found(4));
        assert_eq!(forms(IHI, "", &format!("{IHI_OID}.{IHI}"), "ISO"), found(4));
        assert_eq!(forms(IHI, "ihi", "", ""), found(5));
        assert_eq!(forms(IHI, "AUSHIC", IHI_OID, "ISO"), found(1));
    }

    #[test]
    fn anything_else_is_no_ihi() {
        for (issuer, universal, universal_type) in
            [("", "", ""), ("HOSP", "", ""), ("", IHI_OID, "URI"), ("", IHI_OID, ""), ("", IHI_URIS[0], "ISO")]
        {
            assert_eq!(forms(IHI, issuer, universal, universal_type), []);
        }
        for id in ["8003608833357362", "8003618833357361", "80036088333573610", "８００３６０８８３３３５７３６１", ""]
        {
            assert_eq!(forms(id, "AUSHIC", "", ""), [], "{id}");
        }
    }

    #[test]
    fn a_bare_ihi_is_a_candidate_only() {
        let claim = Claim { id: Some(IHI.to_owned()), ..Claim::default() };
        assert!(claim.is_candidate() && claim.ihis().is_empty());
        assert!(!Claim { issuer: Some("HOSP".to_owned()), ..claim.clone() }.is_candidate());
        assert!(!Claim { id: Some("8003608833357362".to_owned()), ..claim }.is_candidate());
    }

    #[test]
    fn exactly_one_check_digit_is_right() {
        for first in ["800360883335736", "800360000000000", "800360999999999"] {
            assert_eq!((0..10).filter(|digit| Ihi::parse(&format!("{first}{digit}")).is_some()).count(), 1);
        }
    }
}
