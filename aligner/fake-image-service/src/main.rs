//! Runs the service by hand: `fake-image-service ADDRESS:PORT TOKEN [FILE.nii.gz…]`. A file behind
//! `labels=` is a segmentation.

use std::{io::Write, path::Path, thread, time::Duration};

use fake_image_service::FakeService;

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = || std::io::Error::other("usage: fake-image-service ADDRESS:PORT TOKEN [FILE…]");
    let address = arguments.next().ok_or_else(usage)?;
    let token = arguments.next().ok_or_else(usage)?;
    let service = FakeService::listen(&address)?;
    service.accept(&token);
    for file in arguments {
        let (file, labels) = match file.strip_prefix("labels=") {
            Some(file) => (file, true),
            None => (file.as_str(), false),
        };
        let name = Path::new(file).file_name().unwrap_or_default();
        let (name, bytes) = (name.to_string_lossy(), std::fs::read(file)?);
        if labels {
            service.put_segmentation(&token, &name, bytes);
        } else {
            service.put(Some(&token), &name, bytes);
        }
    }
    writeln!(std::io::stdout(), "{}", service.base())?;
    let mut shown = 0;
    loop {
        thread::sleep(Duration::from_millis(200));
        for record in service.journal().iter().skip(shown) {
            shown += 1;
            writeln!(std::io::stdout(), "{} {}", record.method, record.path)?;
        }
    }
}
