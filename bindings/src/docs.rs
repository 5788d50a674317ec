//! Doc comments in the words of the language they arrive in: rustdoc's links become plain names,
//! and what this library exports is written as Kotlin and Swift write it. Everything else between
//! backticks stays as it is: error codes, names on the wire, code.

use std::collections::{BTreeMap, BTreeSet};

use uniffi_bindgen::interface::ComponentInterface;

/// The language that a comment arrives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Enums without data are in capitals; errors are exceptions.
    Kotlin,
    /// Cases of enums begin with a small letter, those of errors do not.
    Swift,
}

/// How the cases of an exported enum are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cases {
    /// It has data, or is no enum.
    Types,
    /// It has no data.
    Values,
    /// It is the error.
    Errors,
}

/// The names that are exported.
#[derive(Default)]
pub struct Names {
    types: BTreeMap<String, Cases>,
    /// Functions, methods, arguments and fields, as Rust writes them.
    members: BTreeSet<String>,
}

impl Names {
    /// Those of an interface.
    pub fn of(interface: &ComponentInterface) -> Self {
        let mut names = Self::default();
        for function in interface.function_definitions() {
            names.member(function.name());
            for argument in function.arguments() {
                names.member(argument.name());
            }
        }
        for object in interface.object_definitions() {
            names.types.insert(object.name().to_owned(), Cases::Types);
            for constructor in object.constructors() {
                names.member(constructor.name());
                for argument in constructor.arguments() {
                    names.member(argument.name());
                }
            }
            for method in object.methods() {
                names.member(method.name());
                for argument in method.arguments() {
                    names.member(argument.name());
                }
            }
        }
        for record in interface.record_definitions() {
            names.types.insert(record.name().to_owned(), Cases::Types);
            for field in record.fields() {
                names.member(field.name());
            }
        }
        for definition in interface.enum_definitions() {
            let cases = if interface.is_name_used_as_error(definition.name()) {
                Cases::Errors
            } else if definition.is_flat() {
                Cases::Values
            } else {
                Cases::Types
            };
            names.types.insert(definition.name().to_owned(), cases);
            for variant in definition.variants() {
                for field in variant.fields() {
                    names.member(field.name());
                }
            }
            for method in definition.methods() {
                names.member(method.name());
            }
        }
        names
    }

    fn member(&mut self, name: &str) {
        self.members.insert(name.to_owned());
    }

    /// A name between backticks in the words of a language; nothing where it is none of ours.
    fn translate(&self, name: &str, language: Language) -> Option<String> {
        let path: Vec<&str> =
            name.split("::").filter(|part| !["crate", "Self"].contains(part)).collect();
        let (last, owners) = path.split_last()?;
        let is_path = name.contains("::");
        let owner = owners.last().and_then(|owner| Some((*owner, *self.types.get(*owner)?)));
        if !owners.is_empty() && owner.is_none() {
            return None;
        }
        let last = match owner {
            Some((_, cases)) if last.starts_with(|first: char| first.is_ascii_uppercase()) => {
                case_name(last, cases, language)
            }
            _ if self.members.contains(*last) => camel_case(last),
            None if self.types.contains_key(*last) => type_name(last, language),
            _ if is_path => (*last).to_owned(),
            _ => return None,
        };
        Some(match owner {
            Some((owner, _)) => format!("{}.{last}", type_name(owner, language)),
            None => last,
        })
    }
}

/// Rewrites the comments of generated code; code is left as it is.
pub fn translate(code: &str, names: &Names, language: Language) -> String {
    let mut out = String::with_capacity(code.len());
    for line in code.split_inclusive('\n') {
        let text = line.trim_start();
        if text.starts_with("* ") || text.starts_with("/// ") {
            out.push_str(&ours(&links(line), names, language));
        } else {
            out.push_str(line);
        }
    }
    out
}

