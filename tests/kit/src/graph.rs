//! A room's epoch graph as a picture (SVG): what `room.epochs()` says, drawn so that a fork can be
//! seen.
//!
//! Time runs to the right by epoch number; each branch has a lane. A circle is an epoch that began
//! with a member's commit, a square one that began with a device joining by itself. A filled mark
//! can still process commits, a hollow one can only decrypt; the ring is the head. A dashed line
//! leads from a commit to the tips that it says it supersedes.
//!
//! Below each mark are its maker's user and device and the number of devices, a line each. What is
//! too long for its column is cut; the mark's title has it whole.

use std::{collections::HashMap, fmt::Write as _};

use matrix_mls::EpochInfo;

const COLUMN: usize = 120;
const LANE: usize = 108;
const LEFT: usize = 70;
const TOP: usize = 96;
const RADIUS: usize = 15;
/// How wide a label may be.
const LABEL: usize = COLUMN - 14;
/// From a mark's middle to its first label, and from there to the next.
const FIRST_LINE: usize = RADIUS + 22;
const NEXT_LINE: usize = 14;

/// The place of an epoch in the picture.
struct Place {
    x: usize,
    y: usize,
}

/// Draws the epochs that one device knows.
pub fn svg(title: &str, epochs: &[EpochInfo]) -> String {
    let places = places(epochs);
    let right = places.values().map(|place| place.x).max().unwrap_or(LEFT);
    let bottom = places.values().map(|place| place.y).max().unwrap_or(TOP);
    let (width, height) = ((right + LEFT).max(760), bottom + 142);
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"20\" y=\"30\" font-size=\"17\" font-weight=\"600\">{}</text>\n",
        escaped(title)
    );
    for epoch in epochs {
        edges(&mut out, epoch, &places);
    }
    for epoch in epochs {
        mark(&mut out, epoch, &places);
    }
    legend(&mut out, height - 42);
    out.push_str("</svg>\n");
    out
}

/// A lane for each branch: an epoch takes its parent's, if it is the first child to come, or one
/// that is free from there on.
fn places(epochs: &[EpochInfo]) -> HashMap<&str, Place> {
    let first = epochs.iter().map(|epoch| epoch.epoch).min().unwrap_or(0);
    let mut order: Vec<&EpochInfo> = epochs.iter().collect();
    // The branch of the head first, so that it runs straight.
    let main = ancestors(epochs);
    order.sort_by_key(|epoch| (epoch.epoch, !main.contains(&epoch.id.as_str()), &epoch.id));
    // The last epoch of each lane, and its number.
    let mut lanes: Vec<(&str, u64)> = Vec::new();
    let mut lane_of: HashMap<&str, usize> = HashMap::new();
    for epoch in order {
        let parent = epoch.parent.as_deref();
        let parents = lanes.iter().position(|(tip, _)| Some(*tip) == parent);
        // A branch that ended before this one began left its lane free.
        let free = || {
            let childless = |tip| epochs.iter().all(|e| e.parent.as_deref() != Some(tip));
            lanes.iter().position(|(tip, at)| *at < epoch.epoch && childless(*tip))
        };
        let lane = parents.or_else(free).unwrap_or(lanes.len());
        match lanes.get_mut(lane) {
            Some(last) => *last = (&epoch.id, epoch.epoch),
            None => lanes.push((&epoch.id, epoch.epoch)),
        }
        lane_of.insert(&epoch.id, lane);
    }
    epochs
        .iter()
        .map(|epoch| {
            let column = usize::try_from(epoch.epoch - first).unwrap_or(0);
            let lane = lane_of.get(epoch.id.as_str()).copied().unwrap_or(0);
            (epoch.id.as_str(), Place { x: LEFT + column * COLUMN, y: TOP + lane * LANE })
        })
        .collect()
}

/// The ids of the head and what it descends from.
fn ancestors(epochs: &[EpochInfo]) -> Vec<&str> {
    let mut line = Vec::new();
    let mut next = epochs.iter().find(|epoch| epoch.is_head);
    while let Some(epoch) = next {
        line.push(epoch.id.as_str());
        next = epochs.iter().find(|parent| Some(&parent.id) == epoch.parent.as_ref());
    }
    line
}

