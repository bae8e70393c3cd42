//! A notice as text, for people who read it without colours.

use crate::domain::notify::{Item, News, Notice};
use crate::domain::time::shown;

/// Everything a notice says.
pub(super) fn plain(notice: &Notice) -> String {
    let mut lines = vec![line(&notice.title), String::new()];
    for item in &notice.items {
        lines.push(format!("{} ({}): {}", item.severity.as_str(), item.news.as_str(), line(item.key.as_str())));
        lines.push(format!("  {}", line(&item.text)));
        lines.extend(details(item).into_iter().map(|(name, value)| format!("  {name}: {}", line(&value))));
        lines.extend(item.look.iter().map(|command| format!("  look: {}", line(command))));
        lines.extend(item.act.iter().map(|command| format!("  act:  {}", line(command))));
        lines.push(String::new());
    }
    if notice.left_out > 0 && !notice.items.is_empty() {
        lines.push(format!("and {} more: tipoff alerts", notice.left_out));
    }
    lines.push(format!("notice {}, made {}", notice.id, shown(notice.at)));
    lines.join("\n")
}

/// What is said of an alert beside its sentence, by name.
pub(super) fn details(item: &Item) -> Vec<(&'static str, String)> {
    let mut details = Vec::new();
    let mut add = |name, value: Option<String>| details.extend(value.map(|value| (name, value)));
    add("date", item.partition.as_ref().map(ToString::to_string));
    add("node", item.node.as_ref().map(ToString::to_string));
    add("since", Some(shown(item.since)));
    add("over since", item.over_since.filter(|_| item.news == News::Over).map(shown));
    add("done", item.done.clone());
    add("escalated", item.escalated.clone());
    if item.downstream > 0 {
        let more = item.downstream.saturating_sub(item.affected.len());
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        add("downstream", Some(format!("{} affected: {}{more}", item.downstream, item.affected.join("; "))));
    }
    details
}

/// What may have come from a stranger, on one line.
pub(super) fn line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// At most so many characters, the last of them an ellipsis where there were more.
pub(super) fn limited(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}
