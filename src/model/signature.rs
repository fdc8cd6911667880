//! Signatures of messages between Holdfast and its partners, in both directions, and API keys.
//!
//! - [`Signer`] signs what is sent (Standard Webhooks: over the id, the second of the attempt and the
//!   body), [`Verifier`] checks what comes: the same scheme, or Stripe's.
//! - A comparison with a secret takes the same time whatever the difference, and a message is hashed
//!   once however many signatures its header has.
//! - No secret is ever shown: not in an error, not by `Debug`.

use std::fmt;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use hmac::{
    Hmac, KeyInit, Mac,
    digest::{CtOutput, Digest, Output},
};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::{Invalid, KEY_CHARS_MAX};

/// The most signatures of one header that are looked at; a sender has one for each of its secrets.
const SIGNATURES_MAX: usize = 16;

/// The key in a `whsec_` secret of Standard Webhooks.
///
/// # Errors
/// What is wrong, without the secret.
pub fn signing_key(secret: &str) -> Result<Vec<u8>, Invalid> {
    const WRONG: Invalid = Invalid("must be `whsec_` and 24 to 64 bytes in base64");
    let text = secret.strip_prefix("whsec_").ok_or(WRONG)?;
    let key = STANDARD.decode(text).map_err(|_| WRONG)?;
    if (24..=64).contains(&key.len()) { Ok(key) } else { Err(WRONG) }
}

fn mac_of(key: &[u8]) -> Result<Hmac<Sha256>, Invalid> {
    Hmac::new_from_slice(key).map_err(|_| Invalid("can't be used as a key"))
}

/// Signs messages with one secret.
#[derive(Clone)]
pub struct Signer(Hmac<Sha256>);

impl Signer {
    /// A signer for a `whsec_` secret.
    ///
    /// # Errors
    /// What is wrong with the secret.
    pub fn new(secret: &str) -> Result<Self, Invalid> {
        mac_of(&signing_key(secret)?).map(Self)
    }

    /// The value of `webhook-signature`.
    pub fn sign(&self, id: &str, timestamp_s: u64, body: &[u8]) -> String {
        let mac = self.mac(id, timestamp_s, body).into_bytes();
        format!("v1,{}", STANDARD.encode(mac))
    }

    /// Whether one of the space-separated signatures of a header is right.
    pub fn verify(&self, header: &str, id: &str, timestamp_s: u64, body: &[u8]) -> bool {
        let expected = self.mac(id, timestamp_s, body);
        let signatures = header.split(' ').filter_map(|signature| signature.strip_prefix("v1,"));
        let decoded = signatures.take(SIGNATURES_MAX).filter_map(|text| STANDARD.decode(text).ok());
        any_equal(&expected, decoded)
    }

    fn mac(&self, id: &str, timestamp_s: u64, body: &[u8]) -> CtOutput<Hmac<Sha256>> {
        let mut mac = self.0.clone();
        mac.update(format!("{id}.{timestamp_s}.").as_bytes());
        mac.update(body);
        mac.finalize()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

/// Whether one of the candidates is the expected code, in a time that does not tell how near one came.
fn any_equal(expected: &CtOutput<Hmac<Sha256>>, candidates: impl Iterator<Item = Vec<u8>>) -> bool {
    candidates.fold(false, |found, candidate| {
        let candidate: Option<Output<Sha256>> = candidate.as_slice().try_into().ok();
        found | candidate.is_some_and(|code| CtOutput::from(code) == *expected)
    })
}

/// How a partner signs what it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// Standard Webhooks: the headers `webhook-id`, `webhook-timestamp`, `webhook-signature`.
    #[default]
    StandardWebhooks,
    /// Stripe's: the header `Stripe-Signature` with `t=` and `v1=`; the message's id is the body's
    /// `id`.
    Stripe,
}

impl Scheme {
    /// Checks a secret of this scheme: `whsec_` and base64, or for Stripe the text as it gives it.
    ///
    /// # Errors
    /// What is wrong, without the secret.
    pub fn check_secret(self, secret: &str) -> Result<(), Invalid> {
        self.key(secret).map(drop)
    }

    /// The header that has the signature.
    pub fn signature_header(self) -> &'static str {
        match self {
            Self::StandardWebhooks => "webhook-signature",
            Self::Stripe => "stripe-signature",
        }
    }

    fn key(self, secret: &str) -> Result<Vec<u8>, Invalid> {
        match self {
            Self::StandardWebhooks => signing_key(secret),
            Self::Stripe => {
                let visible = secret.bytes().all(|b| b.is_ascii_graphic());
                if (16..=KEY_CHARS_MAX).contains(&secret.len()) && visible {
                    return Ok(secret.as_bytes().to_vec());
                }
                Err(Invalid("must be 16 to 255 visible ASCII characters, as Stripe gives it"))
            }
        }
    }
}

/// Why a message is not taken for the partner's. Nothing of the secret or of the right signature is
/// in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// A header that the scheme needs.
    #[error("the header `{0}` is missing, given twice, or not of the form that it must have")]
    Header(&'static str),
    /// The message's time is too far from now.
    #[error(
        "the timestamp is {off_s} s {} the server's clock, more than the {tolerance_s} s that are \
         tolerated; sign each attempt anew, and check the clock", if *.ahead { "ahead of" } else { "behind" }
    )]
    Stale {
        /// How far.
        off_s: u64,
        /// Whether it is from the future.
        ahead: bool,
        /// How far it may be.
        tolerance_s: u64,
    },
    /// No signature is right.
    #[error(
        "no signature is right: another secret, or the body was changed after it was signed (it must \
         be signed byte for byte as it is sent)"
    )]
    Signature,
}

