//! Addresses as they may be shown. Who we are there, its query and its fragment may each be a secret, and
//! of some, such as those that messages are posted to, the path as well.

use reqwest::Url;

/// Stands for a secret.
pub(crate) const HIDDEN: &str = "(hidden)";
/// Stands for the password of an address.
pub(super) const HIDDEN_PASSWORD: &str = ":hidden@";

/// An address, or what follows a server's, without its password, query and fragment; one with nothing to
/// hide is shown as it is written.
pub fn shown(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else {
        return match text.split_once(['?', '#']) {
            _ if text.contains('@') => HIDDEN.to_owned(),
            Some((path, _)) => format!("{path}?{HIDDEN}"),
            None => text.to_owned(),
        };
    };
    let mut hides = url.password().is_some() && url.set_password(Some("hidden")).is_ok();
    // A user alone is a token.
    if !hides && !url.username().is_empty() {
        hides = url.set_username(HIDDEN).is_ok();
    }
    if url.query().is_some() {
        url.set_query(Some(HIDDEN));
        hides = true;
    }
    if url.fragment().is_some() {
        url.set_fragment(Some(HIDDEN));
        hides = true;
    }
    if hides { url.into() } else { text.to_owned() }
}

/// Of an address only where it is.
pub fn shown_server(text: &str) -> String {
    let origin = |url: Url| format!("{}/{HIDDEN}", url.origin().ascii_serialization());
    Url::parse(text).map_or_else(|_| String::new(), origin)
}

/// The values in an address's query, as they are written and as they are meant.
pub fn query_values(text: &str) -> Vec<String> {
    let Ok(url) = Url::parse(text) else { return Vec::new() };
    let written = url.query().unwrap_or_default().split('&');
    let written = written.map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
    let mut values: Vec<String> = written.map(str::to_owned).collect();
    values.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_is_not_shown_and_the_rest_is_as_it_is_written() {
        for (address, seen) in [
            ("https://shop.example", "https://shop.example"),
            ("https://shop.example/a/b", "https://shop.example/a/b"),
            ("https://me:secret@shop.example/a", "https://me:hidden@shop.example/a"),
            ("https://secret@shop.example/a", "https://(hidden)@shop.example/a"),
            ("https://shop.example/a?token=secret&b=1", "https://shop.example/a?(hidden)"),
            ("https://shop.example/a#secret", "https://shop.example/a#(hidden)"),
            ("nats://secret@127.0.0.1:4222", "nats://(hidden)@127.0.0.1:4222"),
            ("kafka://127.0.0.1:9092", "kafka://127.0.0.1:9092"),
            ("/stock", "/stock"),
            ("/stock?token=secret", "/stock?(hidden)"),
            ("https://me:secret@shop.example:notaport/", HIDDEN),
            ("", ""),
        ] {
            assert_eq!(shown(address), seen);
        }
        assert_eq!(
            shown_server("https://me:s@hooks.example/T0/s?t=s"),
            "https://hooks.example/(hidden)"
        );
        assert_eq!(query_values("https://shop.example/?a=b%26c&d"), ["b%26c", "d", "b&c", ""]);
    }
}
