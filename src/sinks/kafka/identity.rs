//! Who we are to a broker: SASL `PLAIN` (RFC 4616), `SCRAM-SHA-256` and `SCRAM-SHA-512` (RFC 5802, 7677).
//! Nothing here is ever printed.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{
    Hmac, KeyInit, Mac,
    digest::{Digest, block_api::EagerHash},
};
use sha2::{Sha256, Sha512};

use super::{
    connection::{Api, Connection},
    trouble::{Trouble, code},
    wire::{Reader, Writer},
};
use crate::config::{Auth, KafkaConfig, Sasl};

/// The most rounds that a broker may ask for, which would else keep a processor busy.
const ITERATIONS_MAX: u32 = 100_000;

/// See the module.
#[derive(Clone)]
pub(super) enum Identity {
    None,
    Sasl { mechanism: Sasl, user: String, password: String },
}

impl Identity {
    /// Reads what the configuration names.
    ///
    /// # Errors
    /// What is wrong, beginning with the field, without the secret.
    pub fn read(config: &KafkaConfig) -> Result<Self, String> {
        let Auth::Basic { user, .. } = &config.auth else { return Ok(Self::None) };
        let password = config
            .auth
            .reveal(|name| std::env::var(name).ok().filter(|text| !text.is_empty()))
            .map_err(|e| format!("kafka.auth: {e}"))?;
        Ok(Self::Sasl { mechanism: config.sasl, user: user.clone(), password })
    }

    /// What no text of a broker's may carry on.
    pub fn secrets(&self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::Sasl { password, .. } => vec![password.clone()],
        }
    }

    /// Says it.
    pub async fn show(&self, connection: &mut Connection) -> Result<(), Trouble> {
        let Self::Sasl { mechanism, user, password } = self else { return Ok(()) };
        handshake(connection, mechanism.as_str()).await?;
        match mechanism {
            Sasl::Plain => {
                exchange(connection, format!("\0{user}\0{password}").as_bytes()).await.map(|_| ())
            }
            Sasl::ScramSha256 => scram::<Sha256>(connection, user, password).await,
            Sasl::ScramSha512 => scram::<Sha512>(connection, user, password).await,
        }
    }
}

async fn handshake(connection: &mut Connection, mechanism: &str) -> Result<(), Trouble> {
    let mut body = Writer::default();
    body.text(mechanism);
    let mut answer = connection.call(Api::SASL_HANDSHAKE, &body).await?;
    Trouble::unless_none("SaslHandshake", format!(" with {mechanism}"), answer.i16()?)
}

/// One step of the exchange.
async fn exchange(connection: &mut Connection, said: &[u8]) -> Result<Vec<u8>, Trouble> {
    let mut body = Writer::default();
    body.bytes(said);
    let mut answer: Reader = connection.call(Api::SASL_AUTHENTICATE, &body).await?;
    let refused = answer.i16()?;
    answer.text()?;
    Trouble::unless_none("SaslAuthenticate", String::new(), refused)?;
    Ok(answer.bytes()?.to_vec())
}

async fn scram<D: Digest + EagerHash>(
    connection: &mut Connection,
    user: &str,
    password: &str,
) -> Result<(), Trouble>
where
    Hmac<D>: Mac + KeyInit,
{
    let mut random = [0; 18];
    getrandom::fill(&mut random).map_err(|e| Trouble::Unauthenticated(e.to_string()))?;
    let first = ClientFirst::new(user, &STANDARD.encode(random));
    let challenge = exchange(connection, first.message().as_bytes()).await?;
    let proof = first.answer::<D>(password, &challenge)?;
    let last = exchange(connection, proof.message.as_bytes()).await?;
    match last == proof.expected.as_bytes() {
        true => Ok(()),
        // Whoever this is does not know our password.
        false => Err(Trouble::Said {
            api: "SaslAuthenticate",
            place: String::new(),
            code: code::SASL_AUTHENTICATION_FAILED,
        }),
    }
}

/// What a client says first.
struct ClientFirst {
    nonce: String,
    bare: String,
}

/// What it says last, and what the server must say to that.
struct Proof {
    message: String,
    expected: String,
}

