//! What a client under test prints: facts, one a line, each a word and what it says. Anything else
//! is an error, as nobody could judge a client by it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// A message that the client says it has read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text {
    /// `@user:server|DEVICE`.
    pub sender: String,
    /// Its body.
    pub body: String,
}

/// The facts of one step.
#[derive(Debug, Default)]
pub struct Facts {
    /// The room that it made.
    pub room: Option<String>,
    /// Its head: number and id.
    pub epoch: Option<(u64, String)>,
    /// The devices in its head.
    pub members: BTreeSet<String>,
    /// What it has read, the oldest first.
    pub texts: Vec<Text>,
    /// The events that it cannot read.
    pub unread: Vec<String>,
    /// A recovery key.
    pub key: Option<String>,
    /// How many epochs a backup brought back.
    pub restored: Option<u64>,
}

impl Facts {
    /// Takes in a line, or says why it is no fact.
    pub fn take(&mut self, line: &str) -> Result<(), String> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let no_fact = || format!("it printed a line that is no fact: {}", shown(line));
        match word {
            "room" => self.room = Some(rest.to_owned()),
            "epoch" => {
                let (number, id) = rest.split_once(' ').ok_or_else(no_fact)?;
                let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
                let number = number.parse().ok().filter(|_| is_id).ok_or_else(no_fact)?;
                self.epoch = Some((number, id.to_lowercase()));
            }
            "member" => drop(self.members.insert(rest.to_owned())),
            "text" => {
                let (sender, body) = rest.split_once(' ').ok_or_else(no_fact)?;
                self.texts.push(Text { sender: sender.to_owned(), body: body.to_owned() });
            }
            "unread" => self.unread.push(rest.to_owned()),
            "key" => self.key = Some(rest.to_owned()),
            "restored" => self.restored = Some(rest.parse().map_err(|_| no_fact())?),
            _ => return Err(no_fact()),
        }
        Ok(())
    }

    /// How often it has read a text.
    pub fn times(&self, body: &str) -> usize {
        self.texts.iter().filter(|text| text.body == body).count()
    }

    /// The texts that it has read.
    pub fn bodies(&self) -> Value {
        json!(self.texts.iter().map(|text| &text.body).collect::<Vec<_>>())
    }
}

/// A line, as far as a report shows it.
pub fn shown(line: &str) -> String {
    let mut text: String = line.chars().take(200).flat_map(char::escape_debug).collect();
    if line.chars().nth(200).is_some() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_and_nothing_else_is() {
        let mut facts = Facts::default();
        let id = "0A".repeat(32);
        for line in [
            &*format!("epoch 7 {id}"),
            "member @a:b|C",
            "text @a:b|C two  words",
            "text @a:b|C ",
            "unread $event",
            "key EsTa bc",
            "restored 3",
            "room !a:b",
        ] {
            assert_eq!(facts.take(line), Ok(()), "{line}");
        }
        assert_eq!(facts.epoch, Some((7, "0a".repeat(32))));
        assert_eq!((facts.times("two  words"), facts.times(""), facts.restored), (1, 1, Some(3)));
        for line in ["", "ok then", "epoch 7", "epoch x 00", "epoch 7 00", "text alone", "restored"]
        {
            let error = facts.take(line).unwrap_err();
            assert!(error.contains("no fact"), "{line}: {error}");
        }
        let long = "x\u{1b}".repeat(1_000);
        let error = facts.take(&long).unwrap_err();
        assert!(error.chars().count() < 2_000 && !error.contains('\u{1b}'), "{error}");
    }
}