/// ``[`name`](path)`` becomes `` `name` ``.
fn links(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("[`") {
        out.push_str(before);
        let link = after
            .split_once("`](")
            .and_then(|(name, after)| after.split_once(')').map(|(_, after)| (name, after)))
            .or_else(|| after.split_once("`]"));
        let Some((name, after)) = link else {
            out.push_str("[`");
            rest = after;
            continue;
        };
        out.push('`');
        out.push_str(name);
        out.push('`');
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Names between backticks that are ours, as the language has them.
fn ours(line: &str, names: &Names, language: Language) -> String {
    let parts: Vec<String> = line
        .split('`')
        .enumerate()
        .map(|(index, part)| {
            let name = (index % 2 == 1).then(|| names.translate(part, language)).flatten();
            name.unwrap_or_else(|| part.to_owned())
        })
        .collect();
    parts.join("`")
}

fn type_name(name: &str, language: Language) -> String {
    match (name, language) {
        ("MlsError", Language::Kotlin) => "MlsException".to_owned(),
        _ => name.to_owned(),
    }
}

fn case_name(name: &str, cases: Cases, language: Language) -> String {
    match (language, cases) {
        (Language::Kotlin, Cases::Values) => {
            let mut out = String::new();
            for (index, letter) in name.chars().enumerate() {
                if index > 0 && letter.is_ascii_uppercase() {
                    out.push('_');
                }
                out.push(letter.to_ascii_uppercase());
            }
            out
        }
        (Language::Swift, Cases::Types | Cases::Values) => {
            let mut letters = name.chars();
            letters
                .next()
                .map(|first| first.to_ascii_lowercase())
                .into_iter()
                .chain(letters)
                .collect()
        }
        _ => name.to_owned(),
    }
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let mut out = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        out.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        out.push_str(letters.as_str());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let types = [
            ("MlsMachine", Cases::Types),
            ("MlsError", Cases::Errors),
            ("Publishing", Cases::Values),
            ("Update", Cases::Types),
            ("RoomSettings", Cases::Types),
        ];
        let members =
            ["prepare_to_send", "mark_request_as_sent", "bind_device", "read_once", "open"];
        Names {
            types: types.map(|(name, cases)| (name.to_owned(), cases)).into(),
            members: members.map(str::to_owned).into(),
        }
    }

    #[test]
    fn links_become_names_as_the_language_has_them() {
        for (line, kotlin, swift) in [
            (
                "     * Call [`prepare_to_send`](Self::prepare_to_send), then `mark_request_as_sent`.\n",
                "     * Call `prepareToSend`, then `markRequestAsSent`.\n",
                "     * Call `prepareToSend`, then `markRequestAsSent`.\n",
            ),
            (
                "/// With [`MlsMachine::bind_device`] (for [`Publishing::BesideOlm`]).\n",
                "/// With `MlsMachine.bindDevice` (for `Publishing.BESIDE_OLM`).\n",
                "/// With `MlsMachine.bindDevice` (for `Publishing.besideOlm`).\n",
            ),
            (
                " * `Update::ClockOff`, `MlsError::NotReady`, `RoomSettings::read_once`\n",
                " * `Update.ClockOff`, `MlsException.NotReady`, `RoomSettings.readOnce`\n",
                " * `Update.clockOff`, `MlsError.NotReady`, `RoomSettings.readOnce`\n",
            ),
            (
                " * A [`MlsMachine`](crate::MlsMachine), `crate::MlsMachine::open`\n",
                " * A `MlsMachine`, `MlsMachine.open`\n",
                " * A `MlsMachine`, `MlsMachine.open`\n",
            ),
        ] {
            assert_eq!(translate(line, &names(), Language::Kotlin), kotlin);
            assert_eq!(translate(line, &names(), Language::Swift), swift);
        }
    }

    #[test]
    fn codes_and_what_is_on_the_wire_and_what_is_code_stay() {
        for line in [
            "    * `device_lists.changed` and `next_batch` and `m.room.member`\n",
            "    * `\"read_once\"`, `backup_exists`, `world_readable`\n",
            "val `event_id` = [`x`](y)\n",
            "/// an open [` bracket\n",
        ] {
            assert_eq!(translate(line, &names(), Language::Kotlin), line);
            assert_eq!(translate(line, &names(), Language::Swift), line);
        }
    }
}
