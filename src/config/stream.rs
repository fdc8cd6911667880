//! How a stream reaches a message broker: `[sinks.stream]`, of sinks whose `url` begins with `nats://` or
//! `tls://`. The other settings of the sink (window, time limit, policy) count as for any partner.
//!
//! It promises what that of a sink promises: every default and unit stands at its field, what is wrong is
//! named, and no secret is printed.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::Auth;

/// The most bytes of a subject's template, and of a stream's name.
const NAME_BYTES_MAX: usize = 256;
/// The longest duplicate window that can be asked for, in milliseconds: 30 days.
const WINDOW_MS_MAX: u64 = 30 * 86_400_000;

/// See the module.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreamConfig {
    /// The subject of an event's message. `{type}` becomes what stands in the event's type between
    /// `holdfast.` and `.v1` (`order.placed`), `{subject}` the event's subject (an order, a reservation)
    /// as one token: what a token can't hold is written `%XX`. Default `holdfast.{type}`.
    pub subject: String,
    /// The stream that must take the messages. It is looked up at every new connection, and each
    /// message asks for it. Default absent: whichever stream listens to the subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// The least time, in milliseconds, for which `stream` must recognise repeats (its duplicate window);
    /// with less nothing is sent. Default 120,000, the server's own default.
    pub duplicate_window_ms_min: u64,
    /// How we say who we are: `none`, `basic` (user and password) or `bearer` (a token). Default `none`.
    #[serde(skip_serializing_if = "is_none")]
    pub auth: Auth,
    /// A file with a user's JWT and NKEY seed (`.creds`), instead of `auth`. Default absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
    /// A file of certificates (PEM) that are trusted instead of the system's. Default absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            subject: "holdfast.{type}".into(),
            stream: None,
            duplicate_window_ms_min: 120_000,
            auth: Auth::None,
            credentials_file: None,
            ca_file: None,
        }
    }
}

impl fmt::Debug for StreamConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamConfig")
            .field("subject", &self.subject)
            .field("stream", &self.stream)
            .field("duplicate_window_ms_min", &self.duplicate_window_ms_min)
            .field("authenticates", &!is_none(&self.auth))
            .field("credentials_file", &self.credentials_file)
            .field("ca_file", &self.ca_file)
            .finish()
    }
}

fn is_none(auth: &Auth) -> bool {
    *auth == Auth::None
}

impl StreamConfig {
    /// The same without what must not be shown.
    pub fn without_secrets(mut self) -> Self {
        let secret = match &mut self.auth {
            Auth::Bearer { token, .. } => token.as_mut(),
            Auth::Basic { password, .. } => password.as_mut(),
            _ => None,
        };
        if let Some(secret) = secret {
            "(hidden)".clone_into(secret);
        }
        self
    }

    /// Checks every field; `url_has_user` says whether the URL says who we are.
    ///
    /// # Errors
    /// What is wrong, beginning with the field's name.
    pub fn validate(&self, url_has_user: bool) -> Result<(), String> {
        SubjectTemplate::parse(&self.subject).map_err(|e| format!("subject: {e}"))?;
        if let Some(name) = &self.stream {
            let wrong = |c: char| c.is_whitespace() || c.is_control() || ".*>/\\".contains(c);
            if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(wrong) {
                return Err("stream: must be 1 to 256 bytes without white space, `.`, `*`, `>`, \
                            `/` or `\\`"
                    .into());
            }
        }
        if !(1..=WINDOW_MS_MAX).contains(&self.duplicate_window_ms_min) {
            return Err(format!("duplicate_window_ms_min: must be 1 to {WINDOW_MS_MAX}"));
        }
        if !matches!(self.auth, Auth::None | Auth::Basic { .. } | Auth::Bearer { .. }) {
            return Err("auth.kind: must be none, basic or bearer".into());
        }
        self.auth.check()?;
        let ways = [url_has_user, !is_none(&self.auth), self.credentials_file.is_some()];
        if ways.into_iter().filter(|way| *way).count() > 1 {
            return Err(
                "auth: a user in `url`, `auth` and `credentials_file` exclude each other".into()
            );
        }
        Ok(())
    }
}

/// A subject with places for what an event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectTemplate(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Type,
    Subject,
}

impl SubjectTemplate {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > NAME_BYTES_MAX {
            return Err(format!("must be 1 to {NAME_BYTES_MAX} bytes"));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or("has a `{` without a `}`")?;
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(match name {
                "type" => Piece::Type,
                "subject" => Piece::Subject,
                other => {
                    return Err(format!("knows no {{{other}}}; there are {{type}}, {{subject}}"));
                }
            });
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        let template = Self(pieces);
        match template.render("order.placed", "O-1") {
            subject if subject.starts_with('$') || subject.starts_with("_INBOX.") => {
                Err("must not begin with `$` or `_INBOX.`: those are the server's own".into())
            }
            subject if is_subject(&subject) => Ok(template),
            _ => Err("must be tokens of visible characters between single dots, without `*` and \
                      `>`"
            .into()),
        }
    }

    /// The subject of an event: of a name such as `order.placed`, and a subject.
    pub fn render(&self, name: &str, subject: &str) -> String {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Type => {
                    let tokens = name.split('.').map(token);
                    out.push_str(&tokens.collect::<Vec<_>>().join("."));
                }
                Piece::Subject => out.push_str(&token(subject)),
            }
        }
        out
    }
}

