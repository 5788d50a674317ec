//! What the generator's templates say otherwise than this library wants: the text of an error and of
//! a value without fields, what a call on a closed handle throws, and which `use` fits a machine.
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
    let code = machine_without_kotlins_use(&code)?;
    let code = named_values(&code)?;
    // A call on a closed handle is an error like any other.
    replace(
        &code,
        "throw IllegalStateException(\"${this.javaClass.simpleName} object has already been destroyed\")",
        "throw closedHandle(this.javaClass.simpleName)",
    )
}

/// Takes `AutoCloseable` off the machine. Kotlin's own `use` would fit it then without an import: it
/// gives one handle back, and the store stays open as long as a room of the machine is held. The
/// library's `use` shuts the machine down.
fn machine_without_kotlins_use(code: &str) -> Result<String> {
    const CLASS: &str = "open class MlsMachine: Disposable, AutoCloseable, MlsMachineInterface";
    const CLOSE: &str = "override fun close()";
    let begin = code.find(CLASS).context("the generated Kotlin has no machine to close")?;
    let (before, class) = code.split_at(begin);
    ensure!(class.contains(CLOSE), "the generated Kotlin has no machine with a close()");
    let class = class.replacen(CLASS, &CLASS.replace(" AutoCloseable,", ""), 1);
    Ok(format!("{before}{}", class.replacen(CLOSE, "fun close()", 1)))
}

/// Has a value without fields print its name, and not its place in memory.
fn named_values(code: &str) -> Result<String> {
    let is_value = |line: &str| line.starts_with("    object ") && line.ends_with("()");
    ensure!(code.lines().any(is_value), "the generated Kotlin has no values without fields");
    let mended = code.lines().map(|line| match line.strip_prefix("    object ") {
        Some(value) if is_value(line) => format!("    data object {value}\n"),
        _ => format!("{line}\n"),
    });
    Ok(mended.collect())
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
