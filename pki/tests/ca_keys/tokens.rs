//! Keys in a PKCS#11 token: SoftHSM, with OpenSC's `pkcs11-tool` as the second opinion.

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use drover_pki::passphrase::PassphraseSource;
use drover_pki::token::TokenKey;
use insta::assert_snapshot;

use super::{Workshop, exists};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const REQUEST_ELSEWHERE: &str = "init-station --request --name line-2 --dir line-2 \
                                 --ca-key pkcs11:object=line-2?module-path=/nowhere.so";

/// A workshop with a token `factory`, whose PIN is 4711.
pub(crate) fn with_token() -> Workshop {
    let workshop = Workshop::new();
    std::fs::create_dir(workshop.path("tokens")).unwrap();
    let directory = workshop.path("tokens");
    let configuration =
        format!("directories.tokendir = {}\nobjectstore.backend = file\n", directory.display());
    workshop.write("softhsm2.conf", &configuration);
    workshop.write("pin", "4711\n");
    init_token(&workshop, "factory");
    workshop
}

fn init_token(workshop: &Workshop, label: &str) {
    let arguments =
        ["--init-token", "--free", "--label", label, "--pin", "4711", "--so-pin", "12345678"];
    let _ = workshop.run("softhsm2-util", &arguments).ok();
}

pub(crate) fn uri(object: &str) -> String {
    format!("pkcs11:token=factory;object={object}?module-path={MODULE}")
}

fn station(workshop: &Workshop, dir: &str) -> String {
    let line = format!(
        "init-station --fleet fleet --name line-1 --dir {dir} --ca-key {} --passphrase-file pin",
        uri("line-1")
    );
    workshop.enrol(&line).ok().stderr
}

#[test]
fn a_stations_key_is_made_in_the_token_and_never_leaves_it() {
    let workshop = with_token();
    let _ = workshop.enrol("init-fleet --name acme --dir fleet").ok();
    // A token's key needs no warning.
    assert_eq!(station(&workshop, "line-1"), "");
    assert_eq!(workshop.read("line-1/ca.key"), format!("{}\n", uri("line-1")));
    let issue = "issue --station line-1 --id rfid-1 --serial SN1 --out rfid-1";
    let _ = workshop.enrol(&format!("{issue} --passphrase-file pin")).ok();
    workshop.verify("rfid-1/pki/idevid.crt");
    let manifest = "manifest --station line-1 --out m.json --passphrase-file pin";
    let _ = workshop.enrol(manifest).ok();
    let _ = workshop.enrol("verify --root fleet/root/root.crt m.json").ok();

    let list = ["--module", MODULE, "--login", "--pin", "4711", "--list-objects", "--type"];
    let shown = workshop.run("pkcs11-tool", &[&list[..], &["privkey"]].concat()).ok().stdout;
    assert!(shown.contains("label:      line-1"), "{shown}");
    assert!(
        shown.contains("Access:     sensitive, always sensitive, never extractable, local"),
        "{shown}"
    );
    // What openssl says is the certificate's key is the token's.
    let line = ["--module", MODULE, "--read-object", "--type", "pubkey", "--label", "line-1"];
    let _ = workshop.run("pkcs11-tool", &[&line[..], &["-o", "token.der"]].concat()).ok();
    let token = workshop.openssl("pkey -pubin -inform DER -in token.der").ok().stdout;
    assert_eq!(token, workshop.certified_key("line-1/ca.crt"));
}

#[test]
fn a_key_that_is_in_the_token_already_is_used() {
    let workshop = with_token();
    let _ = workshop.enrol("init-fleet --name acme --dir fleet").ok();
    // As after a power cut between the token and the directory.
    let _ = station(&workshop, "first");
    std::fs::remove_dir_all(workshop.path("first")).unwrap();
    let _ = station(&workshop, "second");
    let _ = station(&workshop, "third");
    assert_eq!(workshop.certified_key("second/ca.crt"), workshop.certified_key("third/ca.crt"));
}

#[test]
fn root_and_fleet_ca_may_be_in_tokens_too() {
    let workshop = with_token();
    workshop.write("own.pin", "4711");
    let pin_source = workshop.path("own.pin");
    let fleet = format!(
        "init-fleet --name acme --dir fleet --root-key {} --fleet-ca-key {}&pin-source={}",
        uri("root"),
        uri("fleet-ca"),
        pin_source.display()
    );
    let _ = workshop.enrol(&format!("{fleet} --root-passphrase-file pin")).ok();
    workshop.verify("fleet/master/master.crt");
    // The URI says where the PIN is.
    let _ = workshop.enrol("operator --fleet fleet --name ann --out ann").ok();
    workshop.verify("ann/operator.crt");
    let station = "init-station --fleet fleet --name line-1 --dir line-1 --passphrase-file pin";
    let _ = workshop.enrol(station).ok();
    workshop.verify("line-1/ca.crt");
}