fn edges(out: &mut String, epoch: &EpochInfo, places: &HashMap<&str, Place>) {
    let Some(to) = places.get(epoch.id.as_str()) else { return };
    if let Some(from) = epoch.parent.as_deref().and_then(|parent| places.get(parent)) {
        let middle = usize::midpoint(from.x, to.x);
        let _ = writeln!(
            out,
            "<path d=\"M {} {} C {middle} {}, {middle} {}, {} {}\" fill=\"none\" stroke=\"#667\" \
             stroke-width=\"2\"/>",
            from.x, from.y, from.y, to.y, to.x, to.y
        );
    }
    for resolved in epoch.resolves.iter().filter_map(|id| places.get(id.as_str())) {
        let _ = writeln!(
            out,
            "<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" stroke=\"#b50\" stroke-width=\"1.5\" \
             stroke-dasharray=\"5 4\"/>",
            resolved.x, resolved.y, to.x, to.y
        );
    }
}

fn mark(out: &mut String, epoch: &EpochInfo, places: &HashMap<&str, Place>) {
    let Some(Place { x, y }) = places.get(epoch.id.as_str()) else { return };
    let color = if epoch.doubts.is_empty() { "#2563a8" } else { "#b3261e" };
    let (fill, ink) = if epoch.is_full { (color, "#fff") } else { ("#fff", color) };
    let _ = write!(
        out,
        "<g><title>epoch {}, {}\n{} devices, by {}|{}\n{}{}</title>\n",
        epoch.epoch,
        escaped(&epoch.id),
        epoch.members,
        escaped(&epoch.creator_user_id),
        escaped(&epoch.creator_device_id),
        escaped(epoch.commit_event.as_deref().unwrap_or("no event")),
        epoch.doubts.iter().fold(String::new(), |all, doubt| all + "\n" + &escaped(doubt)),
    );
    if epoch.is_head {
        let _ = writeln!(
            out,
            "<circle cx=\"{x}\" cy=\"{y}\" r=\"{}\" fill=\"none\" stroke=\"#1a7f37\" \
             stroke-width=\"4\"/>",
            RADIUS + 7
        );
    }
    let style = format!("fill=\"{fill}\" stroke=\"{color}\" stroke-width=\"2\"");
    let _ = if epoch.is_external {
        let (left, top, side) = (x - RADIUS, y - RADIUS, 2 * RADIUS);
        writeln!(
            out,
            "<rect x=\"{left}\" y=\"{top}\" width=\"{side}\" height=\"{side}\" rx=\"3\" {style}/>"
        )
    } else {
        writeln!(out, "<circle cx=\"{x}\" cy=\"{y}\" r=\"{RADIUS}\" {style}/>")
    };
    let _ = writeln!(
        out,
        "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\" fill=\"{ink}\" font-weight=\"600\">{}</text>",
        y + 4,
        epoch.epoch,
    );
    let user = epoch.creator_user_id.trim_start_matches('@').split(':').next().unwrap_or_default();
    let devices = match epoch.members {
        1 => "1 device".to_owned(),
        members => format!("{members} devices"),
    };
    let lines = [(user, "#000"), (epoch.creator_device_id.as_str(), "#000"), (&devices, "#667")];
    // Where the maker is known by one name only, no line is left empty.
    let lines = lines.iter().filter(|(line, _)| !line.is_empty());
    for (at, (line, color)) in lines.enumerate() {
        let _ = writeln!(
            out,
            "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\" fill=\"{color}\">{}</text>",
            y + FIRST_LINE + at * NEXT_LINE,
            escaped(&cut(line)),
        );
    }
    out.push_str("</g>\n");
}

/// How wide a letter is at the most, at the size of labels.
fn width(letter: char) -> usize {
    match letter {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '|' | '\'' | ' ' => 5,
        'm' | 'w' | 'M' | 'W' | '@' | '…' => 12,
        'A'..='Z' => 9,
        _ if letter.is_ascii() => 7,
        _ => 13,
    }
}

