//! What one field alone can't tell: whether the templates can be read, and fit a batch of the domain.

use super::{
    Auth, Connector, Escape, Method, Request, Template,
    sample::{self, PART_ID},
    template::Context,
};
use crate::config::{Dedupe, Domain, sink::between};

/// The most rules.
const RULES_MAX: usize = 100;
/// The most bytes of a rendered path or header.
pub(crate) const HEADER_BYTES_MAX: u64 = 8 << 10;
/// Headers that the connection itself sets.
const OWN_HEADERS: [&str; 5] =
    ["content-length", "host", "transfer-encoding", "connection", "authorization"];

impl Connector {
    /// Checks every field, and renders every template once; `dedupe` is what the sink says where the
    /// connector says nothing.
    ///
    /// # Errors
    /// What is wrong, beginning with the field.
    pub fn check(&self, domain: Domain, dedupe: Dedupe) -> Result<(), String> {
        if !self.only_for.is_empty() && !self.only_for.contains(&domain) {
            let domains: Vec<_> = self.only_for.iter().map(|domain| domain.as_str()).collect();
            return Err(format!(
                "body: the preset has one for {} only: give one",
                domains.join(", ")
            ));
        }
        for (field, value, least, most) in [
            ("lines_max", self.lines_max, 1, 1_000_000),
            ("bytes_max", self.bytes_max, 1_024, 64 << 20),
            ("answer_bytes_max", self.answer_bytes_max, 1_024, 16 << 20),
            ("dedupe_horizon_ms", self.dedupe_horizon_ms.unwrap_or(1), 1, u64::MAX),
        ] {
            between(field, value, least, most)?;
        }
        let finish_rules = self.finish.as_ref().map_or(0, |finish| finish.rules.len());
        if self.rules.len() > RULES_MAX || finish_rules > RULES_MAX {
            return Err(format!("rules: must be at most {RULES_MAX}"));
        }
        if matches!(self.method, Method::Get | Method::Head) {
            return Err("method: must be one that carries a body: POST, PUT or PATCH".into());
        }
        self.check_dedupe(dedupe)?;
        self.auth.check()?;
        self.requests().iter().try_for_each(|(at, request)| self.check_request(at, request, domain))
    }

    fn check_dedupe(&self, dedupe: Dedupe) -> Result<(), String> {
        if let Some(rejected) = &self.rejected
            && rejected.line_id.is_some() == rejected.index.is_some()
        {
            return Err("rejected.line_id: must be given, or `index`, and not both".into());
        }
        match (self.dedupe.unwrap_or(dedupe), &self.lookup) {
            (Dedupe::Lookup, None) => {
                Err("lookup: must be given, since `dedupe` is \"lookup\"".into())
            }
            _ => Ok(()),
        }
    }

    fn check_request(&self, at: &str, request: &Request<'_>, domain: Domain) -> Result<(), String> {
        let mut context = Context::new(PART_ID, sample::batch(domain), self);
        let kept = self.kept(sample::batch(domain));
        if at != "handshake." {
            context = Context::new(PART_ID, kept, self);
        }
        if at == "finish."
            && let Some(finish) = &self.finish
        {
            let answer = serde_json::from_str(&finish.sample)
                .map_err(|e| format!("finish.sample: is not JSON: {e}"))?;
            context = context.with_answer(&answer);
        }
        let rendered = |field: &str, source: &str, escape, bytes_max| {
            let template =
                Template::new(source, escape).map_err(|e| format!("{at}{field}: {e}"))?;
            template.render(&context, bytes_max).map_err(|e| format!("{at}{field}: {e}"))
        };
        let path = rendered("path", request.path, Escape::Url, HEADER_BYTES_MAX)?;
        if !path.is_empty() && !path.starts_with(['/', '?']) {
            return Err(format!("{at}path: must begin with `/` or `?`"));
        }
        for (name, source) in request.headers {
            let field = format!("headers.{name}");
            self.check_header(name).map_err(|e| format!("{at}{field}: {e}"))?;
            let value = rendered(&field, source, Escape::Plain, HEADER_BYTES_MAX)?;
            reqwest::header::HeaderValue::from_str(&value)
                .map_err(|_| format!("{at}{field}: its value is not visible ASCII"))?;
        }
        let Some(source) = request.body else { return Ok(()) };
        let escape = Escape::of_content_type(request.content_type).ok_or_else(|| {
            format!("{at}content_type: must be JSON, XML or a form, where there is a template")
        })?;
        let body = rendered("body", source, escape, self.bytes_max)?;
        if escape == Escape::Json {
            serde_json::from_str::<serde::de::IgnoredAny>(&body)
                .map_err(|e| format!("{at}body: what it renders is not JSON: {e}"))?;
        }
        Ok(())
    }

    fn check_header(&self, name: &str) -> Result<(), String> {
        let name = reqwest::header::HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| "is not the name of a header".to_owned())?;
        let taken = match &self.auth {
            Auth::Header { header, .. } => name.as_str().eq_ignore_ascii_case(header),
            _ => false,
        };
        if taken || name == "content-type" || OWN_HEADERS.contains(&name.as_str()) {
            return Err("is set by Holdfast itself; see `auth` and `content_type`".into());
        }
        Ok(())
    }
}
