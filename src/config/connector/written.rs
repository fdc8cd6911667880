//! What the log says of a sink's settings: the text that is written down before anything is sealed by them. Its
//! first line names the sink's domain, of finance the second when revenue is recognised; the rest shapes the bytes
//! that are sent, and is nothing where the sealed bytes are. What was written before these were has no such lines.

use super::super::{Domain, SinkConfig};
use crate::model::worth::Recognition;

const DOMAIN: &str = "domain = \"";
const RECOGNITION: &str = "recognition = \"";
const END: &str = "\"\n";

impl SinkConfig {
    /// The text for these settings.
    pub(crate) fn written(&self) -> String {
        let rendering = self.connector().ok().and_then(|connector| connector.rendering());
        let recognition = match self.domain {
            Domain::Finance => format!("{RECOGNITION}{}{END}", self.recognition.as_str()),
            _ => String::new(),
        };
        let domain = self.domain.as_str();
        format!("{DOMAIN}{domain}{END}{recognition}{}", rendering.unwrap_or_default())
    }
}

/// What stands in a line that a text begins with, and what comes after it.
fn line<'t>(text: &'t str, begin: &str) -> Option<(&'t str, &'t str)> {
    text.strip_prefix(begin)?.split_once(END)
}

/// The domain that a text names.
pub(crate) fn written_domain(text: &str) -> Option<Domain> {
    let (word, _) = line(text, DOMAIN)?;
    Domain::ALL.into_iter().find(|domain| domain.as_str() == word)
}

/// When revenue is recognised, where a text of a finance sink says so.
pub(crate) fn written_recognition(text: &str) -> Option<Recognition> {
    let (word, _) = line(line(text, DOMAIN)?.1, RECOGNITION)?;
    Recognition::ALL.into_iter().find(|recognition| recognition.as_str() == word)
}

/// What of a text shapes the bytes that are sent, if anything does.
pub(crate) fn written_rendering(text: &str) -> Option<&str> {
    let rest = line(text, DOMAIN).map_or(text, |(_, rest)| rest);
    let rest = line(rest, RECOGNITION).map_or(rest, |(_, rest)| rest);
    Some(rest).filter(|rendering| !rendering.is_empty())
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
        assert_eq!(written_recognition(&text), Some(Recognition::Commit));
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
        let text = "domain = \"finance\"\nmethod = \"post\"\n";
        assert_eq!(written_recognition(text), None);
        assert_eq!(written_rendering(text), Some("method = \"post\"\n"));
    }
}
