//! A declared request with its templates read, and how it becomes one that is sent.

use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};
use reqwest::Url;

use super::fault::Fault;
use crate::{
    config::{Context, Escape, HEADER_BYTES_MAX, Request, Template},
    model::SchemaVersion,
};

/// Which version of the schemas a body keeps to.
const SCHEMA_VERSION: HeaderName = HeaderName::from_static("holdfast-schema-version");

/// See the module.
pub(super) struct Declared {
    pub method: hyper::Method,
    path: Template,
    headers: Vec<(HeaderName, Template)>,
    content_type: Option<HeaderValue>,
    body: Option<Template>,
    /// The schema version of a body that is sent as it was sealed.
    version: Option<HeaderValue>,
}

impl Declared {
    /// Reads the templates.
    ///
    /// # Errors
    /// What is wrong, beginning with the field.
    pub fn new(request: &Request<'_>) -> Result<Self, String> {
        let wrong = |what: String| format!("connector.{what}");
        let escape = Escape::of_content_type(request.content_type).unwrap_or(Escape::Json);
        let body = request.body.map(|body| Template::new(body, escape)).transpose();
        let mut headers = Vec::new();
        for (name, source) in request.headers {
            let field = |e: String| wrong(format!("headers.{name}: {e}"));
            let key = HeaderName::from_bytes(name.as_bytes()).map_err(|e| field(e.to_string()))?;
            headers.push((key, Template::new(source, Escape::Plain).map_err(field)?));
        }
        Ok(Self {
            method: hyper::Method::from_bytes(request.method.as_str().as_bytes())
                .map_err(|e| wrong(format!("method: {e}")))?,
            path: Template::new(request.path, Escape::Url)
                .map_err(|e| wrong(format!("path: {e}")))?,
            headers,
            content_type: match request.content_type {
                "" => None,
                text => Some(
                    HeaderValue::from_str(text).map_err(|e| wrong(format!("content_type: {e}")))?,
                ),
            },
            body: body.map_err(|e| wrong(format!("body: {e}")))?,
            version: None,
        })
    }

    /// From here on it says which version of the schemas its body keeps to.
    pub fn say_version(&mut self, version: SchemaVersion) {
        self.version = Some(version.number().into());
    }

    /// Whether its templates use the lines of a batch.
    pub fn needs_lines(&self) -> bool {
        let headers = self.headers.iter().map(|(_, template)| template);
        let all = headers.chain([&self.path]).chain(&self.body);
        all.into_iter().any(|template| !template.needs_no_lines())
    }

    /// Where it goes: the sink's own address with the path behind.
    pub fn url(&self, base: &Url, context: &Context) -> Result<Url, Fault> {
        let path = self.path.render(context, HEADER_BYTES_MAX)?;
        if path.is_empty() {
            return Ok(base.clone());
        }
        let wrong = || Fault::none("connector.path: what it renders is no part of a URL");
        let url = format!("{}{path}", base.as_str().trim_end_matches('/'));
        let url = Url::parse(&url).map_err(|_| wrong())?;
        // Values are encoded, so this can't happen; but a batch must not choose where it goes.
        match url.origin() == base.origin() {
            true => Ok(url),
            false => Err(wrong()),
        }
    }

    /// Its headers, laid over those that the sink has.
    pub fn headers(&self, own: &HeaderMap, context: &Context) -> Result<HeaderMap, Fault> {
        let mut headers = own.clone();
        if let Some(content_type) = &self.content_type {
            headers.insert(hyper::header::CONTENT_TYPE, content_type.clone());
        }
        if let Some(version) = &self.version {
            headers.insert(SCHEMA_VERSION, version.clone());
        }
        for (name, template) in &self.headers {
            let text = template.render(context, HEADER_BYTES_MAX)?;
            let value = HeaderValue::from_str(&text).map_err(|_| {
                Fault::none(format!("connector.headers.{name}: its value is not visible ASCII"))
            })?;
            headers.insert(name, value);
        }
        Ok(headers)
    }

    /// Its body; `None` where there is no template.
    pub fn body(&self, context: &Context, bytes_max: u64) -> Result<Option<String>, Fault> {
        let body = self.body.as_ref().map(|template| template.render(context, bytes_max));
        Ok(body.transpose()?)
    }
}
