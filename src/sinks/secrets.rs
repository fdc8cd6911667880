//! Secrets are struck from what a partner says before anybody reads it: one that repeats our own request
//! in its error would else write them into logs and dead letters.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::auth::{encoded, user_info};
use crate::{
    config::{Auth, Connector, SinkConfig, address},
    delivery::Outcome,
};

/// The shortest text that is looked for: of a shorter one, every answer would be full.
const BYTES_MIN: usize = 4;
const STRUCK: &str = "(hidden)";

/// See the module.
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// Those of a sink.
    pub fn of(config: &SinkConfig, connector: &Connector) -> Self {
        let revealed = connector.auth.reveal(|name| std::env::var(name).ok()).unwrap_or_default();
        let mut all: Vec<String> = config.headers.values().cloned().collect();
        let basic = |user: &str, password: &str| STANDARD.encode(format!("{user}:{password}"));
        match &connector.auth {
            Auth::Basic { user, .. } => all.push(basic(user, &revealed)),
            // As it stands in the query that it goes out in.
            Auth::Query { .. } => all.push(encoded(&revealed)),
            _ => {}
        }
        all.push(revealed);
        all.extend(config.signing_secret.clone());
        all.extend(address::query_values(&config.url));
        if let Ok(url) = reqwest::Url::parse(&config.url)
            && let Some(password) = url.password()
        {
            let (user, decoded) = user_info(&url);
            all.extend([password.to_owned(), basic(&user, &decoded), decoded]);
        }
        Self::of_texts(&all)
    }

    /// These.
    pub fn of_texts(all: &[String]) -> Self {
        // Of `Bearer abc`, `abc` is the secret.
        let words = all.iter().flat_map(|text| text.split(' ')).map(str::to_owned);
        let mut words: Vec<String> = words.filter(|word| word.len() >= BYTES_MIN).collect();
        words.retain(|word| !["Bearer", "bearer", "Basic", "basic", "token"].contains(&&**word));
        words.sort_by_key(|word| std::cmp::Reverse(word.len()));
        Self(words)
    }

    /// What came of an attempt, with secrets struck and the answer cut.
    pub fn struck_from(
        &self,
        outcome: Outcome,
        token: Option<String>,
        chars_max: usize,
    ) -> Outcome {
        let struck = |text: &str| self.struck(text, token.as_deref());
        match outcome {
            Outcome::Done { status, mut rejected } => {
                rejected.iter_mut().for_each(|line| line.reason = struck(&line.reason));
                Outcome::Done { status, rejected }
            }
            Outcome::Refused { status, mut rejected, answer } => {
                rejected.iter_mut().for_each(|line| line.reason = struck(&line.reason));
                let answer = struck(&answer).chars().take(chars_max).collect();
                Outcome::Refused { status, rejected, answer }
            }
            Outcome::Failed { reason, retry_after, effect } => {
                Outcome::Failed { reason: struck(&reason), retry_after, effect }
            }
            Outcome::Unclear { status, reason } => {
                Outcome::Unclear { status, reason: struck(&reason) }
            }
            own @ (Outcome::Denied { .. } | Outcome::Withheld { .. }) => own,
        }
    }

    fn struck(&self, text: &str, token: Option<&str>) -> String {
        let secrets = self.0.iter().map(String::as_str).chain(token);
        secrets.fold(text.to_owned(), |text, secret| match text.contains(secret) {
            true => text.replace(secret, STRUCK),
            false => text,
        })
    }
}
