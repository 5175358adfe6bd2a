//! Where everything stands in an envelope: the names that both versions of JMIX share.

/// The clear documents of an envelope.
pub const MANIFEST: &str = "manifest.json";
/// JWS over the exact bytes of [`MANIFEST`].
pub const SIGNATURE: &str = "manifest.jws";
/// Who did what with the envelope; not signed.
pub const AUDIT: &str = "audit.json";
/// Inside the payload: patient and study.
pub const METADATA: &str = "metadata.json";
/// Inside the payload: every other file of it with its hash.
pub const FILES: &str = "files.json";
/// Inside the payload: folder of the instances.
pub const DICOM: &str = "dicom/";
/// Inside the payload: folder of everything that is not DICOM.
pub const OTHER: &str = "files/";
/// Inside the payload: folder of small pictures, one a series.
pub const PREVIEW: &str = "preview/";

/// The only `version` of JMIX there is.
pub const VERSION: &str = "1.0";
