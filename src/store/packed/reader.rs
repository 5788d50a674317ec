//! Reading the packed form, and CBOR.

use serde::{
    Deserializer,
    de::{
        DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
        Visitor, value::U8Deserializer,
    },
};

use super::{
    form::{
        BYTES, END, FALSE, LIST, LIST_TO_END, MAP, MAP_TO_END, NAME, NEGATIVE, NULL, POSITIVE,
        PackedError, TEXT, TRUE,
    },
    names,
};

/// Reads one value after the other.
pub(super) struct Reader<'de> {
    rest: &'de [u8],
}

impl<'de> Reader<'de> {
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    fn peek(&self) -> Result<u8, PackedError> {
        self.rest.first().copied().ok_or(PackedError)
    }

    /// Moves past a byte, if it is this one.
    #[inline]
    fn skip(&mut self, byte: u8) -> bool {
        let rest = self.rest.strip_prefix(&[byte]);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// What an item begins with: its type, and a number.
    #[inline]
    fn head(&mut self) -> Result<(u8, u64), PackedError> {
        let (first, rest) = self.rest.split_first().ok_or(PackedError)?;
        self.rest = rest;
        let (major, number) = (first >> 5, first & 0x1f);
        if number < 24 { Ok((major, number.into())) } else { Ok((major, self.number(number)?)) }
    }

    /// The number of an item, behind its first byte.
    #[inline(never)]
    fn number(&mut self, length: u8) -> Result<u64, PackedError> {
        let length = match length {
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => return Err(PackedError),
        };
        let bytes = self.bytes(length)?;
        Ok(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    #[inline]
    fn bytes(&mut self, length: u64) -> Result<&'de [u8], PackedError> {
        let length = usize::try_from(length).map_err(|_| PackedError)?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(PackedError)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// The number of an item of this type.
    #[inline]
    fn expect(&mut self, expected: u8) -> Result<u64, PackedError> {
        match self.head()? {
            (major, number) if major == expected => Ok(number),
            _ => Err(PackedError),
        }
    }

    /// A text, or a name.
    #[inline]
    fn text(&mut self) -> Result<&'de str, PackedError> {
        match self.head()? {
            (NAME, code) => names::name_of(code).ok_or(PackedError),
            (TEXT, length) => str::from_utf8(self.bytes(length)?).map_err(|_| PackedError),
            _ => Err(PackedError),
        }
    }

    /// How many items follow; nothing where an end says so.
    #[inline]
    fn items(&mut self, major: u8, to_end: u8) -> Result<Option<u64>, PackedError> {
        if self.skip(to_end) { Ok(None) } else { self.expect(major).map(Some) }
    }

    /// Moves past one item, whatever it is.
    fn pass(&mut self) -> Result<(), PackedError> {
        if self.skip(LIST_TO_END) || self.skip(MAP_TO_END) {
            while !self.skip(END) {
                self.pass()?;
            }
            return Ok(());
        }
        let within = match self.head()? {
            (BYTES | TEXT, length) => return self.bytes(length).map(drop),
            (LIST, items) => items,
            (MAP, entries) => entries.checked_mul(2).ok_or(PackedError)?,
            _ => 0,
        };
        for _ in 0..within {
            self.pass()?;
        }
        Ok(())
    }

    /// A number of whatever sign.
    fn number_for<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, PackedError> {
        match self.head()? {
            (POSITIVE, number) => visitor.visit_u64(number),
            (NEGATIVE, number) => {
                let number = i64::try_from(number).map_err(|_| PackedError)?;
                visitor.visit_i64(!number)
            }
            _ => Err(PackedError),
        }
    }
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = PackedError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PackedError> {
        match self.peek()? {
            NULL => {
                self.skip(NULL);
                visitor.visit_none()
            }
            FALSE | TRUE => self.deserialize_bool(visitor),
            first => match first >> 5 {
                POSITIVE | NEGATIVE => self.number_for(visitor),
                BYTES | LIST => self.deserialize_seq(visitor),
                TEXT | NAME => self.deserialize_str(visitor),
                MAP => self.deserialize_map(visitor),
                _ => Err(PackedError),
            },
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PackedError> {
        let value = self.skip(TRUE);
        if value || self.skip(FALSE) { visitor.visit_bool(value) } else { Err(PackedError) }
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PackedError> {
        self.number_for(visitor)
    }

    fn deserialize_i16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PackedError> {
        self.number_for(visitor)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PackedError> {
        self.number_for(visitor)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PackedError> {
        self.number_for(visitor)
    }

    #[inline]
    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PackedError> {
        visitor.visit_u64(self.expect(POSITIVE)?)
    }

    #[inline]
    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PackedError> {
        visitor.visit_u64(self.expect(POSITIVE)?)
    }

    #[inline]
    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PackedError> {
        visitor.visit_u64(self.expect(POSITIVE)?)
    }

    #[inline]
    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PackedError> {
        visitor.visit_u64(self.expect(POSITIVE)?)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, _: V) -> Result<V::Value, PackedError> {
        Err(PackedError)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, _: V) -> Result<V::Value, PackedError> {
        Err(PackedError)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PackedError> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PackedError> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PackedError> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PackedError> {
        if self.peek()? >> 5 != BYTES {
            return self.deserialize_seq(visitor);
        }
        let length = self.expect(BYTES)?;
        visitor.visit_borrowed_bytes(self.bytes(length)?)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PackedError> {
        self.deserialize_bytes(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PackedError> {
        if self.skip(NULL) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PackedError> {
        if self.skip(NULL) { visitor.visit_unit() } else { Err(PackedError) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, PackedError> {
        self.deserialize_unit(visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, PackedError> {
        visitor.visit_newtype_struct(self)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PackedError> {
        if self.peek()? >> 5 == BYTES {
            let length = self.expect(BYTES)?;
            let mut bytes = Bytes(self.bytes(length)?);
            let value = visitor.visit_seq(&mut bytes)?;
            return if bytes.0.is_empty() { Ok(value) } else { Err(PackedError) };
        }
        let mut items = Items { left: self.items(LIST, LIST_TO_END)?, reader: self };
        let value = visitor.visit_seq(&mut items)?;
        items.finish().map(|()| value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, PackedError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, PackedError> {
        self.deserialize_seq(visitor)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PackedError> {
        let mut items = Items { left: self.items(MAP, MAP_TO_END)?, reader: self };
        let value = visitor.visit_map(&mut items)?;
        items.finish().map(|()| value)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, PackedError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, PackedError> {
        // A variant that holds something is a map of one entry.
        if self.peek()? >> 5 == MAP && self.expect(MAP)? != 1 {
            return Err(PackedError);
        }
        visitor.visit_enum(Variant(self))
    }

    #[inline]
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PackedError> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PackedError> {
        self.pass()?;
        visitor.visit_unit()
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The items of a list that is written as bytes.
struct Bytes<'de>(&'de [u8]);

impl<'de> SeqAccess<'de> for &mut Bytes<'de> {
    type Error = PackedError;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, PackedError> {
        let Some((first, rest)) = self.0.split_first() else { return Ok(None) };
        self.0 = rest;
        let item: U8Deserializer<PackedError> = (*first).into_deserializer();
        seed.deserialize(item).map(Some)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// The items of a list, or the entries of a map.
struct Items<'r, 'de> {
    reader: &'r mut Reader<'de>,
    /// How many are left, where that is known.
    left: Option<u64>,
}

impl Items<'_, '_> {
    /// Whether another one follows.
    #[inline]
    fn advance(&mut self) -> bool {
        match &mut self.left {
            None => self.reader.rest.first() != Some(&END),
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }

    /// Makes sure that none is left.
    #[inline]
    fn finish(self) -> Result<(), PackedError> {
        let is_at_end = match self.left {
            None => self.reader.skip(END),
            Some(left) => left == 0,
        };
        if is_at_end { Ok(()) } else { Err(PackedError) }
    }

    fn hint(&self) -> Option<usize> {
        self.left.and_then(|left| usize::try_from(left).ok())
    }
}

impl<'de> SeqAccess<'de> for &mut Items<'_, 'de> {
    type Error = PackedError;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, PackedError> {
        if self.advance() { seed.deserialize(&mut *self.reader).map(Some) } else { Ok(None) }
    }

    fn size_hint(&self) -> Option<usize> {
        self.hint()
    }
}

impl<'de> MapAccess<'de> for &mut Items<'_, 'de> {
    type Error = PackedError;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, PackedError> {
        if self.advance() { seed.deserialize(&mut *self.reader).map(Some) } else { Ok(None) }
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, PackedError> {
        seed.deserialize(&mut *self.reader)
    }

    fn size_hint(&self) -> Option<usize> {
        self.hint()
    }
}

/// A variant: its name, then what it holds.
struct Variant<'r, 'de>(&'r mut Reader<'de>);

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = PackedError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self), PackedError> {
        let name = seed.deserialize(&mut *self.0)?;
        Ok((name, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = PackedError;

    fn unit_variant(self) -> Result<(), PackedError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, PackedError> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, PackedError> {
        self.0.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, PackedError> {
        self.0.deserialize_map(visitor)
    }
}
