//! How requests say who we are. Nothing here is ever printed.

mod oauth2;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::{
    HeaderMap,
    header::{AUTHORIZATION, HeaderName, HeaderValue},
};
use reqwest::Url;

use self::oauth2::Oauth2;
pub(super) use self::oauth2::encoded;
use super::{fault::Fault, wire::Wire};
use crate::config::Auth;

/// What a request carries to say who we are.
pub(super) enum Credentials {
    /// Nothing.
    None,
    /// A header that does not change.
    Header(HeaderName, HeaderValue),
    /// A parameter of the query.
    Query(String, String),
    /// A token that is fetched.
    Token(Box<Oauth2>),
}

impl Credentials {
    /// Reads the secret.
    ///
    /// # Errors
    /// What is wrong, beginning with the field, without the secret.
    pub fn new(auth: &Auth, wire: &Wire) -> Result<Self, String> {
        let wrong = |what: &str| format!("connector.auth: {what}");
        let secret = auth
            .reveal(|name| std::env::var(name).ok().filter(|text| !text.is_empty()))
            .map_err(|e| wrong(&e.to_string()))?;
        Ok(match auth {
            Auth::None => Self::None,
            Auth::Bearer { .. } => Self::Header(AUTHORIZATION, value(&format!("Bearer {secret}"))?),
            Auth::Basic { user, .. } => Self::Header(AUTHORIZATION, basic(user, &secret)?),
            Auth::Header { header, prefix, .. } => {
                let name = HeaderName::from_bytes(header.as_bytes())
                    .map_err(|_| wrong("header: is not the name of a header"))?;
                Self::Header(name, value(&format!("{prefix}{secret}"))?)
            }
            Auth::Query { parameter, .. } => Self::Query(parameter.clone(), secret),
            Auth::Oauth2 { .. } => Self::Token(Box::new(Oauth2::new(auth, secret, wire.clone())?)),
        })
    }

    /// Puts it into a request.
    pub async fn apply(&self, url: &mut Url, headers: &mut HeaderMap) -> Result<(), Fault> {
        match self {
            Self::None => {}
            Self::Header(name, value) => {
                headers.insert(name.clone(), value.clone());
            }
            Self::Query(name, value) => {
                url.query_pairs_mut().append_pair(name, value);
            }
            Self::Token(oauth2) => {
                headers.insert(AUTHORIZATION, oauth2.bearer().await?);
            }
        }
        Ok(())
    }

    /// The token that was fetched last: a secret as any.
    pub fn token(&self) -> Option<String> {
        match self {
            Self::Token(oauth2) => oauth2.last(),
            _ => None,
        }
    }

    /// The partner refused what a request carried; whether it is worth another try with a new one.
    pub async fn renew(&self, refused: &HeaderMap) -> bool {
        match self {
            Self::Token(oauth2) => oauth2.forget(refused.get(AUTHORIZATION)).await,
            _ => false,
        }
    }
}

/// The user and the password that stand in a URL, decoded (RFC 3986, section 3.2.1).
pub(super) fn user_info(url: &Url) -> (String, String) {
    (decoded(url.username()), decoded(url.password().unwrap_or("")))
}

fn decoded(text: &str) -> String {
    let hex = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let (mut decoded, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((byte, more)) = rest.split_first() {
        let octet = hex(more.first()).zip(hex(more.get(1))).filter(|_| *byte == b'%');
        let octet = octet.and_then(|(high, low)| u8::try_from(16 * high + low).ok());
        decoded.push(octet.unwrap_or(*byte));
        rest = if octet.is_some() { &more[2..] } else { more };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// `Authorization: Basic …`.
pub(super) fn basic(user: &str, password: &str) -> Result<HeaderValue, String> {
    value(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

fn value(text: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| "connector.auth: the secret is not printable ASCII".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}
