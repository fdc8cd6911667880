//! Standard Webhooks: what is sent is signed with a secret that the receiver shares, over its id,
//! the second of the attempt and the body.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::config::signing_key;

/// Signs messages with one secret; never shows it.
#[derive(Clone)]
pub struct Signer(Hmac<Sha256>);

impl Signer {
    /// A signer for a `whsec_` secret.
    ///
    /// # Errors
    /// What is wrong with the secret, without showing it.
    pub fn new(secret: &str) -> Result<Self, String> {
        let key = signing_key(secret)?;
        Hmac::new_from_slice(&key).map(Self).map_err(|e| format!("signing_secret: {e}"))
    }

    /// The value of `webhook-signature`.
    pub fn sign(&self, id: &str, timestamp_s: u64, body: &[u8]) -> String {
        let mac = self.mac(id, timestamp_s, body).finalize().into_bytes();
        format!("v1,{}", STANDARD.encode(mac))
    }

    /// Whether one of the space-separated signatures of a header is right; in constant time each.
    pub fn verify(&self, header: &str, id: &str, timestamp_s: u64, body: &[u8]) -> bool {
        header.split(' ').filter_map(|signature| signature.strip_prefix("v1,")).any(|text| {
            STANDARD
                .decode(text)
                .is_ok_and(|mac| self.mac(id, timestamp_s, body).verify_slice(&mac).is_ok())
        })
    }

    fn mac(&self, id: &str, timestamp_s: u64, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(format!("{id}.{timestamp_s}.").as_bytes());
        mac.update(body);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks reference libraries.
    #[test]
    fn signs_as_the_standard_has_it() {
        let signer = Signer::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let (id, at) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330);
        let body = br#"{"test": 2432232314}"#;
        let signature = signer.sign(id, at, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(signer.verify(&format!("v2,x {signature}"), id, at, body));
        assert!(!signer.verify(&signature, id, at + 1, body));
        assert!(!signer.verify(&signature, id, at, b"{}"));
        assert!(!signer.verify("", id, at, body));
    }
}
