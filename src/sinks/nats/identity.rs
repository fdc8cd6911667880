//! Who we are to a NATS server. Nothing here is ever printed.

use std::{fs::File, io::Read, path::Path, sync::Arc};

use async_nats::{Auth as Answer, AuthError};
use nkeys::KeyPair;
use reqwest::Url;

use crate::config::{Auth, StreamConfig};

/// The most bytes of a credentials file.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// See the module.
#[derive(Clone)]
pub(super) enum Identity {
    None,
    User(String, String),
    Token(String),
    /// A user's JWT, and the key that signs the server's challenge.
    Signed(String, Arc<KeyPair>),
}

impl Identity {
    /// Reads what the configuration names.
    ///
    /// # Errors
    /// What is wrong, beginning with the field, without the secret.
    pub fn read(url: &Url, config: &StreamConfig) -> Result<Self, String> {
        if let Some(path) = &config.credentials_file {
            return signed(path)
                .map_err(|e| format!("stream.credentials_file: {}: {e}", path.display()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            // As NATS URLs go: a name without a password is a token.
            let user = url.username().to_owned();
            return Ok(match url.password() {
                Some(password) => Self::User(user, password.to_owned()),
                None => Self::Token(user),
            });
        }
        let secret = config
            .auth
            .reveal(|name| std::env::var(name).ok().filter(|text| !text.is_empty()))
            .map_err(|e| format!("stream.auth: {e}"))?;
        Ok(match &config.auth {
            Auth::Basic { user, .. } => Self::User(user.clone(), secret),
            Auth::Bearer { .. } => Self::Token(secret),
            _ => Self::None,
        })
    }

    /// What no text of a server's may carry on.
    pub fn secrets(&self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::User(_, secret) | Self::Token(secret) | Self::Signed(secret, _) => {
                vec![secret.clone()]
            }
        }
    }

    /// The answer to a server's challenge.
    pub fn answer(&self, nonce: &[u8]) -> Result<Answer, AuthError> {
        let mut answer = Answer::new();
        match self {
            Self::None => {}
            Self::User(user, password) => {
                answer.username = Some(user.clone());
                answer.password = Some(password.clone());
            }
            Self::Token(token) => answer.token = Some(token.clone()),
            Self::Signed(jwt, key) => {
                answer.jwt = Some(jwt.clone());
                answer.signature = Some(key.sign(nonce).map_err(AuthError::new)?);
            }
        }
        Ok(answer)
    }
}

fn signed(path: &Path) -> Result<Identity, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|e| e.to_string())?;
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|e| e.to_string())?;
    let jwt = between(&text, "NATS USER JWT").ok_or("has no NATS USER JWT")?;
    let seed = between(&text, "USER NKEY SEED").ok_or("has no USER NKEY SEED")?;
    let key = KeyPair::from_seed(seed).map_err(|_| "its USER NKEY SEED can't be read")?;
    Ok(Identity::Signed(jwt.to_owned(), Arc::new(key)))
}

/// What stands between `-----BEGIN x-----` and `------END x------`.
fn between<'a>(text: &'a str, what: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("BEGIN {what}"))?;
    let (body, _) = rest.split_once(&format!("END {what}"))?;
    Some(body.trim_matches(|c: char| c == '-' || c.is_whitespace())).filter(|s| !s.is_empty())
}
