//! In what two declarations differ, key by key.

use serde::Serialize;
use serde_json::Value;

/// Characters of a value that are shown.
const VALUE_MAX: usize = 120;

/// One key whose values differ.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Difference {
    /// Where, as `pipeline.yaml.pipelines.nba.nodes.predictions.needs`.
    pub path: String,
    /// What it was; nothing where the key is new.
    pub before: Option<Value>,
    /// What it is; nothing where the key is gone.
    pub after: Option<Value>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |value: &Value| {
            let text = value.to_string();
            match text.char_indices().nth(VALUE_MAX) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text,
            }
        };
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => write!(f, "~ {}: {} → {}", self.path, shown(before), shown(after)),
            (None, Some(after)) => write!(f, "+ {}: {}", self.path, shown(after)),
            (Some(before), None) => write!(f, "- {}: {}", self.path, shown(before)),
            (None, None) => write!(f, "  {}", self.path),
        }
    }
}

/// The keys below `path` whose values differ, in the order of their names. A list is one value.
pub fn differences(path: &str, before: &Value, after: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(path, Some(before), Some(after), &mut found);
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Difference>) {
    match (before, after) {
        (Some(Value::Object(ours)), Some(Value::Object(theirs))) => {
            for (key, value) in ours {
                compare(&format!("{path}.{key}"), Some(value), theirs.get(key), found);
            }
            for (key, value) in theirs.iter().filter(|(key, _)| !ours.contains_key(*key)) {
                compare(&format!("{path}.{key}"), None, Some(value), found);
            }
        }
        (before, after) if before != after => {
            found.push(Difference { path: path.to_owned(), before: before.cloned(), after: after.cloned() });
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_new_gone_or_other_is_told_with_its_place() {
        let before = json!({ "a": { "b": 1, "c": [1, 2], "d": "same" }, "e": 1 });
        let after = json!({ "a": { "b": 2, "c": [1, 3], "d": "same", "f": true } });
        let told: Vec<String> = differences("x", &before, &after).iter().map(Difference::to_string).collect();
        assert_eq!(told, ["~ x.a.b: 1 → 2", "~ x.a.c: [1,2] → [1,3]", "+ x.a.f: true", "- x.e: 1"]);
        assert!(differences("x", &before, &before).is_empty());
    }
}
