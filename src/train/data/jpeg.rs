//! stand-in until merged
use super::images::Shape;
use crate::train::window::Window;
use anyhow::Result;
pub fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xd8, 0xff])
}
pub fn view(bytes: &[u8], channels: usize, window: Window, shape: Shape, to: &mut [u8]) -> Result<()> {
    let (height, width, pixels) = super::decode::decode(bytes, channels, super::decode::Orient::Stored)?;
    crate::train::resample::view(
        super::Image { pixels: &pixels, height, width, channels },
        window,
        shape.resize,
        shape.side,
        shape.flip,
        to,
    );
    Ok(())
}
