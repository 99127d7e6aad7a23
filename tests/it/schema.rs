//! `dmoci schema`, and the copy in `docs`.

use crate::support::{Project, committed};

#[test]
fn the_copy_in_docs_is_this_one() {
    committed("docs/dmoci.schema.json", &format!("{:#}\n", dmoci::spec::json_schema()));
}

#[test]
fn the_command_prints_it() {
    let run = Project::new().dmoci(&["schema"]).ok();
    let schema: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(schema, dmoci::spec::json_schema());
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
}

#[test]
fn the_schema_of_reports_is_that_in_docs() {
    let run = Project::new().dmoci(&["schema", "--of", "verify"]).ok();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/verify.schema.json");
    assert!(run.stdout == std::fs::read_to_string(path).unwrap(), "{}", run.stdout);
}