#[test]
fn a_pin_has_no_place_in_an_argument() {
    let workshop = with_token();
    let line = format!(
        "init-station --request --name line-1 --dir line-1 --ca-key {}&pin-value=4711",
        uri("line-1")
    );
    let refusal = workshop.enrol(&line).refused(2);
    assert_snapshot!(refusal, @r"
    error: `--ca-key` names no key of a token
      caused by: the URI holds a PIN (`pin-value`), where others can read it
    hint: leave it out: it is asked, or read with --passphrase-file, --passphrase-fd or `pin-source`
    ");
    assert!(!exists(&workshop.path("line-1")));
}

#[test]
fn errors_say_what_to_do_about_a_token() {
    let workshop = with_token();
    workshop.write("wrong", "0815\n");
    let request = "init-station --request --name line-1 --dir line-1 --ca-key";
    let refused = |uri: &str, pin: &str| {
        let refusal = workshop.enrol(&format!("{request} {uri} {pin}")).refused(1);
        assert!(!exists(&workshop.path("line-1")));
        assert!(!refusal.contains("0815"), "{refusal}");
        refusal
    };
    let uri = uri("line-1");
    assert_snapshot!(refused(&uri, "--passphrase-file wrong"), @r"
    error: the token's key cannot be used
      caused by: the PIN is wrong
    hint: mind how often it may be wrong before the token locks itself
    ");
    assert_snapshot!(refused(&uri, ""), @r"
    error: the token's key cannot be used
      caused by: the token needs a PIN
      caused by: no passphrase was given for the token `factory`
    hint: give it with --passphrase-file FILE, --passphrase-fd N or `pin-source` in the URI, or on a terminal
    ");
    assert_snapshot!(refused("pkcs11:token=factory;object=line-1", ""), @r"
    error: the token's key cannot be used
      caused by: nothing names the PKCS#11 module of the token
    hint: end the URI with `?module-path=/usr/lib/softhsm/libsofthsm2.so`, or set DROVER_PKCS11_MODULE
    ");
    let other = format!("pkcs11:token=other;object=line-1?module-path={MODULE}");
    assert_snapshot!(refused(&other, ""), @r"
    error: the token's key cannot be used
      caused by: no token fits `pkcs11:token=other;object=line-1?module-path=/usr/lib/softhsm/libsofthsm2.so`: the module shows `factory`
    hint: `p11tool --list-tokens` or `pkcs11-tool -L` list tokens
    ");
    init_token(&workshop, "factory");
    let refusal = refused(&uri, "--passphrase-file pin");
    assert!(refusal.contains("several tokens fit"), "{refusal}");
}

#[test]
fn a_station_whose_token_is_not_there_says_so() {
    let workshop = with_token();
    let _ = workshop.enrol("init-fleet --name acme --dir fleet").ok();
    let _ = station(&workshop, "line-1");
    std::fs::remove_dir_all(workshop.path("tokens")).unwrap();
    std::fs::create_dir(workshop.path("tokens")).unwrap();
    let issue = "issue --station line-1 --id a --serial 1 --out a --passphrase-file pin";
    let refusal = workshop.enrol(issue).refused(2);
    assert!(refusal.contains("no token fits"), "{refusal}");
    assert!(!workshop.path("a").exists());
}

#[test]
fn the_module_may_be_named_by_the_environment() {
    let workshop = with_token();
    let script = format!(
        "DROVER_PKCS11_MODULE={MODULE} {} init-station --request --name line-1 --dir line-1 \
         --ca-key 'pkcs11:token=factory;object=line-1' --passphrase-file pin",
        super::enrol()
    );
    let _ = workshop.run("sh", &["-c", &script]).ok();
    let _ = workshop.openssl("req -verify -noout -in line-1/ca.csr").ok();
    let broken = format!("{REQUEST_ELSEWHERE} --passphrase-file pin");
    let refusal = workshop.enrol(&broken).refused(1);
    assert_snapshot!(refusal, @"
    error: the token's key cannot be used
      caused by: could not load the PKCS#11 module `/nowhere.so`
      caused by: /nowhere.so: cannot open shared object file: No such file or directory
    hint: install the token's module, or name where it is with `module-path` in the URI or with DROVER_PKCS11_MODULE
    ");
}

#[test]
fn a_key_signs_again_after_its_session_was_lost() {
    let workshop = with_token();
    // The module reads its configuration's name from the environment, which a test may not change.
    let this = std::env::current_exe().unwrap();
    let test = ["tokens::sign_around_a_lost_session", "--exact", "--ignored"];
    let ran = workshop.run(this.to_str().unwrap(), &test).ok().stdout;
    assert!(ran.contains("1 passed"), "{ran}");
}

#[test]
#[ignore = "run by the test before it, with a token in its environment"]
fn sign_around_a_lost_session() {
    let key_uri = uri("line-1").parse().unwrap();
    let key = TokenKey::find_or_generate(&key_uri, &PassphraseSource::file("pin")).unwrap();
    let module = Pkcs11::new(MODULE).unwrap();
    // Ours to initialize if we were alone, which we are not.
    let _ = module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
    for _ in 0..3 {
        // Many threads have one key.
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| key.sign(b"message").unwrap());
            }
        });
        for slot in module.get_slots_with_initialized_token().unwrap() {
            // One session's logout is every session's, and takes away what they could see.
            module.open_ro_session(slot).unwrap().logout().unwrap();
        }
    }
    let same = TokenKey::find(&key_uri, &PassphraseSource::file("pin")).unwrap();
    assert_eq!(same.public(), key.public());
}

#[test]
fn a_key_of_another_kind_is_refused() {
    let workshop = with_token();
    let make = ["--module", MODULE, "--login", "--pin", "4711", "--keypairgen", "--key-type"];
    for (kind, label) in [("EC:secp384r1", "large"), ("rsa:2048", "rsa")] {
        let arguments = [&make[..], &[kind, "--label", label, "--id", "01"]].concat();
        let _ = workshop.run("pkcs11-tool", &arguments).ok();
        let request = "init-station --request --name line-1 --dir line-1 --passphrase-file pin";
        let refusal = workshop.enrol(&format!("{request} --ca-key {}", uri(label))).refused(1);
        assert!(refusal.contains("is not an ECDSA P-256 key"), "{refusal}");
    }
}
