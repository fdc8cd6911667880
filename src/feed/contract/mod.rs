//! The shapes of what sinks receive, read off the types that are sent: what `schemas/v1/` is made of.
//!
//! Bodies of batches are described by the very types that render them; the data of events, which is
//! rendered from records without types of its own, by those in `events`, which tests hold to real events
//! with nothing more and nothing less in them.

mod events;

use utoipa::{
    ToSchema,
    openapi::{RefOr, schema::Schema},
};

use super::{finance, fulfilment, inventory, stream};

/// The schema of a body, or of an event's data.
pub struct Shape {
    /// What it is called: `batch.inventory`, `event.order.placed`.
    pub name: String,
    /// The schema.
    pub schema: RefOr<Schema>,
    /// What it refers to, by name.
    pub parts: Vec<(String, RefOr<Schema>)>,
}

impl Shape {
    /// The shape of a type.
    pub fn of<T: ToSchema>(name: impl Into<String>) -> Self {
        let mut parts = Vec::new();
        T::schemas(&mut parts);
        Self { name: name.into(), schema: T::schema(), parts }
    }
}

/// The shapes of all bodies and of all events' data, of the newest version.
pub fn shapes() -> Vec<Shape> {
    let mut shapes = vec![
        Shape::of::<inventory::Body<'_>>("batch.inventory"),
        Shape::of::<fulfilment::Body<'_>>("batch.fulfilment"),
        Shape::of::<finance::Body<'_>>("batch.finance"),
        Shape::of::<stream::CloudEvent<'_>>("cloudevent"),
    ];
    shapes.extend(events::shapes());
    shapes
}
