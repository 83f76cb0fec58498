//! What the store keeps of enrolment stations, beside the registry: the number of the newest manifest of each, and the
//! registry's own record, by compare-and-set as the registry's entries.

use drover_pki::StationName;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Batch, PutError, ReadError, Revision, Store, decode,
    keys::{self, ledger},
    registry_value,
};

impl Store {
    /// Every station's record, for a master that starts.
    ///
    /// # Errors
    /// When the engine has failed or an entry is damaged.
    pub fn stations<T: DeserializeOwned>(&self) -> Result<Vec<(Revision, T)>, ReadError> {
        self.engine
            .range(&[ledger::STATION], &keys::end_of(ledger::STATION))
            .map(|entry| {
                let (key, value) = entry?;
                let (revision, bytes) = registry_value::split(&value);
                Ok((revision, decode(&key, bytes)?))
            })
            .collect()
    }

    /// Writes a station's record if its revision is still `expected` (`None`: there is none), together with a batch.
    /// Returns when it is durable.
    ///
    /// # Errors
    /// When somebody else was first, or the engine has failed.
    pub async fn put_station<T: Serialize>(
        &self,
        name: &StationName,
        expected: Option<Revision>,
        record: &T,
        batch: Batch,
    ) -> Result<Revision, PutError> {
        self.compare_and_set(keys::named(ledger::STATION, name.as_str()), expected, record, batch)
            .await
    }

    /// The newest manifest that was imported of each station.
    ///
    /// # Errors
    /// When the engine has failed or an entry is damaged.
    pub fn manifests(&self) -> Result<Vec<(StationName, u64)>, ReadError> {
        let manifests = self.engine.range(&[ledger::MANIFEST], &keys::end_of(ledger::MANIFEST));
        manifests
            .filter_map(|entry| match entry {
                Ok((key, value)) => {
                    let station = std::str::from_utf8(&key[1..]).ok()?.parse().ok()?;
                    Some(decode(&key, &value).map(|number| (station, number)))
                }
                Err(error) => Some(Err(error.into())),
            })
            .collect()
    }
}
