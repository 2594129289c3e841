//! doctor
pub async fn doctor(_arguments: crate::cli::Doctor) -> anyhow::Result<std::process::ExitCode> {
    todo!()
}
