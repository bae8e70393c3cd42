//! What Terraform plans for the example, without Google's provider, which only a registry has: every resource becomes a
//! `terraform_data` with the same arguments, so all of the rest is evaluated as it stands. What the provider itself would
//! refuse is not seen.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use regex::{Captures, Regex};
use serde_json::Value;

use crate::terraform::{good, terraform};
use crate::{at, modules};

/// The example, in a folder of its own, as far as it is made.
pub struct Plan {
    folder: tempfile::TempDir,
}

/// A resource that is there, or of which something is planned.
pub struct Resource {
    /// `module.runtime["shadow"].…`
    pub address: String,
    /// `google_pubsub_topic`
    pub kind: String,
    /// Its arguments; nested blocks are numbered, as `metadata1`.
    pub input: Value,
    /// `create`, `delete`, `update`; both of the former where it is replaced.
    pub actions: Vec<String>,
}

impl Plan {
    /// Nothing is made yet. `altered` is what the example says otherwise, as (these words, by those). `None` where Terraform is
    /// missing.
    pub fn of_the_example(altered: &[(&str, &str)]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let deploy = folder.path().join("deploy");
        for (name, mut text) in modules() {
            if name == "example" {
                for (words, by) in altered {
                    assert!(text.contains(words), "the example no longer says {words}");
                    text = text.replace(words, by);
                }
            }
            let module = deploy.join("terraform").join(name);
            fs::create_dir_all(&module).unwrap();
            fs::write(module.join("main.tf"), without_providers(&text)).unwrap();
        }
        for file in ["topics.yaml", "pipeline.yaml", "schemas", "deploy/firestore.indexes.json"] {
            std::os::unix::fs::symlink(at(file), folder.path().join(file)).unwrap();
        }
        let plan = Self { folder };
        good(&plan.terraform(&["init", "-input=false", "-no-color"])?);
        Some(plan)
    }

