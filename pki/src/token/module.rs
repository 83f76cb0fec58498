//! A PKCS#11 module: loaded once for the process, and a session with one of its tokens.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as Cryptoki, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::RawAuthPin;

use super::{TokenError, TokenUri};
use crate::passphrase::Passphrase;

/// Names the module where a URI does not.
const MODULE_VARIABLE: &str = "DROVER_PKCS11_MODULE";

/// A module is initialized once in a process (PKCS#11 §5.4), however many keys it has.
static LOADED: Mutex<Vec<(PathBuf, Pkcs11)>> = Mutex::new(Vec::new());

/// Opens a session with the token that a URI names, logged in with the PIN that `ask` gives for the
/// token's label. A token with a keypad of its own is not asked for.
pub(super) fn open(
    uri: &TokenUri,
    ask: impl FnOnce(&str) -> Result<Option<Passphrase>, TokenError>,
) -> Result<(Session, Option<Passphrase>), TokenError> {
    let module = load(uri)?;
    let (slot, token) = find(&module, uri)?;
    let session = if token.write_protected() {
        module.open_ro_session(slot)
    } else {
        module.open_rw_session(slot)
    };
    let session = session.map_err(TokenError::refused("open a session"))?;
    let pin = match token.login_required() && !token.protected_authentication_path() {
        true => ask(token.label().trim_end())?,
        false => None,
    };
    let logged_in = match &pin {
        Some(pin) => {
            let pin = RawAuthPin::new(Box::new(pin.as_bytes().to_vec()));
            session.login_with_raw(UserType::User, &pin)
        }
        None if token.login_required() => session.login(UserType::User, None),
        None => Ok(()),
    };
    match logged_in {
        // Another of our keys is in the same token.
        Ok(()) | Err(Cryptoki::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok((session, pin)),
        Err(error) => Err(TokenError::refused("log in")(error)),
    }
}

fn load(uri: &TokenUri) -> Result<Pkcs11, TokenError> {
    if cfg!(all(target_env = "musl", target_feature = "crt-static")) {
        return Err(TokenError::Static);
    }
    let named = std::env::var_os(MODULE_VARIABLE).filter(|path| !path.is_empty());
    let path = uri.module_path().map(PathBuf::from).or_else(|| named.map(PathBuf::from));
    let path = path.ok_or(TokenError::NoModule)?;
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, module)) = loaded.iter().find(|(known, _)| *known == path) {
        return Ok(module.clone());
    }
    let failed = |error: Cryptoki| TokenError::Load {
        path: path.display().to_string(),
        source: error.into(),
    };
    let module = Pkcs11::new(&path).map_err(failed)?;
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Cryptoki::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => return Err(failed(error)),
    }
    loaded.push((path, module.clone()));
    Ok(module)
}

fn find(module: &Pkcs11, uri: &TokenUri) -> Result<(Slot, TokenInfo), TokenError> {
    let refused = || TokenError::refused("be looked for");
    let (mut fitting, mut others) = (Vec::new(), Vec::new());
    for slot in module.get_slots_with_token().map_err(refused())? {
        let token = module.get_token_info(slot).map_err(refused())?;
        if token.token_initialized() && uri.matches(slot.id(), &token) {
            fitting.push((slot, token));
        } else if token.token_initialized() {
            others.push(token.label().trim_end().to_owned());
        }
    }
    match fitting.len() {
        0 => Err(TokenError::NoToken { uri: uri.to_string(), present: others }),
        1 => Ok(fitting.swap_remove(0)),
        _ => {
            let serial = |(_, token): &(Slot, TokenInfo)| token.serial_number().trim_end().into();
            let present = fitting.iter().map(serial).collect();
            Err(TokenError::ManyTokens { uri: uri.to_string(), present })
        }
    }
}
