#!/usr/bin/env bash
# Mutation testing of the pure core: changes src/domain in one place after the other, and says which changes no test notices.
#
#   cargo install cargo-mutants --locked
#   tests/mutants.sh laws --shard 3/20 --sharding round-robin     # one mutant in twenty; all of them take hours
#   tests/mutants.sh laws --re 'domain/plan.rs'                   # whatever else cargo-mutants understands
#   tests/mutants.sh stories                                      # those that the last look at the laws has missed
#
# The whole crate takes minutes to build, so a smaller one is laid out under target/mutants. For `laws` it is the core, the
# simulation over it and the laws; for `stories` all but Google's clients, HTTP and the command line, with the tests of every
# module and the stories played plainly. Either is one library with its tests. What came out is in target/mutants/out.
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in
  laws | stories) against=$1 ;;
  *) sed -n '2,/^set/s/^# \?//p' "$0" >&2; exit 2 ;;
esac
shift
crate=target/mutants/$against
mkdir -p "$crate"
# All but what was built.
find "$crate" -mindepth 1 -maxdepth 1 ! -name target -exec rm -r {} +
mkdir "$crate/.cargo"
cp Cargo.lock "$crate"
for part in demo docs pipeline.yaml schemas topics.yaml; do
  ln -s "../../../$part" "$crate/$part"
done

if [ "$against" = laws ]; then
  mkdir -p "$crate/src/engine"
  cp -r src/domain src/simulation "$crate/src"
  cp src/engine/hearing.rs "$crate/src/engine"
  # What plays the whole engine, or reads the declarations, stays behind.
  rm "$crate"/src/simulation/{engine,model}.rs
  sed -i '/^\(pub \)\?mod \(engine\|model\);$/d' "$crate/src/simulation/mod.rs"
  cp -r tests/laws "$crate/src/laws"
  # A mutant that survives so many cases is looked at anyhow.
  sed -i 's/^const CASES: u32 = .*/const CASES: u32 = 64;/' "$crate"/src/laws/*.rs
  {
    printf 'extern crate self as tipoff;\npub mod domain;\npub mod simulation;\npub mod engine {\n    pub mod hearing;\n}\n'
    for law in $(sed -n 's/^mod \(.*\);$/\1/p' tests/laws/main.rs | grep -vx 'replay\|simulation'); do
      printf '#[cfg(test)]\n#[path = "laws/%s.rs"]\nmod %s;\n' "$law" "$law"
    done
    cat <<'RUST'
#[cfg(test)]
mod schedules {
    use crate::simulation::{Schedules, core::Core};

    #[test]
    fn schedules_break_no_law() {
        let played = Core::new(None).play_all(1, 1_000, std::num::NonZeroUsize::MIN, &|_| {});
        assert!(played.failure.is_none(), "{:?}", played.failure);
    }
}
RUST
  } > "$crate/src/lib.rs"
  dependencies='jiff|serde|serde_json|thiserror|proptest|stateright'
  # Two worlds of the model checker take longer than all the rest, and find what the others find.
  skipped=(model::a_failed_run_is_followed model::a_hold_that_was_lifted)
else
  cp -r src "$crate"
  rm -r "$crate"/src/{cli,configuration.rs,http,main.rs} "$crate"/src/telemetry/{export,log}.rs
  rm -r "$crate"/src/adapter/{bigquery,channel,firestore,google,pubsub,service.rs}
  sed -i 's/^pub use tipoff_domain as domain;$/pub mod domain;/; /^pub mod \(cli\|configuration\|http\);$/d' "$crate/src/lib.rs"
  sed -i '/^pub mod \(export\|log\);$/d' "$crate/src/telemetry/mod.rs"
  sed -i '/^pub mod \(bigquery\|channel\|firestore\|google\|pubsub\|service\);$/d' "$crate/src/adapter/mod.rs"
  sed 's/env!("CARGO_BIN_EXE_tipoff")/"tipoff"/' tests/scenarios/main.rs > "$crate/src/stories.rs"
  # Thousands of messages take longer than all other stories together.
  mkdir -p "$crate"/tests/{golden,scenarios}
  cp tests/golden/documents.json "$crate/tests/golden"
  cp tests/scenarios/*.yaml "$crate/tests/scenarios"
  rm "$crate"/tests/scenarios/{inc-20-seven-thousand-runs,inc-22-three-weeks-of-backlog,inc-24-flood,inc-27-the-cleaner-in-full,shadow-week}.yaml
  cp -r tests/laws "$crate/src/laws"
  cat >> "$crate/src/lib.rs" <<'RUST'
extern crate self as tipoff;
#[cfg(test)]
mod stories;
#[cfg(test)]
#[path = "laws/replay.rs"]
mod laws_of_replay;
#[cfg(test)]
#[path = "laws/graphs.rs"]
mod graphs;
#[cfg(test)]
#[path = "laws/properties.rs"]
mod properties;
RUST
  dependencies='anyhow|async-trait|base64|flate2|futures-util|hashlink|jiff|jsonschema|minijinja|opentelemetry|opentelemetry_sdk|proptest|reqwest'
  dependencies+='|rusqlite|rustix|serde|serde-saphyr|serde_json|sha2|strsim|tempfile|thiserror|tokio|tracing|uuid'
  # By their names, which are no patterns.
  set -- --re "^($(sed 's/[][\\.*+?^$(){}|&]/\\&/g' target/mutants/out/laws/mutants.out/missed.txt | paste -sd '|'))\$" "$@"
  skipped=(elsewhere twice anywhere another_order every_incident properties::)
fi

{
  sed -n '/^\[package\]/,/^rust-version/p' Cargo.toml
  printf '[lib]\ndoctest = false\n[workspace]\n'
  for section in dependencies dev-dependencies; do
    printf '[%s]\n' "$section"
    sed -n "/^\[$section\]/,/^\[/p" Cargo.toml | grep -E "^($dependencies) = " | sed 's/"rustls", //'
  done
  # What is built most quickly, with tests that are not slow.
  printf '[profile.test]\nopt-level = 1\nlto = "off"\ndebug = false\n[profile.test.package."*"]\nopt-level = 2\n'
} > "$crate/Cargo.toml"

# One test that fails is enough. libtest can stop there, but does not offer it to everybody.
printf '[target."cfg(all())"]\nrunner = ["env", "RUSTC_BOOTSTRAP=1"]\n' > "$crate/.cargo/config.toml"
# A mutant that never ends must not take all memory either.
ulimit -v 8388608
mkdir -p "target/mutants/out/$against"
export CARGO_INCREMENTAL=1 PROPTEST_MAX_SHRINK_ITERS=0
exec cargo mutants --dir "$crate" --output "target/mutants/out/$against" --in-place --file 'src/domain/**' \
  --timeout-multiplier 3 --minimum-test-timeout 30 "$@" \
  -- --lib -- -Zunstable-options --fail-fast --test-threads 1 "${skipped[@]/#/--skip=}"
