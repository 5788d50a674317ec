//! The exported API as text: every object, function, record, enum and error with its members and
//! the first line of its documentation. Checked in, so that a change of the API is seen in a
//! review.

use std::fmt::Write as _;

use uniffi_bindgen::interface::{Argument, AsType, ComponentInterface, Enum, Field, Method, Type};

/// The whole listing.
pub fn write(interface: &ComponentInterface) -> String {
    let mut out = String::from(
        "# The exported API, written by `cargo xtask bindings`. Names as in Rust; Kotlin and Swift\n\
         # have the same in camelCase. MlsError is MlsException in Kotlin.\n",
    );
    for function in interface.function_definitions() {
        let call = Call {
            kind: "function",
            is_async: function.is_async(),
            name: function.name(),
            arguments: function.arguments(),
            returns: function.return_type(),
            throws: function.throws_type(),
        };
        section(&mut out, &call.write(), function.docstring());
    }
    for object in interface.object_definitions() {
        let kind = if object.has_callback_interface() { "callback" } else { "object" };
        section(&mut out, &format!("{kind} {}", object.name()), object.docstring());
        for constructor in object.constructors() {
            let call = Call {
                kind: "constructor",
                is_async: constructor.is_async(),
                name: constructor.name(),
                arguments: constructor.arguments(),
                returns: None,
                throws: constructor.throws_type(),
            };
            item(&mut out, &call.write(), constructor.docstring());
        }
        for method in object.methods() {
            item(&mut out, &Call::of(method).write(), method.docstring());
        }
    }
    for record in interface.record_definitions() {
        section(&mut out, &format!("record {}", record.name()), record.docstring());
        for field in record.fields() {
            item(&mut out, &self::field(field), field.docstring());
        }
    }
    for definition in interface.enum_definitions() {
        let error = interface.is_name_used_as_error(definition.name());
        enumeration(&mut out, definition, if error { "error" } else { "enum" });
    }
    out
}

fn enumeration(out: &mut String, definition: &Enum, kind: &str) {
    section(out, &format!("{kind} {}", definition.name()), definition.docstring());
    for variant in definition.variants() {
        let fields: Vec<String> = variant.fields().iter().map(field).collect();
        let fields =
            if fields.is_empty() { String::new() } else { format!(" {{ {} }}", fields.join(", ")) };
        item(out, &format!("{}{fields}", variant.name()), variant.docstring());
    }
    for method in definition.methods() {
        item(out, &Call::of(method).write(), method.docstring());
    }
}

/// Something that can be called.
struct Call<'a> {
    kind: &'a str,
    is_async: bool,
    name: &'a str,
    arguments: Vec<&'a Argument>,
    returns: Option<&'a Type>,
    throws: Option<&'a Type>,
}

impl<'a> Call<'a> {
    fn of(method: &'a Method) -> Self {
        Self {
            kind: "method",
            is_async: method.is_async(),
            name: method.name(),
            arguments: method.arguments(),
            returns: method.return_type(),
            throws: method.throws_type(),
        }
    }

    fn write(&self) -> String {
        let asynchronous = if self.is_async { "async " } else { "" };
        let arguments: Vec<String> = self
            .arguments
            .iter()
            .map(|argument| format!("{}: {}", argument.name(), name(&argument.as_type())))
            .collect();
        let mut line =
            format!("{} {asynchronous}{}({})", self.kind, self.name, arguments.join(", "));
        if let Some(returns) = self.returns {
            let _ = write!(line, " -> {}", name(returns));
        }
        if let Some(throws) = self.throws {
            let _ = write!(line, " throws {}", name(throws));
        }
        line
    }
}

fn field(field: &Field) -> String {
    let default = if field.default_value().is_some() { " (has a default)" } else { "" };
    format!("{}: {}{default}", field.name(), name(&field.as_type()))
}

fn name(of: &Type) -> String {
    match of {
        Type::Optional { inner_type } => format!("{}?", name(inner_type)),
        Type::Sequence { inner_type } => format!("[{}]", name(inner_type)),
        Type::Map { key_type, value_type } => {
            format!("{{{}: {}}}", name(key_type), name(value_type))
        }
        other => match other.name() {
            Some(name) => name.to_owned(),
            None => format!("{other:?}").to_lowercase(),
        },
    }
}

fn section(out: &mut String, title: &str, docs: Option<&str>) {
    let _ = write!(out, "\n{title}{}\n", first_line(docs));
}

fn item(out: &mut String, text: &str, docs: Option<&str>) {
    let _ = writeln!(out, "  {text}{}", first_line(docs));
}

fn first_line(docs: Option<&str>) -> String {
    let line = docs.and_then(|docs| docs.lines().map(str::trim).find(|line| !line.is_empty()));
    line.map(|line| format!("  — {line}")).unwrap_or_default()
}
