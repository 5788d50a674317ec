//! Writing the packed form.

use minicbor::encode::Write;
use serde::{
    Serialize, Serializer,
    ser::{
        SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};

use super::{
    form::{
        BYTES, END, FALSE, LIST, LIST_TO_END, Lists, MAP, MAP_TO_END, NAME, NEGATIVE, NULL,
        POSITIVE, PackedError, TEXT, TRUE,
    },
    names,
};

/// How many names are remembered with their codes: more than a tree has.
const REMEMBERED: usize = 64;

/// What comes next.
#[derive(Clone, Copy)]
enum Next {
    /// Any value.
    Value,
    /// The first item of a list of so many. It decides how the list is written.
    First(u64),
    /// One of the so many bytes that are left of a list that is written as bytes.
    Byte(u64),
}

/// Writes one value.
pub(super) struct Writer<'w, W> {
    to: &'w mut W,
    lists: Lists,
    next: Next,
    /// Names by their place in memory, with the first byte and the second of what is written for
    /// them: names are compared once, and not for each leaf.
    codes: [Option<(&'static str, u8)>; REMEMBERED],
}

impl<'w, W: Write> Writer<'w, W> {
    pub(super) fn new(to: &'w mut W, lists: Lists) -> Self {
        Self { to, lists, next: Next::Value, codes: [None; REMEMBERED] }
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) -> Result<(), PackedError> {
        self.to.write_all(bytes).map_err(|_| PackedError)
    }

    /// Writes what an item begins with: its type, and a number.
    #[inline]
    fn head(&mut self, major: u8, number: u64) -> Result<(), PackedError> {
        let major = major << 5;
        if number < 24 {
            return self.put(&[major | number as u8]);
        }
        self.long_head(major, number)
    }

    #[inline(never)]
    fn long_head(&mut self, major: u8, number: u64) -> Result<(), PackedError> {
        if let Ok(number) = u8::try_from(number) {
            self.put(&[major | 24, number])
        } else if let Ok(number) = u16::try_from(number) {
            let [a, b] = number.to_be_bytes();
            self.put(&[major | 25, a, b])
        } else if let Ok(number) = u32::try_from(number) {
            let [a, b, c, d] = number.to_be_bytes();
            self.put(&[major | 26, a, b, c, d])
        } else {
            self.put(&[major | 27])?;
            self.put(&number.to_be_bytes())
        }
    }

    /// Begins a value that is no `u8`.
    #[inline]
    fn begin(&mut self) -> Result<(), PackedError> {
        match self.next {
            Next::Value => Ok(()),
            Next::First(items) => {
                self.next = Next::Value;
                self.head(LIST, items)
            }
            Next::Byte(_) => Err(PackedError),
        }
    }

    #[inline]
    fn item(&mut self, major: u8, number: u64) -> Result<(), PackedError> {
        self.begin()?;
        self.head(major, number)
    }

    fn text(&mut self, text: &str) -> Result<(), PackedError> {
        self.item(TEXT, text.len() as u64)?;
        self.put(text.as_bytes())
    }

    /// Writes a name of a field or a variant.
    #[inline]
    fn name(&mut self, name: &'static str) -> Result<(), PackedError> {
        self.begin()?;
        let place = (name.as_ptr() as usize >> 2).wrapping_add(name.len()) % REMEMBERED;
        let remembered = self.codes.get(place).copied().flatten();
        if let Some((known, code)) = remembered
            && std::ptr::eq(known, name)
        {
            return self.head(NAME, code.into());
        }
        self.new_name(name, place)
    }

    #[inline(never)]
    fn new_name(&mut self, name: &'static str, place: usize) -> Result<(), PackedError> {
        let Some(code) = names::code_of(name) else { return self.text(name) };
        if let Some(entry) = self.codes.get_mut(place) {
            *entry = Some((name, code));
        }
        self.head(NAME, code.into())
    }

    /// Begins a list.
    fn list(&mut self, items: Option<usize>) -> Result<Items<'_, 'w, W>, PackedError> {
        self.begin()?;
        match items {
            None => self.put(&[LIST_TO_END])?,
            Some(items) if items > 0 && self.lists == Lists::Packed => {
                self.next = Next::First(items as u64);
            }
            Some(items) => self.head(LIST, items as u64)?,
        }
        Ok(Items { writer: self, to_end: items.is_none() })
    }

    /// Begins a list whose items may be of different types.
    fn tuple(&mut self, items: usize) -> Result<Items<'_, 'w, W>, PackedError> {
        self.item(LIST, items as u64)?;
        Ok(Items { writer: self, to_end: false })
    }

    fn map(&mut self, entries: usize) -> Result<Items<'_, 'w, W>, PackedError> {
        self.item(MAP, entries as u64)?;
        Ok(Items { writer: self, to_end: false })
    }

    /// Begins a variant that holds something.
    fn variant(&mut self, name: &'static str) -> Result<(), PackedError> {
        self.item(MAP, 1)?;
        self.name(name)
    }
}

/// A number without its sign.
fn below_zero(number: i64) -> u64 {
    !(number as u64)
}

impl<'s, 'w, W: Write> Serializer for &'s mut Writer<'w, W> {
    type Ok = ();
    type Error = PackedError;
    type SerializeSeq = Items<'s, 'w, W>;
    type SerializeTuple = Items<'s, 'w, W>;
    type SerializeTupleStruct = Items<'s, 'w, W>;
    type SerializeTupleVariant = Items<'s, 'w, W>;
    type SerializeMap = Items<'s, 'w, W>;
    type SerializeStruct = Items<'s, 'w, W>;
    type SerializeStructVariant = Items<'s, 'w, W>;

    fn serialize_bool(self, value: bool) -> Result<(), PackedError> {
        self.begin()?;
        self.put(&[if value { TRUE } else { FALSE }])
    }

    fn serialize_i8(self, value: i8) -> Result<(), PackedError> {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), PackedError> {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), PackedError> {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<(), PackedError> {
        match u64::try_from(value) {
            Ok(value) => self.item(POSITIVE, value),
            Err(_) => self.item(NEGATIVE, below_zero(value)),
        }
    }

    #[inline]
    fn serialize_u8(self, value: u8) -> Result<(), PackedError> {
        let left = match self.next {
            Next::Value => return self.head(POSITIVE, value.into()),
            Next::First(items) => {
                self.head(BYTES, items)?;
                items
            }
            Next::Byte(left) => left,
        };
        self.next = Next::Byte(left.checked_sub(1).ok_or(PackedError)?);
        self.put(&[value])
    }

    fn serialize_u16(self, value: u16) -> Result<(), PackedError> {
        self.item(POSITIVE, value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), PackedError> {
        self.item(POSITIVE, value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), PackedError> {
        self.item(POSITIVE, value)
    }

    fn serialize_f32(self, _: f32) -> Result<(), PackedError> {
        Err(PackedError)
    }

    fn serialize_f64(self, _: f64) -> Result<(), PackedError> {
        Err(PackedError)
    }

    fn serialize_char(self, value: char) -> Result<(), PackedError> {
        self.text(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), PackedError> {
        self.text(value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), PackedError> {
        self.item(BYTES, value.len() as u64)?;
        self.put(value)
    }

    #[inline]
    fn serialize_none(self) -> Result<(), PackedError> {
        self.begin()?;
        self.put(&[NULL])
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), PackedError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), PackedError> {
        self.serialize_none()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), PackedError> {
        self.serialize_none()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), PackedError> {
        self.name(variant)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), PackedError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), PackedError> {
        self.variant(variant)?;
        value.serialize(self)
    }

    #[inline]
    fn serialize_seq(self, items: Option<usize>) -> Result<Items<'s, 'w, W>, PackedError> {
        self.list(items)
    }

    fn serialize_tuple(self, items: usize) -> Result<Items<'s, 'w, W>, PackedError> {
        self.tuple(items)
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        items: usize,
    ) -> Result<Items<'s, 'w, W>, PackedError> {
        self.tuple(items)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        items: usize,
    ) -> Result<Items<'s, 'w, W>, PackedError> {
        self.variant(variant)?;
        self.tuple(items)
    }

    fn serialize_map(self, entries: Option<usize>) -> Result<Items<'s, 'w, W>, PackedError> {
        if let Some(entries) = entries {
            return self.map(entries);
        }
        self.begin()?;
        self.put(&[MAP_TO_END])?;
        Ok(Items { writer: self, to_end: true })
    }

    #[inline]
    fn serialize_struct(
        self,
        _: &'static str,
        fields: usize,
    ) -> Result<Items<'s, 'w, W>, PackedError> {
        self.map(fields)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        fields: usize,
    ) -> Result<Items<'s, 'w, W>, PackedError> {
        self.variant(variant)?;
        self.map(fields)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Writes the items of a list, or the entries of a map.
pub(super) struct Items<'s, 'w, W> {
    writer: &'s mut Writer<'w, W>,
    to_end: bool,
}

impl<W: Write> Items<'_, '_, W> {
    #[inline]
    fn add<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), PackedError> {
        item.serialize(&mut *self.writer)
    }

    #[inline]
    fn finish(self) -> Result<(), PackedError> {
        match self.writer.next {
            Next::Value => {}
            Next::Byte(0) => self.writer.next = Next::Value,
            // A list is shorter than it said.
            Next::First(_) | Next::Byte(_) => return Err(PackedError),
        }
        if self.to_end { self.writer.put(&[END]) } else { Ok(()) }
    }
}

impl<W: Write> SerializeSeq for Items<'_, '_, W> {
    type Ok = ();
    type Error = PackedError;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), PackedError> {
        self.add(item)
    }

    fn end(self) -> Result<(), PackedError> {
        self.finish()
    }
}

impl<W: Write> SerializeTuple for Items<'_, '_, W> {
    type Ok = ();
    type Error = PackedError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), PackedError> {
        self.add(item)
    }

    fn end(self) -> Result<(), PackedError> {
        self.finish()
    }
}

impl<W: Write> SerializeTupleStruct for Items<'_, '_, W> {
    type Ok = ();
    type Error = PackedError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), PackedError> {
        self.add(item)
    }

    fn end(self) -> Result<(), PackedError> {
        self.finish()
    }
}

impl<W: Write> SerializeTupleVariant for Items<'_, '_, W> {
    type Ok = ();
    type Error = PackedError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), PackedError> {
        self.add(item)
    }

    fn end(self) -> Result<(), PackedError> {
        self.finish()
    }
}

impl<W: Write> SerializeMap for Items<'_, '_, W> {
    type Ok = ();
    type Error = PackedError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), PackedError> {
        self.add(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), PackedError> {
        self.add(value)
    }

    fn end(self) -> Result<(), PackedError> {
        self.finish()
    }
}

impl<W: Write> SerializeStruct for Items<'_, '_, W> {
    type Ok = ();
    type Error = PackedError;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), PackedError> {
        self.writer.name(name)?;
        self.add(value)
    }

    fn end(self) -> Result<(), PackedError> {
        self.finish()
    }
}

impl<W: Write> SerializeStructVariant for Items<'_, '_, W> {
    type Ok = ();
    type Error = PackedError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), PackedError> {
        self.writer.name(name)?;
        self.add(value)
    }

    fn end(self) -> Result<(), PackedError> {
        self.finish()
    }
}
