//! `dmoci schema`, and the copy in `docs`.

use crate::support::committed;

#[test]
fn the_copy_in_docs_is_this_one() {
    committed("docs/dmoci.schema.json", &format!("{:#}\n", dmoci::spec::json_schema()));
}