/// Checks what one partner sends.
#[derive(Clone)]
pub struct Verifier {
    scheme: Scheme,
    signer: Signer,
    tolerance_s: u64,
}

impl Verifier {
    /// A verifier of messages signed with `secret`, at most `tolerance_s` seconds from now.
    ///
    /// # Errors
    /// What is wrong with the secret.
    pub fn new(scheme: Scheme, secret: &str, tolerance_s: u64) -> Result<Self, Invalid> {
        let signer = Signer(mac_of(&scheme.key(secret)?)?);
        Ok(Self { scheme, signer, tolerance_s })
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Checks a message against its headers, given by name (absent where one is given twice). Answers
    /// with the message's id where a header has it.
    ///
    /// # Errors
    /// Why the message is not the partner's, or not of now.
    pub fn verify<'h>(
        &self,
        header: impl Fn(&'static str) -> Option<&'h str>,
        body: &[u8],
        now_s: u64,
    ) -> Result<Option<&'h str>, Unverified> {
        let given = |name| header(name).ok_or(Unverified::Header(name));
        match self.scheme {
            Scheme::StandardWebhooks => {
                let id = given("webhook-id")?;
                let at = given("webhook-timestamp")?;
                let at = second(at).ok_or(Unverified::Header("webhook-timestamp"))?;
                let signatures = given(self.scheme.signature_header())?;
                self.check_time(at, now_s)?;
                match self.signer.verify(signatures, id, at, body) {
                    true => Ok(Some(id)),
                    false => Err(Unverified::Signature),
                }
            }
            Scheme::Stripe => {
                let name = self.scheme.signature_header();
                let (parts, wrong) = (given(name)?, Unverified::Header(name));
                let part = |name| move |part: &'h str| part.trim().strip_prefix(name);
                let at = parts.split(',').find_map(part("t=")).and_then(second).ok_or(wrong)?;
                self.check_time(at, now_s)?;
                let codes = parts.split(',').filter_map(part("v1=")).filter_map(from_hex);
                let mut mac = self.signer.0.clone();
                mac.update(format!("{at}.").as_bytes());
                mac.update(body);
                match any_equal(&mac.finalize(), codes.take(SIGNATURES_MAX)) {
                    true => Ok(None),
                    false => Err(Unverified::Signature),
                }
            }
        }
    }

    fn check_time(&self, at_s: u64, now_s: u64) -> Result<(), Unverified> {
        let (off_s, tolerance_s) = (at_s.abs_diff(now_s), self.tolerance_s);
        if off_s <= tolerance_s {
            return Ok(());
        }
        Err(Unverified::Stale { off_s, ahead: at_s > now_s, tolerance_s })
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("scheme", &self.scheme)
            .field("tolerance_s", &self.tolerance_s)
            .finish_non_exhaustive()
    }
}

/// Digits only: other spellings of the same number would be signed otherwise.
fn second(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    if digits { text.parse().ok() } else { None }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    if text.len() > 128 || !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes().chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// What is kept of an API key: its SHA-256. Good for keys made at random, which is what they must be.
#[derive(Clone, Copy)]
pub struct KeyHash([u64; 4]);

impl KeyHash {
    /// The hash of a key.
    pub fn of(key: &str) -> Self {
        Self::from_bytes(&Sha256::digest(key.as_bytes()).into())
    }

    /// Reads 64 hexadecimal digits.
    ///
    /// # Errors
    /// If it is something else.
    pub fn from_hex(text: &str) -> Result<Self, Invalid> {
        const WRONG: Invalid = Invalid("must be the 64 hexadecimal digits of a key's SHA-256");
        let bytes = from_hex(text).ok_or(WRONG)?;
        let hash: [u8; 32] = bytes.as_slice().try_into().map_err(|_| WRONG)?;
        Ok(Self::from_bytes(&hash))
    }

    /// The hash of these bytes.
    pub fn from_bytes(hash: &[u8; 32]) -> Self {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(hash.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Self(words)
    }

    /// Its bytes.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(self.0) {
            *bytes = word.to_le_bytes();
        }
        bytes
    }

    /// All ones if the two are the same, else 0; without a branch, whatever the difference.
    fn is(&self, other: &Self) -> u64 {
        let differ = self.0.iter().zip(&other.0).fold(0, |differ, (a, b)| differ | (a ^ b));
        // Kept from the compiler, which would make a branch of what is compared with 0 afterwards.
        let differ = std::hint::black_box(differ);
        let differs = (differ | differ.wrapping_neg()) >> 63;
        differs.wrapping_sub(1)
    }

    /// The last of `known` that is the same. All are compared, each in constant time, so that how long it
    /// takes tells only how many there are.
    pub fn find<'k>(&self, known: impl Iterator<Item = &'k Self>) -> Option<usize> {
        let mut found = 0;
        for (number, known) in (1..).zip(known) {
            let same = self.is(known);
            found = found & !same | number & same;
        }
        usize::try_from(found).ok()?.checked_sub(1)
    }
}

impl PartialEq for KeyHash {
    /// In constant time.
    fn eq(&self, other: &Self) -> bool {
        self.is(other) != 0
    }
}

impl Eq for KeyHash {}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash")
    }
}

/// An API key, made at random: 256 bits. It is shown once, by whoever asks for its text, and never by
/// `Debug`.
pub struct ApiKey(String);

impl ApiKey {
    /// A new one.
    ///
    /// # Errors
    /// If the system has no random bytes.
    pub fn random() -> Result<Self, Invalid> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|_| Invalid("the system has no random bytes"))?;
        Ok(Self(format!("hf_{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// Its hash, which may be kept.
    pub fn hash(&self) -> KeyHash {
        KeyHash::of(&self.0)
    }

    /// Its text, for the one to whom it is shown.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey")
    }
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