    fn at(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn terraform(&self, args: &[&str]) -> Option<std::process::Output> {
        let module = self.at("deploy/terraform/example");
        terraform(module.to_str().unwrap(), self.folder.path(), args)
    }

    /// What would be done for these instances; done as well if `made`.
    pub fn with(&self, instances: &str, made: bool) -> Vec<Resource> {
        let image = format!("-var=image=registry.example.org/tipoff@sha256:{}", "a".repeat(64));
        let instances = format!("-var=instances={instances}");
        let callers = r#"-var=callers={ "user:ann@example.org" = "operator" }"#;
        let out = self.at("plan").display().to_string();
        let plan = [
            "plan",
            "-refresh=false",
            "-input=false",
            "-no-color",
            "-var=project=p",
            &image,
            &instances,
            callers,
            "-out",
            &out,
        ];
        let done = |args: &[&str]| good(&self.terraform(args).expect("it was there a moment ago"));
        done(&plan);
        let planned: Value = serde_json::from_str(&done(&["show", "-json", &out])).unwrap();
        if made {
            done(&["apply", "-parallelism=100", "-input=false", "-no-color", &out]);
        }
        planned["resource_changes"].as_array().unwrap().iter().map(resource).collect()
    }
}

fn resource(change: &Value) -> Resource {
    let word = |key: &str| change[key].as_str().unwrap().to_owned();
    let change_of_it = &change["change"];
    let state = if change_of_it["before"].is_null() { &change_of_it["after"] } else { &change_of_it["before"] };
    let actions = change_of_it["actions"].as_array().unwrap();
    Resource {
        address: word("address"),
        kind: word("name").split_once("__").unwrap().0.to_owned(),
        input: state["input"].clone(),
        actions: actions.iter().map(|action| action.as_str().unwrap().to_owned()).collect(),
    }
}

/// The text of a module with every resource as a `terraform_data`. It leans on the format that `terraform fmt` gives.
fn without_providers(text: &str) -> String {
    let text = Regex::new(r"(?s)  required_providers \{\n.*?\n  \}\n").unwrap().replace_all(text, "");
    let text = Regex::new(r#"(?s)\n(?:provider|data) "[^\n]*\{\n.*?\n\}\n"#).unwrap().replace_all(&text, "\n\n");
    let text = text.replace("data.google_project.this.number", "\"123\"");
    let begins = Regex::new(r#"^resource "(\w+)" "(\w+)" \{$"#).unwrap();
    let meta = Regex::new(r"^  (?:(?:for_each|count|depends_on) += |lifecycle \{)").unwrap();
    let mut lines = text.lines();
    let mut out = Vec::new();
    while let Some(line) = lines.next() {
        let Some(begins) = begins.captures(line) else {
            out.push(line.to_owned());
            continue;
        };
        out.push(format!("resource \"terraform_data\" \"{}__{}\" {{", &begins[1], &begins[2]));
        let (mut metas, mut input, mut is_meta) = (Vec::new(), Vec::new(), false);
        for line in arguments(&mut lines, 2) {
            if line.starts_with("  ")
                && !line.starts_with("   ")
                && !line.starts_with("  }")
                && !line.starts_with("  ]")
            {
                is_meta = meta.is_match(&line);
            }
            if is_meta { &mut metas } else { &mut input }.push(line);
        }
        out.extend(metas);
        out.push("  input = {".to_owned());
        out.extend(input);
        out.extend(["  }".to_owned(), "}".to_owned()]);
    }
    let attribute =
        Regex::new(r"\b((?:google|kubernetes)_\w+)\.(\w+)((?:\[[^\]]*\])?)(\.\w+(?:\[0\]\.name)?)?").unwrap();
    let referred = |found: &Captures<'_>| {
        let id = if found.get(4).is_some() { ".id" } else { "" };
        format!("terraform_data.{}__{}{}{id}", &found[1], &found[2], &found[3])
    };
    attribute.replace_all(&out.join("\n"), referred).into_owned()
}

/// The lines of a block up to its end, with nested blocks as arguments: numbered, since an object has a name only once.
fn arguments(lines: &mut std::str::Lines<'_>, indent: usize) -> Vec<String> {
    let pad = " ".repeat(indent);
    let end = format!("{}}}", " ".repeat(indent - 2));
    let nested = Regex::new(&format!(r#"^{pad}(?:(\w+)|dynamic "(\w+)") \{{(\}})?$"#)).unwrap();
    let (mut out, mut numbers) = (Vec::new(), BTreeMap::<String, usize>::new());
    while let Some(line) = lines.next().filter(|line| *line != end) {
        let found = nested.captures(line).filter(|found| found.get(1).is_none_or(|it| it.as_str() != "lifecycle"));
        let Some(found) = found else {
            out.push(line.to_owned());
            continue;
        };
        let name = found.get(1).or(found.get(2)).expect("one of the two").as_str();
        let number = numbers.entry(name.to_owned()).and_modify(|number| *number += 1).or_insert(1);
        let argument = format!("{pad}{name}{number}");
        if found.get(2).is_some() {
            let each = lines.next().and_then(|line| line.split_once("for_each = ")).expect("for_each comes first").1;
            let mut each = vec![each];
            let content = loop {
                match lines.next().expect("a dynamic block has content") {
                    line if line.trim_start().starts_with("content {") => break line,
                    line => each.push(line),
                }
            };
            let each = each.join("\n");
            out.push(format!("{argument} = [for {name} in [for k, v in {each} : {{ key = k, value = v }}] : {{"));
            if !content.ends_with("{}") {
                out.extend(arguments(lines, indent + 4));
            }
            out.push(format!("{pad}}}]"));
            assert_eq!(lines.next().map(str::trim), Some("}"), "a dynamic block ends with its content");
        } else if found.get(3).is_some() {
            out.push(format!("{argument} = {{}}"));
        } else {
            out.push(format!("{argument} = {{"));
            out.extend(arguments(lines, indent + 2));
            out.push(format!("{pad}}}"));
        }
    }
    out
}
