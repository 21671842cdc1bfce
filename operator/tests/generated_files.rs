//! Files that are generated from the code are what the code generates. `UPDATE_GOLDEN=1` writes
//! them.

use std::path::Path;

#[test]
fn the_definition_in_crds_is_the_codes() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/alignmentrequests.yaml");
    let generated = operator::crd::schema::yaml().unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(
        committed, generated,
        "run `operator crd > crds/alignmentrequests.yaml`"
    );
}
