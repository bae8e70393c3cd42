//! The composite indexes that our queries need; Firestore makes the single-field ones by itself.
//!
//! `deploy/firestore.indexes.json` is the same list in the form in which it is deployed, and a test keeps them alike.

/// One composite index: a collection, without the prefix, and its fields; `true` for the largest first.
pub type Index = (&'static str, &'static [(&'static str, bool)]);

/// Every composite index.
pub const INDEXES: [Index; 8] = [
    // The outbox: what is due, and the earliest that will be; what was parked.
    ("outbox", &[("state", false), ("due", false)]),
    ("outbox", &[("state", false), ("decided_at", true), ("number", true)]),
    // The dates of a pipeline.
    ("partitions", &[("pipeline", false), ("date", true)]),
    // The journal of a date.
    ("journal", &[("key", false), ("at", false)]),
    // Dead letters: those that wait, those of which a replay was left over, and the oldest settled ones.
    ("letters", &[("open", false), ("place", true)]),
    ("letters", &[("asked", false), ("place", true)]),
    ("letters", &[("open", false), ("place", false)]),
    // Alerts that are on.
    ("alerts", &[("on", false), ("changed_at", false)]),
];

/// Collections whose documents go when their `expire_at` has come, once the database has that policy.
pub const EXPIRING: [&str; 7] = ["partitions", "outbox", "journal", "alerts", "plans", "letters", "letter_contents"];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_is_deployed_is_what_is_asked_for() {
        let deployed: serde_json::Value =
            serde_json::from_str(include_str!("../../../deploy/firestore.indexes.json")).unwrap();
        let name = |collection: &serde_json::Value| {
            collection.as_str().unwrap().strip_prefix("tipoff_").expect("the usual prefix").to_owned()
        };
        let found: BTreeSet<(String, Vec<(String, bool)>)> = deployed["indexes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|index| {
                let fields = index["fields"].as_array().unwrap().iter();
                let field = |field: &serde_json::Value| {
                    (field["fieldPath"].as_str().unwrap().to_owned(), field["order"] == "DESCENDING")
                };
                (name(&index["collectionGroup"]), fields.map(field).collect())
            })
            .collect();
        let wanted = INDEXES.iter().map(|(collection, fields)| {
            let fields = fields.iter().map(|(field, largest_first)| ((*field).to_owned(), *largest_first));
            ((*collection).to_owned(), fields.collect())
        });
        assert_eq!(found, wanted.collect());
        let overrides = deployed["fieldOverrides"].as_array().unwrap();
        let expiring: BTreeSet<String> =
            overrides.iter().filter(|it| it["ttl"] == true).map(|it| name(&it["collectionGroup"])).collect();
        assert_eq!(expiring, EXPIRING.iter().map(|it| (*it).to_owned()).collect());
    }
}
