//! Loads an image archive: `load SOCKET FILE`, or the sandbox image: `load SOCKET`.

use std::path::Path;

use kubelet::image::{load, pause};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let names = match arguments.as_slice() {
        [socket, file] => load::load(Path::new(socket), Path::new(file)).await?,
        [socket] => load::load_bytes(Path::new(socket), pause::archive("amd64").ok_or("no archive")?).await?,
        _ => return Err("usage: load SOCKET [FILE]".into()),
    };
    names.iter().for_each(|name| println!("{name}"));
    Ok(())
}
