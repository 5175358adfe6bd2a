//! The system's randomness, as keys and IVs.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use mdg_core::seal::keys::{Secret, X25519Key, hedged};
use mdg_core::{Error, Result};
use zeroize::Zeroizing;

/// Fills `bytes`. [`Error::Source`] when the system has none.
pub fn fill(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|error| Error::source("random numbers", error.to_string()))
}

/// A new private key of 32 bytes.
pub fn secret() -> Result<Secret> {
    let mut bytes = Zeroizing::new([0; 32]);
    fill(bytes.as_mut_slice())?;
    Ok(bytes)
}

/// An ephemeral key and an IV for one envelope (seg/1 9.4): from the system's generator, mixed with what differs between
/// two runs of a machine that was cloned or rolled back.
pub fn ephemeral(envelope_id: &str) -> Result<(X25519Key, [u8; 12])> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let boot = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let context = [
        envelope_id.as_bytes(),
        &since.as_nanos().to_be_bytes(),
        &boot,
        &std::process::id().to_be_bytes(),
        &count.to_be_bytes(),
    ]
    .concat();
    let derived = |purpose| {
        let mut random = Zeroizing::new([0; 64]);
        fill(random.as_mut_slice())?;
        Ok(hedged(&random, purpose, &context))
    };
    let (key, iv) = (derived("eph")?, derived("iv")?);
    let mut short = [0; 12];
    short.copy_from_slice(&iv[..12]);
    Ok((X25519Key::from_secret(&key), short))
}
