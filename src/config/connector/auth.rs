//! How we say who we are. Secrets stand in the file or, better, in variables of the environment that
//! the file names; these are read when the server starts, so that a configuration can be checked where
//! its secrets are not. None is ever printed.

use serde::{Deserialize, Serialize};

use crate::config::partner::check_variable;

/// How we say who we are.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Auth {
    /// We don't.
    #[default]
    None,
    /// `Authorization: Bearer …` with a token that does not change.
    Bearer {
        /// The token.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<String>,
        /// The variable that holds it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token_env: Option<String>,
    },
    /// `Authorization: Basic …`.
    Basic {
        /// The user's name.
        user: String,
        /// The password.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        password: Option<String>,
        /// The variable that holds it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        password_env: Option<String>,
    },
    /// A key in a header of its own.
    Header {
        /// The header's name.
        header: String,
        /// What stands before the key, such as `token `.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        prefix: String,
        /// The key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        api_key: Option<String>,
        /// The variable that holds it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        api_key_env: Option<String>,
    },
    /// A key in the query. Proxies write queries down: prefer a header where there is a choice.
    Query {
        /// The parameter's name.
        parameter: String,
        /// The key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        api_key: Option<String>,
        /// The variable that holds it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        api_key_env: Option<String>,
    },
    /// OAuth 2.0 client credentials (RFC 6749, section 4.4): tokens are kept until shortly before they
    /// expire, and fetched anew once if one is refused.
    Oauth2 {
        /// Where tokens are fetched.
        token_url: String,
        /// Who we are.
        client_id: String,
        /// The client's secret.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client_secret: Option<String>,
        /// The variable that holds it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client_secret_env: Option<String>,
        /// What the token is for. Default none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scope: Option<String>,
        /// Where id and secret stand: `basic` (a header) or `body`. Default `basic`.
        #[serde(default)]
        client_auth: ClientAuth,
    },
}

/// Where a client's id and secret stand in a request for a token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// `Authorization: Basic …`.
    #[default]
    Basic,
    /// In the form.
    Body,
}

/// A secret that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the variable {0} is not set or is no text; it must hold the secret")]
pub struct NoSecret(pub String);

impl Auth {
    /// The secret, or the variable that holds it, with the field's name.
    fn secret(&self) -> Option<(&'static str, Option<&String>, Option<&String>)> {
        match self {
            Self::None => None,
            Self::Bearer { token, token_env } => {
                Some(("token", token.as_ref(), token_env.as_ref()))
            }
            Self::Basic { password, password_env, .. } => {
                Some(("password", password.as_ref(), password_env.as_ref()))
            }
            Self::Header { api_key, api_key_env, .. }
            | Self::Query { api_key, api_key_env, .. } => {
                Some(("api_key", api_key.as_ref(), api_key_env.as_ref()))
            }
            Self::Oauth2 { client_secret, client_secret_env, .. } => {
                Some(("client_secret", client_secret.as_ref(), client_secret_env.as_ref()))
            }
        }
    }

    /// The secret; empty where there is none. `variable` reads the environment.
    ///
    /// # Errors
    /// If the variable is not set.
    pub fn reveal(&self, variable: impl Fn(&str) -> Option<String>) -> Result<String, NoSecret> {
        match self.secret() {
            Some((_, Some(secret), _)) => Ok(secret.clone()),
            Some((_, None, Some(name))) => variable(name).ok_or_else(|| NoSecret(name.clone())),
            _ => Ok(String::new()),
        }
    }

    /// Checks every field; `auth.` stands before its name.
    pub(in crate::config) fn check(&self) -> Result<(), String> {
        if let Some((field, given, variable)) = self.secret() {
            if given.is_some() == variable.is_some() {
                return Err(format!("auth.{field}: must be given, or `{field}_env`, and not both"));
            }
            check_variable(&format!("auth.{field}_env"), variable.map(String::as_str))?;
            let visible = |text: &String| text.bytes().all(|b| (0x20..=0x7e).contains(&b));
            if given.is_some_and(|secret| secret.is_empty() || !visible(secret)) {
                return Err(format!("auth.{field}: must be printable ASCII"));
            }
        }
        match self {
            Self::Header { header, .. } => {
                reqwest::header::HeaderName::from_bytes(header.as_bytes())
                    .map_err(|_| "auth.header: is not the name of a header".to_owned())?;
                Ok(())
            }
            Self::Query { parameter, .. } if parameter.is_empty() => {
                Err("auth.parameter: must not be empty".into())
            }
            Self::Oauth2 { token_url, .. } => {
                let url =
                    reqwest::Url::parse(token_url).map_err(|e| format!("auth.token_url: {e}"))?;
                match url.scheme() {
                    "https" | "http" => Ok(()),
                    _ => Err("auth.token_url: must begin with https:// or http://".into()),
                }
            }
            _ => Ok(()),
        }
    }
}
