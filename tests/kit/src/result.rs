//! How a test says what went wrong: with `?`, which keeps the error and the line that met it.
//!
//! What must be there and is not becomes an error by [`OrMissing`], what must be refused and is not
//! by [`Refused`], a field of JSON that is of another kind by [`Fields`]. All of them name what
//! they looked for.

use std::fmt::Debug;

use eyre::Report;
use serde_json::{Map, Value};

/// What a test, a bench and most of this crate return. Any error becomes a [`Report`] by `?`.
pub type Result<T = (), E = Report> = std::result::Result<T, E>;

/// Of a value that must be there.
pub trait OrMissing<T> {
    /// The value, or an error that names what is missing.
    fn or_missing(self, what: &str) -> Result<T>;
}

impl<T> OrMissing<T> for Option<T> {
    #[track_caller]
    fn or_missing(self, what: &str) -> Result<T> {
        match self {
            Some(value) => Ok(value),
            None => Err(Report::msg(format!("missing: {what}"))),
        }
    }
}

/// Of a call that must be refused.
pub trait Refused<E> {
    /// The error that it was refused with, or an error where it was not.
    fn refused(self) -> Result<E>;
}

impl<T, E> Refused<E> for std::result::Result<T, E> {
    #[track_caller]
    fn refused(self) -> Result<E> {
        match self {
            Ok(_) => Err(Report::msg("this must be refused, and is not")),
            Err(error) => Ok(error),
        }
    }
}

/// Of JSON that must have a field of some kind.
pub trait Fields {
    /// The string under this name.
    fn text(&self, field: &str) -> Result<&str>;
    /// The object under this name.
    fn object(&self, field: &str) -> Result<&Map<String, Value>>;
    /// The same, to change it.
    fn object_mut(&mut self, field: &str) -> Result<&mut Map<String, Value>>;
}

impl Fields for Value {
    #[track_caller]
    fn text(&self, field: &str) -> Result<&str> {
        match self[field].as_str() {
            Some(text) => Ok(text),
            None => Err(Report::msg(format!("`{field}` is no string in {self}"))),
        }
    }

    #[track_caller]
    fn object(&self, field: &str) -> Result<&Map<String, Value>> {
        match self[field].as_object() {
            Some(object) => Ok(object),
            None => Err(Report::msg(format!("`{field}` is no object in {self}"))),
        }
    }

    #[track_caller]
    fn object_mut(&mut self, field: &str) -> Result<&mut Map<String, Value>> {
        match self.get_mut(field).and_then(Value::as_object_mut) {
            Some(object) => Ok(object),
            None => Err(Report::msg(format!("`{field}` is no object to change"))),
        }
    }
}

/// The value of an attempt, in a call that has no error to give: a failure ends the test and says
/// why.
#[track_caller]
pub(crate) fn sure<T, E: Debug>(attempt: Result<T, E>) -> T {
    match attempt {
        Ok(value) => value,
        Err(error) => panic!("{error:?}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_error_says_what_and_on_which_line() -> Result {
        let missing = || -> Result<u8> { None.or_missing("head") };
        let here = line!() - 1;
        let error = format!("{:?}", missing().refused()?);
        assert!(error.starts_with("missing: head"), "{error}");
        assert!(error.contains(&format!("result.rs:{here}")), "{error}");
        let converted = || -> Result<u8> { Ok("x".parse()?) };
        let here = line!() - 1;
        let error = format!("{:?}", converted().refused()?);
        assert!(error.contains(&format!("result.rs:{here}")), "{error}");
        Ok(())
    }

    #[test]
    fn fields_of_another_kind_are_named() -> Result {
        let mut value = json!({ "id": "$a", "rooms": { "one": 1 } });
        assert_eq!((value.text("id")?, value.object("rooms")?.len()), ("$a", 1));
        value.object_mut("rooms")?.clear();
        assert!(value.object("rooms")?.is_empty());
        for error in [
            value.text("rooms").refused()?,
            value.object("id").refused()?,
            value.object_mut("id").refused()?,
        ] {
            assert!(error.to_string().contains("` is no "), "{error}");
        }
        assert!(value.text("id").refused().is_err());
        Ok(())
    }
}
