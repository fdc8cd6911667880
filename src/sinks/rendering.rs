//! What makes requests of a part: the templates of one version of a sink's configuration.
//!
//! A batch is rendered by the version under which it was sealed, also when the configuration has changed
//! since: else the same batch would go out with other bytes after a restart. Addresses, credentials and
//! what answers mean are those of now.

use serde_json::Value;

use super::{fault::Fault, request::Declared, rules::Rules};
use crate::{
    config::{Connector, Context},
    delivery::Part,
    model::sink::body,
};

/// See the module.
pub(super) struct Rendering {
    /// The version; of a batch that says no known one the present is used.
    pub version: u64,
    pub request: Declared,
    pub finish: Option<(Declared, Rules)>,
    connector: Connector,
    /// Whether requests can't be made without reading the batch.
    reads: bool,
}

/// A part as templates see it.
pub(super) struct Content {
    pub context: Context,
    /// The lines that are sent; `None`: all of the part, which nobody had to read.
    ids: Option<Vec<String>>,
}

impl Content {
    /// The ids of the lines that are sent, in their order.
    pub fn ids(&self, part: &Part) -> Vec<String> {
        let read =
            || serde_json::from_slice(&part.body).map_or_else(|_| Vec::new(), |b| ids_of(&b));
        self.ids.clone().unwrap_or_else(read)
    }
}

fn ids_of(batch: &Value) -> Vec<String> {
    body::item_ids(batch).into_iter().map(str::to_owned).collect()
}

impl Rendering {
    /// The templates of a connector; `rules` completes those of a second request, `asks` says whether
    /// the question for a known part needs the lines.
    ///
    /// # Errors
    /// What is wrong, beginning with the field.
    pub fn new(
        version: u64,
        connector: &Connector,
        rules: &dyn Fn(&[crate::config::AnswerRule]) -> Rules,
        asks: bool,
    ) -> Result<Self, String> {
        let mut request = Declared::new(&connector.request())?;
        if connector.body.is_none() {
            request.say_version(connector.schema_version);
        }
        let finish = connector.finish.as_ref().map(|finish| {
            Ok::<_, String>((Declared::new(&finish.request())?, rules(&finish.rules)))
        });
        let finish = finish.transpose()?;
        let declared = [Some(&request), finish.as_ref().map(|(finish, _)| finish)];
        let reads = asks
            || !connector.keep.is_empty()
            || declared.into_iter().flatten().any(Declared::needs_lines);
        Ok(Self { version, request, finish, connector: connector.clone(), reads })
    }

    /// What a part holds; `None` where nothing of it is for this receiver.
    pub fn read(&self, part: &Part) -> Result<Option<Content>, Fault> {
        if !self.reads {
            let context = Context::new(&part.id, Value::Null, &self.connector);
            return Ok(Some(Content { context, ids: None }));
        }
        let batch = serde_json::from_slice(&part.body)
            .map_err(|e| Fault::Unfit(format!("the sealed batch is not JSON: {e}")))?;
        let batch = self.connector.kept(batch);
        let ids = ids_of(&batch);
        if !self.connector.keep.is_empty() && ids.is_empty() {
            return Ok(None);
        }
        let context = Context::new(&part.id, batch, &self.connector);
        Ok(Some(Content { context, ids: Some(ids) }))
    }

    /// The most bytes of a body.
    pub fn bytes_max(&self) -> u64 {
        self.connector.bytes_max
    }
}
