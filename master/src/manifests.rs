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
        if number == 1 && path.exists() {
            // The station was made anew under its name. What the one before it said is no part of its series.
            self.set_aside(station)?;
        }
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

    /// No station's name has a `~`.
    fn set_aside(&self, station: &StationName) -> io::Result<()> {
        let aside = (1..).map(|number| self.0.join(format!("{station}~{number}")));
        let free = aside.into_iter().find(|aside| !aside.exists());
        fs::rename(self.0.join(station.as_str()), free.expect("some number is free"))
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

    #[test]
    fn a_station_that_is_made_anew_begins_a_series_of_its_own() {
        let directory = tempfile::TempDir::new().unwrap();
        let manifests = Manifests::new(directory.path());
        let station = "line-1".parse().unwrap();
        for number in 1..4 {
            manifests.keep(&station, number, b"before").unwrap();
        }
        for _ in 0..2 {
            manifests.keep(&station, 1, b"anew").unwrap();
        }
        assert_eq!(manifests.numbers(&station).unwrap(), [1]);
        assert_eq!(manifests.read(&station, 1).unwrap().unwrap(), b"anew");
        let aside = directory.path().join("manifests/line-1~1/000003.json");
        assert_eq!(fs::read(aside).unwrap(), b"before");
    }
}
