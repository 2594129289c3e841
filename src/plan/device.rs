//! What a cohort is trained on. No part of a job: the same job is the same job everywhere.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    Cpu,
    /// An NVIDIA GPU by its number; with algorithms that give the same bits every time, if asked for.
    Cuda {
        ordinal: u32,
        deterministic: bool,
    },
}

/// What a person asks to train on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Devices {
    /// `cuda`: all GPUs there are.
    Gpus,
    One(Device),
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Devices::Gpus => f.write_str("cuda"),
            Devices::One(device) => device.fmt(f),
        }
    }
}

impl FromStr for Devices {
    type Err = String;

    fn from_str(text: &str) -> Result<Devices, String> {
        if text == "cuda" { Ok(Devices::Gpus) } else { text.parse().map(Devices::One) }
    }
}

impl Device {
    pub fn is_cuda(self) -> bool {
        matches!(self, Device::Cuda { .. })
    }

    /// The same GPU with other algorithms; the CPU gives the same bits anyway.
    pub fn with_determinism(self, deterministic: bool) -> Device {
        match self {
            Device::Cpu => Device::Cpu,
            Device::Cuda { ordinal, .. } => Device::Cuda { ordinal, deterministic },
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda { ordinal, deterministic: false } => write!(f, "cuda:{ordinal}"),
            Device::Cuda { ordinal, deterministic: true } => write!(f, "cuda:{ordinal} deterministic"),
        }
    }
}

impl From<Device> for String {
    fn from(device: Device) -> String {
        device.to_string()
    }
}

impl TryFrom<String> for Device {
    type Error = String;

    fn try_from(text: String) -> Result<Device, String> {
        text.parse()
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Device, String> {
        let (name, deterministic) = match text.strip_suffix(" deterministic") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let ordinal = match name {
            "cpu" if !deterministic => return Ok(Device::Cpu),
            "cuda" => Some(0u32),
            _ => name.strip_prefix("cuda:").and_then(|number| number.parse::<u16>().ok()).map(u32::from),
        };
        let ordinal = ordinal.ok_or_else(|| format!("expected `cpu`, `cuda` or `cuda:N`, got `{text}`"))?;
        Ok(Device::Cuda { ordinal, deterministic })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for device in [
            Device::Cpu,
            Device::Cuda { ordinal: 0, deterministic: false },
            Device::Cuda { ordinal: 7, deterministic: true },
        ] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda { ordinal: 0, deterministic: false }));
        for wrong in ["gpu", "cuda:70000", "cuda:", "cuda:x", "cuda0", "cpu:1", "", "cpu deterministic"] {
            assert!(wrong.parse::<Device>().unwrap_err().contains("expected `cpu`"), "{wrong}");
        }
    }
}
