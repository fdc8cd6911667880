//! Short texts in records: archived as any text is, kept without an allocation where they are taken out
//! (up to 24 bytes, as nearly all ids and codes are).

use compact_str::CompactString;
use rkyv::{
    Place, SerializeUnsized,
    rancor::{Fallible, Source},
    string::{ArchivedString, StringResolver},
    with::{ArchiveWith, DeserializeWith, SerializeWith},
};

/// Archives a [`CompactString`] as a text: `#[rkyv(with = AsText)]`. The layout is that of a [`String`].
#[derive(Debug)]
pub struct AsText;

impl ArchiveWith<CompactString> for AsText {
    type Archived = ArchivedString;
    type Resolver = StringResolver;

    fn resolve_with(text: &CompactString, resolver: StringResolver, out: Place<ArchivedString>) {
        ArchivedString::resolve_from_str(text, resolver, out);
    }
}

impl<S> SerializeWith<CompactString, S> for AsText
where
    S: Fallible + ?Sized,
    S::Error: Source,
    str: SerializeUnsized<S>,
{
    fn serialize_with(
        text: &CompactString,
        serializer: &mut S,
    ) -> Result<StringResolver, S::Error> {
        ArchivedString::serialize_from_str(text, serializer)
    }
}

impl<D: Fallible + ?Sized> DeserializeWith<ArchivedString, CompactString, D> for AsText {
    fn deserialize_with(text: &ArchivedString, _: &mut D) -> Result<CompactString, D::Error> {
        Ok(CompactString::new(text.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use rkyv::{Archive, Deserialize, Serialize, rancor::Error};

    use super::*;

    #[derive(Archive, Serialize, Deserialize)]
    struct Compact {
        #[rkyv(with = AsText)]
        text: CompactString,
    }

    #[derive(Archive, Serialize, Deserialize)]
    struct Plain {
        text: String,
    }

    #[test]
    fn it_is_archived_as_any_text_is() {
        for text in ["", "DE-19", "a text that is longer than what is stored in place"] {
            let compact = Compact { text: text.into() };
            let bytes = rkyv::to_bytes::<Error>(&compact).unwrap();
            let plain = rkyv::to_bytes::<Error>(&Plain { text: text.into() }).unwrap();
            assert_eq!(*bytes, *plain);
            let read = rkyv::from_bytes::<Compact, Error>(&bytes).unwrap();
            assert_eq!(read.text, text);
        }
    }
}
