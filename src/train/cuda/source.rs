//! The kernels' text (`kernels/*.cu`), compiled for the GPU that is there.

use std::ffi::{CStr, CString};

use anyhow::{Context, Result, bail};
use cudarc::nvrtc::{result, sys};

use super::device::Number;

/// In the order in which they lean on each other.
const SOURCES: [&str; 16] = [
    include_str!("kernels/prelude.cu"),
    include_str!("kernels/elementwise.cu"),
    include_str!("kernels/activation.cu"),
    include_str!("kernels/group_norm.cu"),
    include_str!("kernels/batch_norm.cu"),
    include_str!("kernels/layer_norm.cu"),
    include_str!("kernels/sums.cu"),
    include_str!("kernels/window.cu"),
    include_str!("kernels/squeeze_excite.cu"),
    include_str!("kernels/attention.cu"),
    include_str!("kernels/loss.cu"),
    include_str!("kernels/relation.cu"),
    include_str!("kernels/weights.cu"),
    include_str!("kernels/products.cu"),
    include_str!("kernels/shampoo.cu"),
    include_str!("kernels/muon.cu"),
];

/// The GPU's own code for kernels of one element type. It is compiled to the end, so that the driver need not understand
/// a newer compiler's intermediate code.
///
/// # Errors
/// When the compiler refuses the text, or does not know the GPU.
pub fn compile(number: Number, (major, minor): (i32, i32)) -> Result<Vec<u8>> {
    let number = match number {
        Number::F32 => "float",
        Number::Bf16 => "bf16",
    };
    let options = [format!("-DNUMBER={number}"), format!("--gpu-architecture=sm_{major}{minor}")];
    let (text, name) = (CString::new(SOURCES.concat())?, CString::new("distillery.cu")?);
    let program = result::create_program(&text, Some(&name)).context("cannot start the compiler")?;
    // SAFETY: the program is alive until it is destroyed at the end; the code is as long as the compiler says.
    unsafe {
        let done = result::compile_program(program, &options);
        let code = done.and_then(|()| {
            let mut length = 0;
            sys::nvrtcGetCUBINSize(program, &raw mut length).result()?;
            let mut code = vec![0u8; length];
            sys::nvrtcGetCUBIN(program, code.as_mut_ptr().cast()).result()?;
            Ok(code)
        });
        let log = result::get_program_log(program).unwrap_or_default();
        result::destroy_program(program)?;
        match code {
            Ok(code) => Ok(code),
            Err(error) => {
                let log = if log.is_empty() { "".into() } else { CStr::from_ptr(log.as_ptr()).to_string_lossy() };
                bail!("the kernels do not compile for {number} on sm_{major}{minor}: {error}\n{log}")
            }
        }
    }
}
