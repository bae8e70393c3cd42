//! The journal in words, and text from outside made harmless.

use crate::domain::effect::{Effect, Turn};
use crate::domain::event::{CheckAnswer, Event};
use crate::domain::id::NodeId;
use crate::domain::time::shown;
use crate::domain::words::harmless;
use crate::port::JournalEntry;

/// A journal entry in words: what happened, what moved, what was sent.
pub fn lines(entry: &JournalEntry, only: Option<&NodeId>) -> Vec<String> {
    let wanted = |node: &NodeId| only.is_none_or(|only| only == node);
    let mut lines = Vec::new();
    for (event, recorded) in entry.events.iter().zip(&entry.recorded) {
        let line = match event {
            Event::Completed(done) if wanted(&done.node) => {
                Some(format!("completed {} {} {:?}", done.node, done.run, done.outcome))
            }
            Event::Observed(seen) if wanted(&seen.node) => Some(format!(
                "observed  {} {}{}",
                seen.node,
                seen.coverage.map_or("unknown".to_owned(), |coverage| coverage.to_string()),
                seen.actor.as_ref().map(|actor| format!(", asked for by {actor}")).unwrap_or_default()
            )),
            Event::UpstreamSettled(settled) if wanted(&settled.node) => {
                Some(format!("upstream  {}@{} {}", settled.node, settled.date, settled.upstream.extant))
            }
            Event::Withheld(told) if wanted(&told.node) => Some(format!("withheld  {} ({})", told.node, told.attempt)),
            Event::Foretold(told) if wanted(&told.node) => {
                let short = told.shortfall.as_ref();
                let short = short.map_or("no deadline missed".to_owned(), |short| {
                    format!("too little of it at {}", shown(short.deadline))
                });
                Some(format!("forecast  {}: {short}", told.node))
            }
            Event::Requested(request) if request.command.node().is_none_or(&wanted) => {
                Some(format!("requested {} by {}: {}", request.command, request.actor, request.reason))
            }
            Event::Scheduled(told) if only.is_none() => {
                let played = told.games.values().filter(|game| game.status.is_played()).count();
                Some(format!("schedule  {played} of {} games are played", told.games.len()))
            }
            Event::Checked(told) if wanted(&told.node) => {
                let answer = match told.answer {
                    CheckAnswer::Share(coverage) => coverage.to_string(),
                    CheckAnswer::Unknown => "unknown".to_owned(),
                    CheckAnswer::NotKept => "not kept".to_owned(),
                };
                Some(format!("checked   {} {}: {answer}", told.node, told.check))
            }
            _ => None,
        };
        lines.extend(line.map(|line| format!("{line} → {}", format!("{recorded:?}").to_lowercase())));
    }
    for (node, from, to) in entry.moved.iter().filter(|(node, _, _)| wanted(node)) {
        lines.push(format!("moved     {node}: {from} → {to}"));
    }
    for effect in &entry.effects {
        match effect {
            Effect::Dispatch(dispatch) if wanted(&dispatch.node) => lines.push(format!(
                "dispatch  {} because {}{}",
                dispatch.id,
                dispatch.manifest.cause.as_str(),
                if dispatch.manifest.degraded { ", degraded" } else { "" }
            )),
            Effect::Alert(alert) if only.is_none_or(|only| alert.key.as_str().contains(only.as_str())) => {
                let turn = if alert.turn == Turn::Raised { "raised" } else { "resolved" };
                let text = if *alert.text == *alert.key.as_str() { "" } else { &*alert.text };
                let text = if text.is_empty() { String::new() } else { format!(": {text}") };
                lines.push(format!("alert     {turn} {}{text}", alert.key));
            }
            _ => {}
        }
    }
    // A reason, or a producer's message, is anybody's text.
    lines.iter().map(|line| harmless(line)).collect()
}

/// The text as a page may show it: without controls and without marks of direction, which would turn round what stands
/// beside it; at most `most` characters.
pub fn clean(text: &str, most: usize) -> String {
    let is_shown = |letter: &char| !is_unseen(*letter);
    let mut shown: String = text.chars().filter(is_shown).take(most).collect();
    if text.chars().filter(is_shown).nth(most).is_some() {
        shown.push('…');
    }
    shown
}

/// Controls, marks of direction, and what takes no room: none of it says anything to a reader.
fn is_unseen(letter: char) -> bool {
    let is_space = matches!(letter, '\n' | '\t');
    (letter.is_control() && !is_space)
        || matches!(letter, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(letter, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_turns_text_round_or_hides_in_it_is_left_out() {
        assert_eq!(clean("a\u{202e}b\u{2066}c\u{0}\u{1b}[31m", 20), "abc[31m");
        assert_eq!(clean("abcdef", 3), "abc…");
        assert_eq!(clean("abc\u{202e}", 3), "abc");
        // Letters that are written from the right are letters.
        assert_eq!(clean("שלום", 10), "שלום");
    }
}