impl ClientFirst {
    fn new(user: &str, nonce: &str) -> Self {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        Self { nonce: nonce.to_owned(), bare: format!("n={user},r={nonce}") }
    }

    fn message(&self) -> String {
        format!("n,,{}", self.bare)
    }

    fn answer<D: Digest + EagerHash>(
        &self,
        password: &str,
        challenge: &[u8],
    ) -> Result<Proof, Trouble>
    where
        Hmac<D>: Mac + KeyInit,
    {
        const WRONG: Trouble = Trouble::Unreadable("its SCRAM challenge");
        let challenge = std::str::from_utf8(challenge).map_err(|_| WRONG)?;
        let part = |name| challenge.split(',').find_map(|part| part.strip_prefix(name));
        let (nonce, salt) = (part("r=").ok_or(WRONG)?, part("s=").ok_or(WRONG)?);
        let salt = STANDARD.decode(salt).map_err(|_| WRONG)?;
        let rounds: u32 = part("i=").and_then(|i| i.parse().ok()).ok_or(WRONG)?;
        if !nonce.starts_with(&self.nonce) || !(1..=ITERATIONS_MAX).contains(&rounds) {
            return Err(WRONG);
        }
        let salted = stretched::<D>(password.as_bytes(), &salt, rounds)?;
        let client_key = mac::<D>(&salted, b"Client Key")?;
        let without_proof = format!("c=biws,r={nonce}");
        let said = format!("{},{challenge},{without_proof}", self.bare);
        let signature = mac::<D>(&D::digest(&client_key), said.as_bytes())?;
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let server = mac::<D>(&mac::<D>(&salted, b"Server Key")?, said.as_bytes())?;
        Ok(Proof {
            message: format!("{without_proof},p={}", STANDARD.encode(proof)),
            expected: format!("v={}", STANDARD.encode(server)),
        })
    }
}

fn mac<D: Digest + EagerHash>(key: &[u8], text: &[u8]) -> Result<Vec<u8>, Trouble>
where
    Hmac<D>: Mac + KeyInit,
{
    let wrong = |_| Trouble::Unauthenticated("the password can't be used as a key".into());
    let mut mac = <Hmac<D> as KeyInit>::new_from_slice(key).map_err(wrong)?;
    mac.update(text);
    Ok(mac.finalize().into_bytes().to_vec())
}

/// PBKDF2 (RFC 8018) of one block, which RFC 5802 calls `Hi`.
fn stretched<D: Digest + EagerHash>(
    password: &[u8],
    salt: &[u8],
    rounds: u32,
) -> Result<Vec<u8>, Trouble>
where
    Hmac<D>: Mac + KeyInit,
{
    let mut last = mac::<D>(password, &[salt, &[0, 0, 0, 1]].concat())?;
    let mut all = last.clone();
    for _ in 1..rounds {
        last = mac::<D>(password, &last)?;
        all.iter_mut().zip(&last).for_each(|(sum, byte)| *sum ^= byte);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677, section 3.
    #[test]
    fn the_proof_is_that_of_the_standard() {
        let first = ClientFirst::new("user", "rOprNGfwEbeRWgbNEkqO");
        assert_eq!(first.message(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let challenge = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                         s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let proof = first.answer::<Sha256>("pencil", challenge.as_bytes()).unwrap();
        let expected = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(proof.message, expected);
        assert_eq!(proof.expected, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert_eq!(ClientFirst::new("a=b,c", "r").bare, "n=a=3Db=2Cc,r=r");
    }

    #[test]
    fn a_challenge_that_is_none_is_refused() {
        let first = ClientFirst::new("user", "abc");
        for challenge in [
            "",
            "r=abcd,s=AAAA",
            "r=abcd,s=AAAA,i=0",
            "r=abcd,s=AAAA,i=100001",
            "r=xabcd,s=AAAA,i=4096",
            "r=abcd,s=?,i=4096",
            "r=abcd,i=4096",
        ] {
            assert!(first.answer::<Sha256>("p", challenge.as_bytes()).is_err(), "{challenge}");
        }
        assert!(first.answer::<Sha512>("p", b"r=abcd,s=AAAA,i=1").is_ok());
        assert!(first.answer::<Sha256>("p", &[0xff]).is_err());
    }
}
