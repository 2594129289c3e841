//! Matrix products by cuBLASLt, which takes algorithm and workspace from its caller, so a product neither allocates nor
//! waits. Sums are taken in f32.
//!
//! # Shapes
//! All matrices are row-major: `to[rows, columns] (+)= left[rows, inner] right[inner, columns]`. The library counts
//! columns first, so it is asked for the transposed product, with the operands exchanged.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::rc::Rc;

use anyhow::{Context, Result};
use cudarc::cublaslt::{result, sys};

use super::buffer::Buffer;
use super::device::{Address, Gpu, Number};
use super::trial::fastest;

/// What NVIDIA advises for Hopper.
const WORKSPACE_BYTES: usize = 32 << 20;
/// Ways to be tried for a shape.
const TRIED: usize = 6;
/// What the fastest algorithms ask for.
const ALIGNMENT_BYTES: u32 = 16;

/// How a matrix lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Whether it is stored transposed.
    pub transposed: bool,
    /// From a stored row to the next.
    pub row: usize,
    /// From one matrix of a batch to the next.
    pub step: usize,
}

impl Layout {
    pub fn rows(row: usize) -> Layout {
        Layout { transposed: false, row, step: 0 }
    }

    pub fn transposed(row: usize) -> Layout {
        Layout { transposed: true, row, step: 0 }
    }

    pub fn every(self, step: usize) -> Layout {
        Layout { step, ..self }
    }
}

/// What is added to a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Plus {
    Nothing,
    /// What its place holds.
    Itself,
    /// Another matrix of the result's layout.
    Another,
}

/// A kind of product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    pub rows: usize,
    pub columns: usize,
    pub inner: usize,
    pub left: Layout,
    pub right: Layout,
    pub to: Layout,
    pub batch: usize,
    /// Of both operands.
    pub number: Number,
    /// Of the result.
    pub out: Number,
    pub plus: Plus,
    /// Whether a row `[columns]` of the result's numbers is added to every row.
    pub bias: bool,
}

/// Where a product's matrices lie.
#[derive(Clone, Copy, Debug)]
pub struct Operands {
    pub left: Address,
    pub right: Address,
    pub to: Address,
    /// For [`Plus::Another`].
    pub plus: Address,
    pub bias: Address,
}

impl Operands {
    pub fn new(left: Address, right: Address, to: Address) -> Operands {
        Operands { left, right, to, plus: to, bias: 0 }
    }

    /// The largest power of two, up to what matters, that all places are multiples of.
    fn alignment(&self, shape: &Shape) -> u32 {
        let bias = if shape.bias { self.bias } else { 0 };
        let all = self.left | self.right | self.to | self.plus | bias;
        1 << (all as u32 | ALIGNMENT_BYTES).trailing_zeros()
    }
}

pub struct Products {
    gpu: Rc<Gpu>,
    handle: sys::cublasLtHandle_t,
    workspace: Buffer,
    /// By shape and the alignment of the operands in bytes.
    prepared: RefCell<HashMap<(Shape, u32), Rc<Prepared>>>,
}

/// A shape's descriptors and algorithm.
struct Prepared {
    operation: sys::cublasLtMatmulDesc_t,
    /// Of what the library calls A, B and C and D.
    layouts: [sys::cublasLtMatrixLayout_t; 3],
    algorithm: sys::cublasLtMatmulAlgo_t,
}

impl Products {
    /// # Errors
    /// The library's.
    pub fn new(gpu: &Rc<Gpu>) -> Result<Products> {
        let workspace = gpu.allocate(WORKSPACE_BYTES)?;
        let handle = result::create_handle().context("cannot start cuBLASLt")?;
        Ok(Products { gpu: Rc::clone(gpu), handle, workspace, prepared: RefCell::default() })
    }

    /// Of the library.
    pub fn version(&self) -> usize {
        // SAFETY: it may be asked at any time.
        unsafe { sys::cublasLtGetVersion() }
    }

    /// # Errors
    /// When the library has no algorithm for the shape.
    pub fn multiply(&self, shape: &Shape, operands: &Operands) -> Result<()> {
        let kind = (*shape, operands.alignment(shape));
        let prepared = self.prepared.borrow().get(&kind).cloned();
        let prepared = match prepared {
            Some(prepared) => prepared,
            None => {
                let prepared =
                    Rc::new(self.prepare(shape, operands, kind.1).with_context(|| format!("cannot do {shape:?}"))?);
                self.prepared.borrow_mut().insert(kind, Rc::clone(&prepared));
                prepared
            }
        };
        self.run(shape, &prepared, &prepared.algorithm, operands)
    }

    fn run(
        &self,
        shape: &Shape,
        prepared: &Prepared,
        algorithm: &sys::cublasLtMatmulAlgo_t,
        operands: &Operands,
    ) -> Result<()> {
        let (one, beta) = (1f32, if shape.plus == Plus::Nothing { 0f32 } else { 1f32 });
        let added = if shape.plus == Plus::Another { operands.plus } else { operands.to };
        let [a, b, d] = prepared.layouts;
        if shape.bias {
            set(
                prepared.operation,
                sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                operands.bias,
            )?;
        }
        // SAFETY: descriptors and algorithm were made for this shape by this handle; the operands are places on this GPU
        // that hold such matrices; both factors are read before the call returns.
        unsafe {
            result::matmul(
                self.handle,
                prepared.operation,
                (&raw const one).cast(),
                (&raw const beta).cast(),
                operands.right as *const c_void,
                a,
                operands.left as *const c_void,
                b,
                added as *const c_void,
                d,
                operands.to as *mut c_void,
                d,
                algorithm,
                self.workspace.address as *mut c_void,
                self.workspace.bytes,
                self.gpu.stream().cast(),
            )?;
        }
        Ok(())
    }

