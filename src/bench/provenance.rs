//! What a result was measured with: engine, MLX, machine, model files.

use std::time::Duration;

use mtplx_runtime::mlx::{self, Device, DeviceInfo};
use serde::{Deserialize, Serialize};

use crate::machine;
use mtplx_engine::AssessedModel;

/// Everything that a figure depends on beside the method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    pub mtplx_version: String,
    /// The commit that the program was built from, with `-dirty` behind it if files had changed; `None` where it was not
    /// built in a checkout.
    pub commit: Option<String>,
    pub debug_build: bool,
    pub mlx_version: String,
    pub machine: Machine,
    pub model: ModelFiles,
    /// Seconds to load the weights.
    pub load_s: f64,
    /// When it was measured, in UTC.
    pub time: String,
}

/// What was computed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub device: Device,
    pub device_name: Option<String>,
    pub device_memory: Option<usize>,
    pub driver: Option<String>,
    pub cpu: Option<String>,
    pub os: String,
}

/// What was computed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFiles {
    /// As it was asked for.
    pub label: String,
    pub architecture: String,
    pub model_type: String,
    pub verdict: String,
    pub files: Vec<ModelFile>,
}

/// A weight file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFile {
    pub name: String,
    pub bytes: usize,
    /// As the model's contract states it, and compared with the file where the verdict is `verified`.
    pub stated_sha256: Option<String>,
}

impl Provenance {
    /// Of this process and a model that it loaded.
    pub fn of(opened: &AssessedModel, load_time: Duration) -> Self {
        Self {
            mtplx_version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("MTPLX_COMMIT").map(str::to_owned),
            debug_build: cfg!(debug_assertions),
            mlx_version: mlx::version(),
            machine: Machine::this(),
            model: ModelFiles::of(opened),
            load_s: load_time.as_secs_f64(),
            time: machine::timestamp(),
        }
    }

    /// In a line, for the foot of a picture or a table.
    pub fn line(&self) -> String {
        let commit = self.commit.as_deref().unwrap_or("no commit");
        let debug = if self.debug_build { ", debug build" } else { "" };
        format!(
            "{}, {}; mtplx {} ({commit}{debug}), MLX {}",
            self.model.label,
            self.machine.line(),
            self.mtplx_version,
            self.mlx_version
        )
    }
}

impl Machine {
    /// This one, on the device that was chosen.
    pub fn this() -> Self {
        let device = mlx::default_device();
        let info = DeviceInfo::of_default();
        let gpu = device == Device::Gpu;
        Self {
            device,
            device_name: info.name.or(info.architecture).filter(|_| gpu),
            device_memory: info.memory.filter(|_| gpu),
            driver: machine::driver().filter(|_| gpu),
            cpu: machine::processor(),
            os: machine::os(),
        }
    }

    /// The device's name, and the driver's.
    pub fn line(&self) -> String {
        match self.device {
            Device::Cpu => format!("cpu: {}", self.cpu.as_deref().unwrap_or("unknown")),
            Device::Gpu => {
                let name = self.device_name.as_deref().unwrap_or("unknown");
                let driver = self.driver.as_ref().map(|driver| format!(", driver {driver}")).unwrap_or_default();
                format!("gpu: {name}{driver}")
            }
        }
    }

    /// What figures of two machines must share to be comparable.
    pub fn identity(&self) -> (Device, Option<&str>) {
        let name = if self.device == Device::Cpu { &self.cpu } else { &self.device_name };
        (self.device, name.as_deref())
    }
}

impl ModelFiles {
    /// Of an opened model.
    pub fn of(opened: &AssessedModel) -> Self {
        let checkpoint = &opened.checkpoint;
        let hashes = opened.assessment.contract.as_ref().and_then(|contract| contract.sha256.as_ref());
        let files = checkpoint.files().map(|(name, bytes)| ModelFile {
            name: name.to_owned(),
            bytes,
            stated_sha256: hashes.and_then(|hashes| hashes.get(name).cloned()),
        });
        Self {
            label: checkpoint.label().to_owned(),
            architecture: opened.assessment.claim.unwrap_or("unknown").to_owned(),
            model_type: checkpoint.config().model_type().to_owned(),
            verdict: opened.assessment.verdict.name().to_owned(),
            files: files.collect(),
        }
    }

    /// Whether these are the same files, wherever they lie.
    pub fn is_same(&self, other: &Self) -> bool {
        self.model_type == other.model_type && self.files == other.files
    }
}
