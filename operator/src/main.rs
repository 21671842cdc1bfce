//! t
fn main() {
    print!("{}", operator::crd::schema::yaml().unwrap());
}
