//! The assembly line: what a station needs beyond issuing one device. Where ids come from, where
//! bundles go, lists of devices, what a scanner sends, and labels. All of it is pure.

mod device_list;
mod grain;
mod id_template;
mod label;
mod master_address;
mod out_path;
mod scan;
mod serial_pattern;
mod settings;

pub use device_list::{
    Column, Device, DeviceList, DeviceListError, Fault, Part, Row, WrongLine, read_device_list,
};
pub use grain::{GrainName, GrainNameError, GrainValue, GrainValueError};
pub use id_template::{IdTemplate, IdTemplateError, NoId};
pub use label::Label;
pub use master_address::{MasterAddress, MasterAddressError};
pub use out_path::{OutPath, OutPathError};
pub use scan::{COMMANDS, Scan, ScanError};
pub use serial_pattern::{SerialPattern, SerialPatternError, UnfitSerial};
pub use settings::{Settings, SettingsError};
