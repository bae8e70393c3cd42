//! `tipoff token`: a token nobody can guess.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::say::say;
use super::{Common, Fault, Verdict};
use crate::http::caller::digest;

/// Random bytes of a token.
const BYTES: usize = 32;

/// Prints a token and its digest.
pub fn make(common: &Common) -> Result<Verdict, Fault> {
    let mut bytes = [0; BYTES];
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| Fault::unusable(anyhow::anyhow!("the machine gives no random bytes")))?;
    // The beginning tells whoever finds it, a scanner of secrets included, what it is.
    let token = format!("tipoff_{}", URL_SAFE_NO_PAD.encode(bytes));
    let digest = digest(&token);
    if common.json {
        say!("{}", json!({ "token": token, "sha256": digest }));
    } else {
        say!("{token}");
        say!("sha256:{digest}");
    }
    Ok(Verdict::Holds)
}
