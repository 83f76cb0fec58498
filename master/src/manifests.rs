//! The manifests that were imported, as they came: `data_dir/manifests/STATION/NNNNNN.json`. A station whose machine died
//! is made again from its last one.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use drover_pki::StationName;

/// Where manifests are kept.
#[derive(Debug, Clone)]
pub struct Manifests(PathBuf);

impl Manifests {
    /// Below this directory.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self(data_dir.join("manifests"))
    }

    /// Keeps one. Returns when it is durable.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, station: &StationName, number: u64, text: &[u8]) -> io::Result<()> {
        let path = self.path(station, number);
        if fs::read(&path).is_ok_and(|kept| kept == text) {
            return Ok(());
        }
        let directory = self.0.join(station.as_str());
        fs::create_dir_all(&directory)?;
        let aside = path.with_extension("new");
        let mut file = fs::File::create(&aside)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&aside, &path)?;
        fs::File::open(&directory)?.sync_all()
    }

    /// The numbers of a station's manifests, in their order.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn numbers(&self, station: &StationName) -> io::Result<Vec<u64>> {
        let entries = match fs::read_dir(self.0.join(station.as_str())) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut numbers = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".json"));
            numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// One of them, if it is kept.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, station: &StationName, number: u64) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(station, number)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn path(&self, station: &StationName, number: u64) -> PathBuf {
        self.0.join(station.as_str()).join(format!("{number:06}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_kept_as_they_came() {
        let directory = tempfile::TempDir::new().unwrap();
        let manifests = Manifests::new(directory.path());
        let station = "line-1".parse().unwrap();
        assert!(manifests.numbers(&station).unwrap().is_empty());
        for number in [10, 9] {
            manifests.keep(&station, number, b"{}\n").unwrap();
            manifests.keep(&station, number, b"{}\n").unwrap();
        }
        assert_eq!(manifests.numbers(&station).unwrap(), [9, 10]);
        assert_eq!(manifests.read(&station, 9).unwrap().unwrap(), b"{}\n");
        assert_eq!(manifests.read(&station, 8).unwrap(), None);
    }
}