/// A text that is no wider than a label may be: its beginning, and a sign that there was more.
fn cut(text: &str) -> String {
    let of = |text: &str| text.chars().map(width).sum::<usize>();
    if of(text) <= LABEL {
        return text.to_owned();
    }
    let mut left = LABEL - width('…');
    let fits = |letter: &char| {
        let rest = left.checked_sub(width(*letter));
        left = rest.unwrap_or_default();
        rest.is_some()
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

fn legend(out: &mut String, y: usize) {
    let lines = [
        "ring: the head · filled: can take a commit · hollow: can only decrypt · square: joined by itself",
        "dashed: supersedes · red: does not fit the room",
    ];
    for (at, line) in lines.iter().enumerate() {
        let y = y + at * 18;
        let _ = writeln!(out, "<text x=\"20\" y=\"{y}\" fill=\"#445\">{line}</text>");
    }
}

/// Ids come from others: nothing of them is markup.
fn escaped(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).fold(String::new(), |mut out, letter| {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(epoch: u64, id: &str, parent: Option<&str>) -> EpochInfo {
        EpochInfo {
            epoch,
            id: id.to_owned(),
            parent: parent.map(ToOwned::to_owned),
            creator_user_id: "@<a>&\"b:example.org".to_owned(),
            creator_device_id: "PHONE".to_owned(),
            commit_event: None,
            is_head: false,
            is_full: true,
            members: 2,
            is_external: false,
            resolves: Vec::new(),
            doubts: Vec::new(),
        }
    }

    #[test]
    fn a_fork_has_two_lanes_and_the_heads_branch_runs_straight() {
        let mut epochs =
            vec![epoch(4, "base", None), epoch(5, "a", Some("base")), epoch(5, "b", Some("base"))];
        epochs.push(EpochInfo {
            is_head: true,
            resolves: vec!["a".into()],
            ..epoch(6, "c", Some("b"))
        });
        let places = places(&epochs);
        let y = |id| places[id].y;
        assert_eq!((y("base"), y("b")), (y("c"), y("c")));
        assert_ne!(y("a"), y("b"));
        assert!(places["base"].x < places["a"].x && places["a"].x == places["b"].x);
        let svg = svg("a room", &epochs);
        assert_eq!(svg.matches("stroke-dasharray").count(), 1);
        assert!(svg.contains("&lt;a&gt;&amp;&quot;b") && !svg.contains("<a>"));
    }

    /// The labels of a picture: the middle of each, its line, and how wide it is.
    fn labels(svg: &str) -> Vec<(usize, usize, usize)> {
        let number = |line: &str, name: &str| -> usize {
            let value = line.split(&format!(" {name}=\"")).nth(1).unwrap_or_default();
            value.split('"').next().unwrap_or_default().parse().unwrap_or_default()
        };
        let text = |line: &str| -> String {
            let inside = line.split('>').nth(1).unwrap_or_default();
            inside.split('<').next().unwrap_or_default().to_owned()
        };
        let marked = svg.lines().filter(|line| line.contains("text-anchor=\"middle\""));
        let label = |line: &str| {
            let wide = text(line).chars().map(width).sum();
            (number(line, "x"), number(line, "y"), wide)
        };
        marked.map(label).collect()
    }

    #[test]
    fn labels_of_long_names_do_not_touch() {
        for name in [
            "WWWWWWWWWWWWWWWWWWWWWWWW",
            "a rather long name of a device",
            "長い名前の端末です。本当に長い",
        ] {
            let mut epochs = vec![epoch(0, "0", None)];
            for at in 1..6_u64 {
                epochs.push(epoch(at, &at.to_string(), Some(&(at - 1).to_string())));
                epochs.push(epoch(at, &format!("{at}b"), Some(&(at - 1).to_string())));
            }
            for epoch in &mut epochs {
                epoch.creator_user_id = format!("@{name}:example.org");
                epoch.creator_device_id = name.to_owned();
            }
            let svg = svg("a room", &epochs);
            let labels = labels(&svg);
            assert_eq!(labels.len(), epochs.len() * 4);
            for (at, (x, y, wide)) in labels.iter().enumerate() {
                for (other_x, other_y, other_wide) in labels.iter().skip(at + 1) {
                    let apart = x.abs_diff(*other_x) * 2 >= wide + other_wide;
                    assert!(
                        apart || y.abs_diff(*other_y) >= 12,
                        "{name}: {x} and {other_x} at {y}"
                    );
                }
            }
            assert!(svg.contains(&format!("by @{name}:example.org|{name}")), "the title has all");
        }
    }

    #[test]
    fn a_short_name_stays_whole() {
        assert_eq!((cut("PHONE"), cut("")), ("PHONE".to_owned(), String::new()));
        let long = cut("a rather long name of a device");
        assert!(long.starts_with("a rather") && long.ends_with('…'), "{long}");
    }
}