/// Whether a text can be published to.
fn is_subject(text: &str) -> bool {
    let visible = |b: u8| (0x21..=0x7e).contains(&b) && b != b'*' && b != b'>';
    text.split('.').all(|token| !token.is_empty() && token.bytes().all(visible))
}

/// A text as one token of a subject, no two texts as the same one.
fn token(text: &str) -> String {
    if text.is_empty() {
        return "%".into();
    }
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'.' | b'*' | b'>' | b'%' | 0..=0x20 | 0x7f.. => out.push_str(&format!("%{byte:02X}")),
            _ => out.push(char::from(byte)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Domain, SinkConfig};

    fn sink(text: &str) -> Result<SinkConfig, String> {
        let head = "name = \"s\"\ndomain = \"stream\"\nurl = \"nats://127.0.0.1:4222\"\n";
        toml::from_str(&format!("{head}{text}")).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn subjects_hold_what_an_event_says_and_nothing_that_breaks_them() {
        let render = |template: &str, subject: &str| {
            SubjectTemplate::parse(template).unwrap().render("order.placed", subject)
        };
        assert_eq!(render("holdfast.{type}", "O-1"), "holdfast.order.placed");
        assert_eq!(render("shop.{type}.{subject}", "O-1"), "shop.order.placed.O-1");
        assert_eq!(
            render("a.{subject}.b", "A.B *>\r\n%ü/C"),
            "a.A%2EB%20%2A%3E%0D%0A%25%C3%BC/C.b"
        );
        assert_eq!(render("a.{subject}", ""), "a.%");
        for wrong in
            ["", ".a", "a..b", "a b", "a.*", "a.>", "a.{typ}", "a.{type", "$JS.{type}", "ü"]
        {
            assert!(SubjectTemplate::parse(wrong).is_err(), "{wrong}");
        }
        assert!(SubjectTemplate::parse(&"a".repeat(257)).is_err());
    }

    #[test]
    #[cfg(feature = "nats")]
    fn what_is_wrong_is_named() {
        assert_eq!(sink("").unwrap().validate(), Ok(()));
        for (text, field) in [
            ("[stream]\nsubject = \"a b\"", "stream.subject:"),
            ("[stream]\nstream = \"a.b\"", "stream.stream:"),
            ("[stream]\nduplicate_window_ms_min = 0", "stream.duplicate_window_ms_min:"),
            (
                "[stream.auth]\nkind = \"query\"\nparameter = \"p\"\napi_key = \"k\"",
                "stream.auth.kind:",
            ),
            ("[stream.auth]\nkind = \"bearer\"", "stream.auth.token:"),
            (
                "[stream]\ncredentials_file = \"f\"\n[stream.auth]\nkind = \"bearer\"\ntoken = \"t\"",
                "stream.auth:",
            ),
            ("dedupe = \"lookup\"", "dedupe:"),
            ("preset = \"odoo\"", "preset:"),
            ("headers = { a = \"b\" }", "headers:"),
            ("signing_secret = \"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"", "signing_secret:"),
        ] {
            let error = sink(text).unwrap().validate().unwrap_err();
            assert!(error.starts_with(field), "{field} {error}");
        }
        let wrong = [
            ("nats://me:secret@h:1", Domain::Inventory, "url:"),
            ("nats://h:1/path", Domain::Stream, "url:"),
            ("nats:", Domain::Stream, "url:"),
            ("ftp://h:1", Domain::Stream, "url:"),
        ];
        for (url, domain, field) in wrong {
            let error = SinkConfig::new("s", domain, url).validate().unwrap_err();
            assert!(error.starts_with(field), "{url} {error}");
        }
        let http = SinkConfig::new("s", Domain::Stream, "http://127.0.0.1:1/");
        let stream = StreamConfig { subject: "a".into(), ..StreamConfig::default() };
        let error = SinkConfig { stream, ..http }.validate().unwrap_err();
        assert!(error.starts_with("stream:"), "{error}");
        assert!(sink("[stream]\ncolour = 1").is_err());
    }

    #[test]
    fn lines_are_recognised_one_by_one_unless_nothing_is() {
        use crate::config::Dedupe;
        assert_eq!(sink("").unwrap().bounded().unwrap().dedupe, Dedupe::Line);
        assert_eq!(sink("dedupe = \"none\"").unwrap().bounded().unwrap().dedupe, Dedupe::None);
    }

    #[test]
    fn secrets_are_not_printed() {
        for auth in [
            "kind = \"bearer\"\ntoken = \"swordfish\"",
            "kind = \"basic\"\nuser = \"me\"\npassword = \"swordfish\"",
        ] {
            let config = sink(&format!("[stream.auth]\n{auth}")).unwrap();
            assert!(!format!("{config:?}").contains("swordfish"));
            let shown = toml::to_string(&config.without_secrets()).unwrap();
            assert!(shown.contains("(hidden)") && !shown.contains("swordfish"), "{shown}");
        }
        let config = SinkConfig::new("s", Domain::Stream, "nats://me:swordfish@127.0.0.1:4222");
        assert!(!format!("{config:?}").contains("swordfish"));
    }
}
