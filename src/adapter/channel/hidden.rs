//! What a server's answer may not repeat of what it was told.

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use reqwest::Url;

/// What stands where a secret stood.
const HIDDEN: &str = "(hidden)";
/// Characters of a part of a URL that is taken for a secret: shorter ones are `v1`, `hooks`, and words of the answer itself.
const PART_MIN: usize = 6;

/// Knows the secrets of a channel, in every form in which an answer may repeat them: as they are, percent-decoded, as a JSON
/// string, in base64.
pub(super) struct Hidden(Option<AhoCorasick>);

impl Hidden {
    /// Whatever is secret about a URL, and `others`.
    pub fn of_url(url: &Url, others: &[&str]) -> Self {
        let parts = url.path_segments().into_iter().flatten().map(str::to_owned);
        let pairs = url.query_pairs().map(|(_, value)| value.into_owned());
        let whole = [url.path(), url.query().unwrap_or_default()].map(str::to_owned);
        let long = parts.chain(pairs).chain(whole).filter(|part| part.chars().count() >= PART_MIN);
        let (user, password) = (decoded(url.username()), decoded(url.password().unwrap_or_default()));
        let of_user = [format!("{user}:{password}"), user, password].into_iter().filter(|text| text.len() > 1);
        Self::of(long.chain(of_user).chain(others.iter().map(|&other| other.to_owned())))
    }

    /// These, whatever their length.
    pub fn of(secrets: impl IntoIterator<Item = String>) -> Self {
        let forms: Vec<String> = secrets.into_iter().flat_map(forms).filter(|form| !form.is_empty()).collect();
        let matcher =
            AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).ascii_case_insensitive(true).build(forms);
        // Only a set of gigabytes fails to build; without a matcher nothing is shown at all.
        Self(matcher.ok())
    }

    /// The words without any of it.
    pub fn clean(&self, words: &str) -> String {
        self.0.as_ref().map_or_else(
            || HIDDEN.to_owned(),
            |matcher| {
                let mut clean = String::with_capacity(words.len());
                matcher.replace_all_with(words, &mut clean, |_, _, clean| {
                    clean.push_str(HIDDEN);
                    true
                });
                clean
            },
        )
    }
}

fn decoded(text: &str) -> String {
    // The only decoder at hand is that of a query, to which `+` is a blank.
    let query = text.replace('+', "%2B");
    let mut url = Url::parse("x:/").expect("a URL");
    url.set_query(Some(&format!("x={query}")));
    url.query_pairs().next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

fn forms(secret: String) -> Vec<String> {
    let plain = decoded(&secret);
    let in_json = |text: &str| {
        let quoted = serde_json::Value::from(text).to_string();
        quoted[1..quoted.len() - 1].to_owned()
    };
    vec![
        STANDARD_NO_PAD.encode(&secret),
        URL_SAFE_NO_PAD.encode(&secret),
        STANDARD_NO_PAD.encode(&plain),
        secret.replace('/', "\\/"),
        in_json(&secret),
        in_json(&plain),
        plain,
        secret,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_an_answer_repeats_of_a_url_is_hidden() {
        let url = "https://ann:p%40ss@hooks.example/services/T0001A/B%2F0002?key=sesame-1&v=2".parse().unwrap();
        let hidden = Hidden::of_url(&url, &["a-bearer"]);
        for said in [
            "no such hook /services/T0001A/B%2F0002",
            "unknown token B/0002",
            "unknown token b%2f0002",
            "key sesame-1 is revoked",
            "{\"path\":\"\\/services\\/T0001A\\/B%2F0002\"}",
            "bad password p@ss of ann",
            "Basic YW5uOnBAc3M=",
            "Bearer a-bearer",
            "YS1iZWFyZXI=",
        ] {
            let clean = hidden.clean(said);
            assert!(clean.contains(HIDDEN), "{said} -> {clean}");
            for secret in ["T0001A", "0002", "sesame", "p@ss", "YW5uOnBAc3M", "a-bearer", "YS1iZWFyZXI"] {
                assert!(!clean.contains(secret), "{said} -> {clean}");
            }
        }
        assert_eq!(hidden.clean("v1 of the hooks: 2 too many"), "v1 of the hooks: 2 too many");
    }
}
