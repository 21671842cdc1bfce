//! Files that are generated from the code are what the code generates. `UPDATE_GOLDEN=1` writes
//! them.

use std::path::Path;

use operator::request::Kind;

#[test]
fn the_definitions_in_crds_are_the_codes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds");
    for kind in Kind::ALL {
        let file = folder.join(format!("{}.yaml", kind.plural()));
        let generated = operator::crd::schema::yaml(kind).unwrap();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&file, &generated).unwrap();
        }
        let committed = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(committed, generated, "run `make generate`");
    }
}
