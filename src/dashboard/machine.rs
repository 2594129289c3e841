//! How busy this machine is: its GPUs where `nvidia-smi` is at hand, and its processors.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

/// Asking a driver takes a part of a second, so it is done beside, and not too often.
const EVERY: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct Machine {
    gpus: Receiver<String>,
    last: String,
    /// Busy and all time of the processors, in ticks.
    ticks: Option<(u64, u64)>,
    busy: Option<f64>,
}

impl Machine {
    /// Watches until it is dropped.
    pub fn watch() -> Machine {
        let (sender, gpus) = mpsc::channel();
        std::thread::spawn(move || {
            // None where there is no such program, or no driver: then there is nothing to watch.
            while let Some(text) = gpus_now() {
                if sender.send(text).is_err() {
                    return;
                }
                std::thread::sleep(EVERY);
            }
        });
        Machine { gpus, last: String::new(), ticks: None, busy: None }
    }

    /// `gpu 0 87 %, 41 of 80 GB · cpu 34 %`
    pub fn look(&mut self) -> String {
        if let Some(text) = self.gpus.try_iter().last() {
            self.last = text;
        }
        if let Some((busy, all)) = ticks() {
            match self.ticks {
                // Not so soon after the last look that a tick is a lot.
                Some((before, then)) if all > then + 20 => {
                    self.busy = Some(busy.saturating_sub(before) as f64 / (all - then) as f64);
                    self.ticks = Some((busy, all));
                }
                Some(_) => {}
                None => self.ticks = Some((busy, all)),
            }
        }
        let cpu = self.busy.map(|busy| format!("cpu {:.0} %", 100.0 * busy));
        let gpu = (!self.last.is_empty()).then(|| self.last.clone());
        gpu.into_iter().chain(cpu).collect::<Vec<_>>().join(" · ")
    }
}

fn gpus_now() -> Option<String> {
    let output = Command::new("nvidia-smi")
        .args(["--query-gpu=index,utilization.gpu,memory.used,memory.total", "--format=csv,noheader,nounits"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| gpus(&text))
}

/// Of the lines `0, 87, 41000, 81559`: per cent, MiB and MiB.
fn gpus(text: &str) -> String {
    let lines = text.lines().filter_map(|line| {
        let mut fields = line.split(',').map(str::trim);
        let index = fields.next()?;
        let mut number = || fields.next().and_then(|field| field.parse::<f64>().ok());
        let (busy, used, all) = (number(), number(), number());
        // One whose use the driver does not know still has a memory.
        let busy = busy.map_or(String::new(), |busy| format!(" {busy:.0} %,"));
        let gb = |mib: Option<f64>| mib.map_or("?".to_owned(), |mib| format!("{:.0}", mib * 1.048_576 / 1000.0));
        Some(format!("gpu {index}{busy} {} of {} GB", gb(used), gb(all)))
    });
    lines.collect::<Vec<_>>().join(" · ")
}

/// Ticks of all processors: busy, and all.
fn ticks() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<u64> = text.lines().next()?.split_whitespace().skip(1).filter_map(|one| one.parse().ok()).collect();
    // user, nice, system, idle, waiting, interrupts, ...; guests are in user already.
    let all: u64 = fields.iter().take(8).sum();
    Some((all.saturating_sub(fields.get(3)? + fields.get(4)?), all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_read_as_the_driver_says_them() {
        assert_eq!(gpus("0, 87, 41000, 81559\n1, [N/A], 3, 81559\n"), "gpu 0 87 %, 43 of 86 GB · gpu 1 0 of 86 GB");
        assert_eq!(gpus(""), "");
    }
}
