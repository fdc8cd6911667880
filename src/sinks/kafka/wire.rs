//! Kafka's primitive types, written and read. What a broker sends is never trusted: a length is compared
//! with what is there before anything is kept.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::trouble::Trouble;

/// The most elements that an array of an answer may have.
const ARRAY_MAX: usize = 1 << 20;

/// A request's body, in the making.
#[derive(Debug, Default)]
pub(super) struct Writer(pub BytesMut);

impl Writer {
    pub fn i8(&mut self, value: i8) -> &mut Self {
        self.0.put_i8(value);
        self
    }

    pub fn i16(&mut self, value: i16) -> &mut Self {
        self.0.put_i16(value);
        self
    }

    pub fn i32(&mut self, value: i32) -> &mut Self {
        self.0.put_i32(value);
        self
    }

    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.0.put_i64(value);
        self
    }

    /// How many elements follow, or bytes.
    pub fn len(&mut self, value: usize) -> &mut Self {
        self.i32(i32::try_from(value).unwrap_or(i32::MAX))
    }

    /// A text; of ours none is longer than a configured name.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
        self.0.put_slice(text.as_bytes());
        self
    }

    /// A text, or none.
    pub fn text_or_null(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.text(text),
            None => self.i16(-1),
        }
    }

    /// A text in the newer encoding: its length plus one comes first, seven bits a byte.
    pub fn short_text(&mut self, text: &str) -> &mut Self {
        self.unsigned(text.len() as u64 + 1);
        self.0.put_slice(text.as_bytes());
        self
    }

    /// In the newer encoding: no fields with tags.
    pub fn no_tags(&mut self) -> &mut Self {
        self.i8(0)
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.len(bytes.len());
        self.0.put_slice(bytes);
        self
    }

    /// A number as records have them: zigzag, seven bits a byte.
    pub fn varint(&mut self, value: i64) -> &mut Self {
        self.unsigned(((value << 1) ^ (value >> 63)).cast_unsigned())
    }

    fn unsigned(&mut self, value: u64) -> &mut Self {
        let mut rest = value;
        while rest >= 0x80 {
            self.0.put_u8((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        self.0.put_u8(rest as u8);
        self
    }

    /// Bytes as records have them, or none.
    pub fn var_bytes(&mut self, bytes: Option<&[u8]>) -> &mut Self {
        let Some(bytes) = bytes else { return self.varint(-1) };
        self.varint(i64::try_from(bytes.len()).unwrap_or(i64::MAX));
        self.0.put_slice(bytes);
        self
    }
}

/// What is left of an answer's body.
#[derive(Debug, Clone)]
pub(super) struct Reader(pub Bytes);

impl Reader {
    fn has(&self, bytes: usize) -> Result<(), Trouble> {
        match self.0.len() >= bytes {
            true => Ok(()),
            false => Err(Trouble::Unreadable("it ends too early")),
        }
    }

    pub fn i8(&mut self) -> Result<i8, Trouble> {
        self.has(1)?;
        Ok(self.0.get_i8())
    }

    pub fn i16(&mut self) -> Result<i16, Trouble> {
        self.has(2)?;
        Ok(self.0.get_i16())
    }

    pub fn i32(&mut self) -> Result<i32, Trouble> {
        self.has(4)?;
        Ok(self.0.get_i32())
    }

    pub fn i64(&mut self) -> Result<i64, Trouble> {
        self.has(8)?;
        Ok(self.0.get_i64())
    }

    /// So many bytes.
    pub fn take(&mut self, bytes: usize) -> Result<Bytes, Trouble> {
        self.has(bytes)?;
        Ok(self.0.split_to(bytes))
    }

    /// A text; empty if there is none. What is no UTF-8 is replaced.
    pub fn text(&mut self) -> Result<String, Trouble> {
        let len = usize::try_from(self.i16()?).unwrap_or(0);
        Ok(String::from_utf8_lossy(&self.take(len)?).into_owned())
    }

    /// Bytes; empty if there are none.
    pub fn bytes(&mut self) -> Result<Bytes, Trouble> {
        let len = usize::try_from(self.i32()?).unwrap_or(0);
        self.take(len)
    }

    /// An array, each element read by `read`; empty if there is none. Memory grows with what is there, not
    /// with what is announced.
    pub fn array<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, Trouble>,
    ) -> Result<Vec<T>, Trouble> {
        let len = usize::try_from(self.i32()?).unwrap_or(0);
        if len > ARRAY_MAX {
            return Err(Trouble::Unreadable("an array is too long"));
        }
        let mut all = Vec::new();
        for _ in 0..len {
            self.has(1)?;
            all.push(read(self)?);
        }
        Ok(all)
    }

    /// In the newer encoding: fields with tags, none of which is wanted.
    pub fn tags(&mut self) -> Result<(), Trouble> {
        for _ in 0..self.unsigned()? {
            self.unsigned()?;
            let len = usize::try_from(self.unsigned()?).unwrap_or(usize::MAX);
            self.take(len)?;
        }
        Ok(())
    }

    /// A number as records have them.
    pub fn varint(&mut self) -> Result<i64, Trouble> {
        let value = self.unsigned()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    fn unsigned(&mut self) -> Result<u64, Trouble> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.i8()?.cast_unsigned();
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Trouble::Unreadable("a number does not end"))
    }

    /// Bytes as records have them; empty if there are none.
    pub fn var_bytes(&mut self) -> Result<Bytes, Trouble> {
        let len = usize::try_from(self.varint()?).unwrap_or(0);
        self.take(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_they_are_read() {
        let all = [0, -1, 1, 63, -64, 64, 300, i64::from(i32::MAX), i64::MAX, i64::MIN];
        let mut writer = Writer::default();
        for value in all {
            writer.varint(value);
        }
        let mut reader = Reader(writer.0.freeze());
        for value in all {
            assert_eq!(reader.varint().unwrap(), value);
        }
        assert!(reader.varint().is_err());
        // Of the protocol's documentation (as of Protocol Buffers): zigzag.
        let mut writer = Writer::default();
        writer.varint(150);
        assert_eq!(&writer.0[..], [0xac, 0x02]);
    }

    #[test]
    fn what_announces_more_than_there_is_takes_no_memory() {
        for lie in [&[0x7f, 0xff, 0xff, 0xff][..], &[0, 0x0f, 0xff, 0xff]] {
            let mut reader = Reader(Bytes::copy_from_slice(lie));
            assert!(reader.clone().bytes().is_err());
            assert!(reader.array(Reader::i64).is_err());
        }
        assert!(Reader(Bytes::from_static(&[0x7f, 0xff])).text().is_err());
        assert!(Reader(Bytes::from_static(&[0xff; 10])).varint().is_err());
        let none = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff]);
        for lie in [&[0xff, 0xff, 0x7f][..], &[1, 0, 0xff, 0xff, 0x7f], &[0xff; 12]] {
            assert!(Reader(Bytes::copy_from_slice(lie)).tags().is_err());
        }
        assert_eq!(Reader(none.clone()).bytes().unwrap(), Bytes::new());
        assert_eq!(Reader(none).text().unwrap(), "");
    }
}
