//! What the log says of a sink's settings: the text that is written down before anything is sealed by them. Its
//! first line names the sink's domain; the rest shapes the bytes that are sent, and is nothing where the sealed
//! bytes are. What was written before the domain was has no such line.

use super::super::{Domain, SinkConfig};

const DOMAIN: &str = "domain = \"";
const END: &str = "\"\n";

impl SinkConfig {
    /// The text for these settings.
    pub(crate) fn written(&self) -> String {
        let rendering = self.connector().ok().and_then(|connector| connector.rendering());
        format!("{DOMAIN}{}{END}{}", self.domain.as_str(), rendering.unwrap_or_default())
    }
}

/// The domain that a text names.
pub(crate) fn written_domain(text: &str) -> Option<Domain> {
    let (word, _) = text.strip_prefix(DOMAIN)?.split_once(END)?;
    Domain::ALL.into_iter().find(|domain| domain.as_str() == word)
}

/// What of a text shapes the bytes that are sent, if anything does.
pub(crate) fn written_rendering(text: &str) -> Option<&str> {
    let named = text.strip_prefix(DOMAIN).and_then(|rest| rest.split_once(END));
    Some(named.map_or(text, |(_, rendering)| rendering)).filter(|rendering| !rendering.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overlay;

    #[test]
    fn a_text_names_the_domain_and_what_renders() {
        let plain = SinkConfig::new("erp", Domain::Finance, "http://localhost/");
        let overlay = Overlay::parse("body = 'x'").unwrap();
        let rendered = SinkConfig { connector: overlay, ..plain.clone() };
        let text = rendered.written();
        assert_eq!(written_domain(&text), Some(Domain::Finance));
        let connector = plain.connector().unwrap();
        let then = connector.as_rendered(written_rendering(&text).unwrap()).unwrap();
        assert_eq!(then.body.as_deref(), Some("x"));
        assert_eq!(written_domain(&plain.written()), Some(Domain::Finance));
        assert_eq!(written_rendering(&plain.written()), None);
    }

    #[test]
    fn a_text_from_before_the_domain_was_written_renders() {
        let text = "method = \"post\"\npath = \"\"\n";
        assert_eq!((written_domain(text), written_rendering(text)), (None, Some(text)));
    }
}
