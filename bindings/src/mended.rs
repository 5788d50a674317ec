//! What the generator's templates say otherwise than this library wants: the text of an error, and
//! what a call on a closed handle throws.
//!
//! Each change must be needed: where a template of a later UniFFI says something else, generating
//! fails, and somebody looks.

use anyhow::{Context, Result, ensure};

/// Changes the generated Kotlin.
pub fn kotlin(code: &str) -> Result<String> {
    // An error's message is its code and its sentence, and not the form of its record.
    let code = replace(code, "get() = \"details=${ `details` }\"", MESSAGE)?;
    let code =
        replace(&code, "get() = \"userIds=${ `userIds` }, details=${ `details` }\"", MESSAGE)?;
    let replaced = "get() = \"replacementRoomId=${ `replacementRoomId` }, details=${ `details` }\"";
    let code = replace(&code, replaced, MESSAGE)?;
    // A call on a closed handle is an error like any other.
    replace(
        &code,
        "throw IllegalStateException(\"${this.javaClass.simpleName} object has already been destroyed\")",
        "throw closedHandle(this.javaClass.simpleName)",
    )
}

/// Changes Swift that a generator wrote which does not know `mutable_records` (before UniFFI 0.32).
pub fn swift(code: &str) -> Result<String> {
    let mut code = code.to_owned();
    for record in ["MachineConfig", "RoomSettings"] {
        let begin = code.find(&format!("public struct {record}: "));
        let begin = begin.with_context(|| format!("the generated Swift has no {record}"))?;
        let length = code.get(begin..).and_then(|rest| rest.find("\n}\n"));
        let end = begin + length.with_context(|| format!("{record} does not end"))?;
        let fields = code.get(begin..end).unwrap_or_default().replace("public let ", "public var ");
        code.replace_range(begin..end, &fields);
    }
    Ok(code)
}

const MESSAGE: &str = "get() = \"${ `details`.`code` }: ${ `details`.`reason` }\"";

fn replace(code: &str, from: &str, to: &str) -> Result<String> {
    ensure!(code.contains(from), "UniFFI's templates have no {from} any more");
    Ok(code.replace(from, to))
}
