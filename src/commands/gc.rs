//! gc
pub async fn gc(_arguments: crate::cli::Gc) -> anyhow::Result<std::process::ExitCode> {
    todo!()
}