    fn prepare(&self, shape: &Shape, operands: &Operands, alignment: u32) -> Result<Prepared> {
        let single = sys::cudaDataType::CUDA_R_32F;
        let operation = result::create_matmul_desc(sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, single)?;
        let transposed = |layout: Layout| i32::from(layout.transposed);
        set(operation, sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA, transposed(shape.right))?;
        set(operation, sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSB, transposed(shape.left))?;
        if shape.bias {
            let epilogue = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS as u32;
            set(operation, sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue)?;
            set(operation, sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER, operands.bias)?;
        }
        let Shape { rows, columns, inner, .. } = *shape;
        let layouts = [
            matrix(shape.number, (inner, columns), shape.right, shape.batch)?,
            matrix(shape.number, (rows, inner), shape.left, shape.batch)?,
            matrix(shape.out, (rows, columns), shape.to, shape.batch)?,
        ];
        let found = self.algorithms(operation, layouts, alignment)?;
        let mut prepared = Prepared { operation, layouts, algorithm: found[0].algo };
        // Trials must not write where something is added up.
        let bytes = (shape.batch.saturating_sub(1) * shape.to.step + rows * shape.to.row) * shape.out.bytes();
        let room = self.gpu.allocate(bytes)?;
        let trial = Operands { to: room.address, ..*operands };
        let way = fastest(&self.gpu, found.len(), |way| self.run(shape, &prepared, &found[way].algo, &trial))?;
        prepared.algorithm = found[way].algo;
        Ok(prepared)
    }

    /// What the library thinks the fastest comes first.
    fn algorithms(
        &self,
        operation: sys::cublasLtMatmulDesc_t,
        [a, b, d]: [sys::cublasLtMatrixLayout_t; 3],
        alignment: u32,
    ) -> Result<Vec<sys::cublasLtMatmulHeuristicResult_t>> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Wish;
        let wishes = result::create_matmul_pref()?;
        // SAFETY: the preference is new; every value is of the attribute's type. The results are plain numbers, of which
        // as many are read as the library says it wrote.
        unsafe {
            let bytes = self.workspace.bytes;
            let workspace = Wish::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
            result::set_matmul_pref_attribute(wishes, workspace, (&raw const bytes).cast(), size_of_val(&bytes))?;
            for wish in [
                Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
            ] {
                result::set_matmul_pref_attribute(
                    wishes,
                    wish,
                    (&raw const alignment).cast(),
                    size_of_val(&alignment),
                )?;
            }
            let mut found: Vec<sys::cublasLtMatmulHeuristicResult_t> = Vec::with_capacity(TRIED);
            let mut count = 0;
            let asked = sys::cublasLtMatmulAlgoGetHeuristic(
                self.handle,
                operation,
                a,
                b,
                d,
                d,
                wishes,
                TRIED as i32,
                found.as_mut_ptr(),
                &raw mut count,
            );
            result::destroy_matmul_pref(wishes)?;
            asked.result()?;
            found.set_len(usize::try_from(count)?);
            found.retain(|one| one.state == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS);
            if found.is_empty() {
                asked.result().and(Err(result::CublasError(sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED)))?;
            }
            Ok(found)
        }
    }
}

impl Drop for Products {
    fn drop(&mut self) {
        self.prepared.borrow_mut().clear();
        // SAFETY: all that was made with it is gone.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // SAFETY: they are this one's own.
        unsafe {
            let _ = result::destroy_matmul_desc(self.operation);
            for layout in self.layouts {
                let _ = result::destroy_matrix_layout(layout);
            }
        }
    }
}

fn set<T>(operation: sys::cublasLtMatmulDesc_t, what: sys::cublasLtMatmulDescAttributes_t, value: T) -> Result<()> {
    // SAFETY: the descriptor is alive, and the library reads so many bytes of the value before the call returns.
    unsafe { result::set_matmul_desc_attribute(operation, what, (&raw const value).cast(), size_of::<T>())? };
    Ok(())
}

/// A row-major matrix as the library sees it: its columns are stored rows.
fn matrix(
    number: Number,
    (rows, columns): (usize, usize),
    layout: Layout,
    batch: usize,
) -> Result<sys::cublasLtMatrixLayout_t> {
    use sys::cublasLtMatrixLayoutAttribute_t as What;
    let kind = match number {
        Number::F32 => sys::cudaDataType::CUDA_R_32F,
        Number::Bf16 => sys::cudaDataType::CUDA_R_16BF,
    };
    let (stored_rows, stored_columns) = if layout.transposed { (columns, rows) } else { (rows, columns) };
    let made =
        result::create_matrix_layout(kind, stored_columns as u64, stored_rows as u64, i64::try_from(layout.row)?)?;
    if batch > 1 {
        let (count, step) = (i32::try_from(batch)?, i64::try_from(layout.step)?);
        // SAFETY: the layout is new; both values are of the attributes' types.
        unsafe {
            let what = What::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT;
            result::set_matrix_layout_attribute(made, what, (&raw const count).cast(), size_of_val(&count))?;
            let what = What::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET;
            result::set_matrix_layout_attribute(made, what, (&raw const step).cast(), size_of_val(&step))?;
        }
    }
    Ok(made)
}
