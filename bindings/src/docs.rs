//! Doc comments in the words of the language they arrive in: rustdoc's links become plain names, and
//! names of calls are written as Kotlin and Swift write them.

/// Rewrites the comments of generated code; code is left as it is.
pub fn translate(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    for line in code.split_inclusive('\n') {
        let text = line.trim_start();
        if text.starts_with("* ") || text.starts_with("/// ") {
            out.push_str(&names(&links(line)));
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
        out.push_str(&name.replace("::", "."));
        out.push('`');
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Names between backticks that are ours, in camel case. What stands in quotes, dots or slashes is a
/// Matrix identifier and stays.
fn names(line: &str) -> String {
    let parts: Vec<String> = line
        .split('`')
        .enumerate()
        .map(|(index, part)| match index % 2 == 1 && is_call(part) {
            true => camel_case(part),
            false => part.to_owned(),
        })
        .collect();
    parts.join("`")
}

fn is_call(name: &str) -> bool {
    const WIRE: [&str; 3] = ["next_batch", "device_keys", "retry_after_ms"];
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let last = name.rsplit('.').next().unwrap_or(name);
    let owner = name.strip_suffix(last).unwrap_or_default();
    let of_ours = owner.is_empty() || owner.starts_with(|c: char| c.is_ascii_uppercase());
    of_ours
        && last.contains('_')
        && last.chars().all(letters)
        && !WIRE.contains(&last)
        && !last.starts_with("device_")
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

    #[test]
    fn links_become_names_and_names_are_in_camel_case() {
        let line = "     * Call [`prepare_to_send`](Self::prepare_to_send), then `mark_request_as_sent`.\n";
        assert_eq!(translate(line), "     * Call `prepareToSend`, then `markRequestAsSent`.\n");
        let line = "/// With [`MlsMachine::bind_device`] (for [`Publishing::BesideOlm`]).\n";
        assert_eq!(
            translate(line),
            "/// With `MlsMachine.bindDevice` (for `Publishing.BesideOlm`).\n"
        );
    }

    #[test]
    fn what_is_on_the_wire_and_what_is_code_stays() {
        for line in [
            "    * `device_lists.changed` and `next_batch` and `m.room.member`\n",
            "val `event_id` = [`x`](y)\n",
            "/// an open [` bracket\n",
        ] {
            assert_eq!(translate(line), line);
        }
    }
}
