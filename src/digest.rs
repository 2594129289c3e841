//! SHA-256 in hexadecimal: the names of jobs, data sets, weights and binaries.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

/// 64 hexadecimal digits of everything `from` gives.
///
/// # Errors
/// When `from` fails.
pub fn of_reader(mut from: impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
