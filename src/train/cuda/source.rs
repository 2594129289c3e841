//! The kernels' text (`kernels/*.cu`), compiled for the GPU that is there.

use std::ffi::c_char;

use anyhow::{Result, bail};
use cudarc::nvrtc::{CompileError, CompileOptions, compile_ptx_with_opts};

use super::device::Number;

/// In the order in which they lean on each other.
const SOURCES: [&str; 9] = [
    include_str!("kernels/prelude.cu"),
    include_str!("kernels/elementwise.cu"),
    include_str!("kernels/group_norm.cu"),
    include_str!("kernels/layer_norm.cu"),
    include_str!("kernels/sums.cu"),
    include_str!("kernels/window.cu"),
    include_str!("kernels/attention.cu"),
    include_str!("kernels/loss.cu"),
    include_str!("kernels/weights.cu"),
];

/// Intermediate code, ended by a zero, that the driver makes the GPU's own from.
///
/// # Errors
/// When the compiler refuses the text.
pub fn compile(number: Number, (major, minor): (i32, i32)) -> Result<Vec<c_char>> {
    let number = match number {
        Number::F32 => "float",
        Number::Bf16 => "bf16",
    };
    let options = CompileOptions {
        options: vec![format!("-DNUMBER={number}"), format!("--gpu-architecture=compute_{major}{minor}")],
        name: Some("distillery.cu".into()),
        ..CompileOptions::default()
    };
    match compile_ptx_with_opts(SOURCES.concat(), options) {
        Ok(image) => Ok(image.as_bytes().unwrap_or_default().iter().map(|byte| *byte as c_char).collect()),
        Err(CompileError::CompileError { log, .. }) => {
            bail!("the kernels do not compile for {number}:\n{}", log.to_string_lossy())
        }
        Err(error) => bail!("the kernels do not compile for {number}: {error}"),
    }
}
